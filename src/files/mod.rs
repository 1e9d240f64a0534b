//! Owns the files outside the journal, and what all files share: header, MANIFEST, directory,
//! exchange, and the compressed container. Knows nothing of models and of the engine's threads.
//!
//! - `fields`: reads numbers from bytes
//! - `store_error`: why a file is wrong or could not be changed
//! - `database_id`: the identity that all files of one database share
//! - `names`: how numbered files are named
//! - `envelope`: magic, format version and checksum around a file that is read as a whole
//! - `header`: the beginning of every segment, snapshot and archive
//! - `container`: a compressed file: one stream, or chunks that are packed one by one
//! - `schemas`: what is in the files
//! - `manifest`: which files must exist
//! - `change_failure`: whether a failed change leaves anything in doubt
//! - `reserve`: disk space that is kept for a full disk
//! - `directory`: where the files are, and how a directory is made and cleared
//! - `standing`: where a durable follower stands
//! - `exchange`: replaces directories by new ones
//! - `beside`: writes a new database beside everything that is there

pub(crate) mod beside;
mod change_failure;
mod container;
mod database_id;
mod directory;
mod envelope;
pub(crate) mod exchange;
mod fields;
mod header;
mod manifest;
mod names;
mod reserve;
mod schemas;
mod standing;
mod store_error;
#[cfg(test)]
mod tests;

pub use database_id::DatabaseId;
pub use standing::FollowerKind;

pub(crate) use change_failure::ChangeFailure;
#[cfg(test)]
pub(crate) use container::write_packed;
pub(crate) use container::{
    CHUNK_BYTES, Cuts, DamagedPart, Footer, FooterDigest, PackedFile, Packing, WriteFailure,
    write_chunks,
};
pub(crate) use directory::{Directory, absolute, exists, kind};
pub(crate) use envelope::{
    CHECKSUM_BYTES, FORMAT_VERSION, check_format, check_magic, checksummed, push_checksum,
};
pub(crate) use fields::{FieldReader, align_up, all_zero, position};
pub(crate) use header::{
    ARCHIVE_MAGIC, CHECKPOINT_MAGIC, FileHeader, SEGMENT_MAGIC, SNAPSHOT_MAGIC,
};
pub(crate) use manifest::{MANIFEST_NAME, Manifest, ManifestFile, State, UNFINISHED_BACKUP_NAME};
pub(crate) use names::{
    PURGE_SUFFIX, SEGMENT_SUFFIX, SNAPSHOT_SUFFIX, archive_path, list_archives, list_if_there,
    list_segments, list_snapshots, numbered_path, segment_path, snapshot_path,
};
pub(crate) use reserve::Reserve;
pub(crate) use schemas::{SchemaFiles, keep_schemas, list_schemas, read_schemas, schemas_path};
#[cfg(any(test, fuzzing))]
pub(crate) use standing::sealed_standing;
pub(crate) use standing::{
    Build, FollowerDirectory, Letter, MOST_LETTER_BYTES, MOST_LETTERS, MOST_NAME_BYTES,
    MOST_REASON_BYTES, Standing, list_followers,
};
pub(crate) use store_error::{StoreError, told};

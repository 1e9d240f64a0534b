//! Owns the files that are no journal, and what all files share: header, MANIFEST, directory,
//! exchange, and the compressed container. Knows nothing of models or threads of the engine.
//!
//! - `fields`: numbers in bytes
//! - `store_error`: why a file is not as it should be
//! - `database_id`: what all files of one database share
//! - `names`: what numbered files are called
//! - `envelope`: magic, format version and checksum around a file that is read whole
//! - `header`: what every file begins with
//! - `container`: a compressed file, written and read as a stream
//! - `manifest`: which files there must be
//! - `change_failure`: whether a failed change leaves anything in doubt
//! - `reserve`: room that is kept for a full disk
//! - `directory`: where the files stand, and how a directory is made and cleared
//! - `exchange`: new directories in the place of old ones

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
mod store_error;
#[cfg(test)]
mod tests;

pub use database_id::DatabaseId;

pub(crate) use change_failure::ChangeFailure;
pub(crate) use container::{
    Blocks, PackedFile, Packing, WriteFailure, write_packed, write_packed_with,
};
pub(crate) use directory::{Directory, absolute, exists, kind};
pub(crate) use envelope::{CHECKSUM_BYTES, check_format, check_magic, checksummed, push_checksum};
pub(crate) use fields::{FieldReader, align_up, all_zero, position};
pub(crate) use header::{ARCHIVE_MAGIC, FORMAT_VERSION, FileHeader, SEGMENT_MAGIC, SNAPSHOT_MAGIC};
pub(crate) use manifest::{MANIFEST_NAME, Manifest, ManifestFile, State};
pub(crate) use names::{
    PURGE_SUFFIX, archive_path, list_archives, list_if_there, list_segments, list_snapshots,
    numbered_path, segment_path, snapshot_path,
};
pub(crate) use reserve::Reserve;
pub(crate) use store_error::{StoreError, told};

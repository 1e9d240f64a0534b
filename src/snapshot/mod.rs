//! Owns writing a version of the model to a file, and the thread that does this in the background.
//!
//! - `file`: writes and reads one snapshot
//! - `chain`: snapshots that hold only what has changed since another one
//! - `decode_check`: decides which snapshots are decoded before they count
//! - `due`: decides when a snapshot is due, and predicts the next start
//! - `worker`: the thread that takes snapshots
//! - `taking`: one snapshot, from its version to the MANIFEST
//! - `cleanup`: archives or removes what the listed snapshots supersede
//! - `derivable`: the snapshots that stay because a follower derives events from them
//! - `holds`: what stays because a follower has not read it
//! - `late`: what is loaded after the open
//! - `same_type`: notices that the model's type was changed without a new version
//! - `export`: writes a copy of a whole database

mod chain;
mod cleanup;
mod decode_check;
mod derivable;
mod due;
mod export;
mod file;
mod holds;
mod late;
mod same_type;
mod taking;
#[cfg(test)]
mod tests;
mod worker;

pub(crate) use chain::{Chain, OpenFile, missing_base, with_bases, with_bases_in};
pub(crate) use cleanup::Superseded;
pub(crate) use decode_check::DecodeCheck;
pub(crate) use due::{OpenMeasured, current_rates, is_overdue, segments_behind};
pub(crate) use export::write_copy;
pub(crate) use file::{
    Decoded, check, decode_late, decode_snapshot, decode_version, decode_written, encode_content,
    encode_model, open_alone, request_limits, snapshot_header, undecodable_as_current,
    write_snapshot, write_version,
};
pub(crate) use late::{HeldFiles, LateLoading};
pub(crate) use worker::{SnapshotRequest, Snapshotter, SnapshotterOptions};

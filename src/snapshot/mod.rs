//! Owns how a version of the model becomes a file, and the thread that does it in the background.
//!
//! - `file`: one snapshot, written and read
//! - `readable`: which snapshots are decoded before they count
//! - `due`: when one is due, and how long the next start would take
//! - `worker`: the thread that takes them
//! - `cleanup`: what the listed snapshots make superfluous
//! - `export`: a whole database as a copy beside

mod cleanup;
mod due;
mod export;
mod file;
mod readable;
#[cfg(test)]
mod tests;
mod worker;

pub(crate) use cleanup::Superseded;
pub(crate) use due::{OpenMeasured, current_rates, is_overdue, segments_behind};
pub(crate) use export::write_copy;
pub(crate) use file::{
    check, decode_snapshot, decode_version, decode_written, encode_model, open_snapshot,
    request_limits, snapshot_header, undecodable_as_current, write_snapshot, write_version,
};
pub(crate) use readable::Readable;
pub(crate) use worker::{SnapshotRequest, Snapshotter, SnapshotterOptions};

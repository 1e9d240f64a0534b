//! Owns reading what was ever accepted: commands from `archive/` and `journal/`, states from
//! snapshots and replay. Changes nothing on disk but the lock file. Knows nothing of how commands
//! got there.
//!
//! - `source`: which file of archive and journal holds which sequence
//! - `frames`: the frames of these files in sequence order
//! - `stored_commands`: the commands in these frames, one by one
//! - `records`: the commands as a user reads them, for audits
//! - `replica`: a model to which stored commands are applied
//! - `travel`: the model as it was at a sequence or a time
//! - `replay_as`: a model of another type, from the same commands
//! - `offline`: the history of a directory that nobody has open
//! - `verify`: verifies that replay reproduces the stored snapshots

mod frames;
mod offline;
mod records;
mod replay_as;
mod replica;
mod source;
mod stored_commands;
#[cfg(test)]
mod tests;
mod travel;
mod verify;

pub(crate) use frames::Frames;
pub(crate) use offline::OfflineHistory;
pub(crate) use records::{RecordOrigin, StoredRecords, check_frame};
pub(crate) use replica::Replica;
pub(crate) use source::HistoryFiles;
pub(crate) use verify::{replay_twice, verify_files};

pub use records::{HistoryRecord, HistoryRecords};
pub use travel::History;
pub use verify::{Culprit, Divergence, Evidence, HistoryReport, verify_against, verify_history};

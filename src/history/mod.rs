//! Owns reading back what was ever accepted: commands from `archive/` and `journal/`, states from
//! snapshots and replay. Changes nothing on disk and knows nothing of how commands got there.
//!
//! - `source`: which file of archive and journal holds which sequence
//! - `frames`: their frames, in sequence order, each file going on from the one before
//! - `records`: that stream command by command, for audits
//! - `line`: a model that stored commands are applied to
//! - `travel`: the model as it was at a sequence or a time
//! - `project`: a model of another type, from the same commands
//! - `offline`: the history of a directory that nobody has open
//! - `verify`: that today's code makes of it what was made of it once
//! - `twice`: that it makes the same of it each time
//! - `bisect`: the command at which two lines part
//! - `report`: what a verification tells

mod frames;
mod offline;
mod project;
mod records;
mod replica;
mod source;
#[cfg(test)]
mod tests;
mod travel;
mod verify;

pub(crate) use offline::OfflineHistory;
pub(crate) use replica::Line;
pub(crate) use source::HistoryFiles;
pub(crate) use verify::{replay_twice, verify_files};

pub use records::{HistoryRecord, HistoryRecords};
pub use travel::History;
pub use verify::{Culprit, Divergence, Evidence, HistoryReport, verify_against, verify_history};

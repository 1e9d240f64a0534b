//! Owns reading back what was ever accepted: commands from `archive/` and `journal/`, states from
//! snapshots and replay. Changes nothing on disk and knows nothing of how commands got there.
//!
//! - `source`: archives and segments as one stream of frames, in sequence order
//! - `records`: that stream command by command, for audits
//! - `line`: a model that stored commands are applied to
//! - `travel`: the model as it was at a sequence or a time
//! - `project`: a model of another type, from the same commands

mod line;
mod project;
mod records;
mod source;
mod travel;

pub use records::{HistoryRecord, HistoryRecords};
pub(crate) use source::HistoryFiles;
pub use travel::History;

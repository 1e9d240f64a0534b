//! Owns the way of a command after it was encoded: queue, writer, committer, publication, answer.
//! Knows nothing of files and directories; the journal moves the bytes.
//!
//! The modules, in the order in which a command meets them:
//!
//! - `submission`: an encoded command, with the place for its answer
//! - `untyped`: the same for a command whose type the caller does not know
//! - `record_buffer`: a buffer in which a record is encoded without an allocation of its own
//! - `queue`: the bounded queue to the writer
//! - `seat`: the writer between its turns; a lone caller takes it to serve its own command
//! - `writer`: takes commands from the queue, applies them, closes batches
//! - `working_version`: the model ahead of what is durable, and how a command is rolled back
//! - `applier`: applies a record by its tag, without an answer
//! - `requests`: the requests that were accepted, are on their way, or were refused
//! - `batch`: the commands that are committed together
//! - `committer`: writes, syncs, publishes and answers
//! - `commit_log`: what the committer writes to
//! - `interval_sync`: syncs at an interval, when answers do not wait for a sync
//! - `published_version`: the version that readers see
//! - `recent_versions`: the versions that readers saw a short while ago
//! - `recent_batches`: the batches that were committed last, for those who follow
//! - `follower_board`: the durable followers that run
//! - `wakers`: the tasks that wait for a change
//! - `pending`: the answer on its way to the caller
//!
//! Beside them: `shared` holds what the threads share, `status` whether the engine runs,
//! `snapshot_board` what the committer and the snapshot thread tell each other, and `sync` the
//! primitives with which all of them synchronise.

mod applier;
mod batch;
mod commit_log;
pub(crate) mod committer;
mod follower_board;
pub(crate) mod interval_sync;
mod pending;
mod published_version;
mod queue;
mod recent_batches;
mod recent_versions;
mod record_buffer;
mod requests;
mod seat;
mod shared;
#[cfg(test)]
mod shuttled;
mod snapshot_board;
mod status;
mod submission;
mod sync;
#[cfg(test)]
mod tests;
mod untyped;
mod wakers;
mod working_version;
mod writer;

pub use follower_board::{FollowerState, FollowerStatus};
pub use pending::{Numbered, Pending, PendingNumbered};
pub use published_version::View;
pub use recent_versions::AtError;
pub use requests::{Rejection, Rejections, RequestStatus};
pub use snapshot_board::SnapshotInfo;
pub use status::Health;
pub use untyped::{JsonOutput, Refused};

pub(crate) use applier::{Applier, KEPT_EVENTS, Output, drop_events};
#[cfg(any(test, fuzzing, feature = "laboratory"))]
pub(crate) use batch::Batch;
pub(crate) use commit_log::CommitLog;
#[cfg(test)]
pub(crate) use commit_log::{DetachedSync, LogProgress};
pub(crate) use committer::{Committer, CommitterEnds, SharedCommitter, sync_outside_lock};
pub(crate) use follower_board::{
    FollowerBoard, Order, Seat as FollowerSeat, Told, on_follower_thread,
};
pub(crate) use pending::{EngineThread, Ticket, on_engine_thread};
pub(crate) use published_version::{Published, Version};
pub(crate) use queue::{Applied, QueueReceiver, QueueSender, Refusal, Submission, queue};
pub(crate) use recent_batches::{Lookup, RecentBatches};
pub(crate) use recent_versions::Recent;
pub(crate) use record_buffer::EncodedRecord;
pub(crate) use requests::{
    MemoryFull, Remembered, RequestKey, RequestLog, RequestMemory, Requests, Tracked, beginning,
    read_limits, read_section, reason_of, section_bytes, write_section,
};
pub(crate) use seat::Seat;
pub(crate) use shared::Shared;
pub(crate) use snapshot_board::{SnapshotBoard, SnapshotState};
pub(crate) use status::Status;
pub(crate) use submission::{Submitted, submission, submission_to};
pub(crate) use untyped::untyped_submission;
pub(crate) use wakers::{LONG_WAIT, Wakers, wake};
pub(crate) use working_version::Working;
pub(crate) use writer::{BatchLimits, Clock, Lane, Writer};

//! Owns what all threads of one open database share: the newest version, the status, the counters,
//! the snapshots. Knows nothing of how they change.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::published_version::Published;
use super::status::Status;
use crate::engine::{FollowerBoard, RecentBatches, Requests, SnapshotBoard};
use crate::execute_error::Poisoned;
use crate::panics::panic_message;
use crate::stats::Counters;

pub(crate) struct Shared<M> {
    pub(crate) published: Published<M>,
    pub(crate) status: Status,
    pub(crate) counters: Counters,
    pub(crate) snapshots: SnapshotBoard,
    pub(crate) recent_batches: RecentBatches,
    pub(crate) followers: Arc<FollowerBoard>,
    pub(crate) requests: Arc<Requests>,
}

impl<M> Shared<M> {
    /// Poisons the database: nothing more is acknowledged. Returns the first failure.
    pub(crate) fn poison(&self, reason: &dyn std::fmt::Display) -> Poisoned {
        let poisoned = self.status.poison(reason);
        self.published.wake_waiting();
        self.requests.close();
        poisoned
    }

    /// Runs a thread's body. A panic in it is a bug of this crate, or of a user's `Drop` or waker.
    /// It poisons the database, so that no caller waits for ever.
    pub(crate) fn run_guarded(&self, thread: &str, body: impl FnOnce()) {
        super::pending::enter_engine_thread();
        self.guarded(thread, body).ok();
    }

    /// Runs `body` on the thread of that name. If it panics, this poisons the database before it
    /// returns.
    pub(crate) fn guarded<R>(&self, thread: &str, body: impl FnOnce() -> R) -> Result<R, Poisoned> {
        catch_unwind(AssertUnwindSafe(body)).map_err(|panic| {
            let message = panic_message(panic);
            self.poison(&format!("the {thread} thread panicked: {message}"))
        })
    }
}

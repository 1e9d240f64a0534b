//! Owns what every thread of one open database may look at: the newest version, the status, the
//! counters, the snapshots. Knows nothing of how they change.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::published_version::Published;
use super::status::Status;
use crate::engine::SnapshotBoard;
use crate::execute_error::Poisoned;
use crate::process::panic_message;
use crate::stats::Counters;

pub(crate) struct Shared<M> {
    pub(crate) published: Published<M>,
    pub(crate) status: Status,
    pub(crate) counters: Counters,
    pub(crate) snapshots: SnapshotBoard,
}

impl<M> Shared<M> {
    /// Stops all acknowledging, for good.
    pub(crate) fn poison(&self, reason: &dyn std::fmt::Display) -> Poisoned {
        let poisoned = self.status.poison(reason);
        self.published.wake_waiting();
        poisoned
    }

    /// Runs a thread's body; a panic that gets here is a bug of this crate or of a user's `Drop`
    /// or waker, and poisons the database instead of leaving callers waiting.
    pub(crate) fn run_guarded(&self, thread: &str, body: impl FnOnce()) {
        super::pending::enter_engine_thread();
        self.guarded(thread, body).ok();
    }

    /// Runs what a thread does; a panic there has poisoned the database before this returns.
    pub(crate) fn guarded<R>(&self, thread: &str, body: impl FnOnce() -> R) -> Result<R, Poisoned> {
        catch_unwind(AssertUnwindSafe(body)).map_err(|panic| {
            let message = panic_message(&*panic);
            self.poison(&format!("the {thread} thread panicked: {message}"))
        })
    }
}

//! Owns the futures that wait for a version. Knows nothing of what becomes visible with it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::engine::Shared;
use crate::execute_error::WaitError;
use crate::model::Model;
use crate::process::{FreedDeep, OpeningProcess};

/// The future of [`Database::reached`](crate::Database::reached) and
/// [`Database::changed`](crate::Database::changed).
#[must_use = "it does nothing until it is awaited"]
pub struct Reached<M: Model> {
    shared: FreedDeep<Shared<M>>,
    process: OpeningProcess,
    wanted: u64,
    task: u64,
}

impl<M: Model> Reached<M> {
    pub(crate) fn new(shared: Arc<Shared<M>>, process: OpeningProcess, wanted: u64) -> Self {
        let task = shared.published.tasks.number();
        Self { shared: FreedDeep::new(shared), process, wanted, task }
    }

    fn look(&self) -> Option<Result<u64, WaitError>> {
        if self.process.is_forked() {
            return Some(Err(WaitError::Forked));
        }
        let Shared { published, status, .. } = &**self.shared;
        // A version that was published before the status changed must still count.
        let (poisoned, stopped) = (status.poisoned().cloned(), status.is_stopped());
        let (wanted, reached) = (self.wanted, published.sequence());
        if reached >= wanted {
            return Some(Ok(reached));
        }
        if let Some(poisoned) = poisoned {
            return Some(Err(WaitError::Poisoned(poisoned)));
        }
        stopped.then_some(Err(WaitError::Stopped { wanted, reached }))
    }
}

impl<M: Model> Future for Reached<M> {
    type Output = Result<u64, WaitError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(found) = self.look() {
            return Poll::Ready(found);
        }
        self.shared.published.tasks.set(self.task, cx.waker());
        self.look().map_or(Poll::Pending, Poll::Ready)
    }
}

impl<M: Model> Drop for Reached<M> {
    fn drop(&mut self) {
        if !self.process.is_forked() {
            self.shared.published.tasks.forget(self.task);
        }
    }
}

impl<M: Model> fmt::Debug for Reached<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reached").field("sequence", &self.wanted).finish_non_exhaustive()
    }
}

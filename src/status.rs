//! Owns whether the engine still accepts commands, and why not. Knows nothing of what failed.

use std::sync::{Arc, OnceLock};

use super::sync::atomic::{AtomicBool, Ordering};
use crate::execute_error::Poisoned;

/// What [`Database::health`](crate::Database::health) says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Health {
    /// Commands are accepted.
    Running,
    /// Commands are accepted, but the last try at a snapshot failed, for this reason. It will be
    /// tried again; meanwhile the journal grows and the next open takes longer.
    SnapshotsFailing(Arc<str>),
    /// The database has [failed](Poisoned); commands are refused, reads go on.
    Poisoned(Poisoned),
    /// The database was closed; reads go on.
    Stopped,
}

/// Shared by every thread of one open database. Goes one way only.
#[derive(Default)]
pub(crate) struct Status {
    poisoned: OnceLock<Poisoned>,
    stopped: AtomicBool,
    /// Tells the writer of a failure, should it be waiting for commands.
    wake_writer: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Status {
    /// Notes a failure; the first one stays. Gives the one that holds.
    pub(crate) fn poison(&self, reason: &dyn std::fmt::Display) -> Poisoned {
        let poisoned =
            self.poisoned.get_or_init(|| Poisoned { reason: reason.to_string().into() }).clone();
        if let Some(wake) = self.wake_writer.get() {
            wake();
        }
        poisoned
    }

    /// Has `wake` called after a failure. There is one writer, so the first one stays.
    pub(crate) fn wake_writer_by(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.wake_writer.set(Box::new(wake)).ok();
    }

    pub(crate) fn poisoned(&self) -> Option<&Poisoned> {
        self.poisoned.get()
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    pub(crate) fn health(&self) -> Health {
        match self.poisoned() {
            Some(poisoned) => Health::Poisoned(poisoned.clone()),
            None if self.is_stopped() => Health::Stopped,
            None => Health::Running,
        }
    }
}

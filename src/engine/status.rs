//! Owns whether the engine still accepts commands, and why not. Knows nothing of what failed.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// The last batch could not be written, for this reason, and nothing is in doubt: its commands
    /// got [`NotWritten`](crate::ExecuteError::NotWritten). The next command tries again.
    Refusing(Arc<str>),
    /// The database has [failed](Poisoned); commands are refused, reads go on.
    Poisoned(Poisoned),
    /// This process was forked from the one that opened the database, and can only read what was
    /// readable then.
    Forked,
    /// The database was closed; reads go on.
    Stopped,
}

/// Shared by every thread of one open database. Goes one way only.
#[derive(Default)]
pub(crate) struct Status {
    poisoned: OnceLock<Poisoned>,
    stopped: AtomicBool,
    /// How often a batch was refused because it could not be written.
    refusals: AtomicU64,
    /// Why the last one was; `None` once one was written again.
    refusing: Mutex<Option<Arc<str>>>,
    /// Tells the writer of a failure, should it be waiting for commands.
    wake_writer: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Status {
    /// Notes a failure; the first one stays. Gives the one that holds.
    pub(crate) fn poison(&self, reason: &dyn std::fmt::Display) -> Poisoned {
        let poisoned = self.poisoned.get_or_init(|| {
            trace_event!(
                ERROR,
                "the database has failed; nothing more is acknowledged",
                reason = reason
            );
            Poisoned { reason: reason.to_string().into() }
        });
        let poisoned = poisoned.clone();
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

    /// Notes that a batch was refused.
    pub(crate) fn refuse(&self, reason: Arc<str>) {
        *self.refusing() = Some(reason);
        self.refusals.fetch_add(1, Ordering::SeqCst);
    }

    /// Notes that a batch was written, after one that was refused.
    pub(crate) fn accept(&self) {
        *self.refusing() = None;
    }

    pub(crate) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::SeqCst)
    }

    /// Why the newest refusal came about; empty if none did.
    pub(crate) fn why_refusing(&self) -> Arc<str> {
        self.refusing().clone().unwrap_or_else(|| "".into())
    }

    fn refusing(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        self.refusing.lock().unwrap_or_else(PoisonError::into_inner)
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
            None => self.refusing().clone().map_or(Health::Running, Health::Refusing),
        }
    }
}

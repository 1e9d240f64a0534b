//! Owns the engine's status: whether it still accepts commands, and if not, why. Knows nothing of
//! what failed.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use super::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::execute_error::Poisoned;
use crate::mutex::lock;

/// The state of a database, as [`Database::health`](crate::Database::health) returns it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Health {
    /// Commands are accepted.
    Running,
    /// Commands are accepted, but the last snapshot failed, for this reason. The database will try
    /// again. Until it succeeds, the journal grows and the next open takes longer.
    SnapshotsFailing(Arc<str>),
    /// The last batch could not be written, for this reason, and it is certain that nothing of it
    /// was written: its commands got [`NotWritten`](crate::ExecuteError::NotWritten). The database
    /// tries again with the next command.
    Refusing(Arc<str>),
    /// The database has [failed](Poisoned). It refuses commands; reads still work.
    Poisoned(Poisoned),
    /// This process was forked from the one that opened the database. It can only read what was
    /// readable at that time.
    Forked,
    /// The database was closed. It refuses commands; reads still work.
    Stopped,
}

/// The status that all threads of one open database share. A poisoned or stopped database never
/// runs again.
#[derive(Default)]
pub(crate) struct Status {
    poisoned: OnceLock<Poisoned>,
    stopped: AtomicBool,
    /// How often a batch was refused because it could not be written.
    refusals: AtomicU64,
    /// Why the last batch was refused; `None` once a batch was written again.
    refusing: Mutex<Option<Arc<str>>>,
    /// Wakes the writer after a failure, in case it waits for commands.
    wake_writer: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Status {
    /// Notes a failure, unless there was one before. Returns the first failure.
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

    /// Sets the function that is called after a failure. There is only one writer, so it is set
    /// only once.
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

    /// Notes that a batch was written after one that was refused.
    pub(crate) fn accept(&self) {
        *self.refusing() = None;
    }

    pub(crate) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::SeqCst)
    }

    /// Returns why the last batch was refused; empty if it was not.
    pub(crate) fn why_refusing(&self) -> Arc<str> {
        self.refusing().clone().unwrap_or_else(|| "".into())
    }

    /// Whether the last batch was refused, and none was written since.
    pub(crate) fn is_refusing(&self) -> bool {
        self.refusing().is_some()
    }

    fn refusing(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        lock(&self.refusing)
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

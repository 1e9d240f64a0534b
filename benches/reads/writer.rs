//! A writer at full speed beside the readers.

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prevalence::Database;

use crate::ledger::{Ledger, put, random_key};

/// The number of updates before the readers start.
const AHEAD: u64 = 2 * 4096;
/// The default of `max_batch_commands`.
const BATCH: usize = 1024;

/// A writer that changes the map that others read.
#[derive(Clone, Copy)]
pub enum Writer<'a> {
    Nobody,
    /// Pipelined commands to a database.
    Engine(&'a Database<Ledger>),
    /// Updates in place, with this many updates each time the lock is taken.
    Lock(&'a RwLock<Ledger>, usize),
}

impl<'a> Writer<'a> {
    pub fn lock_per_batch(lock: &'a RwLock<Ledger>) -> Self {
        Self::Lock(lock, BATCH)
    }

    pub fn lock_per_command(lock: &'a RwLock<Ledger>) -> Self {
        Self::Lock(lock, 1)
    }

    /// Returns the text that follows the name of the read.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Nobody => "",
            Self::Engine(_) => ", beside a writer",
            Self::Lock(_, 1) => ", a writer locks per command",
            Self::Lock(..) => ", a writer locks per 1,024",
        }
    }

    /// Runs `readers` while the writer writes. It writes from before they start until after they
    /// end.
    pub fn beside<R>(&self, entries: u64, readers: impl FnOnce() -> R) -> R {
        if matches!(self, Self::Nobody) {
            return readers();
        }
        let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| self.write(&stop, &written, entries));
            while written.load(Ordering::Relaxed) < AHEAD {
                std::thread::yield_now();
            }
            let read = readers();
            stop.store(true, Ordering::Relaxed);
            read
        })
    }

    /// Writes until it is told to stop.
    fn write(&self, stop: &AtomicBool, written: &AtomicU64, entries: u64) {
        let go_on = |_: &u64| !stop.load(Ordering::Relaxed);
        match self {
            Self::Nobody => {}
            Self::Engine(database) => {
                let numbers = (0..).take_while(go_on);
                let counted = numbers.inspect(|_| _ = written.fetch_add(1, Ordering::Relaxed));
                put(database, counted, entries);
            }
            Self::Lock(lock, batch) => {
                for first in (0..).step_by(*batch).take_while(go_on) {
                    let mut ledger = lock.write().expect("no panic");
                    for index in (first..).take(*batch) {
                        ledger.add(random_key(index, entries), 1);
                    }
                    written.fetch_add(*batch as u64, Ordering::Relaxed);
                }
            }
        }
    }
}

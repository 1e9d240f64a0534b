//! Owns the pace of background work beside commits: it works in short turns while there are
//! commits, and ends early when the database is closed. Knows nothing of what the work is.
//!
//! A commit is a chain of short waits: for the disk, for a thread to be woken. Measured on two
//! virtual cores, a bare loop of write and fdatasync beside a second thread that only computes has
//! a p99.9 of 2 to 4 ms instead of 1.1 ms, at any priority of that thread; it is 1.1 ms when that
//! thread pauses for 250 µs after every 250 µs. See `docs/performance.md`.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::full_disk::Room;
use crate::stats::Counters;

/// How long the work runs before it pauses.
const TURN: Duration = Duration::from_micros(250);
/// How long the work pauses.
const PAUSE: Duration = Duration::from_micros(250);

/// The pace of some background work, which calls [`step`](Self::step) after every piece.
pub(crate) struct Pace<'a> {
    ends: Option<(&'a AtomicBool, &'a Room)>,
    commits: Option<&'a Counters>,
    turn_began: Cell<Instant>,
    batches_then: Cell<u64>,
}

impl<'a> Pace<'a> {
    /// Makes the pace for work beside the commits that `counters` counts. The work ends when
    /// `cancelled` is set or the journal wants its room.
    pub(crate) fn beside(
        counters: &'a Counters,
        cancelled: &'a AtomicBool,
        room: &'a Room,
    ) -> Self {
        Self {
            ends: Some((cancelled, room)),
            commits: Some(counters),
            turn_began: Cell::new(Instant::now()),
            batches_then: Cell::new(counters.batches.get()),
        }
    }

    /// Makes the pace for work that somebody waits for: no pauses, no early end.
    pub(crate) fn full() -> Self {
        let turn_began = Cell::new(Instant::now());
        Self { ends: None, commits: None, turn_began, batches_then: Cell::new(0) }
    }

    /// Makes the same pace for another thread's part of the work.
    pub(crate) fn another(&self) -> Self {
        Self {
            ends: self.ends,
            commits: self.commits,
            turn_began: Cell::new(Instant::now()),
            batches_then: self.batches_then.clone(),
        }
    }

    /// Returns whether the work runs beside commits.
    pub(crate) fn gives_way(&self) -> bool {
        self.commits.is_some()
    }

    /// Pauses when a turn is over. Returns an error when the work must end.
    pub(crate) fn step(&self) -> io::Result<()> {
        if let Some((cancelled, room)) = self.ends {
            if cancelled.load(Ordering::Relaxed) {
                return Err(io::Error::other("the database is being closed"));
            }
            if room.is_wanted() {
                let reason = "the disk is full, and the journal needs the room; free some space";
                return Err(io::Error::new(io::ErrorKind::StorageFull, reason));
            }
        }
        let Some(counters) = self.commits else { return Ok(()) };
        if self.turn_began.get().elapsed() < TURN {
            return Ok(());
        }
        // Without commits there is no need to pause.
        let batches = counters.batches.get();
        if batches != self.batches_then.replace(batches) {
            std::thread::sleep(PAUSE);
        }
        self.turn_began.set(Instant::now());
        Ok(())
    }
}

//! Owns how background work behaves beside commits: in short turns while any are made, and ended
//! early when the database is closed. Knows nothing of what the work is.
//!
//! A commit is a chain of short waits: for the disk, for a thread to be woken. Measured on two
//! virtual cores, a bare loop of write and fdatasync beside a second thread that only computes has
//! a p99.9 of 2 to 4 ms instead of 1.1 ms, at any priority of that thread; it is 1.1 ms when that
//! thread pauses for 250 µs after every 250 µs. See `docs/performance.md`.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::space::Room;
use crate::stats::Counters;

/// So long the work goes on before it pauses.
const TURN: Duration = Duration::from_micros(250);
/// So long it pauses.
const PAUSE: Duration = Duration::from_micros(250);

/// Asked after every piece of the work.
pub(crate) struct Pace<'a> {
    ends: Option<(&'a AtomicBool, &'a Room)>,
    commits: Option<&'a Counters>,
    turn_began: Cell<Instant>,
    batches_then: Cell<u64>,
}

impl<'a> Pace<'a> {
    /// For work beside the commits that `counters` counts, until `cancelled` is set or its room is
    /// wanted.
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

    /// For work that somebody waits for: no pauses, no early end.
    pub(crate) fn full() -> Self {
        let turn_began = Cell::new(Instant::now());
        Self { ends: None, commits: None, turn_began, batches_then: Cell::new(0) }
    }

    /// The same for another thread's part of the work.
    pub(crate) fn another(&self) -> Self {
        Self {
            ends: self.ends,
            commits: self.commits,
            turn_began: Cell::new(Instant::now()),
            batches_then: self.batches_then.clone(),
        }
    }

    /// Whether the work has anything beside it.
    pub(crate) fn gives_way(&self) -> bool {
        self.commits.is_some()
    }

    /// Pauses when it is time to; an error when the work is no longer wanted.
    pub(crate) fn step(&self) -> io::Result<()> {
        if let Some((cancelled, room)) = self.ends {
            if cancelled.load(Ordering::Relaxed) {
                return Err(io::Error::other("the database is being closed"));
            }
            if room.is_wanted() {
                let reason = "the disk is full, and the journal needs the room";
                return Err(io::Error::new(io::ErrorKind::StorageFull, reason));
            }
        }
        let Some(counters) = self.commits else { return Ok(()) };
        if self.turn_began.get().elapsed() < TURN {
            return Ok(());
        }
        // Nobody to give way to, nothing to wait for.
        let batches = counters.batches.get();
        if batches != self.batches_then.replace(batches) {
            std::thread::sleep(PAUSE);
        }
        self.turn_began.set(Instant::now());
        Ok(())
    }
}

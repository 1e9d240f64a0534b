//! Owns the pace of background work beside commits: it works in short turns while there are
//! commits, writes in small pieces, and ends early when the database is closed. Knows nothing of
//! what the work is.
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

/// How much the work writes, or frees, before it [rests](Pace::rest). The commits of that moment
/// wait for it: measured, 0.6 ms for 256 KiB and 2 ms for 4 MiB. Many small pieces make more
/// commits wait than few larger ones.
pub(crate) const PIECE_BYTES: u64 = 4 << 20;
/// How many batches are committed between two pieces. So about one commit of 4,000 waits, which
/// neither the p99 nor the p99.9 shows.
const BATCHES_BETWEEN: u64 = 4000;
/// The work goes on before that when the journal has written this much. Otherwise the next start
/// would have to replay ever more.
const JOURNAL_BYTES_BETWEEN: u64 = PIECE_BYTES / 2;
/// The longest rest. So the work always writes at least 16 MiB a second.
const LONGEST_REST: Duration = Duration::from_millis(250);
/// How often a rest looks at the commits.
const REST_STEP: Duration = Duration::from_millis(1);
/// When nothing was committed for this time, the work does not rest.
const QUIET: Duration = Duration::from_secs(1);

/// The pace of some background work, which calls [`step`](Self::step) after every piece.
pub(crate) struct Pace<'a> {
    /// What ends it early; and how often the journal had asked for room when it began.
    ends: Option<(&'a AtomicBool, &'a Room, u64)>,
    commits: Option<&'a Counters>,
    turn_began: Cell<Instant>,
    batches_then: Cell<u64>,
    /// When a commit was last seen by a rest, and how many batches there were then.
    last_commit: Cell<(Option<Instant>, u64)>,
}

impl<'a> Pace<'a> {
    /// Makes the pace for work beside the commits that `counters` counts. The work ends when
    /// `cancelled` is set, or when the journal has asked for room more often than `since`.
    pub(crate) fn beside(
        counters: &'a Counters,
        cancelled: &'a AtomicBool,
        (room, since): (&'a Room, u64),
    ) -> Self {
        let batches = counters.batches.get();
        Self {
            ends: Some((cancelled, room, since)),
            commits: Some(counters),
            turn_began: Cell::new(Instant::now()),
            batches_then: Cell::new(batches),
            last_commit: Cell::new((None, batches)),
        }
    }

    /// Makes the pace for work that somebody waits for: no pauses, no early end.
    pub(crate) fn full() -> Self {
        Self {
            ends: None,
            commits: None,
            turn_began: Cell::new(Instant::now()),
            batches_then: Cell::new(0),
            last_commit: Cell::new((None, 0)),
        }
    }

    /// Returns whether the work runs beside commits.
    pub(crate) fn gives_way(&self) -> bool {
        self.commits.is_some()
    }

    /// Returns how much the work writes before it syncs and rests.
    pub(crate) fn piece_bytes(&self, at_full_pace: u64) -> u64 {
        if self.gives_way() { PIECE_BYTES } else { at_full_pace }
    }

    /// Rests after a piece, while there are commits. Returns an error when the work must end.
    pub(crate) fn rest(&self) -> io::Result<()> {
        let Some(counters) = self.commits else { return self.check_end() };
        let (batches, journal_bytes) = (counters.batches.get(), counters.journal_bytes.get());
        let began = Instant::now();
        let (mut last_commit, batches_then) = self.last_commit.get();
        if batches != batches_then {
            last_commit = Some(began);
        }
        self.last_commit.set((last_commit, batches));
        while last_commit.is_some_and(|at| at.elapsed() < QUIET)
            && began.elapsed() < LONGEST_REST
            && counters.batches.get().saturating_sub(batches) < BATCHES_BETWEEN
            && counters.journal_bytes.get().saturating_sub(journal_bytes) < JOURNAL_BYTES_BETWEEN
        {
            self.check_end()?;
            std::thread::sleep(REST_STEP);
        }
        self.check_end()
    }

    /// Pauses when a turn is over. Returns an error when the work must end.
    pub(crate) fn step(&self) -> io::Result<()> {
        self.check_end()?;
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

    /// Returns an error when the work must end.
    fn check_end(&self) -> io::Result<()> {
        if let Some((cancelled, room, since)) = self.ends {
            if cancelled.load(Ordering::Relaxed) {
                return Err(io::Error::other("the database is being closed"));
            }
            if room.requests() > since {
                let reason = "the disk is full, and the journal needs the room; free some space";
                return Err(io::Error::new(io::ErrorKind::StorageFull, reason));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_ends_when_the_work_must_end() {
        let (counters, cancelled, room) =
            (Counters::default(), AtomicBool::new(false), Room::default());
        let pace = Pace::beside(&counters, &cancelled, (&room, 0));
        pace.rest().unwrap();
        counters.batches.add(1);
        std::thread::scope(|scope| {
            scope.spawn(|| cancelled.store(true, Ordering::Relaxed));
            // A rest has an end of its own, too: then the next one fails.
            while pace.rest().is_ok() {
                counters.batches.add(1);
            }
        });
    }

    #[test]
    fn only_work_beside_commits_rests_after_small_pieces() {
        let (counters, cancelled, room) =
            (Counters::default(), AtomicBool::new(false), Room::default());
        let pace = Pace::beside(&counters, &cancelled, (&room, 0));
        assert_eq!(pace.piece_bytes(u64::MAX), PIECE_BYTES);
        assert_eq!(Pace::full().piece_bytes(u64::MAX), u64::MAX);
    }
}

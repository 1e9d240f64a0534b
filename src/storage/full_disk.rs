//! Owns which work gives up its disk space when the disk is full: background work, when the journal
//! needs room. The other parts of this subject: `files::reserve` keeps a file for that moment, and
//! `engine::committer` refuses what could not be written. Knows nothing of the journal and of the
//! work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::mutex::lock;

/// How long a thread waits for room at most. The work gives up between two of its steps and removes
/// its file.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Coordinates the space that the journal and the background work take.
#[derive(Default)]
pub(crate) struct Room {
    wanted: AtomicBool,
    holding: Mutex<Holding>,
    given_up: Condvar,
}

#[derive(Default)]
struct Holding {
    /// How many take space at present.
    takers: usize,
    /// How often space was given up. The count tells one taking from the next.
    given_up: u64,
}

/// A guard: while it lives, background work may be taking space.
pub(crate) struct Taking<'a> {
    room: &'a Room,
}

impl Room {
    pub(crate) fn take(&self) -> Taking<'_> {
        let mut holding = self.lock();
        // Those who were asked to give up before, and still take space, must see it.
        if holding.takers == 0 {
            self.wanted.store(false, Ordering::SeqCst);
        }
        holding.takers += 1;
        drop(holding);
        Taking { room: self }
    }

    /// Returns whether the journal wants the room, so that the work must end.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Asks background work to give up, and waits until it has done so. Returns `false` when no
    /// work gave up, so that there is no more room than before.
    pub(crate) fn reclaim(&self) -> bool {
        let holding = self.lock();
        if holding.takers == 0 {
            return false;
        }
        let before = holding.given_up;
        self.wanted.store(true, Ordering::SeqCst);
        let (holding, _) = self
            .given_up
            .wait_timeout_while(holding, LONGEST_WAIT, |holding| holding.given_up == before)
            .unwrap_or_else(PoisonError::into_inner);
        holding.given_up != before
    }

    fn lock(&self) -> MutexGuard<'_, Holding> {
        lock(&self.holding)
    }
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        let mut holding = self.room.lock();
        holding.takers = holding.takers.saturating_sub(1);
        holding.given_up += 1;
        drop(holding);
        self.room.given_up.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_asked_to_end_and_waited_for() {
        let room = Room::default();
        assert!(!room.reclaim(), "no work takes space");
        let taking = room.take();
        std::thread::scope(|scope| {
            let reclaimed = scope.spawn(|| room.reclaim());
            while !room.is_wanted() {
                std::thread::yield_now();
            }
            drop(taking);
            assert!(reclaimed.join().unwrap());
        });
        drop(room.take());
        assert!(!room.is_wanted() && !room.reclaim());
    }

    #[test]
    fn all_who_take_space_are_asked_to_end() {
        let room = Room::default();
        let (first, second) = (room.take(), room.take());
        std::thread::scope(|scope| {
            let reclaimed = scope.spawn(|| room.reclaim());
            while !room.is_wanted() {
                std::thread::yield_now();
            }
            drop(first);
            assert!(reclaimed.join().unwrap(), "one has given up its space");
        });
        let third = room.take();
        assert!(room.is_wanted(), "the second one has not seen it yet");
        drop((second, third));
        drop(room.take());
        assert!(!room.is_wanted());
    }
}

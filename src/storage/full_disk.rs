//! Owns which work gives up its disk space when the disk is full: background work, when the journal
//! needs room. The other parts of this subject: `files::reserve` keeps a file for that moment, and
//! `engine::committer` refuses what could not be written. Knows nothing of the journal and of the
//! work.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::mutex::lock;

/// How long a thread waits for room at most. The work gives up between two of its steps and removes
/// its file.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Coordinates the space that the journal and the background work take.
#[derive(Default)]
pub(crate) struct Room {
    /// How often the journal has asked for room.
    requests: AtomicU64,
    takers: Mutex<Takers>,
    given_up: Condvar,
}

#[derive(Default)]
struct Takers {
    /// Those who take space at present, by their numbers.
    present: BTreeMap<u64, Taker>,
    next_number: u64,
    /// How often space was given up.
    given_up: u64,
}

struct Taker {
    /// How often the journal had asked when it began. Later requests are for it.
    since: u64,
    /// Whether it was waited for in vain: a user's code may not return.
    is_stuck: bool,
}

/// A guard: while it lives, background work may be taking space.
pub(crate) struct Taking<'a> {
    room: &'a Room,
    number: u64,
    since: u64,
}

impl Taking<'_> {
    /// How often the journal had asked when this began. Later requests are for this work.
    pub(crate) fn since(&self) -> u64 {
        self.since
    }
}

impl Room {
    pub(crate) fn take(&self) -> Taking<'_> {
        let mut takers = self.lock();
        let (number, since) = (takers.next_number, self.requests());
        takers.next_number += 1;
        takers.present.insert(number, Taker { since, is_stuck: false });
        Taking { room: self, number, since }
    }

    /// Returns how often the journal has asked for room. Work must end when it has asked since the
    /// work began.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// Asks the background work of this moment to give up, and waits until all of it has done so.
    /// Returns `false` when none gave up, so that there is no more room than before. Work that does
    /// not end in time is not waited for again.
    pub(crate) fn reclaim(&self) -> bool {
        let takers = self.lock();
        if takers.present.values().all(|taker| taker.is_stuck) {
            return false;
        }
        let before = takers.given_up;
        let asked = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        let is_awaited = |taker: &Taker| taker.since < asked && !taker.is_stuck;
        let (mut takers, _) = self
            .given_up
            .wait_timeout_while(takers, LONGEST_WAIT, |takers| {
                takers.present.values().any(is_awaited)
            })
            .unwrap_or_else(PoisonError::into_inner);
        for taker in takers.present.values_mut().filter(|taker| taker.since < asked) {
            taker.is_stuck = true;
        }
        takers.given_up != before
    }

    fn lock(&self) -> MutexGuard<'_, Takers> {
        lock(&self.takers)
    }
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        let mut takers = self.room.lock();
        takers.present.remove(&self.number);
        takers.given_up += 1;
        drop(takers);
        self.room.given_up.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(room: &Room, times: u64) {
        while room.requests() < times {
            std::thread::yield_now();
        }
    }

    #[test]
    fn work_is_asked_to_end_and_waited_for() {
        let room = Room::default();
        assert!(!room.reclaim(), "no work takes space");
        let taking = room.take();
        std::thread::scope(|scope| {
            let reclaimed = scope.spawn(|| room.reclaim());
            asked(&room, 1);
            assert!(taking.since() < room.requests());
            drop(taking);
            assert!(reclaimed.join().unwrap());
        });
        assert_eq!(room.take().since(), room.requests(), "it was not asked");
        assert!(!room.reclaim());
    }

    #[test]
    fn all_who_take_space_are_waited_for() {
        let room = Room::default();
        let (first, second) = (room.take(), room.take());
        std::thread::scope(|scope| {
            let reclaimed = scope.spawn(|| room.reclaim());
            asked(&room, 1);
            drop(first);
            // Whoever begins now is not waited for.
            let later = room.take();
            assert!(second.since() < room.requests() && later.since() == room.requests());
            assert!(!reclaimed.is_finished());
            drop(second);
            assert!(reclaimed.join().unwrap());
            drop(later);
        });
    }

    #[test]
    fn who_does_not_give_up_is_waited_for_once_and_harms_nobody_else() {
        let room = Room::default();
        let stuck = room.take();
        room.lock().present.values_mut().for_each(|taker| taker.is_stuck = true);
        assert!(!room.reclaim(), "it is not waited for again");
        let other = room.take();
        std::thread::scope(|scope| {
            let reclaimed = scope.spawn(|| room.reclaim());
            asked(&room, 1);
            drop(other);
            assert!(reclaimed.join().unwrap());
        });
        assert_eq!(room.take().since(), room.requests());
        drop(stuck);
    }
}

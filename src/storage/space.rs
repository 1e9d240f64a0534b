//! Owns who gives way when the disk is full: background work that is taking space gives up what it
//! has taken when the journal needs room. Knows nothing of either.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::mutex::lock;

/// Work gives up between two of its steps and removes its file; whoever waits longer than this goes
/// on without.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Shared by the journal and the work in the background.
#[derive(Default)]
pub(crate) struct Room {
    wanted: AtomicBool,
    holding: Mutex<Holding>,
    given_up: Condvar,
}

#[derive(Default)]
struct Holding {
    taken: bool,
    /// How often it was given up: whoever takes anew must not be mistaken for the one before.
    given_up: u64,
}

/// While it lives, background work may be taking space.
pub(crate) struct Taking<'a> {
    room: &'a Room,
}

impl Room {
    pub(crate) fn take(&self) -> Taking<'_> {
        let mut holding = self.lock();
        holding.taken = true;
        self.wanted.store(false, Ordering::SeqCst);
        drop(holding);
        Taking { room: self }
    }

    /// Whether the work is to end.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Has background work give up and waits until it has. `false`: there was none, and there is
    /// no more room than before.
    pub(crate) fn reclaim(&self) -> bool {
        let holding = self.lock();
        if !holding.taken {
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
        holding.taken = false;
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
        assert!(!room.reclaim(), "nobody takes any");
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
}

//! Owns the batches that were committed last, for those who follow the database. Knows nothing of
//! who they are, and of how a record is decoded.
//!
//! The committer never waits for a follower. It puts each batch here, if there is a follower at
//! all, and what does not fit any more goes. Who needs what has gone reads it from the files.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex};

use crate::mutex::lock;

/// The most bytes of the batches together, and the most batches.
const MOST_BYTES: usize = 8 << 20;
const MOST_BATCHES: usize = 1 << 14;

/// The records of one batch.
#[derive(Debug)]
pub(crate) struct CommittedBatch {
    pub(crate) first_sequence: u64,
    pub(crate) count: u32,
    pub(crate) payload: Arc<[u8]>,
}

impl CommittedBatch {
    fn next_sequence(&self) -> u64 {
        self.first_sequence.saturating_add(self.count.into())
    }
}

/// What is known here of a sequence.
pub(crate) enum Lookup {
    /// The batch that holds it.
    Found(Arc<CommittedBatch>),
    /// It is in no batch that is kept.
    NotHere,
}

#[derive(Default)]
pub(crate) struct RecentBatches {
    followers: AtomicUsize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    batches: VecDeque<Arc<CommittedBatch>>,
    bytes: usize,
}

impl RecentBatches {
    /// Notes one more follower. From now on, batches are kept.
    pub(crate) fn join(&self) {
        self.followers.fetch_add(1, Ordering::SeqCst);
        // This pairs with the fence in `push`: either that sees the follower, or the follower sees
        // that the batch was published.
        fence(Ordering::SeqCst);
    }

    /// Notes one follower less. Without any, nothing is kept.
    pub(crate) fn leave(&self) {
        if self.followers.fetch_sub(1, Ordering::SeqCst) == 1 {
            *lock(&self.kept) = Kept::default();
        }
    }

    /// Keeps a batch that is durable, or as durable as it was promised, before readers see it.
    pub(crate) fn push(&self, first_sequence: u64, count: u32, payload: &[u8]) {
        fence(Ordering::SeqCst);
        if self.followers.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut kept = lock(&self.kept);
        if payload.len() > MOST_BYTES {
            *kept = Kept::default();
            return;
        }
        // What follows must be without a gap, so that one look finds it.
        if kept.batches.back().is_some_and(|last| last.next_sequence() != first_sequence) {
            *kept = Kept::default();
        }
        while kept.bytes + payload.len() > MOST_BYTES || kept.batches.len() >= MOST_BATCHES {
            let Some(oldest) = kept.batches.pop_front() else { break };
            kept.bytes -= oldest.payload.len();
        }
        kept.bytes += payload.len();
        let payload = payload.into();
        kept.batches.push_back(Arc::new(CommittedBatch { first_sequence, count, payload }));
    }

    /// Returns the batch that holds a sequence.
    pub(crate) fn find(&self, sequence: u64) -> Lookup {
        let kept = lock(&self.kept);
        let behind = kept.batches.partition_point(|batch| batch.first_sequence <= sequence);
        let batch = behind.checked_sub(1).and_then(|at| kept.batches.get(at));
        match batch.filter(|batch| sequence < batch.next_sequence()) {
            Some(batch) => Lookup::Found(batch.clone()),
            None => Lookup::NotHere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(recent: &RecentBatches, sequence: u64) -> Option<u64> {
        match recent.find(sequence) {
            Lookup::Found(batch) => Some(batch.first_sequence),
            Lookup::NotHere => None,
        }
    }

    #[test]
    fn batches_are_kept_while_somebody_follows() {
        let recent = RecentBatches::default();
        recent.push(1, 2, &[0; 10]);
        assert_eq!(first(&recent, 1), None);
        recent.join();
        recent.join();
        recent.push(3, 2, &[0; 10]);
        recent.push(5, 1, &[0; 10]);
        assert_eq!(
            [2, 3, 4, 5, 6].map(|it| first(&recent, it)),
            [None, Some(3), Some(3), Some(5), None]
        );
        recent.leave();
        assert_eq!(first(&recent, 5), Some(5));
        recent.leave();
        assert_eq!(first(&recent, 5), None);
    }

    #[test]
    fn no_more_is_kept_than_allowed_and_nothing_behind_a_gap() {
        let recent = RecentBatches::default();
        recent.join();
        for number in 0..10 {
            recent.push(number + 1, 1, &vec![0; MOST_BYTES / 4 + 1]);
            assert!(lock(&recent.kept).bytes <= MOST_BYTES);
        }
        assert_eq!([6, 7, 8, 10].map(|it| first(&recent, it)), [None, None, Some(8), Some(10)]);
        recent.push(20, 1, &[1]);
        assert_eq!([10, 20].map(|it| first(&recent, it)), [None, Some(20)]);
        recent.push(21, 1, &vec![0; MOST_BYTES + 1]);
        assert_eq!([20, 21].map(|it| first(&recent, it)), [None, None]);
        for number in 0..MOST_BATCHES as u64 + 5 {
            recent.push(30 + number, 1, &[]);
        }
        assert_eq!([34, 35].map(|it| first(&recent, it)), [None, Some(35)]);
    }
}

//! Tests durations that are longer than the range of a clock. They must mean a very long time, and
//! not zero or a panic. `super::shuttled` explores the same for waits and for lingering.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::storage::faulty::{Faulty, Operation};
use crate::test_support::{Add, Count, open, small};
use crate::testing::given;
use crate::{Database, Durability, Error, ExecuteError, Health, RecentVersions, SnapshotPolicy};

/// The longest duration, durations near the limit of a clock, and one of many thousand years.
const ENDLESS: [Duration; 5] = [
    Duration::MAX,
    Duration::from_secs(u64::MAX),
    Duration::from_secs(i64::MAX as u64),
    Duration::from_secs(i64::MAX as u64 / 2),
    Duration::from_secs(1 << 40),
];

fn in_memory(options: impl FnOnce(&mut Options)) -> Database<Count> {
    let mut chosen = small();
    options(&mut chosen);
    let memory = Arc::new(crate::storage::Memory::default());
    open(memory, "memory".as_ref(), chosen).unwrap()
}

/// Waits until another thread has done something. After a minute it is certain that it does not.
fn until(done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(60), "it never happened");
        std::thread::yield_now();
    }
}

#[test]
fn a_batch_lingers_until_it_is_full() {
    for linger in ENDLESS {
        let database = in_memory(|options| {
            (options.linger, options.max_batch_commands) = (linger, 32);
        });
        let mut pending = Vec::new();
        for _ in 0..31 {
            pending.push(database.submit(Add(vec![1])).unwrap());
            // Wait until the writer has the command: without lingering it would be a batch of its
            // own.
            until(|| database.stats().queued_commands == 0);
            assert!(pending.iter().all(|pending| !pending.is_ready()), "{linger:?}");
        }
        assert_eq!(database.execute(Add(vec![1])).unwrap(), 32);
        assert!(pending.into_iter().all(|pending| pending.wait().is_ok()));
        let stats = database.stats();
        assert_eq!((stats.batches, stats.largest_batch), (1, 32), "{linger:?}");
    }
}

#[test]
fn a_close_ends_the_lingering() {
    for linger in ENDLESS {
        let database = in_memory(|options| options.linger = linger);
        let pending = database.submit(Add(vec![1])).unwrap();
        database.clone().close().unwrap();
        assert_eq!(pending.wait().unwrap(), 1);
    }
}

#[test]
fn a_failure_ends_the_lingering() {
    for linger in ENDLESS {
        let directory = tempfile::tempdir().unwrap();
        let armed = Arc::new(AtomicBool::new(false));
        let fails = armed.clone();
        let storage = Faulty::new(move |operation| {
            (*operation == Operation::SyncData && fails.load(Ordering::SeqCst))
                .then(|| std::io::Error::other("the disk is gone"))
        });
        let durability = Durability::Buffered;
        let options = Options { linger, max_batch_commands: 2, durability, ..small() };
        let database = open(storage, directory.path(), options).unwrap();
        let full = [(); 2].map(|()| database.submit(Add(vec![1])).unwrap());
        for pending in full {
            pending.wait().unwrap();
        }
        let lingering = database.submit(Add(vec![1])).unwrap();
        until(|| database.stats().queued_commands == 0);
        armed.store(true, Ordering::SeqCst);
        assert!(matches!(database.sync(), Err(Error::Poisoned(_))));
        until(|| lingering.is_ready());
        let error = lingering.wait().unwrap_err();
        assert!(matches!(error, ExecuteError::Poisoned(_)), "{error:?}");
    }
}

#[test]
fn a_wait_for_a_sequence_is_a_long_wait() {
    for timeout in ENDLESS {
        let database = in_memory(|_| {});
        let other = database.clone();
        let waiting = std::thread::spawn(move || other.wait_for(2, timeout));
        let published = database.published();
        until(|| published.waiting() == 1 || waiting.is_finished());
        database.execute(Add(vec![1])).unwrap(); // wakes the waiting thread too early
        database.execute(Add(vec![1])).unwrap();
        waiting.join().unwrap().unwrap();
    }
}

#[test]
fn syncs_at_intervals_without_end_never_come() {
    for interval in ENDLESS {
        let database = in_memory(|options| options.durability = Durability::Interval(interval));
        for _ in 0..1000 {
            database.execute(Add(vec![1])).unwrap();
        }
        assert_eq!(database.stats().syncs, 0, "{interval:?}");
        assert_eq!(database.sync().unwrap(), 1000);
        database.close().unwrap();
    }
}

#[test]
fn snapshots_at_intervals_without_end_never_come() {
    for time in ENDLESS {
        for policy in [SnapshotPolicy::every(time), SnapshotPolicy::startup_within(time)] {
            let database = in_memory(|options| options.snapshots = policy);
            for _ in 0..1000 {
                database.execute(Add(vec![1])).unwrap();
            }
            let stats = database.stats();
            assert_eq!((stats.snapshots_taken, stats.snapshots_failed), (0, 0), "{policy:?}");
            assert_eq!(database.snapshot().unwrap().sequence, 1000, "the thread must live");
            assert!(matches!(database.health(), Health::Running));
            database.close().unwrap();
        }
    }
}

#[test]
fn versions_without_an_age_stay() {
    for age in ENDLESS {
        let recent = RecentVersions { age, count: 10, commands: 10 };
        let database = in_memory(|options| options.recent_versions = recent);
        for _ in 0..10 {
            database.execute(Add(vec![1])).unwrap();
        }
        database.snapshot().unwrap(); // now the snapshot thread has searched for old versions
        assert_eq!((database.at(0).unwrap().0, database.at(7).unwrap().0), (0, 7), "{age:?}");
    }
}

#[test]
fn time_in_a_fixture_ends_at_the_latest_time_of_a_database() {
    for duration in ENDLESS {
        let later = given(Count(0)).later_by(duration).later_by(duration);
        later.when(Add(vec![1])).then_output(&1);
    }
}

//! Explores how readers and waiters meet the versions that are published.

use std::sync::Arc;
use std::time::Duration;

use super::explore::explore;
use super::published_version::{Published, Version};
use super::status::Status;
use super::sync::thread;
use crate::execute_error::WaitError;
use crate::options::RecentVersions;

const LAST: u64 = 3;

/// Longer than the clock's range: only a wake-up ends such a wait.
const ENDLESS: Duration = Duration::MAX;

fn version(sequence: u64) -> Arc<Version<u64>> {
    Arc::new(Version::written(sequence, sequence, 0, 0))
}

fn readers_and_waiters() {
    let published = Arc::new(Published::new(version(0), RecentVersions::OFF));
    let status = Arc::new(Status::default());
    let spawn = |body: fn(&Published<u64>, &Status)| {
        let (published, status) = (published.clone(), status.clone());
        thread::spawn(move || body(&published, &status))
    };
    let threads = [
        spawn(|published, _| {
            for sequence in 1..=LAST {
                let mut superseded = Vec::new();
                published.publish(version(sequence), &mut superseded);
                assert_eq!(superseded[0].sequence, sequence - 1);
            }
        }),
        spawn(|published, _| {
            let mut newest = 0;
            for _ in 0..3 {
                let pinned = published.pin();
                assert_eq!(pinned.model, pinned.sequence);
                let read = published.read(|version| version.sequence);
                assert!(newest <= pinned.sequence && pinned.sequence <= read, "back in time");
                newest = read;
            }
        }),
        spawn(|published, status| {
            published.wait_for(1, ENDLESS, status).unwrap();
            assert!(published.sequence() >= 1);
        }),
        spawn(|published, status| {
            published.wait_for(LAST, ENDLESS, status).unwrap();
            assert!(published.view().sequence() >= LAST);
        }),
        spawn(|published, status| match published.wait_for(2, Duration::from_millis(1), status) {
            Ok(()) => assert!(published.sequence() >= 2),
            Err(WaitError::TimedOut { wanted: 2, reached }) => assert!(reached < 2),
            other => panic!("{other:?}"),
        }),
    ];
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Who waits for what never comes learns of the end; what came before the end still counts.
fn the_end_wakes_who_waits(end: fn(&Status)) {
    let published = Arc::new(Published::new(version(0), RecentVersions::OFF));
    let status = Arc::new(Status::default());
    let waiting = [1, 2].map(|wanted| {
        let (published, status) = (published.clone(), status.clone());
        thread::spawn(move || published.wait_for(wanted, ENDLESS, &status))
    });
    published.publish(version(1), &mut Vec::new());
    end(&status);
    published.wake_waiting();
    let [first, second] = waiting.map(|thread| thread.join().unwrap());
    assert!(first.is_ok(), "{first:?}");
    let reached_one = matches!(second, Err(WaitError::Stopped { wanted: 2, reached: 1 }));
    assert!(reached_one || matches!(second, Err(WaitError::Poisoned(_))), "{second:?}");
}

fn explore_all(schedules: usize) {
    explore(schedules, readers_and_waiters);
    explore(schedules / 4, || the_end_wakes_who_waits(Status::stop));
    explore(schedules / 4, || the_end_wakes_who_waits(|status| drop(status.poison(&"a test"))));
}

#[test]
fn versions_only_advance_and_waiting_ends() {
    explore_all(4000);
}

#[test]
#[ignore = "minutes: a hundred times as many schedules"]
fn versions_only_advance_and_waiting_ends_for_long() {
    explore_all(400_000);
}

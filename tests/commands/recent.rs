//! Recent versions: what was the newest a short while ago can still be read.

use std::time::Duration;

use prevalence::{AtError, Builder, Database, Error, RecentVersions, SnapshotPolicy};

use crate::common::{Add, Ledger, Mix, until};

/// A time that is longer than any test.
const NEVER: Duration = Duration::from_secs(600);

fn builder(count: usize, age: Duration, commands: u64) -> Builder<Ledger> {
    Database::builder().snapshots(SnapshotPolicy::manual()).recent_versions(RecentVersions {
        count,
        age,
        commands,
    })
}

fn kept(database: &Database<Ledger>) -> (u64, u64, u64) {
    let stats = database.stats();
    (stats.recent_versions, stats.recent_oldest_sequence, stats.recent_commands)
}

#[test]
fn each_kept_version_is_what_was_read_then() {
    let database = builder(5, NEVER, 100).open_in_memory().unwrap();
    let mut then = vec![database.query(Ledger::bytes)];
    for value in 1..=20 {
        database.execute(Mix(value)).unwrap();
        then.push(database.query(Ledger::bytes));
    }
    // What the last command made superfluous goes after its answer was given.
    until(|| kept(&database) == (5, 15, 5));
    for sequence in 15..=20 {
        let view = database.at(sequence).unwrap();
        assert_eq!((view.sequence(), view.bytes()), (sequence, then[sequence as usize].clone()));
    }
    let error = database.at(14).unwrap_err();
    assert_eq!(error, AtError::Forgotten { wanted: 14, oldest: 15, newest: 20 });
    assert!(error.to_string().contains("history().at(14)"), "{error}");
    assert_eq!(database.at(21).unwrap_err(), AtError::NotYet { wanted: 21, newest: 20 });
    // A closed database has the last one, and views outlive everything.
    let (other, view) = (database.clone(), database.at(15).unwrap());
    database.close().unwrap();
    let closed = AtError::Forgotten { wanted: 15, oldest: 20, newest: 20 };
    assert_eq!(other.at(15).unwrap_err(), closed);
    assert_eq!((other.at(20).unwrap().bytes(), view.bytes()), (then[20].clone(), then[15].clone()));
}

#[test]
fn versions_are_those_at_the_ends_of_batches() {
    let database =
        builder(64, NEVER, 8).linger(NEVER).max_batch_commands(4).open_in_memory().unwrap();
    let batch = || {
        let pending: Vec<_> = (0..4).map(|value| database.submit(Mix(value)).unwrap()).collect();
        for (one, value) in pending.into_iter().zip(1..) {
            assert_eq!(one.wait().unwrap() % 4, value % 4);
        }
    };
    batch();
    batch();
    assert_eq!(kept(&database), (2, 0, 8));
    let amid = AtError::AmidBatch { wanted: 6, before: 4, after: 8 };
    assert_eq!(database.at(6).unwrap_err(), amid);
    assert_eq!(database.at(4).unwrap().changes, 4);
    batch();
    // No more than eight commands back, though that is few versions.
    let forgotten = AtError::Forgotten { wanted: 3, oldest: 4, newest: 12 };
    assert_eq!(database.at(3).unwrap_err(), forgotten);
    assert_eq!(database.at(4).unwrap().changes, 4);
}

#[test]
fn without_commands_the_age_is_heeded_and_the_memory_given_back() {
    let database = builder(64, Duration::from_millis(50), 100).open_in_memory().unwrap();
    for _ in 0..9 {
        database.execute(Add { account: 1, amount: 1 }).unwrap();
    }
    until(|| database.at(8).is_err());
    until(|| kept(&database) == (0, 9, 0));
    assert_eq!(database.at(9).unwrap().changes, 9);
}

#[test]
fn none_may_be_kept_and_not_any_number() {
    let database = builder(0, NEVER, 100).open_in_memory().unwrap();
    for _ in 0..3 {
        database.execute(Add { account: 1, amount: 1 }).unwrap();
    }
    assert_eq!(kept(&database), (0, 3, 0));
    assert_eq!(database.at(3).unwrap().sequence(), 3);
    let forgotten = AtError::Forgotten { wanted: 2, oldest: 3, newest: 3 };
    assert_eq!(database.at(2).unwrap_err(), forgotten);
    let refused = builder(usize::MAX, NEVER, 1).open_in_memory();
    assert!(matches!(refused, Err(Error::InvalidOption { option: "recent_versions", .. })));
}

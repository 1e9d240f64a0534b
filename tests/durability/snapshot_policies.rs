//! Tests of automatic snapshots when a run is short or has many segments.

use prevalence::{Database, SnapshotPolicy};

use crate::common::{Add, Carry, Ledger, temporary};

#[test]
fn a_policy_sees_segments() {
    let (_directory, path) = temporary();
    let builder = Database::<Ledger>::builder()
        .segment_bytes(64 << 10)
        .snapshots(SnapshotPolicy::every_segments(4));
    let database = builder.open(&path).unwrap();
    // Each fills a segment.
    for _ in 0..12 {
        database.execute(Carry(vec![1; 50_000])).unwrap();
    }
    while database.stats().snapshots_taken == 0 {
        std::thread::yield_now();
    }
    assert!(database.stats().segments_since_snapshot <= 12);
    database.snapshot().unwrap();
    assert_eq!(database.stats().segments_since_snapshot, 1);
    database.close().unwrap();
}

/// The runs are so short that each would give up its snapshot when it is closed.
#[test]
fn short_runs_get_their_snapshots_too() {
    let (_directory, path) = temporary();
    for run in 1..=12 {
        let builder = Database::<Ledger>::builder();
        let database = builder.snapshots(SnapshotPolicy::every_commands(10)).open(&path).unwrap();
        let pending: Vec<_> =
            (0..25).map(|_| database.submit(Add { account: 1, amount: 1 }).unwrap()).collect();
        pending.into_iter().for_each(|pending| assert!(pending.wait().is_ok()));
        database.close().unwrap();
        let database = Database::<Ledger>::open(&path).unwrap();
        assert!(database.recovery().commands_replayed < 20, "run {run}");
    }
}

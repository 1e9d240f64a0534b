//! The stored commands, against the history that the program reads with its types.

use std::ops::Bound;

use prevalence::inspect::{Inspection, StoredRecord};
use prevalence::{Database, Error, Metadata, SnapshotPolicy};

use crate::common::{Add, Carry, Ledger, Mix, keeping_history, temporary};
use crate::{look, unchanged};

/// Makes an archive, segments, metadata and events.
fn filled(path: &std::path::Path) -> Database<Ledger> {
    let database = keeping_history().open(path).unwrap();
    for round in 0..3_u32 {
        for step in 0..6_u8 {
            let asked = Metadata {
                actor: format!("actor {round}"),
                request_id: format!("{round}-{step}"),
                ..Metadata::default()
            };
            let asking = database.with_metadata(&asked).unwrap();
            asking.execute(Add { account: round, amount: i64::from(step) }).unwrap();
            database.execute(Carry(vec![7; 12 << 10])).unwrap();
        }
        database.snapshot().unwrap();
    }
    let pending: Vec<_> = (0..50).map(|value| database.submit(Mix(value)).unwrap()).collect();
    pending.into_iter().for_each(|it| assert!(it.wait().unwrap() > 0));
    database
}

#[test]
fn records_are_those_of_the_history() {
    let (_directory, path) = temporary();
    let database = filled(&path);
    let expected: Vec<_> = database.history().records(..).unwrap().collect();
    let found: Vec<StoredRecord> =
        Inspection::open(&path).unwrap().records(..).unwrap().map(Result::unwrap).collect();
    assert_eq!(found.len() as u64, database.sequence());
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        let expected = expected.as_ref().unwrap();
        assert_eq!(found.sequence, expected.sequence());
        assert_eq!(found.time, expected.time());
        assert_eq!(found.metadata, expected.metadata());
        assert_eq!((found.tag, &*found.command_name), (expected.tag(), expected.command_name()));
        assert_eq!(found.model_version, 1);
        let has_events = expected.events().unwrap().is_some_and(|events| !events.is_empty());
        assert_eq!(found.events.as_ref().is_some_and(|it| !it.is_empty()), has_events);
    }
    let carried = &found[1];
    assert_eq!(&*carried.command_name, "Carry");
    assert!(carried.command.ends_with(&[7; 12 << 10]));
    database.close().unwrap();
}

#[test]
fn ranges_are_kept() {
    let (_directory, path) = temporary();
    filled(&path).close().unwrap();
    let look = look(&path);
    let newest = look.newest_sequence();
    let sequences = |range: (Bound<u64>, Bound<u64>)| -> Vec<u64> {
        unchanged(&path, || {
            look.records(range).unwrap().map(|record| record.unwrap().sequence).collect()
        })
    };
    use Bound::{Excluded, Included, Unbounded};
    assert_eq!(sequences((Included(5), Included(9))), [5, 6, 7, 8, 9]);
    assert_eq!(sequences((Excluded(5), Excluded(9))), [6, 7, 8]);
    assert_eq!(sequences((Unbounded, Included(3))), [1, 2, 3]);
    assert_eq!(sequences((Included(newest), Unbounded)), [newest]);
    assert_eq!(sequences((Included(newest + 1), Unbounded)), [0; 0]);
    assert_eq!(sequences((Included(newest + 9), Included(newest + 10))), [0; 0]);
    assert_eq!(sequences((Included(9), Excluded(9))), [0; 0]);
    // In the middle of a batch of 50.
    assert_eq!(sequences((Included(newest - 20), Included(newest - 18))).len(), 3);
    let time = look.records(20..=20).unwrap().next().unwrap().unwrap().time;
    let from = look.sequence_before(time);
    assert!(from <= 20, "{from}");
    let missed = look.records(..from).unwrap().filter(|it| it.as_ref().unwrap().time >= time);
    assert_eq!(missed.count(), 0);
}

#[test]
fn what_is_no_longer_stored_is_an_error() {
    let (_directory, path) = temporary();
    let builder = || Database::<Ledger>::builder().segment_bytes(64 << 10).keep_snapshots(1);
    let database = builder().snapshots(SnapshotPolicy::manual()).open(&path).unwrap();
    for _ in 0..9 {
        database.execute(Carry(vec![7; 20_000])).unwrap();
    }
    database.snapshot().unwrap();
    database.close().unwrap();
    let look = look(&path);
    let oldest = look.oldest_sequence().unwrap();
    assert!(oldest > 1);
    let error = look.records(1..).unwrap_err();
    let Error::HistoryTruncated { wanted, oldest: found, .. } = error else { panic!("{error}") };
    assert_eq!((wanted, found), (1, oldest));
    let first = look.records(..).unwrap().next().unwrap().unwrap();
    assert_eq!(first.sequence, oldest);
}

#[test]
fn a_reader_goes_on_where_it_was() {
    let (_directory, path) = temporary();
    let open = || keeping_history::<Ledger>().open(&path).unwrap();
    let database = open();
    let mut records = Inspection::open(&path).unwrap().records(..).unwrap();
    let mut next = 1;
    let mut read_new = |records: &mut prevalence::inspect::StoredRecords, newest: u64| {
        assert_eq!(records.go_on().unwrap(), newest);
        for record in records {
            assert_eq!(record.unwrap().sequence, next);
            next += 1;
        }
        assert_eq!(next, newest + 1);
    };
    assert!(records.next().is_none());
    for round in 0..20 {
        database.execute(Carry(vec![1; 9_000])).unwrap();
        database.execute(Mix(round)).unwrap();
        if round % 6 == 5 {
            database.snapshot().unwrap(); // segments are archived meanwhile
        }
        read_new(&mut records, database.sequence());
        assert!(records.next().is_none());
    }
    assert!(!Inspection::open(&path).unwrap().archives().is_empty());
    database.close().unwrap();
    // The next run begins a segment that may replace the last one.
    let database = open();
    database.execute(Mix(7)).unwrap();
    read_new(&mut records, database.sequence());
}

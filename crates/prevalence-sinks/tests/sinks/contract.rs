//! What every sink must do. Each database runs these on its own.

use std::panic::{AssertUnwindSafe, catch_unwind};

use prevalence::{Database, DatabaseId, Source};
use prevalence_sinks::SinkError;

use crate::common::{Manner, Other, Till, behind, expected, feed, open, pay, source};

/// Runs one scenario on a new till with so many commands.
fn with_till(commands: u64, work: impl FnOnce(&Database<Till>)) {
    let directory = tempfile::tempdir().unwrap();
    let till = open(directory.path());
    pay(&till, commands);
    work(&till);
    till.close().unwrap();
}

/// Checks that exactly the commands up to `position` are stored.
fn assert_at(other: &dyn Other, till: &Database<Till>, position: u64, what: &str) {
    assert_eq!(other.payments(), expected(till, position), "{what}");
    let found = other.sink(Manner::Good).position(&source()).unwrap();
    assert_eq!(found, position, "{what}");
}

/// A sink that is dropped behind each batch, and the till that is opened anew, too.
pub fn each_command_once_over_restarts(other: &dyn Other) {
    let directory = tempfile::tempdir().unwrap();
    let mut position = 0;
    for commands in [1, 2, 3, 5, 8] {
        let till = open(directory.path());
        pay(&till, 8);
        for batch in behind(&till, position).chunks(commands) {
            let mut sink = other.sink(Manner::Good);
            assert_eq!(sink.position(&source()).unwrap(), position);
            sink.apply_batch(batch).unwrap();
            position += batch.len() as u64;
        }
        assert_at(other, &till, position, "after restarts");
        till.close().unwrap();
    }
    let till = open(directory.path());
    pay(&till, 9);
    let mut sink = other.sink(Manner::Good);
    assert_eq!(feed(&till, &mut sink, 4), 49);
    assert_eq!(feed(&till, &mut sink, 4), 49, "there is nothing to do");
    sink.apply_batch(&[]).unwrap();
    assert_at(other, &till, 49, "one sink for all");
}

/// Nothing of a batch stays when the closure fails or panics at any place in it.
pub fn a_closure_that_fails_leaves_nothing(other: &dyn Other) {
    with_till(9, |till| {
        assert_eq!(feed(till, &mut other.sink(Manner::Good), 3), 9);
        pay(till, 5);
        let batch = behind(till, 9);
        for at in 10..=14 {
            let what = format!("at {at}");
            let mut sink = other.sink(Manner::Fails(at));
            assert_eq!(sink.position(&source()).unwrap(), 9, "{what}");
            let error = sink.apply_batch(&batch).unwrap_err();
            let SinkError::Write { sequence, .. } = &error else { panic!("{error}") };
            assert_eq!(*sequence, at);
            assert!(error.to_string().contains("on purpose"), "{error}");
            assert_at(other, till, 9, &what);

            let mut sink = other.sink(Manner::Panics(at));
            assert_eq!(sink.position(&source()).unwrap(), 9, "{what}");
            assert!(catch_unwind(AssertUnwindSafe(|| sink.apply_batch(&batch))).is_err());
            assert_at(other, till, 9, &what);
            let error = sink.apply_batch(&batch).unwrap_err();
            assert!(matches!(error, SinkError::NoPosition), "{error}");
            // The same sink goes on, up to the command that it cannot write.
            assert_eq!(sink.position(&source()).unwrap(), 9, "{what}");
            let before: Vec<_> = behind(till, 9).into_iter().take(at as usize - 10).collect();
            sink.apply_batch(&before).unwrap();
            assert_at(other, till, at - 1, &what);
            other.run("UPDATE prevalence_positions SET position = 9");
            other.run("DELETE FROM payments WHERE command > 9");
        }
        assert_eq!(feed(till, &mut other.sink(Manner::Good), 2), 14);
        assert_at(other, till, 14, "at last");
    });
}

/// SQL that fails, also if the closure does not mind.
pub fn a_statement_that_fails_leaves_nothing(other: &dyn Other) {
    with_till(6, |till| {
        let wrong = "INSERT INTO kinds VALUES (1), (1)";
        for manner in [Manner::Runs(4, wrong), Manner::Runs(4, "no SQL")] {
            let mut sink = other.sink(manner);
            sink.position(&source()).unwrap();
            let error = sink.apply_batch(&behind(till, 0)).unwrap_err();
            assert!(matches!(error, SinkError::Write { sequence: 4, .. }), "{error}");
            assert_at(other, till, 0, "a statement failed");
        }
        // What is refused only at the commit.
        let mut sink = other.sink(Manner::Runs(4, "INSERT INTO notes VALUES (5)"));
        sink.position(&source()).unwrap();
        let error = sink.apply_batch(&behind(till, 0)).unwrap_err();
        assert!(matches!(error, SinkError::Commit { last: 6, .. }), "{error}");
        assert_at(other, till, 0, "the commit failed");
        assert_eq!(feed(till, &mut other.sink(Manner::Good), 4), 6);
        assert_at(other, till, 6, "at last");
    });
}

/// Two sinks under one name: one of them is refused, and nothing is doubled.
pub fn of_two_agents_one_is_refused(other: &dyn Other) {
    with_till(8, |till| {
        let (mut one, mut two) = (other.sink(Manner::Good), other.sink(Manner::Good));
        assert_eq!(one.position(&source()).unwrap(), 0);
        assert_eq!(two.position(&source()).unwrap(), 0);
        let all = behind(till, 0);
        one.apply_batch(&all[..3]).unwrap();
        for batch in [&all[..3], &all[..5], &all[1..4], &all[4..]] {
            let error = two.apply_batch(batch).unwrap_err();
            let SinkError::Moved { stored, first, .. } = &error else { panic!("{error}") };
            assert_eq!((*stored, *first), (3, batch[0].sequence));
            assert_at(other, till, 3, "the second one");
            assert_eq!(two.position(&source()).unwrap(), 3);
        }
        two.apply_batch(&all[3..]).unwrap();
        let error = one.apply_batch(&all[3..]).unwrap_err();
        assert!(matches!(error, SinkError::Moved { stored: 8, first: 4, .. }), "{error}");
        assert_at(other, till, 8, "both");
    });
}

/// Agents that all feed the same at the same time, and again and again are too late.
pub fn agents_at_the_same_time_double_nothing(other: &dyn Other) {
    with_till(60, |till| {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut sink = other.sink(Manner::Good);
                    loop {
                        let Ok(position) = sink.position(&source()) else { continue };
                        if position == 60 {
                            return;
                        }
                        let batch: Vec<_> = behind(till, position).into_iter().take(2).collect();
                        let _: Result<(), SinkError> = sink.apply_batch(&batch);
                    }
                });
            }
        });
        assert_at(other, till, 60, "three at the same time");
    });
}

/// Each database and each name has a position of its own.
pub fn sources_are_apart(other: &dyn Other) {
    with_till(4, |till| {
        let all = behind(till, 0);
        let id = |byte| DatabaseId::from_bytes([byte; 16]);
        let sources = [(1, "a"), (1, "b"), (2, "a"), (2, "A"), (2, ""), (2, "a'; --")];
        for (number, (database, name)) in sources.into_iter().enumerate() {
            let fed = 1 + number % 4;
            let source = Source::new(id(database), name);
            let mut sink = other.sink_of(crate::common::TABLES, name, Manner::Good);
            assert_eq!(sink.position(&source).unwrap(), 0, "{source:?}");
            sink.apply_batch(&all[..fed]).unwrap();
        }
        for (number, (database, name)) in sources.into_iter().enumerate() {
            let source = Source::new(id(database), name);
            let position = other.sink(Manner::Good).position(&source).unwrap();
            assert_eq!(position, 1 + number as u64 % 4, "{source:?}");
        }
        assert_eq!(other.sink(Manner::Good).position(&source()).unwrap(), 0);
    });
}

/// Many sinks that make the same tables at once.
pub fn many_begin_at_once(other: &dyn Other) {
    std::thread::scope(|scope| {
        for name in ["a", "a", "b", "c"] {
            scope.spawn(move || {
                let source = Source::new(DatabaseId::from_bytes([9; 16]), name);
                assert_eq!(other.sink(Manner::Good).position(&source).unwrap(), 0);
            });
        }
    });
}

/// The tables are made once, with the first position or not at all.
pub fn tables_come_with_the_first_position(other: &dyn Other) {
    with_till(2, |till| {
        let wrong = "CREATE TABLE half (a BIGINT); CREATE TABEL payments (a BIGINT)";
        for _ in 0..2 {
            let error = other.sink_of(wrong, "payments", Manner::Good).position(&source());
            let error = error.unwrap_err();
            assert!(matches!(error, SinkError::Database { .. }), "{error}");
            assert!(error.to_string().contains("TABEL"), "{error}");
        }
        let mut sink = other.sink(Manner::Good);
        assert_eq!(feed(till, &mut sink, 2), 2);
        assert_eq!(other.sink_of(wrong, "payments", Manner::Good).position(&source()).unwrap(), 2);

        pay(till, 2);
        other.run("DROP TABLE payments");
        assert_eq!(sink.position(&source()).unwrap(), 2);
        let error = sink.apply_batch(&behind(till, 2)).unwrap_err();
        assert!(matches!(error, SinkError::Write { .. }), "an empty table behind 2: {error}");

        // The one way to begin anew.
        other.run("DELETE FROM prevalence_positions");
        assert_eq!(feed(till, &mut sink, 2), 4);
        assert_at(other, till, 4, "begun anew");
        other.run("DELETE FROM prevalence_positions");
        pay(till, 1);
        let error = sink.apply_batch(&behind(till, 4)).unwrap_err();
        assert!(matches!(error, SinkError::PositionGone { .. }), "{error}");
    });
}

/// Batches that the engine never gives.
pub fn impossible_batches_are_refused(other: &dyn Other) {
    with_till(5, |till| {
        let mut sink = other.sink(Manner::Good);
        let error = sink.apply_batch(&behind(till, 0)).unwrap_err();
        assert!(matches!(error, SinkError::NoPosition), "{error}");
        sink.position(&source()).unwrap();
        let mut gap = behind(till, 0);
        gap.remove(2);
        let error = sink.apply_batch(&gap).unwrap_err();
        assert!(matches!(error, SinkError::Gap { expected: 3, found: 4 }), "{error}");
        assert_at(other, till, 0, "a gap");
    });
}

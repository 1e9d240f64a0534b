//! Tests of request ids: a repeated request is not applied again, whatever happened in between.

use std::collections::VecDeque;
use std::time::Duration;

use prevalence::{Builder, Database, Error, ExecuteError, Metadata, SnapshotPolicy};
use proptest::prelude::*;

use crate::common::{Add, Fail, Failure, Ledger, bytes, copy_directory, quiet_panics, temporary};

const ADD: Add = Add { account: 1, amount: 1 };
const NEVER: Duration = Duration::from_secs(600);

fn builder() -> Builder<Ledger> {
    Database::builder().snapshots(SnapshotPolicy::manual())
}

/// Returns the handle for one request.
fn request(database: &Database<Ledger>, id: &str) -> Database<Ledger> {
    let metadata = Metadata { request_id: id.to_owned(), ..Metadata::default() };
    database.with_metadata(&metadata).unwrap()
}

/// Executes `ADD` as a request. Returns `Ok` when it was applied; the error is the sequence that it
/// had before.
fn ask(database: &Database<Ledger>, id: &str) -> Result<u64, u64> {
    match request(database, id).execute(ADD) {
        Ok(_) => Ok(database.sequence()),
        Err(ExecuteError::Duplicate { sequence, .. }) => Err(sequence),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_request_is_applied_once_also_within_a_batch() {
    quiet_panics();
    let database = builder().linger(NEVER).max_batch_commands(6).open_in_memory().unwrap();
    let (one, other) = (request(&database, "one"), request(&database, "other"));
    let first = one.submit(ADD).unwrap();
    let again = one.submit(ADD).unwrap();
    // Rolls the first one back and forth.
    let failed = other.submit(Fail { account: 1, how: Failure::Panic }).unwrap();
    let behind_failure = one.submit(ADD).unwrap();
    let not_remembered = other.submit(ADD).unwrap();
    let without_id = database.submit(ADD).unwrap();
    assert_eq!(first.wait().unwrap(), 1);
    assert!(matches!(again.wait(), Err(ExecuteError::Duplicate { sequence: 1, .. })));
    assert!(matches!(failed.wait(), Err(ExecuteError::Panicked { .. })));
    assert!(matches!(behind_failure.wait(), Err(ExecuteError::Duplicate { sequence: 1, .. })));
    assert_eq!(not_remembered.wait().unwrap(), 2, "what panicked may be tried again");
    assert_eq!(without_id.wait().unwrap(), 3);
    let stats = database.stats();
    assert_eq!((stats.batches, stats.accepted, stats.duplicates, stats.panicked), (1, 3, 2, 1));
}

#[test]
fn a_retry_of_a_conditional_command_is_a_duplicate_and_not_stale() {
    let database = builder().open_in_memory().unwrap();
    let one = request(&database, "one");
    assert_eq!(one.execute_if(0, ADD).unwrap(), 1);
    let again = one.execute_if(0, ADD).unwrap_err();
    assert!(matches!(again, ExecuteError::Duplicate { sequence: 1, .. }), "{again}");
    let other = request(&database, "other").execute_if(0, ADD).unwrap_err();
    assert!(matches!(other, ExecuteError::Stale { expected: 0, found: 1 }), "{other}");
    assert_eq!(request(&database, "other").execute_if(1, ADD).unwrap(), 2);
}

#[test]
fn a_fork_knows_the_requests_too() {
    let database = builder().open_in_memory().unwrap();
    ask(&database, "one").unwrap();
    let other = request(&database, "other");
    other.what_if(|sandbox| {
        assert_eq!(sandbox.execute(ADD).unwrap(), 2);
        let again = sandbox.execute(ADD).unwrap_err();
        assert!(matches!(again, ExecuteError::Duplicate { sequence: 2, .. }), "{again}");
        assert_eq!(sandbox.sequence(), 2);
    });
    request(&database, "one").what_if(|sandbox| {
        let again = sandbox.execute(ADD).unwrap_err();
        assert!(matches!(again, ExecuteError::Duplicate { sequence: 1, .. }), "{again}");
    });
    assert_eq!(ask(&database, "other"), Ok(2), "nothing of a fork is remembered");
}

/// Opens the directory again in every possible way. Each way must know the requests.
fn check_everywhere(path: &std::path::Path, known: &[(&str, u64)]) {
    let outer = tempfile::tempdir().unwrap();
    let database = builder().open(path).unwrap();
    let backup = outer.path().join("backup");
    database.backup(&backup).unwrap();
    let restored = outer.path().join("restored");
    Database::<Ledger>::restore(&backup, &restored).unwrap();
    let killed = outer.path().join("killed");
    copy_directory(path, &killed);
    drop(database);
    for path in [path.to_path_buf(), backup, restored, killed] {
        let database = builder().open(&path).unwrap();
        let before = bytes(&database);
        for &(id, sequence) in known {
            assert_eq!(ask(&database, id), Err(sequence), "{id} in {}", path.display());
        }
        assert_eq!(bytes(&database), before);
    }
}

#[test]
fn requests_are_known_after_every_way_to_come_back() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    assert_eq!((ask(&database, "one"), ask(&database, "two")), (Ok(1), Ok(2)));
    let killed = path.with_extension("killed");
    copy_directory(&path, &killed);
    database.close().unwrap();
    // From the journal alone; killed; from a snapshot; from a snapshot and what came after it.
    check_everywhere(&killed, &[("one", 1), ("two", 2)]);
    check_everywhere(&path, &[("one", 1), ("two", 2)]);
    let database = builder().open(&path).unwrap();
    let info = database.snapshot().unwrap();
    assert_eq!(info.raw_bytes, bytes(&database).len() as u64, "ids are no part of the model");
    drop(database);
    check_everywhere(&path, &[("one", 1), ("two", 2)]);
    let database = builder().keep_snapshots(1).open(&path).unwrap();
    assert_eq!(ask(&database, "three"), Ok(3));
    database.snapshot().unwrap();
    assert_eq!(ask(&database, "four"), Ok(4));
    drop(database);
    check_everywhere(&path, &[("one", 1), ("two", 2), ("three", 3), ("four", 4)]);
}

#[test]
fn another_limit_at_the_next_open() {
    let (_directory, path) = temporary();
    let open = |requests| builder().remembered_requests(requests).open(&path).unwrap();
    let database = open(4);
    for id in ["a", "b", "c", "d"] {
        ask(&database, id).unwrap();
    }
    database.snapshot().unwrap();
    drop(database);
    // Fewer: the oldest are forgotten; then more: they are not back once a snapshot lacks them.
    let database = open(2);
    assert_eq!((ask(&database, "c"), ask(&database, "d")), (Err(3), Err(4)));
    assert_eq!(ask(&database, "e"), Ok(5));
    database.snapshot().unwrap();
    drop(database);
    let database = open(100);
    assert_eq!((ask(&database, "d"), ask(&database, "e")), (Err(4), Err(5)));
    assert_eq!(ask(&database, "a"), Ok(6));
    drop(database);
    // None: an id may be accepted any number of times, and the newest counts later.
    let database = open(0);
    assert_eq!((ask(&database, "a"), ask(&database, "a")), (Ok(7), Ok(8)));
    assert_eq!(database.stats().duplicates, 0);
    drop(database);
    assert_eq!(ask(&open(100), "a"), Err(8));
    let refused = builder().remembered_requests((1 << 24) + 1).open(&path);
    assert!(matches!(refused, Err(Error::InvalidOption { .. })));
}

#[derive(Clone, Debug)]
enum Step {
    Ask(u8),
    Snapshot,
    Reopen,
    Kill,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]
    /// The answers follow from the commands alone: an open in between does not change them.
    #[test]
    fn what_is_a_duplicate_does_not_depend_on_when_the_database_was_opened(
        steps in proptest::collection::vec(
            prop_oneof![
                12 => (0..9_u8).prop_map(Step::Ask),
                1 => Just(Step::Snapshot),
                1 => Just(Step::Reopen),
                1 => Just(Step::Kill),
            ],
            0..60,
        ),
        limit in 0..7_usize,
    ) {
        let outer = tempfile::tempdir().unwrap();
        let mut path = outer.path().join("0");
        let open = |path: &std::path::Path| {
            let options = builder().durability(prevalence::Durability::Buffered);
            options.remembered_requests(limit).open(path).unwrap()
        };
        let mut database = open(&path);
        let mut known = VecDeque::new();
        let mut accepted = 0;
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::Ask(id) => {
                    let found = known.iter().find(|(known, _)| known == id).map(|found| found.1);
                    let answer = ask(&database, &id.to_string());
                    prop_assert_eq!(answer, found.map_or(Ok(accepted + 1), Err));
                    if found.is_none() {
                        accepted += 1;
                        known.push_back((*id, accepted));
                        known.drain(..known.len().saturating_sub(limit));
                    }
                }
                Step::Snapshot => drop(database.snapshot().unwrap()),
                Step::Reopen => {
                    drop(database);
                    database = open(&path);
                }
                Step::Kill => {
                    let killed = outer.path().join((number + 1).to_string());
                    copy_directory(&path, &killed);
                    drop(database);
                    path = killed;
                    database = open(&path);
                }
            }
        }
        prop_assert_eq!(database.query(|ledger| ledger.changes), accepted);
    }
}

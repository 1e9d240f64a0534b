//! Tests failures before anything was written. The commands of that batch are refused, and those
//! that depend on them. They leave no trace, and the next command is accepted.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use futures_core::Stream;

use crate::options::Options;
use crate::storage::faulty::{Faulty, Operation};
use crate::test_support::{Add, Count, open, small};
use crate::{
    Database, Durability, ExecuteError, From, Health, Metadata, RequestStatus, SnapshotPolicy,
};

/// One stage of a change of segments: its name, the operation that fails, and the error code.
type Stage = (&'static str, fn(&Operation) -> bool, i32);

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

fn is_manifests(operation: &Operation) -> bool {
    matches!(operation, Operation::CreateTemporary(path) if !path.ends_with("journal"))
}

fn is_segments(operation: &Operation) -> bool {
    matches!(operation, Operation::CreateTemporary(path) if path.ends_with("journal"))
}

const STAGES: [Stage; 6] = [
    ("no descriptor for a segment", is_segments, EMFILE),
    ("no room for a segment", is_segments, ENOSPC),
    ("no descriptor for the MANIFEST", is_manifests, EMFILE),
    ("no room for the MANIFEST", is_manifests, ENOSPC),
    ("a new file is not synced", |operation| *operation == Operation::SyncAll, EIO),
    (
        "no room for a name",
        |operation| matches!(operation, Operation::Publish(path) if !path.ends_with("RESERVE")),
        ENOSPC,
    ),
];

/// Makes a disk on which the operation of that stage fails, as often as `failures` says.
fn failing(stage: Stage, failures: &Arc<AtomicU64>) -> Arc<Faulty> {
    let failures = failures.clone();
    Faulty::new(move |operation| {
        let fails = stage.1(operation)
            && failures
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok();
        fails.then(|| io::Error::from_raw_os_error(stage.2))
    })
}

/// More failures than one batch tries again.
const SEVERAL: u64 = 12;

fn manual() -> Options {
    Options { snapshots: SnapshotPolicy::manual(), ..small() }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Counted(AtomicU64);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A change of segments syncs what was written before. If it fails after that, the batch is
/// refused, and those who follow the database still get what has become durable.
#[test]
fn what_a_failed_change_of_segments_has_synced_is_given_to_followers() {
    let directory = tempfile::tempdir().unwrap();
    let failures = Arc::new(AtomicU64::new(0));
    let options = Options { durability: Durability::Buffered, ..manual() };
    let stage = ("no room for a segment", is_segments as fn(&Operation) -> bool, ENOSPC);
    let database = open(failing(stage, &failures), directory.path(), options).unwrap();
    let mut following = database.subscribe(From::Beginning).unwrap();
    database.execute(Add(vec![7; 20_000])).unwrap(); // this makes the first segment
    failures.store(u64::MAX, Ordering::SeqCst);
    let woken = Arc::new(Counted::default());
    let waker: Waker = woken.clone().into();
    let mut poll = || Pin::new(&mut following).poll_next(&mut Context::from_waker(&waker));
    let (mut accepted, mut before) = (1, 0);
    // Segments that were prepared before are used up first.
    while database.execute(Add(vec![7; 20_000])).is_ok() {
        accepted += 1;
        while poll().is_ready() {}
        before = woken.0.load(Ordering::SeqCst);
    }
    assert_eq!(woken.0.load(Ordering::SeqCst), before + 1, "more has become durable");
    while poll().is_ready() {}
    assert_eq!(following.next_sequence(), accepted + 1);
    failures.store(0, Ordering::SeqCst);
    database.close().unwrap();
}

#[test]
fn commands_that_could_not_be_written_leave_no_trace_and_the_next_is_accepted() {
    for stage in STAGES {
        let directory = tempfile::tempdir().unwrap();
        let failures = Arc::new(AtomicU64::new(0));
        let database = open(failing(stage, &failures), directory.path(), manual()).unwrap();
        let mut expected = 0;
        let mut refused = 0;
        for round in 0..40 {
            // Let several commands fail each time: a segment may have been prepared before.
            let fails = round / 6 % 2 == 1;
            failures.store(if fails { u64::MAX } else { 0 }, Ordering::SeqCst);
            match database.execute(Add(vec![7; 20_000])) {
                Ok(count) => {
                    expected += 1;
                    assert_eq!(count, expected, "{}", stage.0);
                    assert!(matches!(database.health(), Health::Running), "{}", stage.0);
                }
                Err(ExecuteError::NotWritten { reason }) => {
                    refused += 1;
                    assert!(matches!(database.health(), Health::Refusing(_)), "{}", stage.0);
                    assert!(reason.contains("cannot"), "{reason}");
                }
                Err(error) => panic!("{}: {error}", stage.0),
            }
            let found = (database.sequence(), database.query(|count| count.0));
            assert_eq!(found, (expected, expected), "{}", stage.0);
        }
        assert!(refused > 3, "{}: {refused}", stage.0);
        assert_eq!(database.stats().not_written, refused);
        failures.store(0, Ordering::SeqCst);
        database.execute(Add(vec![7; 20_000])).unwrap();
        database.close().unwrap();
        let database = Database::<Count>::open(directory.path()).unwrap();
        assert_eq!((database.sequence(), database.recovery().clean), (expected + 1, true));
        assert_eq!(database.query(|count| count.0), expected + 1);
    }
}

/// What became of a request that could not be written is known before another command comes, and
/// what was accepted before is not forgotten for it.
#[test]
fn a_request_that_could_not_be_written_is_told_so_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let failures = Arc::new(AtomicU64::new(0));
    let stage = ("no room for a segment", is_segments as fn(&Operation) -> bool, ENOSPC);
    let options = Options { remembered_requests: 1, ..manual() };
    let database = open(failing(stage, &failures), directory.path(), options).unwrap();
    let request = |id: &str| {
        let metadata = Metadata { request_id: id.to_owned(), ..Metadata::default() };
        database.execute_with(&metadata, Add(vec![7; 20_000]))
    };
    request("first").unwrap();
    failures.store(u64::MAX, Ordering::SeqCst);
    let mut newest = "first".to_owned();
    // A segment may have been prepared before.
    let refused = loop {
        let id = format!("after {newest}");
        match request(&id) {
            Ok(_) => newest = id,
            Err(ExecuteError::NotWritten { .. }) => break id,
            Err(error) => panic!("{error}"),
        }
    };
    let sequence = database.sequence();
    assert_eq!(database.status(&newest), RequestStatus::Accepted { sequence });
    match database.status(&refused) {
        RequestStatus::Rejected { reason, .. } => {
            assert!(reason.contains("could not be written"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    failures.store(0, Ordering::SeqCst);
    request(&refused).unwrap();
    assert_eq!(database.status(&refused), RequestStatus::Accepted { sequence: sequence + 1 });
}

/// Commands that were applied after a refused batch are refused too, and their request ids are
/// forgotten. Later commands are applied as if the refused ones had never been submitted.
#[test]
fn commands_that_depend_on_a_refused_batch_are_refused_with_it() {
    for stage in STAGES {
        let directory = tempfile::tempdir().unwrap();
        let failures = Arc::new(AtomicU64::new(0));
        let options = Options { max_batch_commands: 5, ..manual() };
        let database = open(failing(stage, &failures), directory.path(), options).unwrap();
        let accepted = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for caller in 0..3 {
                let (database, accepted, failures) = (&database, &accepted, &failures);
                scope.spawn(move || {
                    for round in 0..20 {
                        if caller == 0 && round % 4 == 1 {
                            failures.store(SEVERAL, Ordering::SeqCst);
                        }
                        let submit = |number| {
                            let request_id = format!("{caller} {round} {number}");
                            let metadata = Metadata { request_id, ..Metadata::default() };
                            let database = database.with_metadata(&metadata).unwrap();
                            // Every fifth one is rejected.
                            let bytes = if number % 5 == 4 { 0 } else { 3000 };
                            database.submit(Add(vec![7; bytes])).unwrap()
                        };
                        let pending: Vec<_> = (0..8).map(submit).collect();
                        for (pending, number) in pending.into_iter().zip(0..) {
                            let answer = match pending.wait() {
                                Err(ExecuteError::NotWritten { .. }) => submit(number).wait(),
                                other => other,
                            };
                            match answer {
                                Ok(count) => accepted.lock().unwrap().push(count),
                                Err(ExecuteError::Rejected(())) => assert_eq!(number % 5, 4),
                                Err(ExecuteError::NotWritten { .. }) => {}
                                Err(error) => panic!("{}: {error:?}", stage.0),
                            }
                        }
                    }
                });
            }
        });
        let mut accepted = accepted.into_inner().unwrap();
        accepted.sort_unstable();
        // Each command that was answered `Ok` is in the model once, and no other command is.
        let newest = database.sequence();
        assert_eq!(accepted, (1..=newest).collect::<Vec<_>>(), "{}", stage.0);
        assert_eq!(database.query(|count| count.0), newest, "{}", stage.0);
        assert!(database.stats().not_written > 0, "{}", stage.0);
        failures.store(0, Ordering::SeqCst);
        database.close().unwrap();
        let database = Database::<Count>::open(directory.path()).unwrap();
        assert_eq!((database.sequence(), database.query(|c| c.0)), (newest, newest));
    }
}

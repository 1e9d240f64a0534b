//! Tests a failing disk: nothing more is acknowledged, and nothing acknowledged is lost.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::options::Options;
use crate::storage::Disk;
use crate::storage::faulty::{Faulty, Operation};
use crate::test_support::{Add, Count, Moody, open, settle, small};
use crate::{Database, Durability, Error, ExecuteError, Health, Metadata, WaitError};

/// Makes a disk that fails the operations for which `fails` holds, after `armed` is set.
fn failing(
    armed: &Arc<Mutex<bool>>,
    mut fails: impl FnMut(&Operation) -> bool + Send + 'static,
) -> Arc<Faulty> {
    let armed = armed.clone();
    Faulty::new(move |operation| {
        (*armed.lock().unwrap() && fails(operation)).then(|| io::Error::other("the disk is gone"))
    })
}

/// The answer "duplicate" may be given only if the first command is durable.
#[test]
fn a_duplicate_of_a_lost_command_is_told_of_the_failure() {
    let directory = tempfile::tempdir().unwrap();
    let armed = Arc::new(Mutex::new(false));
    let storage = failing(&armed, |operation| matches!(operation, Operation::SyncData));
    let linger = Duration::from_secs(600);
    let options = Options { max_batch_commands: 2, linger, ..small() };
    let database = open(storage, directory.path(), options).unwrap();
    let metadata = Metadata { request_id: "one".to_owned(), ..Metadata::default() };
    let request = database.with_metadata(&metadata).unwrap();
    begin(&database);
    *armed.lock().unwrap() = true;
    let both = [(); 2].map(|()| request.submit(Add(vec![1])).unwrap());
    for pending in both {
        let error = pending.wait().unwrap_err();
        assert!(matches!(error, ExecuteError::Poisoned(_)), "{error:?}");
    }
}

/// Executes a batch of two. With its first batch a run begins its segment.
fn begin(database: &Database<Count>) {
    let both = [(); 2].map(|()| database.submit(Add(vec![1])).unwrap());
    both.into_iter().for_each(|pending| assert!(pending.wait().is_ok()));
    settle(database);
}

fn assert_poisoned_from(database: &Database<Count>, durable: u64) {
    let in_flight = database.submit(Add(vec![1]));
    let error = in_flight.and_then(crate::Pending::wait).unwrap_err();
    assert!(matches!(error, ExecuteError::Poisoned(_)), "{error:?}");
    let later = database.execute(Add(vec![1])).unwrap_err();
    assert!(matches!(later, ExecuteError::Poisoned(_)), "{later:?}");
    assert_eq!(database.sequence(), durable, "readers see the last durable version");
    assert_eq!(database.query(|count| count.0), durable);
    match database.health() {
        Health::Poisoned(poisoned) => assert!(poisoned.reason().contains("the disk is gone")),
        other => panic!("{other:?}"),
    }
    let waited = database.wait_for(durable + 1, Duration::from_secs(600));
    assert!(matches!(waited, Err(WaitError::Poisoned(_))), "{waited:?}");
    assert!(matches!(database.sync(), Err(Error::Poisoned(_))));
}

#[test]
fn a_failed_write_or_sync_poisons_and_is_not_tried_again() {
    for fails in [
        (|operation| matches!(operation, Operation::Write(..))) as fn(&Operation) -> bool,
        |operation| matches!(operation, Operation::SyncData),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let armed = Arc::new(Mutex::new(false));
        let failures = Arc::new(AtomicU64::new(0));
        let counted = failures.clone();
        let storage = failing(&armed, move |operation| {
            // The operation fails only once: a second try would seem to work, but must not be made.
            fails(operation) && counted.fetch_add(1, Ordering::SeqCst) == 0
        });
        let database = open(storage, directory.path(), small()).unwrap();
        for _ in 0..3 {
            database.execute(Add(vec![1])).unwrap();
        }
        settle(&database);
        *armed.lock().unwrap() = true;
        assert_poisoned_from(&database, 3);
        assert_eq!(failures.load(Ordering::SeqCst), 1, "nothing was written after the failure");
        assert!(matches!(database.close(), Err(Error::Poisoned(_))));
        // The failed command may be there or not. The acknowledged ones must be there.
        let database = Database::<Count>::open(directory.path()).unwrap();
        assert!((3..=4).contains(&database.sequence()));
        assert_eq!(database.query(|count| count.0), database.sequence());
    }
}

#[test]
fn a_failed_rotation_poisons_as_well() {
    for step in 1..4 {
        let directory = tempfile::tempdir().unwrap();
        let armed = Arc::new(Mutex::new(false));
        let storage = failing(&armed, move |operation| match (step, operation) {
            (1, Operation::Publish(path)) => path.ends_with("MANIFEST"),
            (2, Operation::Publish(path)) => !path.ends_with("MANIFEST"),
            (3, Operation::SyncDirectory(_)) => true,
            _ => false,
        });
        let database = open(storage, directory.path(), small()).unwrap();
        database.execute(Add(vec![1])).unwrap();
        settle(&database);
        *armed.lock().unwrap() = true;
        let mut acknowledged = 1;
        let error = loop {
            match database.execute(Add(vec![7; 20_000])) {
                Ok(_) => acknowledged += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ExecuteError::Poisoned(_)), "{error:?}");
        assert!(acknowledged > 1);
        assert_poisoned_from(&database, acknowledged);
        drop(database);
        let database = Database::<Count>::open(directory.path()).unwrap();
        assert_eq!(database.sequence(), acknowledged, "in step {step}");
        database.execute(Add(vec![1])).unwrap();
    }
}

#[test]
fn an_interval_sync_that_fails_poisons() {
    let directory = tempfile::tempdir().unwrap();
    let armed = Arc::new(Mutex::new(false));
    // The syncs of what was written before, and of a commit marker, still succeed.
    let mut is_written = false;
    let storage = failing(&armed, move |operation| match operation {
        Operation::Write(_, bytes) => {
            is_written |= *bytes > 1000;
            false
        }
        operation => is_written && matches!(operation, Operation::SyncData),
    });
    let durability = Durability::Interval(Duration::from_millis(1));
    let database = open(storage, directory.path(), Options { durability, ..small() }).unwrap();
    database.execute(Add(vec![1])).unwrap();
    settle(&database);
    *armed.lock().unwrap() = true;
    // The answer comes before the sync, as this durability allows. The failure shows later.
    database.execute(Add(vec![1; 1000])).unwrap();
    let waited = database.wait_for(3, Duration::from_secs(600));
    assert!(matches!(waited, Err(WaitError::Poisoned(_))), "{waited:?}");
    assert!(matches!(database.close(), Err(Error::Poisoned(_))));
}

#[test]
fn a_rejection_is_not_answered_when_the_commands_before_it_are_lost() {
    let directory = tempfile::tempdir().unwrap();
    let armed = Arc::new(Mutex::new(false));
    let storage = failing(&armed, |operation| matches!(operation, Operation::SyncData));
    let linger = Duration::from_secs(600);
    let options = Options { max_batch_commands: 2, linger, ..small() };
    let database = open(storage, directory.path(), options).unwrap();
    begin(&database);
    *armed.lock().unwrap() = true;
    let accepted = database.submit(Add(vec![1])).unwrap();
    let refused = database.submit(Add(vec![])).unwrap();
    assert!(matches!(accepted.wait(), Err(ExecuteError::Poisoned(_))));
    assert!(matches!(refused.wait(), Err(ExecuteError::Poisoned(_))));
}

#[test]
fn a_command_that_is_not_deterministic_in_a_rollback_poisons() {
    let directory = tempfile::tempdir().unwrap();
    let linger = Duration::from_secs(600);
    let options = Options { max_batch_commands: 2, linger, ..small() };
    let database = open(Arc::new(crate::storage::Disk), directory.path(), options).unwrap();
    let moody = database.submit(Moody).unwrap();
    let failing = database.submit(Add(vec![])).unwrap();
    let error = moody.wait().unwrap_err();
    assert!(error.to_string().contains("`Moody` is not deterministic"), "{error}");
    assert!(matches!(failing.wait(), Err(ExecuteError::Poisoned(_))));
    drop(database);
    assert_eq!(Database::<Count>::open(directory.path()).unwrap().sequence(), 0);
}

/// Checks promises 1 and 2 as an order of operations: before the sync there is no answer and no new
/// version.
#[test]
fn nothing_is_answered_or_seen_before_its_sync() {
    let directory = tempfile::tempdir().unwrap();
    let database: Arc<Mutex<Option<Database<Count>>>> = Arc::default();
    let pending: Arc<Mutex<Vec<crate::Pending<u64, ()>>>> = Arc::default();
    let syncs = Arc::new(AtomicU64::new(0));
    let (seen_database, seen_pending, seen_syncs) =
        (database.clone(), pending.clone(), syncs.clone());
    let storage = Faulty::new(move |operation| {
        // At the moment of the sync the command is applied and written, and nobody can know it.
        if *operation == Operation::SyncData
            && let Some(database) = &*seen_database.lock().unwrap()
        {
            assert_eq!(database.sequence(), 1 + seen_syncs.fetch_add(1, Ordering::SeqCst));
            assert!(seen_pending.lock().unwrap().iter().all(|pending| !pending.is_ready()));
        }
        None
    });
    let opened = open(storage, directory.path(), small()).unwrap();
    opened.execute(Add(vec![1])).unwrap();
    settle(&opened);
    *database.lock().unwrap() = Some(opened.clone());
    for index in 1..21 {
        let mut held = pending.lock().unwrap();
        held.push(opened.submit(Add(vec![1])).unwrap());
        drop(held);
        opened.wait_for(index + 1, Duration::from_secs(600)).unwrap();
        let answered = pending.lock().unwrap().pop().unwrap();
        assert_eq!(answered.wait().unwrap(), index + 1);
    }
    assert_eq!(syncs.load(Ordering::SeqCst), 20);
    *database.lock().unwrap() = None;
    opened.close().unwrap();
}

#[test]
fn a_failed_creation_leaves_a_directory_that_can_be_created() {
    for failing_publish in 0..4 {
        let directory = tempfile::tempdir().unwrap();
        let mut published = 0;
        let storage = Faulty::new(move |operation| {
            let publish = matches!(operation, Operation::Publish(_));
            published += u64::from(publish);
            (publish && published == failing_publish + 1).then(|| io::Error::other("full"))
        });
        assert!(matches!(open(storage, directory.path(), small()), Err(Error::Io { .. })));
        let database = Database::<Count>::open(directory.path()).unwrap();
        assert!(database.recovery().created, "publish {failing_publish}");
        database.execute(Add(vec![1])).unwrap();
    }
}

#[test]
fn time_never_goes_back_whatever_the_clock_does() {
    let directory = tempfile::tempdir().unwrap();
    let storage = Faulty::new(|_| None);
    let database = open(storage.clone(), directory.path(), small()).unwrap();
    database.execute(Add(vec![1])).unwrap();
    let before = database.view().time();
    storage.clock_behind_s.store(1_000_000, Ordering::SeqCst);
    database.execute(Add(vec![1])).unwrap();
    assert_eq!(database.view().time(), before);
    database.close().unwrap();
    let database = open(storage, directory.path(), small()).unwrap();
    assert_eq!(database.view().time(), before);
    database.execute(Add(vec![1])).unwrap();
    assert_eq!(database.view().time(), before);
}

#[test]
fn a_frame_longer_than_a_segment_finds_zeros_to_write_over() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 64 << 10, ..small() };
    let database = open(Arc::new(Disk), directory.path(), options).unwrap();
    for bytes in [10, 1 << 20, 10, 300_000] {
        database.execute(Add(vec![1; bytes])).unwrap();
    }
    database.close().unwrap();
    // If a frame were written beyond the prepared zeros, the file would be longer than its header
    // states.
    let journal = directory.path().join("journal");
    let mut longest = 0;
    for first in crate::files::list_segments(&Disk, &journal).unwrap() {
        let path = crate::files::segment_path(&journal, first);
        let bytes = std::fs::read(&path).unwrap();
        let magic = crate::files::SEGMENT_MAGIC;
        let (header, _) = crate::files::FileHeader::decode(&path, magic, &bytes).unwrap();
        assert_eq!(header.file_bytes, bytes.len() as u64, "{}", path.display());
        longest = longest.max(bytes.len());
    }
    assert!(longest > 1 << 20);
}

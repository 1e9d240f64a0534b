//! Tests what durability needs besides working writes and syncs: one sync at a time, synced names,
//! marks, and opens that replace only what they may.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::engine::committer::lock;
use crate::options::Options;
use crate::storage::faulty::{Faulty, Operation};
use crate::storage::{Disk, HeldDisk};
use crate::test_support::{Add, Count, killed, open, settle, small};
use crate::{Database, Durability, Error, ExecuteError, SnapshotPolicy};

/// Makes a disk whose next sync fails after `armed` is set, and takes long to fail. The sync after
/// it would seem to work, because the operating system reports a failure only once.
fn failing_once(armed: &Arc<AtomicBool>) -> Arc<Faulty> {
    let armed = armed.clone();
    Faulty::new(move |operation| {
        (*operation == Operation::SyncData && armed.swap(false, Ordering::SeqCst))
            .then(|| io::ErrorKind::TimedOut.into())
    })
}

/// Runs `body` while another thread's sync is failing.
fn beside_a_failing_sync(body: impl FnOnce(Database<Count>)) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let armed = Arc::new(AtomicBool::new(false));
    let options = Options { durability: Durability::Buffered, ..small() };
    let database = open(failing_once(&armed), directory.path(), options).unwrap();
    database.execute(Add(vec![1; 25_000])).unwrap();
    settle(&database);
    armed.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let other = database.clone();
        let failing = scope.spawn(move || other.sync());
        while armed.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        body(database);
        assert!(matches!(failing.join().unwrap(), Err(Error::Poisoned(_))));
    });
    directory
}

#[test]
fn a_sync_beside_a_failing_one_fails_too() {
    beside_a_failing_sync(|database| {
        let second = database.sync();
        assert!(matches!(second, Err(Error::Poisoned(_))), "{second:?}");
    });
}

#[test]
fn a_rotation_beside_a_failing_sync_makes_nothing_known_durable() {
    let directory = beside_a_failing_sync(|database| {
        // The command does not fit into the segment any more, and the segment's sync is failing.
        let answered = database.execute(Add(vec![2; 50_000]));
        assert!(answered.is_err(), "{answered:?}");
    });
    let database = Database::<Count>::open(directory.path()).unwrap();
    let report = database.recovery();
    assert_eq!((report.sequence, report.commands_rewritten), (1, 1));
}

/// A sync may come so late that its segment was left and is archived or removed. All of the segment
/// was durable before, so neither this sync nor a later one fails.
#[test]
fn a_sync_of_a_segment_that_is_gone_has_nothing_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let snapshots = SnapshotPolicy::manual();
    let options =
        Options { durability: Durability::Buffered, keep_snapshots: 1, snapshots, ..small() };
    let database = open(Arc::new(HeldDisk::default()), directory.path(), options).unwrap();
    database.execute(Add(vec![1; 25_000])).unwrap();
    let late = lock(database.committer()).log.detached_sync().unwrap();
    // This command does not fit into the segment any more.
    database.execute(Add(vec![2; 50_000])).unwrap();
    database.snapshot().unwrap();
    let first = directory.path().join("journal/00000000000000000001.journal");
    assert!(!first.exists());
    assert_eq!(late().unwrap(), 1);
    database.execute(Add(vec![3; 1000])).unwrap();
    database.sync().unwrap();
    database.close().unwrap();
    assert!(Database::<Count>::open(directory.path()).unwrap().recovery().clean);
}

#[test]
fn a_close_beside_a_failing_sync_is_not_clean() {
    let directory = beside_a_failing_sync(|database| {
        assert!(matches!(database.close(), Err(Error::Poisoned(_))));
    });
    assert!(!Database::<Count>::open(directory.path()).unwrap().recovery().clean);
}

/// Finds the frames in a segment that holds no other data: their positions and counts of records.
fn frames(segment: &[u8]) -> Vec<(usize, u32)> {
    let aligned = (4096..segment.len() - 32).step_by(8);
    aligned
        .filter(|&at| segment[at..].starts_with(b"PVFR"))
        .map(|at| (at, u32::from_le_bytes(segment[at + 24..at + 28].try_into().unwrap())))
        .collect()
}

fn first_segment(path: &Path) -> std::path::PathBuf {
    path.join("journal/00000000000000000001.journal")
}

/// Waits until the journal ends with a mark. Then the writer is idle, and nothing changes.
fn wait_for_mark(path: &Path) {
    let marked = || frames(&std::fs::read(first_segment(path)).unwrap()).last().unwrap().1 == 0;
    while !marked() {
        std::thread::yield_now();
    }
}

#[test]
fn damage_to_what_a_later_sync_made_durable_is_an_error() {
    let intervals = [Durability::Interval(Duration::from_millis(20)), Durability::Buffered];
    for durability in intervals {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { durability, ..small() };
        let database = open(Arc::new(Disk), directory.path(), options).unwrap();
        for _ in 0..50 {
            database.execute(Add(vec![1])).unwrap();
        }
        if durability == Durability::Buffered {
            assert_eq!(database.sync().unwrap(), 50);
        }
        wait_for_mark(directory.path());
        let copy = killed(directory.path());
        let segment = first_segment(copy.path());
        let mut bytes = std::fs::read(&segment).unwrap();
        bytes[4096 + 40] ^= 1;
        std::fs::write(&segment, bytes).unwrap();
        let error = Database::<Count>::open(copy.path()).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{durability:?}: {error}");
    }
}

#[test]
fn a_damaged_mark_does_not_drop_the_batch_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(Arc::new(Disk), directory.path(), small()).unwrap();
    database.execute(Add(vec![1])).unwrap();
    wait_for_mark(directory.path());
    database.execute(Add(vec![2])).unwrap();
    let copy = killed(directory.path());
    let segment = first_segment(copy.path());
    let whole = std::fs::read(&segment).unwrap();
    let (mark, count) = frames(&whole)[1];
    assert_eq!(count, 0);
    for damage in 0..40 {
        let mut bytes = whole.clone();
        bytes[mark + damage] ^= 4;
        std::fs::write(&segment, bytes).unwrap();
        let image = killed(copy.path());
        let database = Database::<Count>::open(image.path()).unwrap();
        assert_eq!(database.sequence(), 2, "byte {damage} of the mark");
    }
}

#[test]
fn a_root_whose_creation_was_interrupted_is_synced_into_its_parents() {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("inner/bank.db");
    std::fs::create_dir_all(&root).unwrap(); // as if an opener had been killed after this
    let synced: Arc<Mutex<Vec<_>>> = Arc::default();
    let seen = synced.clone();
    let storage = Faulty::new(move |operation| {
        if let Operation::SyncDirectory(path) = operation {
            seen.lock().unwrap().push(path.clone());
        }
        None
    });
    drop(open(storage, &root, small()).unwrap());
    let synced = synced.lock().unwrap();
    for parent in [&outer.path().join("inner"), outer.path()] {
        assert!(synced.iter().any(|path| path == parent), "{parent:?} is not in {synced:?}");
    }
}

#[test]
fn a_run_that_fails_while_it_begins_has_overwritten_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(Arc::new(Disk), directory.path(), small()).unwrap();
    database.execute(Add(vec![1])).unwrap();
    let copy = killed(directory.path());
    // The segment is torn, so the new segment has the same name.
    let segment = first_segment(copy.path());
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[4096 + 40] ^= 1;
    bytes[4096 + 64..].fill(0);
    std::fs::write(&segment, &bytes).unwrap();
    for manifest in [true, false] {
        let storage = Faulty::new(move |operation| {
            matches!(operation, Operation::Publish(path) if path.ends_with("MANIFEST") == manifest)
                .then(|| io::Error::other("full"))
        });
        let database = open(storage, copy.path(), small()).unwrap();
        assert!(matches!(database.execute(Add(vec![1])), Err(ExecuteError::Poisoned(_))));
        drop(database);
        assert!(std::fs::read(&segment).unwrap() == bytes, "the segment was overwritten");
    }
    let database = Database::<Count>::open(copy.path()).unwrap();
    assert!(database.recovery().torn_tail.is_some());
}

/// A name is durable only after its directory was synced. Nothing may depend on it before.
#[test]
fn every_new_name_is_followed_by_a_sync_of_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, log) = Faulty::watched();
    let database = open(storage, directory.path(), small()).unwrap();
    for _ in 0..12 {
        database.execute(Add(vec![7; 20_000])).unwrap();
    }
    database.close().unwrap();
    // The preparer writes at any time, into a file without a name.
    let log: Vec<_> = log
        .lock()
        .unwrap()
        .iter()
        .filter(|operation| match operation {
            Operation::Write(..) | Operation::SyncData | Operation::CreateTemporary(_) => false,
            // The reserve need not be there after a crash.
            Operation::Publish(path) => !path.ends_with("RESERVE"),
            _ => true,
        })
        .cloned()
        .collect();
    let mut segments = 0;
    for (index, operation) in log.iter().enumerate() {
        let Operation::Publish(path) = operation else { continue };
        assert_eq!(log[index - 1], Operation::SyncAll, "{path:?} had unsynced content");
        let parent = path.parent().unwrap().to_path_buf();
        assert_eq!(log[index + 1], Operation::SyncDirectory(parent), "{path:?}");
        segments += u32::from(path.extension().is_some_and(|extension| extension == "journal"));
    }
    assert!(segments > 2, "{log:?}");
}

#[test]
fn a_manifest_without_a_snapshot_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(Arc::new(Disk), directory.path(), small()).unwrap());
    let disk: Arc<dyn crate::storage::Storage> = Arc::new(Disk);
    let manifest = crate::files::ManifestFile::read(&disk, directory.path()).unwrap();
    manifest.unwrap().update(|manifest| manifest.snapshots.clear()).unwrap();
    let error = Database::<Count>::open(directory.path()).unwrap_err();
    let told = matches!(&error, Error::Missing { path, .. } if path.ends_with("snapshots"));
    assert!(told, "{error}");
}

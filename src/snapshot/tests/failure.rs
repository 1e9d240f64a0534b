//! Tests of snapshots on a failing disk: whichever step fails, commands continue, the journal is
//! kept, and the next try works.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::options::Options;
use crate::recovery::ProgressCallback;
use crate::snapshot::file::{snapshot_header, write_snapshot};
use crate::stats::Counters;
use crate::storage::faulty::{Faulty, Operation};
use crate::storage::{Pace, Room, is_temporary};
use crate::test_support::{Add, Count, ends, fill, killed, open, options};
use crate::{Database, Error, Health, Retention};

pub(super) type Fails = fn(&Operation, &Path) -> bool;

/// Every step of a snapshot and of the clean-up after it.
pub(super) const STEPS: [(&str, Fails); 10] = [
    ("rename", |op, _| matches!(op, Operation::Publish(path) if ends(path, "snapshot"))),
    ("directory sync", |op, root| *op == Operation::SyncDirectory(root.join("snapshots"))),
    ("MANIFEST", |op, _| matches!(op, Operation::Publish(path) if path.ends_with("MANIFEST"))),
    ("MANIFEST's sync", |op, root| *op == Operation::SyncDirectory(root.to_path_buf())),
    (
        "removing a snapshot",
        |op, _| matches!(op, Operation::Rename(path) if ends(path, "snapshot")),
    ),
    ("cutting a file off", |op, _| matches!(op, Operation::Shorten(_))),
    ("removing a file", |op, _| matches!(op, Operation::Remove(_))),
    ("archiving", |op, _| matches!(op, Operation::Publish(path) if ends(path, "archive"))),
    ("archive's sync", |op, root| *op == Operation::SyncDirectory(root.join("archive"))),
    ("removing a segment", |op, _| matches!(op, Operation::Rename(path) if ends(path, "journal"))),
];

fn temporaries(root: &Path) -> Vec<PathBuf> {
    ["", "journal", "snapshots", "archive"]
        .iter()
        .filter_map(|inner| std::fs::read_dir(root.join(inner)).ok())
        .flat_map(|entries| entries.map(|entry| entry.unwrap().path()))
        .filter(|path| ends(path, "tmp"))
        .collect()
}

#[test]
fn a_failed_step_disturbs_nothing_and_is_made_up_for() {
    for (step, fails) in STEPS {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_path_buf();
        let armed = Arc::new(Mutex::new(false));
        let seen = armed.clone();
        let at = root.clone();
        let storage = Faulty::new(move |operation| {
            (*seen.lock().unwrap() && fails(operation, &at)).then(|| io::Error::other("full"))
        });
        let database = open(storage, &root, options()).unwrap();
        fill(&database);
        database.snapshot().unwrap();
        fill(&database);
        *armed.lock().unwrap() = true;
        let error = database.snapshot().unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{step}: {error}");
        assert!(matches!(database.health(), Health::SnapshotsFailing(_)), "{step}");
        *armed.lock().unwrap() = false;
        fill(&database);
        assert_eq!(database.sequence(), 15, "{step}: commands continue");
        let crashed = killed(&root);
        database.snapshot().unwrap();
        assert!(matches!(database.health(), Health::Running), "{step}");
        drop(database);
        for path in [&root, crashed.path()] {
            let reopened = Database::<Count>::open(path).unwrap();
            assert_eq!((reopened.sequence(), reopened.query(|count| count.0)), (15, 15), "{step}");
            drop(reopened);
            assert!(temporaries(path).is_empty(), "{step}");
        }
    }
}

/// Promise 7, as an order of operations: a segment is removed only after a snapshot was synced and
/// renamed, its directory was synced, and the MANIFEST durably names it.
#[test]
fn a_segment_is_removed_last() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, log) = Faulty::watched();
    let root = directory.path();
    let options = Options { retention: Retention::Truncate, ..options() };
    let database = open(storage, root, options).unwrap();
    fill(&database);
    log.lock().unwrap().clear();
    database.snapshot().unwrap();
    drop(database);
    let log = log.lock().unwrap();
    let position = |wanted: &dyn Fn(&Operation) -> bool| log.iter().position(wanted).unwrap();
    let steps = [
        position(&|op| *op == Operation::SyncAll),
        position(&|op| matches!(op, Operation::Publish(path) if ends(path, "snapshot"))),
        position(&|op| *op == Operation::SyncDirectory(root.join("snapshots"))),
        position(&|op| matches!(op, Operation::Publish(path) if path.ends_with("MANIFEST"))),
        position(&|op| *op == Operation::SyncDirectory(root.to_path_buf())),
        position(&|op| matches!(op, Operation::Rename(path) if ends(path, "journal"))),
    ];
    assert!(steps.is_sorted(), "{steps:?} in {log:?}");
}

/// The rename of the MANIFEST succeeds, and the sync of its directory fails: the disk may hold
/// either MANIFEST. Nothing may be removed because of what only one of them states.
#[test]
fn an_uncertain_manifest_costs_no_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_path_buf();
    let armed = Arc::new(AtomicBool::new(false));
    let (seen, at) = (armed.clone(), root.clone());
    let storage = Faulty::new(move |operation| {
        let fails = *operation == Operation::SyncDirectory(at.clone());
        (fails && seen.swap(false, Ordering::SeqCst)).then(|| io::Error::other("sync"))
    });
    let database = open(storage, &root, options()).unwrap();
    fill(&database);
    database.snapshot().unwrap();
    fill(&database);
    armed.store(true, Ordering::SeqCst);
    database.snapshot().unwrap_err();
    assert_eq!(Database::<Count>::open(killed(&root).path()).unwrap().sequence(), 10);
    // The thread tries again by itself, a second later.
    while matches!(database.health(), Health::SnapshotsFailing(_)) {
        std::thread::yield_now();
    }
    assert_eq!(database.stats().snapshot_sequence, 10);
    assert_eq!(Database::<Count>::open(killed(&root).path()).unwrap().sequence(), 10);
}

#[test]
fn a_failed_backup_leaves_nothing_to_open() {
    let directory = tempfile::tempdir().unwrap();
    let armed = Arc::new(AtomicBool::new(true));
    let seen = armed.clone();
    let storage = Faulty::new(move |operation| {
        // The copy is made beside its target, in a directory with a temporary name.
        let name = |path: &Path| Some(path.parent()?.file_name()?.to_str()?.to_owned());
        let backup = |path: &Path| name(path).is_some_and(|name| is_temporary(&name));
        let fails = match operation {
            Operation::Publish(path) => path.ends_with("MANIFEST") && backup(path),
            _ => false,
        };
        (fails && seen.load(Ordering::SeqCst)).then(|| io::Error::other("full"))
    });
    let database = open(storage, &directory.path().join("db"), options()).unwrap();
    fill(&database);
    let target = directory.path().join("my-backup-of-today");
    database.backup(&target).unwrap_err();
    assert!(!target.exists());
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    armed.store(false, Ordering::SeqCst);
    database.backup(&target).unwrap();
    assert_eq!(Database::<Count>::open(&target).unwrap().sequence(), 5);
}

#[test]
fn a_history_that_was_begun_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let archived = || std::fs::read_dir(directory.path().join("archive")).unwrap().count();
    let mut before = 0;
    for retention in [Retention::Archive, Retention::Truncate] {
        let storage = Arc::new(crate::storage::Disk);
        let options = Options { retention, ..options() };
        let database = open(storage, directory.path(), options).unwrap();
        fill(&database);
        database.snapshot().unwrap();
        assert!(archived() > before, "{retention:?}");
        before = archived();
    }
}

/// The rule that a snapshot is never ahead of the journal: the journal is synced before the
/// snapshot gets its name.
#[test]
fn the_journal_is_synced_before_a_snapshot_has_a_name() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, log) = Faulty::watched();
    let durability = crate::Durability::Buffered;
    let database = open(storage, directory.path(), Options { durability, ..options() }).unwrap();
    database.execute(Add(vec![1])).unwrap();
    log.lock().unwrap().clear();
    database.snapshot().unwrap();
    let log = log.lock().unwrap();
    let is_snapshot = |path: &Path| path.extension().is_some_and(|it| it == "snapshot");
    let published = log.iter().position(|op| matches!(op, Operation::Publish(p) if is_snapshot(p)));
    let published = published.unwrap();
    let synced = log.iter().position(|op| *op == Operation::SyncData);
    assert!(synced.is_some_and(|synced| synced < published), "{log:?}");
}

/// A model whose snapshot does not end while `ENDLESS` is set.
#[derive(Clone, Default)]
struct Endless(u64);

static ENDLESS: AtomicBool = AtomicBool::new(false);
static ENCODING: AtomicBool = AtomicBool::new(false);

impl serde::Serialize for Endless {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeTuple;
        let endless = ENDLESS.load(Ordering::SeqCst);
        ENCODING.store(endless, Ordering::SeqCst);
        let mut tuple = serializer.serialize_tuple(1)?;
        while ENDLESS.load(Ordering::SeqCst) {
            tuple.serialize_element(&0_u8)?;
        }
        tuple.serialize_element(&self.0)?;
        tuple.end()
    }
}

impl<'de> serde::Deserialize<'de> for Endless {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <(u64,)>::deserialize(deserializer).map(|(count,)| Self(count))
    }
}

impl crate::Model for Endless {
    type Event = ();
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Long(Vec<u8>);

impl crate::Command<Endless> for Long {
    type Output = ();
    type Rejection = std::convert::Infallible;

    fn apply(
        self,
        model: &mut Endless,
        _: &mut crate::Context<'_, Endless>,
    ) -> Result<(), Self::Rejection> {
        model.0 += 1;
        Ok(())
    }
}

crate::commands! { Endless { 1 => Long } }

#[test]
fn a_snapshot_that_fills_the_disk_gives_way_to_the_journal() {
    gives_way(|operation| matches!(operation, Operation::Write(0, 262_144..)));
    gives_way(
        |operation| matches!(operation, Operation::Publish(path) if path.ends_with("MANIFEST")),
    );
}

/// Tests that a snapshot gives way: while it is being written, there is no room for the operations
/// for which `needs_room` is true.
fn gives_way(needs_room: fn(&Operation) -> bool) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_path_buf();
    let at = root.join("snapshots");
    let storage = Faulty::new(move |operation| {
        let encoding = ENCODING.load(Ordering::SeqCst);
        let full = encoding && needs_room(operation) && !temporaries(&at).is_empty();
        full.then(|| io::ErrorKind::StorageFull.into())
    });
    let options = Options { segment_bytes: 256 << 10, ..options() };
    let database = Database::<Endless>::open_with(
        storage,
        &root,
        options,
        Endless::default,
        &mut (Box::new(|_| {}) as ProgressCallback),
    )
    .unwrap();
    database.execute(Long(Vec::new())).unwrap(); // without a command, no snapshot would be taken
    ENDLESS.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let snapshot = scope.spawn(|| database.snapshot());
        while !ENCODING.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        let executed: Result<Vec<()>, _> =
            (0..10).map(|_| database.execute(Long(vec![1; 100_000]))).collect();
        ENDLESS.store(executed.is_ok(), Ordering::SeqCst); // a failed test must end, too
        executed.unwrap();
        let error = snapshot.join().unwrap().unwrap_err();
        assert!(error.is_disk_full(), "{error}");
    });
    assert!(matches!(database.health(), Health::SnapshotsFailing(_)));
    ENDLESS.store(false, Ordering::SeqCst);
    assert_eq!(database.snapshot().unwrap().sequence, 11);
    assert!(matches!(database.health(), Health::Running));
    database.close().unwrap();
    assert!(temporaries(&root).is_empty());
}

#[test]
fn a_snapshot_given_up_while_it_is_verified_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let cancelled = Arc::new(AtomicBool::new(false));
    let cancel = cancelled.clone();
    let storage = Faulty::new(move |operation| {
        cancel.fetch_or(matches!(operation, Operation::Publish(_)), Ordering::SeqCst);
        None
    });
    let identity = crate::recovery::identity::<Count>(
        crate::DatabaseId([1; 16]),
        crate::Events::Off,
        Default::default(),
    );
    let packing = Options::default().packing();
    let header = snapshot_header::<Count>(&identity, packing, 1, 0, 0);
    let (counters, room) = (Counters::default(), Room::default());
    let pace = Pace::beside(&counters, &cancelled, (&room, 0));
    let model = vec![1_u8; 1 << 20];
    let written = write_snapshot(&*storage, directory.path(), &header, &model, packing, &pace);
    assert!(written.is_err() && cancelled.load(Ordering::SeqCst));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn an_archive_counts_only_once_its_name_is_durable() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_path_buf();
    let log = Arc::new(Mutex::new(Vec::new()));
    let armed = Arc::new(AtomicBool::new(false));
    let (seen, fails_once, archive) = (log.clone(), armed.clone(), root.join("archive"));
    let storage = Faulty::new(move |operation| {
        let syncs = *operation == Operation::SyncDirectory(archive.clone());
        // It cannot be removed then, either: this is as if the process were killed before both.
        let removes = matches!(operation, Operation::Remove(path) if ends(path, "archive"));
        let fails = removes || syncs && fails_once.swap(false, Ordering::SeqCst);
        let leaves = matches!(operation, Operation::Rename(path) if ends(path, "journal"));
        if syncs && !fails {
            seen.lock().unwrap().push("synced");
        } else if leaves {
            seen.lock().unwrap().push("segment goes");
        }
        fails.then(|| io::Error::other("unreadable"))
    });
    let database = open(storage, &root, options()).unwrap();
    fill(&database);
    armed.store(true, Ordering::SeqCst);
    database.snapshot().unwrap_err();
    assert_eq!(log.lock().unwrap().len(), 0, "no segment may be removed yet");
    fill(&database);
    database.snapshot().unwrap();
    let log = log.lock().unwrap();
    assert_eq!(log.first(), Some(&"synced"), "{log:?}");
    assert!(log.contains(&"segment goes"));
}

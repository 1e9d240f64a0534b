//! Snapshots on a failing disk: whatever step fails, commands go on, the journal is kept, and the
//! next try works.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::failure_tests::{Add, Count, open, small};
use crate::options::Options;
use crate::storage::faulty::{Faulty, Operation};
use crate::{Database, Error, Health, Retention, SnapshotPolicy};

type Fails = fn(&Operation, &Path) -> bool;

fn ends(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

/// Every step of a snapshot and of what follows it.
const STEPS: [(&str, Fails); 10] = [
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

fn options() -> Options {
    let snapshots = SnapshotPolicy::manual();
    Options {
        snapshots,
        retention: Retention::Archive,
        keep_snapshots: 1,
        segment_bytes: 4 << 20,
        ..small()
    }
}

fn fill(database: &Database<Count>) {
    for _ in 0..5 {
        database.execute(Add(vec![1; 600_000])).unwrap();
    }
}

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
        assert_eq!(database.sequence(), 15, "{step}: commands go on");
        let crashed = copy(&root);
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

fn copy(root: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for inner in ["", "journal", "snapshots", "archive"] {
        let Ok(entries) = std::fs::read_dir(root.join(inner)) else { continue };
        std::fs::create_dir_all(copy.path().join(inner)).unwrap();
        for entry in entries {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                let target = copy.path().join(inner).join(entry.file_name());
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    copy
}

/// Promise 7, as an order of operations: a segment goes only behind a snapshot that was synced,
/// renamed, its directory synced, and that the MANIFEST durably names.
#[test]
fn a_segment_is_removed_last() {
    let directory = tempfile::tempdir().unwrap();
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen = log.clone();
    let storage = Faulty::new(move |operation| {
        seen.lock().unwrap().push(operation.clone());
        None
    });
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

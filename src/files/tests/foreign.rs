//! Tests with files of other databases in the places of this database's files. Such files do not
//! count as its own, and it must not replace or remove them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Error;
use crate::files::container::{PackedFile, Packing, write_packed};
use crate::files::header::{ARCHIVE_MAGIC, FileHeader};
use crate::storage::faulty::{Faulty, Operation};
use crate::storage::{Disk, Pace, is_temporary};
use crate::test_support::{Add, ends, fill, open, options};

#[test]
fn another_databases_archive_does_not_stand_for_ours() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = (directory.path().join("ours"), directory.path().join("theirs"));
    let disk = || Arc::new(Disk);
    for root in [&theirs, &ours] {
        let database = open(disk(), root, options()).unwrap();
        fill(&database);
        if root == &theirs {
            database.snapshot().unwrap();
        } else {
            std::fs::create_dir(root.join("archive")).unwrap();
            let name = "archive/00000000000000000001.archive";
            std::fs::copy(theirs.join(name), root.join(name)).unwrap();
            let error = database.snapshot().unwrap_err();
            assert!(matches!(error, Error::ForeignFile { .. }), "{error}");
            assert!(root.join("journal/00000000000000000001.journal").exists());
        }
    }
}

/// The archive exists, and so does its segment: a crash came between the two, or something else
/// happened.
#[test]
fn an_archive_of_other_commands_does_not_stand_for_these() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_path_buf();
    let armed = Arc::new(AtomicBool::new(true));
    let seen = armed.clone();
    let storage = Faulty::new(move |operation| {
        let fails = matches!(operation, Operation::Rename(path) if ends(path, "journal"));
        (fails && seen.load(Ordering::SeqCst)).then(|| io::Error::other("busy"))
    });
    let database = open(storage, &root, options()).unwrap();
    fill(&database);
    database.snapshot().unwrap_err();
    let [archive, segment] =
        ["archive", "journal"].map(|kind| root.join(kind).join(format!("{:020}.{kind}", 1)));
    let sound = std::fs::read(&archive).unwrap();
    let file = PackedFile::open(&Disk, &archive, ARCHIVE_MAGIC).unwrap();
    let (header, end) = (file.header.clone(), (file.footer.sequence + 1, file.footer.chain));
    let packing = Packing { compression_level: 3, compression_threads: 0 };
    let header = FileHeader { packing: packing.code(), appendix_bytes: 0, ..header };
    write_packed(&Disk, &archive, &header, end, packing, &Pace::full(), |_| Ok(())).unwrap();
    armed.store(false, Ordering::SeqCst);
    let error = database.snapshot().unwrap_err();
    assert!(matches!(&error, Error::Corrupt { path, .. } if *path == archive), "{error}");
    assert!(segment.exists());
    std::fs::write(&archive, sound).unwrap();
    database.snapshot().unwrap();
    assert!(!segment.exists());
}

#[test]
fn a_backup_replaces_no_file_and_may_have_a_bare_name() {
    let directory = tempfile::tempdir().unwrap();
    let storage = Faulty::new(|operation| {
        // Otherwise the test would make a directory in the working directory.
        let here = std::env::current_dir().unwrap();
        matches!(operation, Operation::CreateDirectory(path) if path.starts_with(here))
            .then(|| io::Error::other("not here"))
    });
    let database = open(storage, &directory.path().join("db"), options()).unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    let error = database.backup(&file).unwrap_err();
    assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    let error = database.backup("made-by-nobody").unwrap_err();
    let here = std::env::current_dir().unwrap();
    let beside = matches!(&error, Error::Io { path, .. } if path.parent() == Some(&here)
        && path.file_name().and_then(|name| name.to_str()).is_some_and(is_temporary));
    assert!(beside, "{error}");
}

/// A database must not remove a stray snapshot of another database.
#[test]
fn another_databases_snapshot_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = (directory.path().join("ours"), directory.path().join("theirs"));
    let stray = ours.join("snapshots/00000000000000000002.snapshot");
    for root in [&theirs, &ours] {
        let database = open(Arc::new(Disk), root, options()).unwrap();
        if root == &ours {
            std::fs::copy(theirs.join("snapshots").join(stray.file_name().unwrap()), &stray)
                .unwrap();
        }
        database.execute(Add(vec![1])).unwrap();
        database.execute(Add(vec![1])).unwrap();
        if root == &ours {
            database.execute(Add(vec![1])).unwrap();
        }
        database.snapshot().unwrap();
    }
    assert!(stray.exists());
}

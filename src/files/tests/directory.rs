//! Directories on disks that fail, and what is swept from them.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use super::*;
use crate::storage::faulty::{Faulty, Operation};
use crate::storage::{TEMPORARY_PREFIX, TEMPORARY_SUFFIX};

/// A disk where the operations for which `fails` holds fail so; and what was tried there.
fn failing(
    kind: ErrorKind,
    fails: impl Fn(&Operation) -> bool + Send + 'static,
) -> (Arc<Faulty>, Arc<Mutex<Vec<Operation>>>) {
    let log: Arc<Mutex<Vec<_>>> = Arc::default();
    let seen = log.clone();
    let storage = Faulty::new(move |operation| {
        seen.lock().unwrap().push(operation.clone());
        fails(operation).then(|| kind.into())
    });
    (storage, log)
}

#[test]
fn names_are_synced_upwards_as_far_as_may_be_read() {
    let outer = tempfile::tempdir().unwrap();
    let directory = Directory::at(&outer.path().join("b/a"));
    let unreadable = Operation::SyncDirectory(outer.path().to_path_buf());
    for kind in [ErrorKind::PermissionDenied, ErrorKind::InvalidInput, ErrorKind::Other] {
        let refused = unreadable.clone();
        let (storage, log) = failing(kind, move |operation| *operation == refused);
        std::fs::create_dir_all(&directory.root).unwrap();
        let synced = directory.sync_root_names(&*storage);
        assert_eq!(synced.is_ok(), kind != ErrorKind::Other, "{kind}");
        let inner = Operation::SyncDirectory(outer.path().join("b"));
        assert_eq!(*log.lock().unwrap(), [inner, unreadable.clone()], "{kind}");
    }
}

#[test]
fn a_stale_temporary_that_somebody_else_removed_is_gone() {
    let outer = tempfile::tempdir().unwrap();
    let stale = outer.path().join(format!("{TEMPORARY_PREFIX}x{TEMPORARY_SUFFIX}"));
    std::fs::write(&stale, "x").unwrap();
    let directory = Directory::at(outer.path());
    for kind in [ErrorKind::NotFound, ErrorKind::PermissionDenied] {
        let (storage, log) = failing(kind, |_| true);
        let removed = directory.remove_stale_temporaries(&*storage);
        assert_eq!(removed.is_ok(), kind == ErrorKind::NotFound, "{kind}");
        assert_eq!(*log.lock().unwrap(), [Operation::Remove(stale.clone())], "{kind}");
    }
}

#[test]
fn a_directory_that_another_opener_made_first_will_do() {
    // A bare name: were it made, it would be in the working directory.
    let directory = Directory::at(Path::new("made-by-nobody.db"));
    let create = Operation::CreateDirectory(directory.root.clone());
    let sync = Operation::SyncDirectory(".".into());
    let (storage, log) =
        failing(ErrorKind::AlreadyExists, |op| matches!(op, Operation::CreateDirectory(_)));
    directory.create_root(&*storage).unwrap();
    assert_eq!(*log.lock().unwrap(), [create.clone(), sync]);
    let (storage, log) = failing(ErrorKind::PermissionDenied, |_| true);
    let error = directory.create_root(&*storage).unwrap_err();
    assert!(matches!(&error, StoreError::Io { path, .. } if *path == directory.root), "{error}");
    assert_eq!(*log.lock().unwrap(), [create]);
}

#[test]
fn a_copy_is_removed_whole_however_far_it_came() {
    let outer = tempfile::tempdir().unwrap();
    let directory = Directory::at(&outer.path().join("copy"));
    directory.remove_whole(&crate::storage::Disk).unwrap();
    std::fs::create_dir_all(&directory.snapshots).unwrap();
    std::fs::write(directory.snapshots.join("half"), "x").unwrap();
    directory.remove_whole(&crate::storage::Disk).unwrap();
    assert!(!directory.root.exists());
}

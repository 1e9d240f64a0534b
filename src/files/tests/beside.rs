//! What a killed process has left is removed, and nothing else.

use super::*;
use crate::storage::Disk;

const ABANDONED: &str = ".prevalence-0123456789abcdef.tmp";

/// Makes a directory as it is while a copy is written.
fn half_made(path: &Path) {
    std::fs::create_dir_all(path.join("journal")).unwrap();
    std::fs::write(path.join("journal/00000000000000000001.journal"), "half").unwrap();
    std::fs::write(path.join(LOCK_NAME), "").unwrap();
}

fn written(target: &Path) -> Result<(), StoreError> {
    write(&Disk, target, None, |staging| staging.create_inner(&Disk))
}

#[test]
fn what_a_killed_process_left_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    half_made(&directory.path().join(ABANDONED));
    let target = directory.path().join("new.db");
    written(&target).unwrap();
    assert_eq!(Disk.list(directory.path()).unwrap(), ["new.db"]);
    let mut made = Disk.list(&target).unwrap();
    made.sort();
    assert_eq!(made, ["journal", "snapshots"], "the lock is not part of it");
}

#[test]
fn what_somebody_writes_stays() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (directory.path().join("one.db"), directory.path().join("other.db"));
    write(&Disk, &one, None, |staging| {
        staging.create_inner(&Disk)?;
        written(&other)?;
        assert!(staging.journal.is_dir(), "another copy has removed this one");
        Ok::<_, StoreError>(())
    })
    .unwrap();
    assert!(one.join("journal").is_dir() && other.join("journal").is_dir());
}

#[test]
fn what_was_not_made_here_stays() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let database = root.join("bank.db");
    std::fs::create_dir_all(database.join("journal")).unwrap();
    std::fs::write(database.join("LOCK"), "").unwrap();
    std::os::unix::fs::symlink(&database, root.join(".prevalence-linked.tmp")).unwrap();
    std::fs::create_dir(root.join(".prevalence-empty.tmp")).unwrap();
    std::fs::write(root.join(".prevalence-file.tmp"), "x").unwrap();
    half_made(&root.join("half.tmp"));
    let before = Disk.list(root).unwrap();
    written(&root.join("new.db")).unwrap();
    let mut expected = [before, vec!["new.db".to_owned()]].concat();
    expected.sort();
    let mut after = Disk.list(root).unwrap();
    after.sort();
    assert_eq!(after, expected);
    assert!(database.join("journal").is_dir() && root.join("half.tmp/journal").is_dir());
}

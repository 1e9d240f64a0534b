//! Tests that a directory may have the longest name and the longest path that the file system
//! allows: nothing that the engine makes beside it or inside it needs a longer one.

use std::path::{Path, PathBuf};

use prevalence::{Database, purge, verify_history};

use super::purged::{self, House, builder, erase, holding_secret, party, states};
use crate::common::content;

/// The longest name that Linux and its file systems take, in bytes.
const LONGEST_NAME: usize = 255;
/// The longest path that Linux takes, without the zero behind it.
const LONGEST_PATH: usize = 4095;
/// The longest path inside a database, which exists during a purge.
const LONGEST_INSIDE: &str = "/snapshots.purging/00000000000000000000.snapshot";

fn long(letter: &str, bytes: usize) -> String {
    letter.repeat(bytes)
}

/// Runs everything that works on a directory, on these two directories. Both have the same parent.
fn lives(path: &Path, copy: &Path) {
    let house = party(path);
    assert!(content(path).keys().any(|name| name.starts_with("archive")));
    let expected = house.query(House::bytes);
    let sequence = house.backup(copy).unwrap().sequence;
    house.close().unwrap();

    // The copy makes place for what is restored from the database itself.
    let copied = builder().open(copy).unwrap();
    assert_eq!((copied.sequence(), copied.query(House::bytes)), (sequence, expected.clone()));
    purged::arrive(&copied, "a guest of the copy");
    copied.snapshot().unwrap();
    copied.close().unwrap();
    std::fs::remove_dir_all(copy).unwrap();
    Database::<House>::restore(path, copy).unwrap();
    assert_eq!(builder().open(copy).unwrap().query(House::bytes), expected);
    let beside = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(beside, 2, "nothing is left but the two");

    assert_eq!(verify_history::<House>(path).unwrap().divergence, None);
    assert!(purge::<House>(path, erase).unwrap().redacted > 0);
    assert_eq!(holding_secret(path), [""; 0]);
    assert_eq!(verify_history::<House>(path).unwrap().divergence, None);
    let house = builder().open(path).unwrap();
    assert_eq!(states(&house).len() as u64, house.sequence() + 1);
    house.close().unwrap();
}

#[test]
fn a_name_may_be_as_long_as_names_may_be() {
    let directory = tempfile::tempdir().unwrap();
    let [path, copy] = ["a", "b"].map(|letter| directory.path().join(long(letter, LONGEST_NAME)));
    lives(&path, &copy);
}

#[test]
fn a_path_may_be_as_long_as_what_is_inside_allows() {
    let directory = tempfile::tempdir().unwrap();
    let parent = parent(directory.path(), LONGEST_PATH - LONGEST_INSIDE.len());
    let left = LONGEST_PATH - LONGEST_INSIDE.len() - parent.as_os_str().len() - 1;
    let [path, copy] = ["a", "b"].map(|letter| parent.join(long(letter, left)));
    assert_eq!(path.as_os_str().len() + LONGEST_INSIDE.len(), LONGEST_PATH);
    lives(&path, &copy);
}

/// Makes a directory so deep that within it, a name of some length still fits into `bytes`.
fn parent(outer: &Path, bytes: usize) -> PathBuf {
    let mut parent = outer.to_path_buf();
    while parent.as_os_str().len() + 1 + LONGEST_NAME < bytes {
        parent.push(long("d", LONGEST_NAME / 2));
    }
    std::fs::create_dir_all(&parent).unwrap();
    parent
}

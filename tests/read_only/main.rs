//! A database that is only read: closed, crashed, and beside a program that writes. A reader changes
//! nothing, shows what the writer had at the same sequence, and takes back nothing that it showed.

#[path = "../common/mod.rs"]
mod common;

mod following;
mod places;
mod processes;
mod releases;

use std::fs::FileTimes;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use prevalence::{Database, ReadOnly, SnapshotPolicy};

use common::{Ledger, content};

/// Far longer than anything takes.
const LONG: Duration = Duration::from_secs(120);

/// What a directory says of one entry: its path, whether it is a directory, its length, and when it
/// was changed and read last.
type Said = (PathBuf, bool, u64, SystemTime, SystemTime);

/// All that stands in a directory.
fn all_in(path: &Path) -> Vec<Said> {
    let mut entries: Vec<Said> = Vec::new();
    let mut open = vec![path.to_path_buf()];
    while let Some(next) = open.pop() {
        let metadata = std::fs::metadata(&next).unwrap();
        let (changed, read) = (metadata.modified().unwrap(), metadata.accessed().unwrap());
        entries.push((next.clone(), metadata.is_dir(), metadata.len(), changed, read));
        if metadata.is_dir() {
            open.extend(std::fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    entries.sort();
    entries
}

/// Calls `look`, and checks that it has changed nothing in the directory: no name, no byte, no time.
fn unchanged<R>(path: &Path, look: impl FnOnce() -> R) -> R {
    let bytes = content(path);
    // The system notes a first access after a change, and later ones only after a day.
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let times = FileTimes::new().set_accessed(long_ago);
    for (entry, ..) in all_in(path) {
        std::fs::File::open(entry).unwrap().set_times(times).unwrap();
    }
    let described = |it: Said| (it.0, it.1, it.2, it.3);
    let before: Vec<_> = all_in(path).into_iter().map(described).collect();
    let result = look();
    let after = all_in(path);
    // To list a directory, as this test does, is an access, too.
    let read: Vec<_> = after.iter().filter(|it| !it.1 && it.4 != long_ago).collect();
    assert!(!cfg!(target_os = "linux") || read.is_empty(), "{read:?}");
    let after: Vec<_> = after.into_iter().map(described).collect();
    assert_eq!(after, before, "a reader has changed {}", path.display());
    assert!(content(path) == bytes, "a reader has changed a file in {}", path.display());
    result
}

fn read(path: &Path) -> ReadOnly<Ledger> {
    Database::<Ledger>::open_read_only(path).unwrap()
}

fn shown(reader: &ReadOnly<Ledger>) -> (u64, Vec<u8>) {
    let view = reader.view();
    (view.sequence(), view.bytes())
}

/// The sequence and the encoded model of a writer.
fn written(database: &Database<Ledger>) -> (u64, Vec<u8>) {
    let view = database.view();
    (view.sequence(), view.bytes())
}

/// A writer with small segments that takes snapshots only when it is asked.
fn write(path: &Path) -> Database<Ledger> {
    Database::<Ledger>::builder()
        .segment_bytes(64 << 10)
        .keep_snapshots(1)
        .snapshots(SnapshotPolicy::manual())
        .open(path)
        .unwrap()
}

//! A database that is only read: closed, crashed, and beside a program that writes. A reader changes
//! nothing, shows what the writer had at the same sequence, and takes back nothing that it showed.

#[path = "../common/mod.rs"]
mod common;

mod following;
mod places;
mod processes;
mod releases;

use std::path::Path;
use std::time::{Duration, SystemTime};

use prevalence::{Database, ReadOnly, SnapshotPolicy};

use common::{Ledger, content};

/// Far longer than anything takes.
const LONG: Duration = Duration::from_secs(120);

/// Names, kinds, lengths and times of all that is in a directory, and the content of the files.
fn all_of(path: &Path) -> impl PartialEq + std::fmt::Debug + use<> {
    let mut entries: Vec<(std::path::PathBuf, bool, u64, SystemTime)> = Vec::new();
    let mut open = vec![path.to_path_buf()];
    while let Some(next) = open.pop() {
        let metadata = std::fs::metadata(&next).unwrap();
        entries.push((
            next.clone(),
            metadata.is_dir(),
            metadata.len(),
            metadata.modified().unwrap(),
        ));
        if metadata.is_dir() {
            open.extend(std::fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    entries.sort();
    (entries, content(path))
}

/// Calls `look`, and checks that it has changed nothing in the directory.
fn unchanged<R>(path: &Path, look: impl FnOnce() -> R) -> R {
    let before = all_of(path);
    let result = look();
    assert!(all_of(path) == before, "a reader has changed {}", path.display());
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

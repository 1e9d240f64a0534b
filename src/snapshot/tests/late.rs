//! Tests of what is loaded after the open, and of the faults that are planted there. More of them
//! are in `tests/durability`.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::file::{open_snapshot, write_snapshot};
use super::super::late::LateLoading;
use super::changes::bytes;
use crate::collections::Map;
use crate::files::{FileHeader, Packing, SNAPSHOT_MAGIC, snapshot_path};
use crate::laboratory::{Sizes, sealed};
use crate::model::{MigrationError, SnapshotReader};
use crate::storage::{Disk, Pace};
use crate::test_support;
use crate::{Command, Context, Database, Error, Health, LoadModel, Model, SnapshotPolicy};

#[derive(Clone, Serialize, Deserialize)]
struct Shelf(Map<u64, String>);

impl Default for Shelf {
    fn default() -> Self {
        Self((0..40_000).map(|key| (key, format!("{:200}number {key}", ""))).collect())
    }
}

impl Model for Shelf {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
enum Change {
    Put(u64, String),
    Clear,
}

impl Command<Shelf> for Change {
    type Output = ();
    type Rejection = std::convert::Infallible;

    fn apply(self, shelf: &mut Shelf, _: &mut Context<'_, Shelf>) -> Result<(), Self::Rejection> {
        match self {
            Self::Put(key, value) => drop(shelf.0.insert(key, value)),
            Self::Clear => shelf.0.clear(),
        }
        Ok(())
    }
}

crate::commands! { Shelf { 1 => Change } }

fn open(path: &Path, when: LoadModel) -> Database<Shelf> {
    let builder = Database::builder().snapshots(SnapshotPolicy::manual()).compression_level(0);
    builder.share_snapshots(false).keep_snapshots(1).load_model(when).open(path).unwrap()
}

/// Makes a database with one snapshot. Returns the snapshot's path.
fn database(path: &Path) -> std::path::PathBuf {
    let database = open(path, LoadModel::AtOpen);
    database.execute(Change::Put(7, "seven".to_owned())).unwrap();
    database.snapshot().unwrap();
    database.close().unwrap();
    snapshot_path(&path.join("snapshots"), 1)
}

/// Writes over the text of an entry, with another one of the same length.
fn overwrite(snapshot: &Path) {
    let mut content = fs::read(snapshot).unwrap();
    let text = b"number 9999";
    let at = content.windows(text.len()).position(|it| it == text).unwrap();
    content[at + text.len() - 1] = b'8';
    fs::write(snapshot, content).unwrap();
}

#[test]
fn what_was_written_over_is_not_believed_and_the_next_open_reads_all() {
    let _sizes = Sizes::usual();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shelf.db");
    let snapshot = database(&path);
    let database = open(&path, LoadModel::OnDemand);
    overwrite(&snapshot);
    assert_eq!(database.query(|shelf| shelf.0[&7].clone()), "seven");
    let touched = catch_unwind(AssertUnwindSafe(|| database.query(|shelf| shelf.0[&9999].clone())));
    assert!(touched.is_err(), "it is no {touched:?}");
    assert!(matches!(database.health(), Health::Poisoned(_)), "{:?}", database.health());
    assert!(database.close().is_err());
    // There is no older snapshot, so the open fails at once.
    let builder = Database::<Shelf>::builder().load_model(LoadModel::OnDemand);
    let opened = builder.open(&path);
    assert!(matches!(opened, Err(Error::Corrupt { .. })), "{opened:?}");
}

/// An old view reads a file that has no name any more.
#[test]
fn a_file_keeps_its_length_while_it_is_read() {
    let _sizes = Sizes::usual();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shelf.db");
    let snapshot = database(&path);
    let database = open(&path, LoadModel::OnDemand);
    let (view, expected) = (database.view(), Shelf::default());
    database.execute(Change::Clear).unwrap();
    assert_eq!(database.snapshot().unwrap().sequence, 2);
    assert!(!snapshot.exists());
    for (key, value) in &view.0 {
        let expected = if *key == 7 { "seven" } else { &expected.0[key] };
        assert_eq!(value, expected);
    }
    drop(view);
    database.close().unwrap();
    let database = open(&path, LoadModel::OnDemand);
    assert_eq!(database.query(bytes), bytes(&Shelf(Map::new())));
}

/// Whatever an index says about first keys: an error, a panic that is told, or the content.
#[test]
fn first_keys_that_lie_never_give_another_content() {
    let _sizes = Sizes::small();
    let directory = tempfile::tempdir().unwrap();
    let packing = Packing { compression_level: 0, compression_threads: 0 };
    let header = FileHeader {
        packing: packing.chunks_code(),
        sequence: 42,
        base_sequence: 42,
        salt: 0,
        ..test_support::header(SNAPSHOT_MAGIC)
    };
    let model: Map<u64, u64> = (0..1500).map(|key| (key * 3, key)).collect();
    let pace = Pace::full();
    write_snapshot(&Disk, directory.path(), &header, &model, packing, &pace).unwrap();
    let path = snapshot_path(directory.path(), 42);
    let whole = fs::read(&path).unwrap();
    let (_, end) = sealed::index(&whole).unwrap();
    // The keys are the last that the index has: a length of two bytes, and up to three for the key.
    let (mut read, mut refused, mut told) = (0, 0, 0);
    for at in end - 150..end {
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            sealed::seal(&mut changed).unwrap();
            fs::write(&path, changed).unwrap();
            let late = LateLoading::new();
            let Ok(map) = read_late(directory.path(), &late) else {
                refused += 1;
                continue;
            };
            match catch_unwind(AssertUnwindSafe(|| bytes(&map) == bytes(&model))) {
                Ok(is_equal) => {
                    assert!(is_equal, "bit {bit} of byte {at} gives another content");
                    read += 1;
                }
                Err(_) => {
                    assert!(late.failure().is_some(), "bit {bit} of byte {at} is not told");
                    told += 1;
                }
            }
        }
    }
    assert!(read > 0 && refused > 0 && told > 0, "{read} read, {refused} refused, {told} told");
}

fn read_late(directory: &Path, late: &Arc<LateLoading>) -> Result<Map<u64, u64>, Error> {
    let file = open_snapshot(&Disk, directory, 42)?;
    Ok(file.unpack(|blocks| {
        let decoding = file.decoding_on_demand(late.clone(), blocks);
        let mut reader = SnapshotReader::new(blocks.take(), file.footer.raw_bytes, decoding);
        let decoded = reader.decode();
        *blocks = reader.into_blocks();
        decoded.map_err(|error: MigrationError| file.undecodable(error.to_string()))
    })?)
}

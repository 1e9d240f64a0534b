//! Tests of what is loaded after the open, and of the faults that are planted there. More of them
//! are in `tests/durability`.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::changes::bytes;
use crate::collections::Map;
use crate::files::snapshot_path;
use crate::laboratory::Sizes;
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

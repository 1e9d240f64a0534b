//! Tests purges on a real disk whose operations fail or write wrong bytes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use imbl::Vector;
use serde::{Deserialize, Serialize};

use crate::purge::{PurgeAction, PurgeReport, VERIFIED, purge_on};
use crate::storage::Storage;
use crate::storage::faulty::{Faulty, Operation};
use crate::{Command, Context, Database, Error, Model, Retention, SnapshotPolicy};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Guests(Vector<String>);

impl Model for Guests {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
struct Arrive(String);

impl Command<Guests> for Arrive {
    type Output = ();
    type Rejection = ();

    fn apply(self, guests: &mut Guests, _: &mut Context<'_, Guests>) -> Result<(), ()> {
        guests.0.push_back(self.0);
        Ok(())
    }
}

crate::commands! { Guests { 1 => Arrive } }

fn open(path: &Path, retention: Retention) -> Result<Database<Guests>, Error> {
    let builder = Database::<Guests>::builder().retention(retention).keep_snapshots(1);
    builder.snapshots(SnapshotPolicy::manual()).open(path)
}

/// Fills the database with twenty guests. Under `Retention::Archive` it takes a snapshot after ten.
fn party(path: &Path, retention: Retention) {
    let guests = open(path, retention).unwrap();
    for number in 0..20 {
        guests.execute(Arrive(format!("guest {number}"))).unwrap();
        if number == 9 && retention == Retention::Archive {
            guests.snapshot().unwrap();
        }
    }
    guests.close().unwrap();
}

fn purge(storage: Arc<Faulty>, path: &Path) -> Result<PurgeReport, Error> {
    let storage: Arc<dyn Storage> = storage;
    purge_on::<Guests>(&storage, path, VERIFIED, |record| match record.sequence() {
        3 => PurgeAction::Redact,
        _ => PurgeAction::Keep,
    })
}

/// Asserts that everything is as before the purge, and that the purge has left no files.
fn assert_untouched(path: &Path, retention: Retention) {
    for name in ["journal", "snapshots", "archive", "purges"] {
        for left in [format!("{name}.purging"), format!("{name}.purged")] {
            assert!(!path.join(&left).exists(), "{left} is left");
        }
    }
    let guests = open(path, retention).unwrap();
    assert_eq!(guests.query(|guests| guests.0.len()), 20);
    assert_eq!(guests.history().at(3).unwrap().0.len(), 3);
    guests.close().unwrap();
}

/// Changes one byte of a file that was written.
fn misremember(file: &Path, at: impl Fn(usize) -> usize) {
    let mut bytes = std::fs::read(file).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn damaged_new_files_do_not_replace_whole_old_ones() {
    let second: fn(usize) -> usize = |_| 4096 + 60;
    let late: fn(usize) -> usize = |length| length - 20;
    for (retention, directory, name, at) in [
        (Retention::Truncate, "journal", "00000000000000000001.journal", second),
        (Retention::Archive, "journal", "00000000000000000001.journal", second),
        (Retention::Truncate, "snapshots", "00000000000000000000.snapshot", late),
        (Retention::Archive, "archive", "00000000000000000000.snapshot", late),
    ] {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("guests.db");
        party(&path, retention);
        let staged = path.join(format!("{directory}.purging"));
        let storage = Faulty::new(move |operation| {
            let file = staged.join(name);
            let written = matches!(operation, Operation::SyncDirectory(of) if *of == staged);
            if written && file.exists() {
                misremember(&file, at);
            }
            None
        });
        let error = purge(storage, &path).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{name}: {error}");
        assert_untouched(&path, retention);
    }
}

#[test]
fn directories_that_cannot_be_renamed_stay_where_they_are() {
    for name in ["journal", "snapshots", "archive", "journal.purging", "purges.purging"] {
        let outer = tempfile::tempdir().unwrap();
        let path: PathBuf = outer.path().join("guests.db");
        party(&path, Retention::Archive);
        let stuck = path.join(name);
        let storage = Faulty::new(move |operation| {
            let is_stuck = matches!(operation, Operation::Rename(from) if *from == stuck);
            is_stuck.then(|| io::ErrorKind::ResourceBusy.into())
        });
        let error = purge(storage.clone(), &path).unwrap_err();
        let told = matches!(&error, Error::Io { path: at, .. } if *at == path.join(name));
        assert!(told, "{name}: {error}");
        assert_untouched(&path, Retention::Archive);
    }
}

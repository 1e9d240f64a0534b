//! Tests of a model that encodes but does not decode: the crate finds this before it removes
//! anything because of its snapshot.

use imbl::OrdMap;
use prevalence::{Command, Context, Database, Error, Health, Model, Retention, SnapshotPolicy};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::names;
use crate::common::{copy_directory, temporary};

/// A model with a `Value`, which decodes only from a self-describing format. The crate's encoding
/// is not one.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Notes {
    plain: OrdMap<u32, String>,
    odd: OrdMap<u32, Value>,
}

impl Model for Notes {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
struct Write {
    key: u32,
    text: String,
    odd: bool,
}

impl Command<Notes> for Write {
    type Output = ();
    type Rejection = ();

    fn apply(self, notes: &mut Notes, _: &mut Context<'_, Notes>) -> Result<(), ()> {
        if self.odd {
            notes.odd.insert(self.key, Value::String(self.text));
        } else {
            notes.plain.insert(self.key, self.text);
        }
        Ok(())
    }
}

prevalence::commands! { Notes { 1 => Write } }

fn write(database: &Database<Notes>, keys: std::ops::Range<u32>, odd: bool) {
    for key in keys {
        database.execute(Write { key, text: format!("note {key}"), odd }).unwrap();
    }
}

fn bytes(database: &Database<Notes>) -> Vec<u8> {
    database
        .query(|notes| bincode::serde::encode_to_vec(notes, bincode::config::standard()).unwrap())
}

fn open(path: &std::path::Path, keep: usize, retention: Retention) -> Database<Notes> {
    Database::<Notes>::builder()
        .snapshots(SnapshotPolicy::manual())
        .keep_snapshots(keep)
        .retention(retention)
        .segment_bytes(64 << 10)
        .open(path)
        .unwrap()
}

fn assert_unreadable(error: &Error) {
    let told = matches!(error, Error::UnreadableModel { reason, .. } if reason.contains("Any"));
    assert!(told, "{error}");
    assert!(error.to_string().contains("mirror"), "{error}");
}

#[test]
fn a_snapshot_that_nobody_can_read_does_not_count() {
    for (keep, retention) in [
        (1, Retention::Truncate),
        (2, Retention::Truncate),
        (3, Retention::Truncate),
        (1, Retention::Archive),
    ] {
        let (_directory, path) = temporary();
        let database = open(&path, keep, retention);
        for round in 0..4 {
            write(&database, round * 10..round * 10 + 10, true);
            assert_unreadable(&database.snapshot().unwrap_err());
            assert!(matches!(database.health(), Health::SnapshotsFailing(_)));
            assert_eq!(names(&path.join("snapshots")), ["00000000000000000000.snapshot"]);
        }
        let expected = bytes(&database);
        database.close().unwrap();
        let database = open(&path, keep, retention);
        assert_eq!((database.sequence(), bytes(&database)), (40, expected), "keep {keep}");
        assert_eq!(database.recovery().snapshot_sequence, 0);
        assert!(database.recovery().damaged_snapshots.is_empty());
    }
}

/// The type is harmless while its odd part is empty, and a small change makes it harmful: no
/// snapshot is much larger than the one before.
#[test]
fn a_type_that_was_harmless_costs_no_acknowledged_command_either() {
    for keep in 1..=4 {
        let (_directory, path) = temporary();
        let database = open(&path, keep, Retention::Truncate);
        write(&database, 0..500, false);
        database.snapshot().unwrap();
        let mut refused = 0;
        for key in 0..10 {
            write(&database, key..key + 1, true);
            if let Err(error) = database.snapshot() {
                assert_unreadable(&error);
                refused += 1;
            }
        }
        assert!(refused >= 11 - keep, "{refused} refused, {keep} are kept");
        let expected = bytes(&database);
        let killed = path.with_extension("killed");
        copy_directory(&path, &killed);
        database.close().unwrap();
        for path in [&path, &killed] {
            let database = open(path, keep, Retention::Truncate);
            assert_eq!((database.sequence(), bytes(&database)), (510, expected.clone()));
            let damaged = &database.recovery().damaged_snapshots;
            assert_eq!(damaged.len(), 10 - refused, "{damaged:?}");
        }
    }
}

/// No listed snapshot can be decoded. The error reports the newest.
#[test]
fn where_no_snapshot_can_be_read_the_newest_is_what_is_told() {
    let (_directory, path) = temporary();
    {
        let database = Database::<as_text::Notes>::open(&path).unwrap();
        for key in 0..3 {
            database.execute(as_text::Write { key, text: "x".to_owned(), odd: true }).unwrap();
            database.snapshot().unwrap();
        }
    }
    let before = crate::common::content(&path);
    let error = Database::<Notes>::open(&path).unwrap_err();
    let Error::Undecodable { path: file, reason } = &error else { panic!("{error}") };
    assert!(file.ends_with("00000000000000000003.snapshot"), "{error}");
    assert!(reason.contains("Any"), "{error}");
    let text = error.to_string();
    assert!(text.contains("VERSION") && text.contains("mirror"), "{text}");
    assert_eq!(crate::common::content(&path), before);
}

/// The same encoding from a type whose `Serialize` and `Deserialize` mirror each other.
mod as_text {
    use super::*;

    #[derive(Clone, Default, Serialize, Deserialize)]
    pub struct Notes {
        plain: OrdMap<u32, String>,
        odd: OrdMap<u32, String>,
    }

    impl Model for Notes {
        type Event = ();
    }

    impl Notes {
        pub fn odd_notes(&self) -> usize {
            self.odd.len()
        }
    }

    #[derive(Serialize, Deserialize)]
    pub struct Write {
        pub key: u32,
        pub text: String,
        pub odd: bool,
    }

    impl Command<Notes> for Write {
        type Output = ();
        type Rejection = ();

        fn apply(self, notes: &mut Notes, _: &mut Context<'_, Notes>) -> Result<(), ()> {
            notes.odd.insert(self.key, self.text);
            Ok(())
        }
    }

    prevalence::commands! { Notes { 1 => Write } }
}

#[test]
fn an_older_snapshot_and_the_commands_behind_it_are_read_instead() {
    let (_directory, path) = temporary();
    let expected = {
        let database = Database::<as_text::Notes>::open(&path).unwrap();
        for key in 0..3 {
            database.execute(as_text::Write { key, text: "x".to_owned(), odd: true }).unwrap();
        }
        // The one before it is that of the initial model, which has nothing odd in it.
        database.snapshot().unwrap();
        database.execute(as_text::Write { key: 9, text: "x".to_owned(), odd: true }).unwrap();
        database.query(|notes| {
            bincode::serde::encode_to_vec(notes, bincode::config::standard()).unwrap()
        })
    };
    let database = Database::<Notes>::open(&path).unwrap();
    let damaged = &database.recovery().damaged_snapshots;
    assert_eq!(damaged.len(), 1);
    assert!(damaged[0].path.ends_with("00000000000000000003.snapshot"));
    assert_eq!((database.sequence(), bytes(&database)), (4, expected));
    // History passes it over as well.
    let history = database.history();
    assert_eq!(history.at(3).unwrap().odd.len(), 3);
    assert_eq!(history.damaged_snapshots().len(), 1);
}

#[test]
fn no_copy_is_made_that_nobody_can_read() {
    let (directory, path) = temporary();
    let database = open(&path, 2, Retention::Truncate);
    write(&database, 0..3, true);
    let target = directory.path().join("backup.db");
    assert_unreadable(&database.backup(&target).unwrap_err());
    assert_eq!(names(directory.path()), ["ledger.db"]);
    let expected = bytes(&database);
    database.close().unwrap();
    assert_unreadable(&Database::<Notes>::restore(&path, &target).unwrap_err());
    assert_eq!(names(directory.path()), ["ledger.db"]);
    assert_eq!(bytes(&open(&path, 2, Retention::Truncate)), expected);
}

#[test]
fn an_initial_model_that_cannot_be_read_is_told_and_may_be_replaced() {
    let (_directory, path) = temporary();
    let odd = || Notes { odd: OrdMap::unit(1, Value::Bool(true)), ..Notes::default() };
    for _ in 0..2 {
        let error = Database::<Notes>::builder().initial(odd()).open(&path).unwrap_err();
        assert_unreadable(&error);
    }
    let database = open(&path, 2, Retention::Truncate);
    write(&database, 0..1, false);
    assert_eq!(database.sequence(), 1);
}

/// A snapshot that nobody can read does not replace the older release's snapshot.
#[test]
fn a_migrated_model_that_cannot_be_read_leaves_the_older_snapshot() {
    use prevalence::{MigrationError, SnapshotReader};

    #[derive(Clone, Default, Serialize, Deserialize)]
    struct Migrated(Option<Value>);

    impl Model for Migrated {
        type Event = ();
        const VERSION: u32 = 2;

        fn migrate(_: u32, snapshot: &mut SnapshotReader<'_>) -> Result<Self, MigrationError> {
            let old: as_text::Notes = snapshot.decode()?;
            Ok(Self(Some(Value::from(format!("{} notes", old.odd_notes())))))
        }
    }

    prevalence::commands! { Migrated = "Notes" {} }

    let (_directory, path) = temporary();
    {
        let database = Database::<as_text::Notes>::builder().keep_snapshots(1).open(&path).unwrap();
        database.execute(as_text::Write { key: 1, text: "x".to_owned(), odd: true }).unwrap();
        database.snapshot().unwrap();
    }
    let stored = path.join("snapshots/00000000000000000001.snapshot");
    let before = std::fs::read(&stored).unwrap();
    let database = Database::<Migrated>::builder().keep_snapshots(1).open(&path);
    let database = database.unwrap();
    assert_unreadable(&database.snapshot().unwrap_err());
    assert_eq!(std::fs::read(&stored).unwrap(), before);
    assert_eq!(names(&path.join("snapshots")).len(), 1);
    database.close().unwrap();
    let database = Database::<as_text::Notes>::open(&path).unwrap();
    assert_eq!((database.sequence(), database.query(as_text::Notes::odd_notes)), (1, 1));
}

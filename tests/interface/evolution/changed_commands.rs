//! A command's type that was changed without a new tag is an error that shows both types, wherever
//! the command is stored. A command that was never stored, and a change that is not on disk, are
//! none. Without the schemas in the files nothing is noticed, and nothing else is harmed.

use std::collections::BTreeMap;
use std::path::Path;

use prevalence::inspect::Inspection;
use prevalence::schema::{Leaf, Part, Schema, Type};
use prevalence::{
    Builder, Command, Context, Database, Error, HistoryRecord, Model, PurgeAction, Retention,
    SnapshotPolicy, TypeChange, purge, purge_unverified, verify_history,
};
use serde::{Deserialize, Serialize};

use crate::common::{content, temporary};

/// A till with a command whose type has these fields, and which emits this kind of event.
macro_rules! release {
    ($module:ident, { $($field:ident: $type:ty = $value:expr),* }, $event:ty = $emitted:expr) => {
        mod $module {
            use super::*;

            #[derive(Clone, Default, Debug, Serialize, Deserialize)]
            pub struct Till {
                pub paid: u64,
            }

            impl Model for Till {
                type Event = $event;
            }

            #[derive(Debug, Serialize, Deserialize)]
            pub struct Pay {
                $(pub $field: $type),*
            }

            #[derive(Debug, Serialize, Deserialize)]
            pub struct Refund {
                $(pub $field: $type),*
            }

            impl Command<Till> for Pay {
                type Output = ();
                type Rejection = ();
                fn apply(self, till: &mut Till, cx: &mut Context<'_, Till>) -> Result<(), ()> {
                    till.paid += 1;
                    cx.emit($emitted);
                    Ok(())
                }
            }

            impl Command<Till> for Refund {
                type Output = ();
                type Rejection = ();
                fn apply(self, till: &mut Till, _: &mut Context<'_, Till>) -> Result<(), ()> {
                    till.paid -= 1;
                    Ok(())
                }
            }

            prevalence::commands! { Till { 1 => Pay, 2 => Refund } }

            #[allow(dead_code, reason = "some releases only open")]
            pub fn pay() -> Pay {
                Pay { $($field: $value),* }
            }
        }
    };
}

release!(first, { from: u32 = 7, cents: u64 = 500 }, u64 = 9);
release!(renamed, { account: u32 = 7, amount: u32 = 500 }, u32 = 9);
// A `u64` is read as a sequence, of which there may be none.
release!(misread, { from: u32 = 7, cents: Vec<()> = vec![] }, u64 = 9);
release!(swapped, { cents: i64 = 7, from: i32 = 500 }, u64 = 9);
// Written in the same way, but the one would be read as the other.
release!(moved, { cents: u32 = 7, from: u64 = 500 }, u64 = 9);
release!(replaced, { cents: u32 = 7, tip: u64 = 500 }, u64 = 9);
release!(other_event, { from: u32 = 7, cents: u64 = 500 }, i64 = 9);

fn builder<M: Model + Default>() -> Builder<M> {
    Database::builder().snapshots(SnapshotPolicy::manual()).keep_snapshots(1)
}

/// Creates a database of the first release with one stored command.
fn create(path: &Path, retention: Retention, with_snapshot: bool) {
    let till = builder::<first::Till>().retention(retention).open(path).unwrap();
    till.execute(first::pay()).unwrap();
    if with_snapshot {
        till.snapshot().unwrap();
    }
    till.close().unwrap();
}

fn without_lock(path: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut files: BTreeMap<_, _> = content(path).into_iter().collect();
    files.remove(Path::new("LOCK"));
    files
}

/// Opens with a release that must refuse the directory, and returns the error as text.
fn refused<M: Model + Default>(path: &Path) -> String {
    let before = without_lock(path);
    let error = builder::<M>().open(path).unwrap_err();
    assert!(without_lock(path) == before, "a database that was refused has changed");
    let Error::CommandChanged { sequence: 1, tag: 1, command, change, .. } = &error else {
        panic!("{error}")
    };
    let TypeChange { stored, present, .. } = &**change;
    assert_eq!((command.as_str(), stored.as_str()), ("Pay", "{ from: u32, cents: u64 }"));
    let text = error.to_string();
    assert!(text.contains(stored) && text.contains(present), "{text}");
    assert!(text.contains("`1 => Old as New`"), "{text}");
    text
}

#[test]
fn a_changed_command_in_the_tail_is_an_error_at_open() {
    let (_directory, path) = temporary();
    create(&path, Retention::Truncate, false);
    assert!(refused::<misread::Till>(&path).contains("{ from: u32, cents: [()] }"));
    assert!(refused::<swapped::Till>(&path).contains("at `cents`"));
    assert!(refused::<moved::Till>(&path).contains("`from` was field number 1 when"));
    assert!(refused::<replaced::Till>(&path).contains("`cents` was field number 2 when"));
    // What is equal on disk is no change, and neither release is in the way of the other.
    for _ in 0..2 {
        let till = builder::<renamed::Till>().open(&path).unwrap();
        till.execute(renamed::pay()).unwrap();
        till.close().unwrap();
        let till = builder::<first::Till>().open(&path).unwrap();
        till.execute(first::pay()).unwrap();
        till.close().unwrap();
    }
    assert_eq!(builder::<first::Till>().open(&path).unwrap().query(|till| till.paid), 5);
    // One file for each release, whatever often it was opened.
    assert_eq!(std::fs::read_dir(path.join("schemas")).unwrap().count(), 2);
}

#[test]
fn a_changed_command_in_the_archive_is_an_error_at_open() {
    let (_directory, path) = temporary();
    create(&path, Retention::Archive, true);
    // Behind the snapshot, in a segment that is kept.
    refused::<misread::Till>(&path);
    let till = builder::<first::Till>().retention(Retention::Archive).open(&path).unwrap();
    till.execute(first::pay()).unwrap();
    till.snapshot().unwrap();
    till.close().unwrap();
    assert!(path.join("archive").read_dir().unwrap().count() > 0);
    refused::<misread::Till>(&path);
}

/// A release that was changed before its command was ever stored.
#[test]
fn what_was_never_stored_may_change() {
    let (_directory, path) = temporary();
    let till = builder::<misread::Till>().open(&path).unwrap();
    till.close().unwrap();
    let till = builder::<first::Till>().open(&path).unwrap();
    till.execute(first::pay()).unwrap();
    till.snapshot().unwrap();
    till.close().unwrap();
    // No command is behind the snapshot, and none is kept.
    let till = builder::<misread::Till>().open(&path).unwrap();
    till.execute(misread::pay()).unwrap();
    till.close().unwrap();
    assert_eq!(builder::<misread::Till>().open(&path).unwrap().query(|till| till.paid), 2);
}

#[test]
fn the_history_tells_a_changed_command_only_when_it_is_decoded() {
    let (_directory, path) = temporary();
    create(&path, Retention::Truncate, false);
    let till = builder::<first::Till>().keep_snapshots(2).open(&path).unwrap();
    till.snapshot().unwrap();
    till.close().unwrap();
    // The command is behind the newest snapshot, and still in the journal.
    let till = builder::<misread::Till>().keep_snapshots(2).open(&path).unwrap();
    let records: Vec<_> = till.history().records(..).unwrap().map(Result::unwrap).collect();
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!((record.sequence(), record.command_name()), (1, "Pay"));
    assert!(record.command::<misread::Refund>().is_none());
    let changed = |error| matches!(error, Error::CommandChanged { sequence: 1, .. });
    assert!(changed(record.command::<misread::Pay>().unwrap().unwrap_err()));
    assert!(changed(record.command_json().unwrap_err()));
    // The replay from the initial model on needs it.
    till.close().unwrap();
    let error = verify_history::<misread::Till>(&path).unwrap_err();
    assert!(matches!(error, Error::CommandChanged { .. }), "{error}");
}

#[test]
fn events_whose_type_was_changed_are_not_misread() {
    let (_directory, path) = temporary();
    create(&path, Retention::Truncate, false);
    let till = builder::<other_event::Till>().open(&path).unwrap();
    let record = till.history().records(..).unwrap().next().unwrap().unwrap();
    assert!(record.command::<other_event::Pay>().unwrap().is_ok());
    let error = record.events().unwrap_err();
    assert!(matches!(error, Error::EventsUndecodable { .. }), "{error}");
    assert!(error.to_string().contains("their type was changed"), "{error}");
    drop(till);
    let till = builder::<renamed::Till>().open(&path).unwrap();
    let record = till.history().records(..).unwrap().next().unwrap().unwrap();
    assert_eq!(record.events().unwrap(), Some(vec![9]));
}

#[test]
fn lost_and_damaged_schemas_do_no_harm() {
    let (_directory, path) = temporary();
    create(&path, Retention::Truncate, false);
    let file = path.join("schemas").read_dir().unwrap().next().unwrap().unwrap().path();
    let sound = std::fs::read(&file).unwrap();
    let digest = xxh3(&sound);
    assert_eq!(file.file_name().unwrap().to_str().unwrap(), format!("{digest}.json"));
    for damaged in [None, Some(&sound[1..]), Some(&[][..])] {
        match damaged {
            None => std::fs::remove_file(&file).unwrap(),
            Some(bytes) => std::fs::write(&file, bytes).unwrap(),
        }
        let till = builder::<first::Till>().open(&path).unwrap();
        assert_eq!(till.query(|till| till.paid), 1);
        assert_eq!(till.recovery().damaged_schemas.is_some(), damaged.is_some());
        till.close().unwrap();
        assert!(std::fs::read(&file).unwrap() == sound, "the release makes its schemas again");
    }
    // A backup has them, too.
    let till = builder::<first::Till>().open(&path).unwrap();
    let copy = path.with_extension("copy");
    till.backup(&copy).unwrap();
    let kept = copy.join("schemas").join(file.file_name().unwrap());
    assert!(std::fs::read(kept).unwrap() == sound);
}

/// The replacement and the events are those of the program that purges.
#[test]
fn a_purge_writes_with_the_types_of_its_program() {
    let (_directory, path) = temporary();
    create(&path, Retention::Archive, false);
    let shown = || {
        let look = Inspection::open(&path).unwrap();
        let record = look.records(..).unwrap().next().unwrap().unwrap();
        let mut types = look.types();
        (types.command_json(&record).unwrap(), types.events_json(&record).unwrap().unwrap())
    };
    assert_eq!(shown(), (r#"{"from":7,"cents":500}"#.to_owned(), vec!["9".to_owned()]));
    purge::<renamed::Till>(&path, |_| PurgeAction::replace(renamed::pay())).unwrap();
    assert_eq!(shown(), (r#"{"account":7,"amount":500}"#.to_owned(), vec!["9".to_owned()]));
}

/// A replacement is the way out if a type was changed by mistake.
#[test]
fn a_purge_replaces_commands_whose_type_was_changed() {
    let (_directory, path) = temporary();
    create(&path, Retention::Archive, false);
    let replace = |_: &HistoryRecord<misread::Till>| PurgeAction::replace(misread::pay());
    purge_unverified::<misread::Till>(&path, replace).unwrap();
    assert_eq!(builder::<misread::Till>().open(&path).unwrap().query(|till| till.paid), 1);
}

#[test]
fn what_stands_in_the_place_of_the_schemas_does_no_harm() {
    let (_directory, path) = temporary();
    create(&path, Retention::Truncate, false);
    std::fs::remove_dir_all(path.join("schemas")).unwrap();
    std::fs::write(path.join("schemas"), "of somebody else").unwrap();
    let till = builder::<first::Till>().open(&path).unwrap();
    assert_eq!(till.query(|till| till.paid), 1);
    assert!(till.recovery().types_not_described.is_some());
    till.execute(first::pay()).unwrap();
    till.close().unwrap();
    std::fs::remove_file(path.join("schemas")).unwrap();
    let till = builder::<first::Till>().open(&path).unwrap();
    assert_eq!(till.recovery().types_not_described, None);
    assert_eq!(till.query(|till| till.paid), 2);
}

fn xxh3(bytes: &[u8]) -> String {
    let digest = xxhash_rust::xxh3::xxh3_128(bytes).to_le_bytes();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_schema_by_hand_is_what_the_files_hold() {
    let (_directory, path) = temporary();
    let of = |fields: Vec<(&str, Leaf)>| {
        let fields = fields.into_iter().map(|(name, leaf)| (name.to_owned(), Part::Leaf(leaf)));
        Schema { root: Part::Type(0), types: vec![Type::Struct(fields.collect())] }
    };
    let by_hand = of(vec![("payer", Leaf::U32), ("amount", Leaf::U64)]);
    let till = builder::<first::Till>().describe::<first::Pay>(by_hand.clone()).open(&path);
    till.unwrap().close().unwrap();
    let files = content(&path);
    let text = files.iter().find(|(name, _)| name.starts_with("schemas")).unwrap().1;
    let text = std::str::from_utf8(text).unwrap();
    assert!(text.contains(r#"[{"struct":[["payer","u32"],["amount","u64"]]}]"#), "{text}");
    // What was stored with it is still of the same type.
    let till = builder::<first::Till>().describe::<first::Pay>(by_hand.clone()).open(&path);
    let till = till.unwrap();
    till.execute(first::pay()).unwrap();
    till.close().unwrap();
    builder::<first::Till>().open(&path).unwrap().close().unwrap();
    // One that contradicts the type would be an error at the next open.
    let wrong = of(vec![("payer", Leaf::U32), ("amount", Leaf::String)]);
    let error = builder::<first::Till>().describe::<first::Pay>(wrong).open(&path).unwrap_err();
    assert!(matches!(error, Error::InvalidOption { option: "describe", .. }), "{error}");
    assert!(text.contains(r#""name":"Till","version":1,"schema":{"root":0"#), "{text}");
    let error = builder::<first::Till>().describe::<u8>(by_hand).open(&path).unwrap_err();
    assert!(matches!(error, Error::InvalidOption { option: "describe", .. }), "{error}");
}

//! Tests of purges that are impossible: each gives an error and changes nothing. Also tests the
//! records of purges that were done.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use prevalence::{
    Command, Context, Error, HistoryRecord, Model, PurgeAction, Retention, purge, purge_records,
    purge_unverified, verify_history,
};
use serde::{Deserialize, Serialize};

use super::purged::{
    Arrive, House, Leave, Party, SECRET, arrive, builder, erase, holding_secret, party,
};
use crate::common::{content, temporary};

#[test]
fn a_purge_that_a_later_command_cannot_bear_changes_nothing() {
    let (_directory, path) = temporary();
    let house = party(&path);
    house.execute(Leave { name: SECRET.to_owned() }).unwrap();
    let leaves = house.sequence();
    house.close().unwrap();
    let before = content(&path);
    let error = purge::<House>(&path, erase).unwrap_err();
    let told = matches!(&error, Error::PurgeRefused { sequence, command, .. }
        if *sequence == leaves && command == "Leave");
    assert!(told, "{error}");
    let refused = |_: &HistoryRecord<House>| PurgeAction::replace(Leave { name: "x".to_owned() });
    let error = purge::<House>(&path, refused).unwrap_err();
    assert!(matches!(&error, Error::PurgeRefused { sequence: 1, .. }), "{error}");
    assert_eq!(content(&path), before);
    assert!(!path.join("journal.purging").exists() && !path.join("purges.purging").exists());
}

#[test]
fn what_cannot_be_purged_is_told_and_left() {
    let (_directory, path) = temporary();
    let house = party(&path);
    let error = purge::<House>(&path, erase).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    house.close().unwrap();
    for name in ["archive/notes.txt", "journal/7.journal", ".prevalence-bank.db-1.tmp/x"] {
        let unknown = path.join(name);
        std::fs::create_dir_all(unknown.parent().unwrap()).unwrap();
        std::fs::write(&unknown, "x").unwrap();
        let before = content(&path);
        let error = purge::<House>(&path, erase).unwrap_err();
        let told = matches!(&error, Error::UnknownFile { path } if unknown.starts_with(path));
        assert!(told, "{error}");
        assert_eq!(content(&path), before);
        std::fs::remove_file(&unknown).unwrap();
        std::fs::remove_dir(unknown.parent().unwrap()).ok();
    }
    std::fs::write(path.join("notes.txt"), "its owner's").unwrap();
    purge::<House>(&path, erase).unwrap();
    assert!(path.join("notes.txt").exists());
    let error = purge::<House>(path.join("elsewhere"), erase).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    assert!(!path.join("elsewhere").exists());
}

#[test]
fn a_truncated_history_cannot_be_purged() {
    let (_directory, path) = temporary();
    let truncate = || builder().retention(Retention::Truncate);
    let house = truncate().open(&path).unwrap();
    arrive(&house, SECRET);
    house.close().unwrap();
    // The initial model and all commands are there yet.
    assert_eq!(purge::<House>(&path, erase).unwrap().redacted, 1);
    assert_eq!(holding_secret(&path), [""; 0]);
    let house = truncate().open(&path).unwrap();
    assert!(house.query(|house| house.guests.is_empty()));
    arrive(&house, SECRET);
    let oldest = house.snapshot().unwrap().sequence;
    arrive(&house, SECRET);
    house.close().unwrap();
    let before = content(&path);
    let error = purge::<House>(&path, erase).unwrap_err();
    assert!(
        matches!(error, Error::HistoryTruncated { wanted: 0, oldest: o, .. } if o == oldest),
        "{error}"
    );
    assert_eq!(content(&path), before);
}

#[test]
fn every_purge_is_written_down() {
    let (_directory, path) = temporary();
    party(&path).close().unwrap();
    assert_eq!(purge_records(&path).unwrap(), []);
    let first = purge::<House>(&path, erase).unwrap();
    let only = |record: &HistoryRecord<House>| match record.sequence() {
        1 => PurgeAction::replace(Arrive { name: "nobody".to_owned() }),
        _ => PurgeAction::Keep,
    };
    let second = purge::<House>(&path, only).unwrap();
    let records = purge_records(&path).unwrap();
    let [one, two] = &records[..] else { panic!("{records:#?}") };
    assert_eq!((one.number, two.number), (1, 2));
    assert_eq!((&one.redacted[..], &one.metadata_dropped[..]), (&[2, 19][..], &[8][..]));
    assert_eq!((&two.replaced[..], two.redacted.len(), two.kept), (&[1][..], 0, 19));
    assert_eq!((one.sequence, one.kept, one.database), (20, 17, two.database));
    assert!(one.chain_before != one.chain_after && one.chain_after == two.chain_before);
    assert!(one.time <= two.time && one.replaced.is_empty());
    for (report, record) in [(first, one), (second, two)] {
        let name = format!("purges/{:020}.purge", record.number);
        assert_eq!(report.record.unwrap(), path.join(name));
    }
    let damaged = path.join("purges/00000000000000000001.purge");
    let mut bytes = std::fs::read(&damaged).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    let before = content(&path);
    for error in [
        purge_records(&path).unwrap_err(),
        purge::<House>(&path, |_| PurgeAction::Redact).unwrap_err(),
    ] {
        assert!(matches!(&error, Error::Corrupt { path, .. } if *path == damaged), "{error}");
    }
    assert_eq!(content(&path), before);
    std::fs::remove_file(&damaged).unwrap();
    let error = purge_records(&path).unwrap_err();
    assert!(matches!(&error, Error::Missing { path, .. } if *path == damaged), "{error}");
}

/// The same house in a program in which parties are louder.
mod louder {
    use super::*;

    #[derive(Clone, Default, Serialize, Deserialize)]
    pub struct House(super::House);

    impl Model for House {
        type Event = ();
    }

    macro_rules! as_before {
        ($command:ident) => {
            impl Command<House> for $command {
                type Output = ();
                type Rejection = ();

                fn apply(self, house: &mut House, cx: &mut Context<'_, House>) -> Result<(), ()> {
                    house.0.mix(cx.sequence());
                    Ok(())
                }
            }
        };
    }
    as_before!(Arrive);
    as_before!(Leave);
    as_before!(Party);

    prevalence::commands! { House { 1 => Arrive, 2 => Leave, 3 => Party } }
}

#[test]
fn a_program_that_makes_something_else_of_the_history_does_not_purge_it() {
    let (_directory, path) = temporary();
    party(&path).close().unwrap();
    let before = content(&path);
    let last = |record: &HistoryRecord<louder::House>| match record.sequence() {
        20 => PurgeAction::Redact,
        _ => PurgeAction::Keep,
    };
    let error = purge::<louder::House>(&path, last).unwrap_err();
    assert!(matches!(error, Error::HistoryDiverged { .. }), "{error}");
    assert_eq!(content(&path), before);
    assert_eq!(purge_unverified::<louder::House>(&path, last).unwrap().redacted, 1);
    let verified = verify_history::<louder::House>(&path).unwrap();
    assert_eq!((verified.divergence, verified.snapshots_compared), (None, 3));
}

#[test]
fn what_a_directory_must_not_hold_is_found_before_anything_is_exchanged() {
    for inner in ["journal", "snapshots", "archive"] {
        let (_directory, path) = temporary();
        party(&path).close().unwrap();
        let odd = path.join(inner).join(OsStr::from_bytes(b"caf\xe9.txt"));
        std::fs::write(&odd, SECRET).unwrap();
        let error = purge::<House>(&path, erase).unwrap_err();
        assert!(matches!(&error, Error::UnknownFile { path } if *path == odd), "{error}");
        std::fs::remove_file(&odd).unwrap();
        // What a link leads to would stay.
        let files = std::fs::read_dir(path.join(inner)).unwrap();
        let file = files.map(|entry| entry.unwrap().path()).min().unwrap();
        let elsewhere = path.with_extension("elsewhere");
        std::fs::rename(&file, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        let error = purge::<House>(&path, erase).unwrap_err();
        assert!(matches!(&error, Error::UnknownFile { path } if *path == file), "{error}");
        std::fs::rename(&elsewhere, &file).unwrap();
        purge::<House>(&path, erase).unwrap();
        assert_eq!(holding_secret(&path), Vec::<String>::new());
    }
}

#[test]
fn who_may_read_the_directories_stays_as_it_was() {
    let (_directory, path) = temporary();
    party(&path).close().unwrap();
    for (inner, mode) in [("journal", 0o700), ("snapshots", 0o750), ("archive", 0o711)] {
        std::fs::set_permissions(path.join(inner), Permissions::from_mode(mode)).unwrap();
    }
    purge::<House>(&path, erase).unwrap();
    for (inner, mode) in [("journal", 0o700), ("snapshots", 0o750), ("archive", 0o711)] {
        let permissions = path.join(inner).metadata().unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, mode, "{inner}");
    }
}

#[test]
fn records_that_cannot_be_told_are_not_said_to_be_none() {
    let (_directory, path) = temporary();
    let error = purge_records(&path).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    party(&path).close().unwrap();
    assert_eq!(purge_records(&path).unwrap(), []);
    purge::<House>(&path, erase).unwrap();
    assert_eq!(purge_records(&path).unwrap().len(), 1);
    // As a crash leaves it while the next one's directories are exchanged.
    let manifest = path.join("MANIFEST");
    let whole = std::fs::read(&manifest).unwrap();
    let mut swapping = whole.clone();
    swapping[32] = 3;
    let covered = swapping.len() - 4;
    let checksum = crc32c::crc32c(&swapping[..covered]);
    swapping[covered..].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(&manifest, swapping).unwrap();
    let error = purge_records(&path).unwrap_err();
    assert!(matches!(error, Error::PurgeUnfinished { .. }), "{error}");
    std::fs::write(&manifest, whole).unwrap();
    let (_other_directory, other) = temporary();
    party(&other).close().unwrap();
    std::fs::remove_dir_all(path.join("purges")).unwrap();
    purge::<House>(&other, erase).unwrap();
    std::fs::rename(other.join("purges"), path.join("purges")).unwrap();
    let error = purge_records(&path).unwrap_err();
    assert!(matches!(error, Error::ForeignFile { .. }), "{error}");
}

//! What may become of the directory while it is read: crashes, damage, a purge, other databases in
//! its place.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use prevalence::{Database, Error, PurgeAction, WaitError, purge};

use crate::common::{Mix, copy_directory, keeping_history, segments, temporary, until};
use crate::{LONG, Ledger, read, shown, unchanged, write, written};

fn mix(database: &Database<Ledger>, values: std::ops::Range<u64>) {
    values.for_each(|value| assert!(database.execute(Mix(value)).unwrap() > 0));
}

/// Where the commit marker at the end of a segment begins. It has 32 bytes before its checksum, and
/// 4 bytes of padding behind it.
fn marker_in(segment: &[u8]) -> usize {
    let last = segment.iter().rposition(|byte| *byte != 0).unwrap();
    last / 8 * 8 - 32
}

#[test]
fn where_there_is_no_database_nothing_is_made() {
    let (directory, path) = temporary();
    let opened = Database::<Ledger>::open_read_only(&path);
    assert!(matches!(opened, Err(Error::Missing { .. })), "{opened:?}");
    assert!(!path.exists());
    let empty = directory.path();
    let opened = unchanged(empty, || Database::<Ledger>::open_read_only(empty));
    assert!(matches!(opened, Err(Error::Missing { .. })), "{opened:?}");
    std::fs::write(&path, "text").unwrap();
    let opened = Database::<Ledger>::open_read_only(&path);
    assert!(matches!(opened, Err(Error::NotADirectory { .. })), "{opened:?}");
}

#[test]
fn the_right_to_read_is_enough() {
    let (_directory, path) = temporary();
    let writer = write(&path);
    mix(&writer, 0..20);
    let expected = written(&writer);
    writer.close().unwrap();
    let allow = |directory: u32, file: u32| {
        for (name, _) in crate::common::content(&path) {
            let rights = std::fs::Permissions::from_mode(file);
            std::fs::set_permissions(path.join(name), rights).unwrap();
        }
        for inner in ["journal", "snapshots", "schemas", ""] {
            let rights = std::fs::Permissions::from_mode(directory);
            std::fs::set_permissions(path.join(inner), rights).unwrap();
        }
    };
    allow(0o555, 0o444);
    unchanged(&path, || assert_eq!(shown(&read(&path)), expected));
    allow(0o755, 0o644);
}

/// A process that was killed leaves its last batch confirmed by a marker, or by nothing. What
/// nothing confirms is not shown before the next open has written it again.
#[test]
fn after_a_kill_what_is_confirmed_is_shown() {
    let (directory, path) = temporary();
    let writer = write(&path);
    mix(&writer, 0..10);
    read(&path).wait_for(10, LONG).unwrap(); // by now there is a marker
    let expected = written(&writer);
    let copy = directory.path().join("copy");
    copy_directory(&path, &copy);
    let reader = unchanged(&copy, || read(&copy));
    assert_eq!(shown(&reader), expected);

    // Without the marker, only a part of it is confirmed.
    let segment = segments(&copy).pop().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let marker = marker_in(&bytes);
    bytes[marker..].fill(0);
    std::fs::write(&segment, &bytes).unwrap();
    let unconfirmed = unchanged(&copy, || read(&copy));
    assert_eq!(unconfirmed.sequence(), 9);
    let again = write(&copy);
    assert_eq!(again.recovery().commands_rewritten, 1);
    assert_eq!(unconfirmed.refresh().unwrap(), 10);
    assert_eq!(shown(&unconfirmed), expected);
    // The other reader has seen more than the second copy was known to hold, and less is no error.
    assert_eq!(reader.refresh().unwrap(), 10);
    mix(&again, 10..12);
    for reader in [&reader, &unconfirmed] {
        reader.wait_for(12, LONG).unwrap();
        assert_eq!(shown(reader), written(&again));
    }
}

#[test]
fn a_torn_batch_is_not_shown_and_is_no_error() {
    let (directory, path) = temporary();
    let writer = write(&path);
    mix(&writer, 0..10);
    let copy = directory.path().join("copy");
    read(&path).wait_for(10, LONG).unwrap();
    copy_directory(&path, &copy);
    let segment = segments(&copy).pop().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let torn = marker_in(&bytes) + 40;
    bytes[torn..torn + 100].fill(0xee);
    std::fs::write(&segment, &bytes).unwrap();
    let reader = unchanged(&copy, || read(&copy));
    for _ in 0..20 {
        assert_eq!(reader.refresh().unwrap(), 10);
    }
    let again = write(&copy);
    assert!(again.recovery().torn_tail.is_some());
    mix(&again, 20..25);
    reader.wait_for(15, LONG).unwrap();
    assert_eq!(shown(&reader), written(&again));
}

#[test]
fn damage_is_an_error_and_what_was_read_stays() {
    let (directory, path) = temporary();
    let writer = write(&path);
    mix(&writer, 0..10);
    let copy = directory.path().join("copy");
    read(&path).wait_for(10, LONG).unwrap();
    copy_directory(&path, &copy);
    let reader = read(&copy);
    let segment = segments(&copy).pop().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    // A byte of the last batch: before the marker, there are at most 7 bytes of padding.
    let marker = marker_in(&bytes);
    bytes[marker - 9] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let opened = unchanged(&copy, || Database::<Ledger>::open_read_only(&copy));
    assert!(matches!(opened, Err(Error::Corrupt { .. })), "{opened:?}");
    assert_eq!(reader.sequence(), 10);
    // A damaged snapshot: an older one and the journal give the same.
    writer.close().unwrap();
    let writer = keeping_history::<Ledger>().keep_snapshots(2).open(&path).unwrap();
    writer.snapshot().unwrap();
    mix(&writer, 10..15);
    let expected = written(&writer);
    writer.close().unwrap();
    let snapshot = path.join("snapshots").join(format!("{:020}.snapshot", 10));
    let length = std::fs::metadata(&snapshot).unwrap().len();
    let mut bytes = std::fs::read(&snapshot).unwrap();
    bytes[length as usize - 1] ^= 1;
    std::fs::write(&snapshot, bytes).unwrap();
    let reader = unchanged(&path, || read(&path));
    assert_eq!(shown(&reader), expected);
    assert_eq!(reader.recovery().damaged_snapshots.len(), 1);
    assert_eq!(reader.recovery().snapshot_sequence, 0);
}

/// Writes ten commands and closes.
fn archived(path: &Path) -> (u64, Vec<u8>) {
    let writer = keeping_history::<Ledger>().open(path).unwrap();
    mix(&writer, 0..10);
    let expected = written(&writer);
    writer.close().unwrap();
    expected
}

fn replace_command(path: &Path, sequence: u64) {
    let report = purge::<Ledger>(path, |record| match record.sequence() == sequence {
        true => PurgeAction::replace(Mix(1_000)),
        false => PurgeAction::Keep,
    });
    assert_eq!(report.unwrap().replaced, 1);
}

#[test]
fn a_purge_of_what_was_read_is_told() {
    let (_directory, path) = temporary();
    let expected = archived(&path);
    let reader = read(&path);
    replace_command(&path, 4);
    for _ in 0..2 {
        let refreshed = reader.refresh();
        let Err(Error::HistoryRewritten { sequence: 10, .. }) = refreshed else {
            panic!("{refreshed:?}");
        };
    }
    assert_eq!(shown(&reader), expected, "the last version stays readable");
    assert_ne!(shown(&read(&path)), expected);
    // The same is noticed when the database has gone on.
    let writer = keeping_history::<Ledger>().open(&path).unwrap();
    mix(&writer, 10..20);
    read(&path).wait_for(20, LONG).unwrap();
    let refreshed = reader.refresh();
    assert!(matches!(refreshed, Err(Error::HistoryRewritten { .. })), "{refreshed:?}");
    let waited = reader.wait_for(11, LONG);
    assert!(matches!(waited, Err(WaitError::FollowerStopped { .. })), "{waited:?}");
    assert_eq!(shown(&read(&path)), written(&writer));
}

#[test]
fn a_purge_of_what_comes_later_changes_nothing_for_a_reader() {
    let (_directory, path) = temporary();
    archived(&path);
    let reader = read(&path);
    let writer = keeping_history::<Ledger>().open(&path).unwrap();
    mix(&writer, 10..20);
    writer.close().unwrap();
    replace_command(&path, 15);
    assert_eq!(reader.refresh().unwrap(), 20);
    assert_eq!(shown(&reader), shown(&read(&path)));
}

#[test]
fn another_directory_in_its_place_is_told() {
    let (directory, path) = temporary();
    let expected = archived(&path);
    let reader = read(&path);
    let (away, older) = (directory.path().join("away"), directory.path().join("older"));
    copy_directory(&path, &older);
    let writer = keeping_history::<Ledger>().open(&path).unwrap();
    mix(&writer, 10..20);
    writer.close().unwrap();
    assert_eq!(reader.refresh().unwrap(), 20);

    std::fs::rename(&path, &away).unwrap();
    let refreshed = reader.refresh();
    assert!(matches!(refreshed, Err(Error::Missing { .. })), "{refreshed:?}");
    assert!(reader.failure().unwrap().contains("MANIFEST"));
    keeping_history::<Ledger>().open(&path).unwrap().close().unwrap();
    let refreshed = reader.refresh();
    assert!(matches!(refreshed, Err(Error::ForeignFile { .. })), "{refreshed:?}");
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::rename(&older, &path).unwrap();
    let refreshed = reader.refresh();
    let Err(Error::HistoryRewritten { sequence: 20, .. }) = refreshed else {
        panic!("{refreshed:?}");
    };
    assert_eq!(shown(&read(&path)), expected);
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::rename(&away, &path).unwrap();
    assert_eq!(reader.refresh().unwrap(), 20, "it is back");
    assert_eq!(reader.failure(), None);
}

#[test]
fn following_goes_on_after_a_failure() {
    let (directory, path) = temporary();
    archived(&path);
    let reader = read(&path);
    reader.follow(std::time::Duration::from_millis(2)).unwrap();
    let away = directory.path().join("away");
    std::fs::rename(&path, &away).unwrap();
    until(|| reader.failure().is_some());
    let waited = reader.wait_for(11, LONG);
    let Err(WaitError::FollowerStopped { wanted: 11, reached: 10, .. }) = waited else {
        panic!("{waited:?}");
    };
    std::fs::rename(&away, &path).unwrap();
    until(|| reader.failure().is_none());
    let writer = keeping_history::<Ledger>().open(&path).unwrap();
    mix(&writer, 10..12);
    until(|| reader.sequence() == 12);
    assert_eq!(shown(&reader), written(&writer));
}

#[test]
fn a_newer_format_is_told() {
    let (_directory, path) = temporary();
    archived(&path);
    let reader = read(&path);
    let manifest = path.join("MANIFEST");
    let sound = std::fs::read(&manifest).unwrap();
    let mut newer = sound.clone();
    newer[8] += 1;
    std::fs::write(&manifest, newer).unwrap();
    let refreshed = reader.refresh();
    assert!(matches!(refreshed, Err(Error::UnsupportedFormat { .. })), "{refreshed:?}");
    std::fs::write(&manifest, sound).unwrap();
    assert_eq!(reader.refresh().unwrap(), 10);
}

#[test]
fn a_writer_that_failed_leaves_what_is_durable() {
    let (directory, path) = temporary();
    let writer = write(&path);
    mix(&writer, 0..5);
    let reader = read(&path);
    reader.wait_for(5, LONG).unwrap();
    // Without its newest segment, the writer must stop.
    let segment = segments(&path).pop().unwrap();
    let kept = directory.path().join("kept");
    std::fs::rename(&segment, &kept).unwrap();
    assert!(writer.execute(Mix(5)).is_err());
    std::fs::rename(&kept, &segment).unwrap();
    assert!(writer.close().is_err());
    assert_eq!(reader.refresh().unwrap(), 5, "nothing states that the last command is durable");
    let writer = write(&path);
    reader.wait_for(writer.sequence(), LONG).unwrap();
    assert_eq!(shown(&reader), written(&writer));
}

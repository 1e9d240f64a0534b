//! Going back to every command, and to times.

use std::path::Path;
use std::time::Duration;

use prevalence::inspect::{Depth, verify};
use prevalence::rescue::{Copied, Point, restore_to};
use prevalence::{Error, Retention, verify_history};

use crate::common::{Ledger, Mix, keeping_history, temporary};
use crate::{check_opens, filled, newest_batches, records, unchanged};

fn restore(path: &Path, target: &Path, point: Point) -> Result<Copied, Error> {
    restore_to(path, target, point, |_| {})
}

#[test]
fn every_command_can_be_restored_with_the_history_up_to_it() {
    let (directory, path) = temporary();
    let oracle = filled(&path, Retention::Archive);
    let all = records(&path, 1);
    for sequence in 0..=oracle.newest() {
        let target = directory.path().join(format!("restored-{sequence}"));
        let copied =
            unchanged(&path, || restore(&path, &target, Point::Sequence(sequence)).unwrap());
        assert_eq!((copied.sequence, &copied.path), (sequence, &target));
        assert!(verify(&target, Depth::Deep, |_| {}).unwrap().is_sound());
        let kept = records(&target, 1);
        assert_eq!(kept.len() as u64, sequence);
        for (kept, original) in kept.iter().zip(&all) {
            assert_eq!(
                (kept.sequence, kept.time, kept.tag),
                (original.sequence, original.time, original.tag)
            );
            assert_eq!((&kept.metadata, &kept.command), (&original.metadata, &original.command));
            assert_eq!(kept.events, original.events);
        }
        if sequence % 10 == 0 {
            assert_eq!(verify_history::<Ledger>(&target).unwrap().divergence, None);
        }
        check_opens(&target, &oracle, sequence);
        std::fs::remove_dir_all(&target).unwrap();
    }
}

#[test]
fn without_an_archive_the_journal_is_restored() {
    let (directory, path) = temporary();
    let oracle = filled(&path, Retention::Truncate);
    let oldest = records(&path, 1)[0].sequence - 1;
    assert!(oldest > 0);
    for sequence in oldest..=oracle.newest() {
        let target = directory.path().join(format!("restored-{sequence}"));
        match restore(&path, &target, Point::Sequence(sequence)) {
            Ok(_) => check_opens(&target, &oracle, sequence),
            // The oldest segment reaches back before the oldest snapshot.
            Err(error) => assert!(matches!(error, Error::HistoryTruncated { .. }), "{error}"),
        }
    }
    let target = directory.path().join("restored");
    let error = restore(&path, &target, Point::Sequence(3)).unwrap_err();
    assert!(matches!(error, Error::HistoryTruncated { wanted: 3, .. }), "{error}");
    assert!(!target.exists());
}

#[test]
fn a_time_is_the_last_command_that_is_not_later() {
    let (directory, path) = temporary();
    let oracle = filled(&path, Retention::Archive);
    for sequence in [1, 17, 50, 90, oracle.newest()] {
        let last = (1..=oracle.newest()).filter(|&it| oracle.time(it) <= oracle.time(sequence));
        let last = last.max().unwrap();
        let target = directory.path().join(format!("restored-{sequence}"));
        let copied = restore(&path, &target, Point::Time(oracle.time(sequence))).unwrap();
        assert_eq!(copied.sequence, last);
        check_opens(&target, &oracle, last);
    }
    let before = oracle.time(1) - Duration::from_secs(3600);
    let error = restore(&path, &directory.path().join("early"), Point::Time(before)).unwrap_err();
    assert!(matches!(error, Error::TimeTruncated { .. }), "{error}");
}

#[test]
fn a_database_that_is_open_is_restored_to_what_is_durable() {
    let (directory, path) = temporary();
    let database = keeping_history::<Ledger>().open(&path).unwrap();
    let mut states = vec![crate::bytes(&database)];
    for value in 0..40 {
        database.execute(Mix(value)).unwrap();
        states.push(crate::bytes(&database));
        if value % 11 == 10 {
            database.snapshot().unwrap();
        }
    }
    for (name, point) in [("newest", Point::Newest), ("middle", Point::Sequence(20))] {
        let target = directory.path().join(name);
        let copied = restore(&path, &target, point).unwrap();
        let restored = keeping_history::<Ledger>().open(&target).unwrap();
        assert_eq!(restored.sequence(), copied.sequence);
        assert!(crate::bytes(&restored) == states[copied.sequence as usize]);
        // All that was acknowledged may be durable, but the files state it only with the next batch.
        assert!(copied.sequence == 20 || copied.sequence >= 39, "{}", copied.sequence);
    }
    database.execute(Mix(1)).unwrap();
    database.close().unwrap();
}

#[test]
fn what_cannot_be_restored_is_an_error_and_leaves_nothing() {
    let (directory, path) = temporary();
    let oracle = filled(&path, Retention::Archive);
    let target = directory.path().join("target");
    let newest = oracle.newest();
    let error = restore(&path, &target, Point::Sequence(newest + 1)).unwrap_err();
    assert!(matches!(error, Error::NotReached { .. }), "{error}");
    let error = restore(&path, &path, Point::Newest).unwrap_err();
    assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
    let error = restore(&directory.path().join("nothing"), &target, Point::Newest).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    assert!(!target.exists());
    // The newest command's file is damaged: nothing else may be given for it.
    let (segment, batches) = newest_batches(&path);
    let mut damaged = std::fs::read(&segment).unwrap();
    damaged[batches.last().unwrap().0 + 40] ^= 1;
    std::fs::write(&segment, damaged).unwrap();
    let time = oracle.time(newest);
    for point in [Point::Newest, Point::Sequence(newest), Point::Time(time)] {
        let error = restore(&path, &target, point).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    restore(&path, &target, Point::Sequence(20)).unwrap();
    check_opens(&target, &oracle, 20);
}

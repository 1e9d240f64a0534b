//! Tests of histories whose files are incomplete or from different histories, and of their ends.

use std::ops::Bound::{Excluded, Unbounded};
use std::path::Path;
use std::time::{Duration, SystemTime};

use prevalence::{AtError, Database, Error, Retention, verify_history};

use super::builder;
use crate::common::{self, Carry, Ledger, Mix, copy_directory, quiet_panics, temporary};

/// Executes six commands that fill a segment, and takes a snapshot.
fn round(database: &Database<Ledger>) {
    for _ in 0..6 {
        database.execute(Carry(vec![7; 9 << 10])).unwrap();
    }
    database.snapshot().unwrap();
}

fn mix(database: &Database<Ledger>, times: usize, value: u64) {
    for _ in 0..times {
        database.execute(Mix(value)).unwrap();
    }
}

fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

/// Makes two copies of a history of six commands. Each continues with three rounds and a value of
/// its own.
fn two_copies(path: &Path, copy: &Path) {
    let database = builder().open(path).unwrap();
    round(&database);
    database.close().unwrap();
    copy_directory(path, copy);
    for (path, value) in [(path, 50), (copy, 60)] {
        let database = builder().open(path).unwrap();
        for _ in 0..3 {
            database.execute(Mix(value)).unwrap();
            round(&database);
        }
        database.close().unwrap();
    }
}

#[test]
fn a_snapshot_of_another_copy_is_passed_over() {
    let ((_one, path), (_other, copy)) = (temporary(), temporary());
    two_copies(&path, &copy);
    let foreign = path.join("archive/00000000000000000013.snapshot");
    std::fs::copy(copy.join("archive/00000000000000000013.snapshot"), &foreign).unwrap();
    let database = builder().open(&path).unwrap();
    let history = database.history();
    for sequence in [13, 15] {
        let then = history.at(sequence).unwrap();
        let mut right = Ledger::default();
        (0..sequence / 7).for_each(|_| right.mix(50));
        assert_eq!((then.sequence(), then.mixed), (sequence, right.mixed));
    }
    let damaged = history.damaged_snapshots();
    assert_eq!(damaged.len(), 1);
    assert_eq!(damaged[0].path, foreign);
    assert!(damaged[0].reason.contains("chain"), "{}", damaged[0].reason);
    drop(history);
    database.close().unwrap();
    let error = verify_history::<Ledger>(&path).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { path, .. } if *path == foreign), "{error}");
}

#[test]
fn an_archive_of_another_copy_is_not_believed() {
    let ((_one, path), (_other, copy)) = (temporary(), temporary());
    let database = builder().open(&path).unwrap();
    round(&database);
    database.close().unwrap();
    copy_directory(&path, &copy);
    for (path, value) in [(&path, 50), (&copy, 60)] {
        let database = builder().open(path).unwrap();
        mix(&database, 2, value);
        database.snapshot().unwrap();
        mix(&database, 2, value);
        (0..3).for_each(|_| round(&database));
        database.close().unwrap();
    }
    let foreign = path.join("archive/00000000000000000007.archive");
    std::fs::copy(copy.join("archive/00000000000000000007.archive"), &foreign).unwrap();
    let database = builder().open(&path).unwrap();
    let history = database.history();
    // The snapshot at 8 is ours; what follows it is not.
    let mut right = Ledger::default();
    (0..2).for_each(|_| right.mix(50));
    assert_eq!(history.at(8).unwrap().mixed, right.mixed);
    let error = history.at(10).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { path, .. } if *path == foreign), "{error}");
    assert_eq!(history.damaged_snapshots(), []);
    drop(history);
    database.close().unwrap();
    let error = verify_history::<Ledger>(&path).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { path, .. } if *path == foreign), "{error}");
}

#[test]
fn an_archive_in_the_midst_of_another_is_told() {
    let ((_one, path), (_other, copy)) = (temporary(), temporary());
    let database = builder().open(&path).unwrap();
    round(&database);
    database.close().unwrap();
    copy_directory(&path, &copy);
    let database = builder().open(&path).unwrap();
    let mut other = builder().open(&copy).unwrap();
    mix(&database, 2, 50);
    // So much that the next run begins a segment of its own.
    for _ in 0..2 {
        other.execute(Carry(vec![6; 20 << 10])).unwrap();
    }
    other.close().unwrap();
    other = builder().open(&copy).unwrap(); // its next segment begins with 9
    for database in [database, other] {
        (0..3).for_each(|_| round(&database));
        database.close().unwrap();
    }
    let foreign = path.join("archive/00000000000000000009.archive");
    assert!(!foreign.exists() && path.join("archive/00000000000000000007.archive").exists());
    std::fs::copy(copy.join("archive/00000000000000000009.archive"), &foreign).unwrap();
    let database = builder().open(&path).unwrap();
    assert_eq!(database.history().at(7).unwrap().sequence(), 7);
    let error = database.history().at(10).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { path, .. } if *path == foreign), "{error}");
}

#[test]
fn a_snapshot_of_another_copy_at_the_end_is_no_answer_either() {
    let ((_one, path), (_other, copy)) = (temporary(), temporary());
    let database = builder().open(&path).unwrap();
    database.execute(Mix(1)).unwrap();
    database.close().unwrap();
    copy_directory(&path, &copy);
    let other = builder().open(&copy).unwrap();
    mix(&other, 3, 60);
    let taken = other.snapshot().unwrap().path;
    other.close().unwrap();
    let between = SystemTime::now();
    let database = builder().open(&path).unwrap();
    mix(&database, 3, 50);
    std::fs::copy(&taken, path.join("snapshots").join(taken.file_name().unwrap())).unwrap();
    let history = database.history();
    assert_eq!(history.at_time(between).unwrap().sequence(), 1);
    assert_eq!(history.damaged_snapshots().len(), 1);
}

#[test]
fn a_snapshot_of_another_copy_amid_a_batch_is_passed_over() {
    let ((_one, path), (_other, copy)) = (temporary(), temporary());
    let database = builder().open(&path).unwrap();
    database.execute(Mix(1)).unwrap();
    database.close().unwrap();
    copy_directory(&path, &copy);
    let database = builder().open(&path).unwrap();
    let amid = |sequence: &u64| matches!(database.at(*sequence), Err(AtError::AmidBatch { .. }));
    let mut found = None;
    for _ in 0..100 {
        let pending: Vec<_> = (0..50).map(|_| database.submit(Mix(50)).unwrap()).collect();
        pending.into_iter().for_each(|pending| assert!(pending.wait().is_ok()));
        found = (2..database.sequence()).find(amid);
        if found.is_some() {
            break;
        }
    }
    let sequence = found.expect("while a batch is synced, others gather");
    let other = builder().open(&copy).unwrap();
    mix(&other, sequence as usize - 1, 60);
    let taken = other.snapshot().unwrap().path;
    std::fs::copy(&taken, path.join("snapshots").join(taken.file_name().unwrap())).unwrap();
    let history = database.history();
    let mut right = Ledger::default();
    right.mix(1);
    (1..sequence).for_each(|_| right.mix(50));
    assert_eq!(history.at(sequence).unwrap().mixed, right.mixed);
    right.mix(50);
    assert_eq!(history.at(sequence + 1).unwrap().mixed, right.mixed);
    assert_eq!(history.damaged_snapshots().len(), 1);
}

#[test]
fn a_stored_state_can_be_had_though_what_follows_it_is_lost() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    (0..4).for_each(|_| round(&database));
    let file = path.join("archive/00000000000000000013.archive");
    let sound = std::fs::read(&file).unwrap();
    for is_lost in [false, true] {
        match is_lost {
            true => std::fs::remove_file(&file).unwrap(),
            false => damage(&file),
        }
        let history = database.history();
        assert_eq!(history.at(12).unwrap().sequence(), 12);
        let error = history.at(13).unwrap_err();
        let told = match &error {
            Error::Corrupt { path, .. } => !is_lost && *path == file,
            Error::Missing { path, .. } => is_lost && *path == file,
            _ => false,
        };
        assert!(told, "{error}");
        std::fs::write(&file, &sound).unwrap();
    }
    assert_eq!(database.history().at(13).unwrap().sequence(), 13);
}

#[test]
fn an_archive_that_reaches_beyond_the_journal_is_an_error_at_open() {
    let ((_one, path), (_other, backup)) = (temporary(), temporary());
    let database = builder().open(&path).unwrap();
    round(&database);
    database.execute(Mix(1)).unwrap();
    database.backup(&backup).unwrap();
    (0..3).for_each(|_| round(&database));
    database.close().unwrap();
    copy_directory(&path.join("archive"), &backup.join("archive"));
    // Once the last archive begins behind the journal's begin, once it only ends there.
    let mut archives: Vec<_> = common::content(&backup).into_keys().collect();
    archives.retain(|path| path.extension().is_some_and(|found| found == "archive"));
    while let Some(last) = archives.pop() {
        let last = backup.join(last);
        std::fs::File::create(backup.join("LOCK")).unwrap();
        let before = common::content(&backup);
        let told = |error: Error| match error {
            Error::ArchiveBeyondJournal { path, end, journal } => {
                assert!(path == last && end >= journal, "{} {end}", path.display());
                assert_eq!(journal, 8);
                true
            }
            other => panic!("{other}"),
        };
        match builder().open(&backup) {
            Err(error) => assert!(told(error)),
            Ok(database) => {
                assert!(archives.is_empty(), "only what is before the journal may stay");
                assert_eq!(database.history().at(7).unwrap().sequence(), 7);
                return;
            }
        }
        assert!(told(verify_history::<Ledger>(&backup).unwrap_err()));
        assert_eq!(common::content(&backup), before, "nothing was changed");
        std::fs::remove_file(&last).unwrap();
    }
    builder().open(&backup).unwrap();
}

#[test]
fn lost_files_are_not_a_history_that_begins_later() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    (0..4).for_each(|_| round(&database));
    database.close().unwrap();
    let oldest = path.join("archive/00000000000000000001.archive");
    let kept = std::fs::read(&oldest).unwrap();
    std::fs::remove_file(&oldest).unwrap();
    let report = verify_history::<Ledger>(&path).unwrap();
    assert_eq!((report.begins, report.snapshots_unreachable, report.divergence), (6, 1, None));
    let database = builder().open(&path).unwrap();
    let error = database.history().at(3).unwrap_err();
    assert!(matches!(error, Error::HistoryTruncated { wanted: 3, oldest: 6, .. }), "{error}");
    // What stands there is still told.
    assert_eq!(database.history().at(0).unwrap().sequence(), 0);
    database.close().unwrap();
    std::fs::write(&oldest, kept).unwrap();
    let report = verify_history::<Ledger>(&path).unwrap();
    assert_eq!((report.begins, report.snapshots_unreachable, report.divergence), (0, 0, None));
    let listed = path.join("snapshots/00000000000000000024.snapshot");
    std::fs::remove_file(&listed).unwrap();
    let error = verify_history::<Ledger>(&path).unwrap_err();
    assert!(matches!(&error, Error::Missing { path, .. } if *path == listed), "{error}");
}

#[test]
fn the_sequence_that_is_named_as_the_oldest_can_be_reached() {
    let (_directory, path) = temporary();
    let open = || builder().retention(Retention::Truncate).keep_snapshots(2);
    let database = open().open(&path).unwrap();
    round(&database);
    let old = database.history();
    (0..2).for_each(|_| round(&database));
    // What a history ends with it keeps, whatever goes.
    assert_eq!(old.at(6).unwrap().sequence(), 6);
    assert_eq!(old.at_time(SystemTime::now()).unwrap().sequence(), 6);
    let error = old.at(3).unwrap_err();
    assert!(matches!(error, Error::HistoryTruncated { wanted: 3, oldest: 6, .. }), "{error}");
    let error = old.records(..).unwrap_err();
    assert!(matches!(error, Error::HistoryTruncated { wanted: 1, oldest: 7, .. }), "{error}");
    let history = database.history();
    let error = history.at(5).unwrap_err();
    assert!(matches!(error, Error::HistoryTruncated { oldest: 12, .. }), "{error}");
    damage(&path.join("snapshots/00000000000000000012.snapshot"));
    let error = history.at(5).unwrap_err();
    assert!(matches!(error, Error::HistoryTruncated { oldest: 18, .. }), "{error}");
    assert_eq!(history.at(18).unwrap().sequence(), 18);
}

#[test]
fn the_ends_of_sequences_and_times() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let history = database.history();
    for count in [
        history.records(..).unwrap().count(),
        history.records(u64::MAX..).unwrap().count(),
        history.records(..=u64::MAX).unwrap().count(),
        history.records((Excluded(u64::MAX), Unbounded)).unwrap().count(),
    ] {
        assert_eq!(count, 0);
    }
    let long_ago = SystemTime::UNIX_EPOCH - Duration::from_secs(1 << 33);
    let far_off = SystemTime::UNIX_EPOCH + Duration::from_secs(i64::MAX as u64);
    for time in [long_ago, far_off] {
        assert_eq!(history.at_time(time).unwrap().sequence(), 0);
    }
    let mut times = Vec::new();
    for value in 0..20 {
        database.execute(Mix(value)).unwrap();
        times.push(database.view().time());
        if value % 5 == 4 {
            database.snapshot().unwrap();
        }
    }
    let history = database.history();
    let until = |time: SystemTime| times.iter().filter(|one| **one <= time).count() as u64;
    for time in times.iter().flat_map(|time| [*time, *time - Duration::from_nanos(1)]) {
        assert_eq!(history.at_time(time).unwrap().sequence(), until(time));
    }
    assert_eq!(history.at_time(long_ago).unwrap().sequence(), 0);
    assert_eq!(history.at_time(far_off).unwrap().sequence(), 20);
    assert_eq!(history.records(20..=u64::MAX).unwrap().count(), 1);
    assert_eq!(history.records(21..).unwrap().count(), 0);
    assert_eq!(history.records((Excluded(18), Excluded(20))).unwrap().count(), 1);
    assert!(matches!(history.at(21), Err(Error::NotReached { .. })));
    assert!(matches!(database.at(u64::MAX), Err(AtError::NotYet { .. })));
}

#[test]
fn a_fork_may_panic_and_look_around() {
    quiet_panics();
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    database.execute(Mix(1)).unwrap();
    let panics = std::panic::AssertUnwindSafe(|| {
        database.what_if(|sandbox| {
            sandbox.execute(Mix(2)).unwrap();
            std::panic::panic_any("on purpose")
        })
    });
    std::panic::catch_unwind(panics).unwrap_err();
    let other = database.clone();
    let sequences = database.what_if(|sandbox| {
        sandbox.execute(Mix(2)).unwrap();
        other.execute(Mix(3)).unwrap();
        let inner = other.what_if(|sandbox| {
            sandbox.execute(Mix(9)).unwrap();
            sandbox.sequence()
        });
        other.snapshot().unwrap();
        assert_eq!(other.history().at(1).unwrap().changes, 1);
        (sandbox.sequence(), inner)
    });
    assert_eq!((sequences, database.sequence()), ((2, 3), 2));
    assert_eq!(database.execute(Mix(4)).unwrap(), 3);
}

//! Backups by copying files: whole and of what is new, closed and beside a program.

use std::collections::BTreeMap;
use std::path::Path;

use prevalence::inspect::{Depth, verify};
use prevalence::rescue::{BackupHistory, BackupReport, backup};
use prevalence::{Database, Error, Retention, SnapshotPolicy, verify_history};

use crate::common::{
    Add, Carry, Ledger, Mix, bytes, content, copy_directory, keeping_history, temporary,
};
use crate::{check_opens, filled, newest_batches, records, unchanged};

fn back_up(path: &Path, target: &Path, history: BackupHistory) -> Result<BackupReport, Error> {
    backup(path, target, history, |_| {})
}

/// Opens a copy of a backup, so that the backup stays as it is. Returns its state.
fn state_of(backup: &Path, sequence: u64) -> Vec<u8> {
    let copy = backup.with_extension("opened");
    std::fs::remove_dir_all(&copy).ok();
    copy_directory(backup, &copy);
    let opened = Database::<Ledger>::open(&copy).unwrap();
    assert_eq!(opened.sequence(), sequence);
    bytes(&opened)
}

#[test]
fn a_closed_database_is_copied_with_and_without_its_history() {
    for (retention, history, is_whole) in [
        (Retention::Archive, BackupHistory::With, true),
        (Retention::Archive, BackupHistory::Without, false),
        (Retention::Truncate, BackupHistory::With, false),
        (Retention::Truncate, BackupHistory::Without, false),
    ] {
        let (directory, path) = temporary();
        let oracle = filled(&path, retention);
        let target = directory.path().join("backup");
        let report = unchanged(&path, || back_up(&path, &target, history).unwrap());
        assert_eq!((report.sequence, &report.path), (oracle.newest(), &target));
        assert!(report.copied_files > 0 && report.copied_bytes > 0);
        assert!(verify(&target, Depth::Deep, |_| {}).unwrap().is_sound());
        if is_whole {
            assert_eq!(report.oldest, Some(1));
            assert_eq!(records(&target, 1).len() as u64, oracle.newest());
            assert_eq!(verify_history::<Ledger>(&target).unwrap().divergence, None);
        } else if history == BackupHistory::Without {
            assert_eq!(report.oldest, Some(report.snapshot + 1));
        }
        // Nothing is new.
        let before = content(&target);
        let again = back_up(&path, &target, history).unwrap();
        assert_eq!((again.copied_files, again.copied_commands), (0, 0));
        assert_eq!(again.sequence, report.sequence);
        assert_eq!(content(&target).keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
        check_opens(&target, &oracle, oracle.newest());
    }
}

#[test]
fn only_what_is_new_is_copied_while_the_database_lives() {
    for history in [BackupHistory::With, BackupHistory::Without] {
        let (directory, path) = temporary();
        let target = directory.path().join("backup");
        let mut states = BTreeMap::new();
        let mut most = 0;
        let mut total = 0;
        for round in 0..24_u64 {
            let database = keeping_history::<Ledger>().open(&path).unwrap();
            let mut work = |count: u64| {
                for value in 0..count {
                    database.execute(Mix(round * 100 + value)).unwrap();
                    states.insert(database.sequence(), bytes(&database));
                    database.execute(Carry(vec![round as u8; 9 << 10])).unwrap();
                    states.insert(database.sequence(), bytes(&database));
                }
            };
            work(round % 5);
            if round % 3 == 1 {
                database.snapshot().unwrap();
            }
            work(2);
            let is_open = round % 2 == 0;
            let (report, database) = match is_open {
                true => (back_up(&path, &target, history).unwrap(), Some(database)),
                false => {
                    database.close().unwrap();
                    (back_up(&path, &target, history).unwrap(), None)
                }
            };
            // The files of an open database state one batch less.
            let newest = *states.keys().last().unwrap();
            assert!((newest - u64::from(is_open)..=newest).contains(&report.sequence));
            assert!(state_of(&target, report.sequence) == states[&report.sequence]);
            assert!(verify(&target, Depth::Deep, |_| {}).unwrap().is_sound());
            if history == BackupHistory::With {
                let stored: Vec<_> = records(&target, 1).iter().map(|it| it.sequence).collect();
                assert_eq!(stored, (1..=report.sequence).collect::<Vec<_>>());
            }
            most = most.max(report.copied_commands);
            total = report.sequence;
            drop(database);
        }
        assert!(most * 4 < total, "{most} of {total} at once");
    }
}

#[test]
fn an_open_database_copies_itself_with_all_that_was_acknowledged() {
    let (directory, path) = temporary();
    let target = directory.path().join("backup");
    let database = keeping_history::<Ledger>().open(&path).unwrap();
    for round in 0..6 {
        for value in 0..20 {
            database.execute(Add { account: value, amount: i64::from(value) + round }).unwrap();
        }
        if round % 2 == 0 {
            database.snapshot().unwrap();
        }
        let report = database.backup_with_history(&target).unwrap();
        assert_eq!((report.sequence, report.oldest), (database.sequence(), Some(1)));
        assert!(state_of(&target, report.sequence) == bytes(&database));
    }
    database.close().unwrap();
    assert_eq!(verify_history::<Ledger>(&target).unwrap().divergence, None);
    // That of a database in memory is on the disk.
    let memory = Database::<Ledger>::in_memory().unwrap();
    memory.execute(Mix(4)).unwrap();
    let target = directory.path().join("of-memory");
    assert_eq!(memory.backup_with_history(&target).unwrap().sequence, 1);
    assert!(state_of(&target, 1) == bytes(&memory));
}

#[test]
fn a_busy_program_is_copied_again_and_again() {
    let (directory, path) = temporary();
    let target = directory.path().join("backup");
    let database = Database::<Ledger>::builder()
        .segment_bytes(64 << 10)
        .snapshots(SnapshotPolicy::every_commands(60))
        .keep_snapshots(1)
        .retention(Retention::Archive)
        .open(&path)
        .unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                database.execute(Mix(7)).unwrap();
                database.execute(Carry(vec![1; 2 << 10])).unwrap();
            }
        });
        let mut last = 0;
        for _ in 0..12 {
            let report = back_up(&path, &target, BackupHistory::With).unwrap();
            assert!(report.sequence >= last);
            last = report.sequence;
            let mut model = Ledger::default();
            for number in 1..=last {
                if number % 2 == 1 { model.mix(7) } else { model.changes += 1 }
            }
            assert!(state_of(&target, last) == model.bytes());
            assert!(verify(&target, Depth::Quick, |_| {}).unwrap().is_sound());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn what_is_no_backup_of_this_database_is_not_touched() {
    let (directory, path) = temporary();
    let oracle = filled(&path, Retention::Archive);
    let target = directory.path().join("backup");
    back_up(&path, &target, BackupHistory::With).unwrap();

    // Something else is there.
    let other = directory.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("thesis.txt"), "all of it").unwrap();
    let error = unchanged(&other, || back_up(&path, &other, BackupHistory::With).unwrap_err());
    assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
    for inside in [path.clone(), path.join("backup"), directory.path().to_path_buf()] {
        let error = back_up(&path, &inside, BackupHistory::With).unwrap_err();
        assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
    }
    let foreign = directory.path().join("foreign");
    keeping_history::<Ledger>().open(&foreign).unwrap().close().unwrap();
    let error = unchanged(&foreign, || back_up(&path, &foreign, BackupHistory::With).unwrap_err());
    assert!(matches!(error, Error::ForeignFile { .. }), "{error}");
    // A program has the copy open.
    let opened = keeping_history::<Ledger>().open(&target).unwrap();
    let error = back_up(&path, &target, BackupHistory::With).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    // It writes into the copy: that is another history, and further than the original.
    opened.execute(Mix(1)).unwrap();
    opened.close().unwrap();
    let error = unchanged(&target, || back_up(&path, &target, BackupHistory::With).unwrap_err());
    assert!(matches!(error, Error::OtherHistory { .. }), "{error}");
    let database = keeping_history::<Ledger>().open(&path).unwrap();
    for value in 0..3 {
        database.execute(Mix(value)).unwrap();
    }
    database.close().unwrap();
    let error = unchanged(&target, || back_up(&path, &target, BackupHistory::With).unwrap_err());
    assert!(matches!(error, Error::OtherHistory { .. }), "{error}");
    // The original is damaged.
    let (segment, batches) = newest_batches(&path);
    let mut damaged = std::fs::read(&segment).unwrap();
    damaged[batches.last().unwrap().0 + 40] ^= 1;
    std::fs::write(&segment, damaged).unwrap();
    let new = directory.path().join("new");
    let error = back_up(&path, &new, BackupHistory::With).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(oracle.newest() > 0 && Database::<Ledger>::open(&new).is_ok());
}

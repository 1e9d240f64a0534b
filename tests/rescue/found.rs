//! What a review has found: damage, places and histories that were taken for something else.

use std::path::Path;

use prevalence::rescue::{
    BackupHistory, LossKind, Point, backup, plan_repair, replace, restore_to,
};
use prevalence::{Database, Error, Retention, SnapshotPolicy};

use crate::common::{
    Carry, Ledger, Mix, bytes, content, copy_directory, keeping_history, temporary,
};
use crate::{filled, newest_batches, records};

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn files(path: &Path, directory: &str, suffix: &str) -> Vec<std::path::PathBuf> {
    let mut names: Vec<_> = content(path).into_keys().collect();
    names.retain(|it| it.starts_with(directory) && it.extension().is_some_and(|it| it == suffix));
    names.into_iter().map(|name| path.join(name)).collect()
}

/// Makes more commands, and a snapshot.
fn go_on(path: &Path, commands: u64) {
    let database = keeping_history::<Ledger>().open(path).unwrap();
    for value in 0..commands {
        database.execute(Mix(value)).unwrap();
    }
    database.snapshot().unwrap();
    database.close().unwrap();
}

#[test]
fn a_damaged_original_never_takes_the_place_of_a_good_backup() {
    for (directory, suffix) in [("snapshots", "snapshot"), ("archive", "archive")] {
        let (temporary, path) = temporary();
        filled(&path, Retention::Archive);
        let target = temporary.path().join("backup");
        let back_up = || backup(&path, &target, BackupHistory::With, |_| {});
        let good = back_up().unwrap().sequence;
        go_on(&path, 9);
        let damaged = files(&path, directory, suffix).pop().unwrap();
        let length = std::fs::read(&damaged).unwrap().len();
        flip(&damaged, length / 2);
        for _ in 0..2 {
            let error = back_up().unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        }
        let copy = temporary.path().join("opened");
        copy_directory(&target, &copy);
        let opened = Database::<Ledger>::open(&copy).unwrap();
        assert!(opened.sequence() >= good);
        drop(opened);
        // Also the running program sees it.
        if directory == "archive" {
            let database = keeping_history::<Ledger>().open(&path).unwrap();
            let error = database.backup_with_history(&target).unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        }
    }
}

#[test]
fn no_name_of_the_original_is_another_place() {
    let (directory, path) = temporary();
    filled(&path, Retention::Archive);
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let detour = directory.path().join("missing/../ledger.db/inside");
    let before = content(&path);
    for target in [link.clone(), link.join("inside"), detour, path.join("inside")] {
        for history in [BackupHistory::With, BackupHistory::Without] {
            let error = backup(&path, &target, history, |_| {}).unwrap_err();
            assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
        }
        let error = restore_to(&path, &target, Point::Newest, |_| {}).unwrap_err();
        assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
        let plan = plan_repair(&path, |_| {}).unwrap();
        let error = plan.carry_out(&target, |_| {}).unwrap_err();
        assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
    }
    let mut after = content(&path);
    after.retain(|name, _| before.contains_key(name));
    assert!(after == before);
    // A slash at the end means nothing.
    let slash = std::path::PathBuf::from(format!("{}/", path.display()));
    assert_eq!(plan_repair(&slash, |_| {}).unwrap().path(), path);
}

#[test]
fn a_batch_that_the_segment_before_still_holds_is_not_lost() {
    let (_directory, path) = temporary();
    let open =
        || Database::<Ledger>::builder().snapshots(SnapshotPolicy::manual()).open(&path).unwrap();
    let database = open();
    for value in 0..8 {
        // So much that the next run does not copy all of it.
        database.execute(Carry(vec![value; 60 << 10])).unwrap();
    }
    let state = bytes(&database);
    // A process kill right after the last answer: nothing states that the last batch is durable.
    let killed = path.with_extension("killed");
    copy_directory(&path, &killed);
    drop(database);
    let segment = crate::common::segments(&killed).pop().unwrap();
    let mut cut = std::fs::read(&segment).unwrap();
    let (last, _) = *crate::batches(&cut).last().unwrap();
    let length = u32::from_le_bytes(cut[last + 4..last + 8].try_into().unwrap()) as usize;
    let end = last + (36 + length).next_multiple_of(8);
    cut[end..].fill(0); // the marker behind it
    std::fs::write(&segment, cut).unwrap();
    let database =
        Database::<Ledger>::builder().snapshots(SnapshotPolicy::manual()).open(&killed).unwrap();
    assert_eq!(database.recovery().commands_rewritten, 1);
    let again = killed.with_extension("again");
    copy_directory(&killed, &again);
    drop(database);
    let newest = crate::common::segments(&again).pop().unwrap();
    assert!(newest.ends_with("00000000000000000008.journal"), "{newest:?}");
    flip(&newest, 20);
    let plan = plan_repair(&again, |_| {}).unwrap();
    assert_eq!((plan.sequence(), plan.is_newest_exact()), (8, false));
    let target = again.with_extension("repaired");
    plan.carry_out(&target, |_| {}).unwrap();
    assert!(bytes(&Database::<Ledger>::open(&target).unwrap()) == state);
}

#[test]
fn nothing_is_certain_of_the_end_behind_damage_in_a_database_that_was_not_closed() {
    let (_directory, path) = temporary();
    let database =
        Database::<Ledger>::builder().snapshots(SnapshotPolicy::manual()).open(&path).unwrap();
    for value in 0..40 {
        database.execute(Mix(value)).unwrap();
    }
    let killed = path.with_extension("killed");
    copy_directory(&path, &killed);
    drop(database);
    let segment = crate::common::segments(&killed).pop().unwrap();
    flip(&segment, 20);
    let plan = plan_repair(&killed, |_| {}).unwrap();
    assert_eq!((plan.sequence(), plan.is_newest_exact()), (0, false));
    assert!(plan.is_needed());
}

#[test]
fn a_gap_in_the_history_of_a_restored_copy_is_told() {
    let (directory, path) = temporary();
    let oracle = filled(&path, Retention::Archive);
    let archives = files(&path, "archive", "archive");
    let length = std::fs::read(&archives[1]).unwrap().len();
    flip(&archives[1], length / 2);
    let target = directory.path().join("restored");
    let copied = restore_to(&path, &target, Point::Newest, |_| {}).unwrap();
    assert_eq!(copied.sequence, oracle.newest());
    let lost: u64 = copied.missing_history.iter().map(|it| it.end() - it.start() + 1).sum();
    assert!(lost > 0, "{:?}", copied.missing_history);
    let plan = plan_repair(&path, |_| {}).unwrap();
    let told: Vec<_> = plan.losses().iter().map(|it| it.sequences.clone()).collect();
    assert_eq!(copied.missing_history, told);
    assert!(plan.losses().iter().all(|it| it.kind == LossKind::History));
}

#[test]
fn a_snapshot_of_another_history_is_not_used() {
    let (directory, path) = temporary();
    let database = keeping_history::<Ledger>().open(&path).unwrap();
    for value in 0..10 {
        database.execute(Mix(value)).unwrap();
    }
    database.snapshot().unwrap();
    database.close().unwrap();
    let other = directory.path().join("other.db");
    copy_directory(&path, &other);
    for (path, factor) in [(&path, 1), (&other, 7)] {
        let database = keeping_history::<Ledger>().open(path).unwrap();
        for value in 0..10 {
            database.execute(Mix(value * factor + 1)).unwrap();
        }
        database.snapshot().unwrap();
        database.execute(Mix(factor)).unwrap();
        database.close().unwrap();
    }
    let opened = Database::<Ledger>::open(&path).unwrap();
    let state = bytes(&opened);
    opened.close().unwrap();
    let snapshot = "snapshots/00000000000000000020.snapshot";
    std::fs::copy(other.join(snapshot), path.join(snapshot)).unwrap();
    let plan = plan_repair(&path, |_| {}).unwrap();
    assert!(plan.is_needed() && !plan.unreadable().is_empty());
    let target = directory.path().join("repaired");
    plan.carry_out(&target, |_| {}).unwrap();
    assert!(bytes(&Database::<Ledger>::open(&target).unwrap()) == state);
}

#[test]
fn a_manifest_of_another_time_is_damage() {
    let (directory, path) = temporary();
    go_on(&path, 5);
    let old = std::fs::read(path.join("MANIFEST")).unwrap();
    let database =
        Database::<Ledger>::builder().snapshots(SnapshotPolicy::manual()).open(&path).unwrap();
    for value in 0..5 {
        database.execute(Mix(value)).unwrap();
    }
    let state = bytes(&database);
    database.close().unwrap();
    std::fs::write(path.join("MANIFEST"), old).unwrap();
    Database::<Ledger>::open(&path).unwrap_err();
    let plan = plan_repair(&path, |_| {}).unwrap();
    assert!(plan.is_needed() && !plan.unreadable().is_empty(), "{plan:?}");
    let target = directory.path().join("repaired");
    assert_eq!(plan.carry_out(&target, |_| {}).unwrap().sequence, 10);
    assert!(bytes(&Database::<Ledger>::open(&target).unwrap()) == state);
}

#[test]
fn what_the_journal_holds_before_the_snapshot_stays() {
    let (directory, path) = temporary();
    let database = keeping_history::<Ledger>().keep_snapshots(2).open(&path).unwrap();
    for value in 0..20 {
        database.execute(Mix(value)).unwrap();
        if value == 9 {
            database.snapshot().unwrap();
        }
    }
    database.close().unwrap();
    assert!(!path.join("archive").exists());
    let restored = directory.path().join("restored");
    restore_to(&path, &restored, Point::Sequence(15), |_| {}).unwrap();
    let repaired = directory.path().join("repaired");
    plan_repair(&path, |_| {}).unwrap().carry_out(&repaired, |_| {}).unwrap();
    for (copy, newest) in [(&restored, 15), (&repaired, 20)] {
        let stored: Vec<_> = records(copy, 1).iter().map(|it| it.sequence).collect();
        assert_eq!(stored, (1..=newest).collect::<Vec<_>>());
    }
}

#[test]
fn two_histories_are_not_mixed_in_one_backup() {
    let (directory, path) = temporary();
    go_on(&path, 30);
    go_on(&path, 30);
    let target = directory.path().join("backup");
    backup(&path, &target, BackupHistory::With, |_| {}).unwrap();
    let other = directory.path().join("other.db");
    restore_to(&path, &other, Point::Sequence(20), |_| {}).unwrap();
    let database = keeping_history::<Ledger>().open(&other).unwrap();
    for value in 0..120 {
        database.execute(Carry(vec![value; 3 << 10])).unwrap();
        if value % 40 == 39 {
            database.snapshot().unwrap();
        }
    }
    database.close().unwrap();
    let error = backup(&other, &target, BackupHistory::With, |_| {}).unwrap_err();
    assert!(matches!(error, Error::OtherHistory { .. }), "{error}");
    for archive in files(&other, "archive", "archive") {
        let first: u64 = archive.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        if first < 70 {
            std::fs::remove_file(archive).unwrap();
        }
    }
    let before = content(&target);
    let error = backup(&other, &target, BackupHistory::With, |_| {}).unwrap_err();
    assert!(matches!(error, Error::OtherHistory { .. }), "{error}");
    assert!(content(&target) == before);
}

#[test]
fn neither_of_two_directories_that_are_exchanged_may_be_open() {
    let (directory, path) = temporary();
    filled(&path, Retention::Archive);
    let new = directory.path().join("new.db");
    restore_to(&path, &new, Point::Sequence(20), |_| {}).unwrap();
    for open in [&path, &new] {
        let database = keeping_history::<Ledger>().open(open).unwrap();
        let error = replace(&path, &new).unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "{error}");
        database.execute(Mix(1)).unwrap();
        database.close().unwrap();
    }
    let old = replace(&path, &new).unwrap();
    assert_eq!(Database::<Ledger>::open(&path).unwrap().sequence(), 21);
    assert!(!newest_batches(&old).1.is_empty());
}

#[test]
fn whoever_may_not_read_the_original_may_not_read_a_copy() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, path) = temporary();
    filled(&path, Retention::Archive);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    let target = |name: &str| directory.path().join(name);
    backup(&path, target("backup"), BackupHistory::With, |_| {}).unwrap();
    restore_to(&path, target("restored"), Point::Newest, |_| {}).unwrap();
    plan_repair(&path, |_| {}).unwrap().carry_out(target("repaired"), |_| {}).unwrap();
    for name in ["backup", "restored", "repaired"] {
        let mode = std::fs::metadata(target(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{name}");
    }
}

#[test]
fn an_archive_of_a_later_time_is_no_part_of_a_backup() {
    let (directory, path) = temporary();
    filled(&path, Retention::Archive);
    let early = directory.path().join("early");
    copy_directory(&path, &early);
    // The program goes on elsewhere, and archives what the early copy does not have.
    let database = keeping_history::<Ledger>().segment_bytes(64 << 10).open(&path).unwrap();
    for round in 0..40 {
        database.execute(Carry(vec![round; 9 << 10])).unwrap();
        if round % 7 == 6 {
            database.snapshot().unwrap();
        }
    }
    database.close().unwrap();
    let later = files(&path, "archive", "archive").pop().unwrap();
    std::fs::copy(&later, early.join("archive").join(later.file_name().unwrap())).unwrap();
    let error = Database::<Ledger>::open(&early).unwrap_err();
    assert!(matches!(error, Error::ArchiveBeyondJournal { .. }), "{error}");

    let target = directory.path().join("with");
    let error = backup(&early, &target, BackupHistory::With, |_| {}).unwrap_err();
    assert!(
        error.to_string().contains(&later.file_name().unwrap().display().to_string()),
        "{error}"
    );
    assert!(!target.join("MANIFEST").exists(), "a copy that cannot be opened was finished");
    // Without the history, it can be opened.
    let target = directory.path().join("without");
    let done = backup(&early, &target, BackupHistory::Without, |_| {}).unwrap();
    assert_eq!(Database::<Ledger>::open(&target).unwrap().sequence(), done.sequence);
}

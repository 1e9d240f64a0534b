//! Compactions of an archive: what reads it finds the same commands as before.

use std::path::{Path, PathBuf};

use prevalence::inspect::{Depth, Inspection, verify};
use prevalence::rescue::{
    BackupHistory, Compaction, CompactionReport, Point, backup, compact_archive, plan_repair,
    restore_to,
};
use prevalence::{Database, Error, PurgeAction, Retention, purge, verify_history};

use crate::common::{Carry, Ledger, Mix, bytes, content, keeping_history, temporary};
use crate::{check_opens, filled, records};

fn compact(path: &Path) -> Result<CompactionReport, Error> {
    compact_archive(path, &Compaction::default(), |_| {})
}

fn archives(path: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = content(path).into_keys().collect();
    names.retain(|it| it.extension().is_some_and(|it| it == "archive"));
    names.into_iter().map(|name| path.join(name)).collect()
}

/// Everything that is stored of each command, but for its file.
fn stored(path: &Path) -> Vec<(u64, std::time::SystemTime, String, u16, Vec<u8>)> {
    let records = records(path, 1).into_iter();
    records.map(|it| (it.sequence, it.time, it.metadata.actor, it.tag, it.command)).collect()
}

fn check_sound(path: &Path) {
    let done = verify(path, Depth::Deep, |_| {}).unwrap();
    assert!(done.findings.is_empty(), "{:#?}", done.findings);
    assert_eq!(verify_history::<Ledger>(path).unwrap().divergence, None);
}

#[test]
fn a_compacted_archive_has_the_same_commands_in_one_file() {
    let (_directory, path) = temporary();
    let oracle = filled(&path, Retention::Archive);
    let (before, all) = (archives(&path), stored(&path));
    let other = |path: &Path| {
        let mut files = content(path);
        files.retain(|name, _| name.extension().is_none_or(|it| it != "archive"));
        files
    };
    let others = other(&path);
    let mut told = Vec::new();
    let done = compact_archive(&path, &Compaction::default(), |it| told.push(it)).unwrap();
    assert_eq!((done.archives_before, done.archives), (before.len() as u64, 1));
    assert!(before.len() > 3, "{before:?}");
    assert_eq!(archives(&path), [before[0].clone()]);
    assert_eq!(done.bytes, std::fs::metadata(&before[0]).unwrap().len());
    let last = told.last().unwrap();
    assert_eq!((last.done_bytes, last.total_bytes), (2 * done.bytes_before, 2 * done.bytes_before));
    assert!(other(&path) == others, "something else was changed");
    assert!(stored(&path) == all, "the commands are not the same");
    check_sound(&path);

    // Nothing is left to do, and nothing is written.
    let files = content(&path);
    let again = compact(&path).unwrap();
    assert_eq!((again.archives, again.written, again.bytes), (1, 0, done.bytes));
    assert!(content(&path) == files);
    // But every file can be packed anew.
    let repacked =
        compact_archive(&path, &Compaction::default().repacks(true).compression_level(0), |_| {});
    assert_eq!(repacked.unwrap().written, 1);
    assert!(content(&path) != files);
    assert!(stored(&path) == all);
    check_sound(&path);
    check_opens(&path, &oracle, oracle.newest());
}

#[test]
fn whatever_reads_the_history_reads_a_compacted_one() {
    let (directory, path) = temporary();
    let oracle = filled(&path, Retention::Archive);
    compact(&path).unwrap();
    let archived = Inspection::open(&path).unwrap().archives()[0].last_sequence.unwrap();
    for sequence in [1, archived / 2, archived - 1, archived, archived + 1] {
        let target = directory.path().join(format!("at {sequence}"));
        restore_to(&path, &target, Point::Sequence(sequence), |_| {}).unwrap();
        check_opens(&target, &oracle, sequence);
    }
    // The program archives behind it, and what is new is merged later.
    let database = keeping_history::<Ledger>().segment_bytes(64 << 10).open(&path).unwrap();
    for sequence in [1, archived / 3, archived] {
        let view = database.history().at(sequence).unwrap();
        assert!(view.bytes() == oracle.state(sequence), "not the state at {sequence}");
    }
    assert!(matches!(compact(&path), Err(Error::Locked { .. })));
    for round in 0..40 {
        database.execute(Carry(vec![round; 9 << 10])).unwrap();
        if round % 7 == 6 {
            database.snapshot().unwrap();
        }
    }
    let state = bytes(&database);
    database.close().unwrap();
    let all = stored(&path);
    assert!(archives(&path).len() > 1);
    compact(&path).unwrap();
    assert_eq!(archives(&path).len(), 1);
    assert!(stored(&path) == all);
    check_sound(&path);

    // A purge rewrites it.
    let report = purge::<Ledger>(&path, |record| match record.command::<Carry>() {
        Some(_) if record.sequence() == 2 || record.sequence() == archived => PurgeAction::Redact,
        _ => PurgeAction::Keep,
    })
    .unwrap();
    assert!(report.redacted <= 2);
    check_sound(&path);
    compact(&path).unwrap();
    check_sound(&path);
    if report.redacted == 0 {
        assert!(bytes(&Database::<Ledger>::open(&path).unwrap()) == state);
    }
}

#[test]
fn a_backup_takes_over_what_was_compacted_on_either_side() {
    let (directory, path) = temporary();
    filled(&path, Retention::Archive);
    let target = directory.path().join("backup");
    let back_up = || backup(&path, &target, BackupHistory::With, |_| {}).unwrap();
    back_up();
    let all = stored(&path);
    let many = archives(&target).len();

    // The copy was compacted: nothing is copied again.
    compact(&target).unwrap();
    assert_eq!(back_up().copied_files, 0);
    assert_eq!(archives(&target).len(), 1);
    assert!(stored(&target) == all);
    check_sound(&target);

    // The original was compacted, too. Then it grows, and archives more.
    assert!(compact(&path).unwrap().archives_before == many as u64);
    assert_eq!(back_up().copied_files, 0);
    let database = keeping_history::<Ledger>().segment_bytes(64 << 10).open(&path).unwrap();
    for round in 0..30 {
        database.execute(Carry(vec![round; 9 << 10])).unwrap();
        if round % 7 == 6 {
            database.snapshot().unwrap();
        }
    }
    database.close().unwrap();
    back_up();
    let (all, apart) = (stored(&path), archives(&target).len());
    assert!(apart > 1 && stored(&target) == all);
    check_sound(&target);

    // Now it is one file there, which takes the place of several.
    compact(&path).unwrap();
    assert_eq!(back_up().copied_files, 1);
    assert_eq!(archives(&target).len(), 1);
    assert!(stored(&target) == all);
    check_sound(&target);
}

#[test]
fn damage_in_a_compacted_archive_costs_only_what_it_hits() {
    let (directory, path) = temporary();
    let oracle = filled(&path, Retention::Archive);
    compact_archive(&path, &Compaction::default().compression_level(0), |_| {}).unwrap();
    let archive = archives(&path).remove(0);
    let mut damaged = std::fs::read(&archive).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 8;
    std::fs::write(&archive, damaged).unwrap();
    let error = compact_archive(&path, &Compaction::default().repacks(true), |_| {}).unwrap_err();
    assert!(error.to_string().contains(&archive.display().to_string()), "{error}");

    let plan = plan_repair(&path, |_| {}).unwrap();
    let lost: u64 = plan.losses().iter().map(|it| it.count()).sum();
    assert!((1..oracle.newest() / 2).contains(&lost), "{lost} lost");
    let repaired = directory.path().join("repaired");
    plan.carry_out(&repaired, |_| {}).unwrap();
    check_opens(&repaired, &oracle, oracle.newest());
}

#[test]
fn bad_input_changes_nothing() {
    let (directory, path) = temporary();
    let missing = compact(&path).unwrap_err();
    assert!(matches!(missing, Error::Missing { .. }), "{missing}");
    assert!(!path.exists());
    let foreign = directory.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("letter"), "of somebody").unwrap();
    assert!(matches!(compact(&foreign), Err(Error::Missing { .. })));
    let error = compact(&foreign.join("letter")).unwrap_err();
    assert!(error.to_string().contains("letter"), "{error}");
    assert_eq!(std::fs::read(foreign.join("letter")).unwrap(), b"of somebody");

    // A database without an archive.
    let database = Database::<Ledger>::open(&path).unwrap();
    database.execute(Mix(1)).unwrap();
    database.close().unwrap();
    let before = content(&path);
    let done = compact(&path).unwrap();
    assert_eq!((done.archives_before, done.archives, done.bytes), (0, 0, 0));
    assert!(content(&path) == before);
    for how in [
        Compaction::default().content_bytes(0),
        Compaction::default().content_bytes(u64::MAX),
        Compaction::default().compression_level(99),
    ] {
        let error = compact_archive(&path, &how, |_| {}).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { .. }), "{error}");
    }

    // An archive that stands elsewhere.
    let linked = directory.path().join("linked");
    filled(&linked, Retention::Archive);
    let archive = archives(&linked).remove(1);
    let elsewhere = directory.path().join("elsewhere");
    std::fs::rename(&archive, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &archive).unwrap();
    let error = compact(&linked).unwrap_err();
    assert!(matches!(&error, Error::UnknownFile { path } if *path == archive), "{error}");
    assert!(elsewhere.exists());
}

//! History and its files: what is archived meanwhile, damaged, missing, truncated.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use prevalence::{ArchivedSnapshots, Database, Error, Phase, Retention};

use super::{builder, fill_a_segment};
use crate::common::{self, Carry, Ledger, Mix, temporary};

/// Executes some `Carry` and a `Mix` of that value, then takes a snapshot, which makes one more
/// archive. Adds the states.
fn one_archive(database: &Database<Ledger>, value: u64, states: &mut Vec<Vec<u8>>) {
    for _ in 0..6 {
        database.execute(Carry(vec![7; 10 << 10])).unwrap();
        states.push(database.view().bytes());
    }
    database.execute(Mix(value)).unwrap();
    states.push(database.view().bytes());
    database.snapshot().unwrap();
}

/// Makes four archives, four archived snapshots and a segment. Returns the states.
fn four_archives(path: &Path) -> Vec<Vec<u8>> {
    let database = builder().open(path).unwrap();
    let mut states = vec![database.view().bytes()];
    (0..4).for_each(|round| one_archive(&database, round, &mut states));
    database.close().unwrap();
    states
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    paths.sort();
    paths
}

fn archives(database: &Path) -> Vec<PathBuf> {
    files(&database.join("archive"), "archive")
}

fn archived_snapshots(database: &Path) -> Vec<u64> {
    let sequence = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    files(&database.join("archive"), "snapshot").iter().map(sequence).collect()
}

#[test]
fn what_is_archived_while_it_is_read_is_found_where_it_went() {
    let large = || builder().segment_bytes(4 << 20);
    for retention in [Retention::Archive, Retention::Truncate] {
        let (_directory, path) = temporary();
        let database = large().retention(retention).open(&path).unwrap();
        for number in 0..40u8 {
            database.execute(Carry(vec![number; 100 << 10])).unwrap();
        }
        let history = database.history();
        let mut records = history.records(..).unwrap();
        // Into a segment of 2 MiB, which is cut off in steps when it goes.
        for sequence in 1..=19 {
            assert_eq!(records.next().unwrap().unwrap().sequence(), sequence);
        }
        database.snapshot().unwrap();
        database.execute(Mix(1)).unwrap(); // beyond what was asked for
        let rest: Result<Vec<_>, Error> = records.collect();
        if retention == Retention::Truncate {
            let error = rest.err().unwrap();
            assert!(matches!(error, Error::HistoryTruncated { oldest, .. } if oldest > 1));
            continue;
        }
        assert!(!archives(&path).is_empty() && !common::segments(&path)[0].ends_with("1.journal"));
        let rest = rest.unwrap();
        for (record, number) in rest.iter().zip(19u8..) {
            assert_eq!(record.sequence(), u64::from(number) + 1);
            assert_eq!(record.command::<Carry>().unwrap().unwrap().0[0], number);
        }
        assert_eq!(rest.len(), 21);
    }
}

#[test]
fn states_are_read_while_commands_and_snapshots_go_on() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let other = database.clone();
    let writer = std::thread::spawn(move || {
        for round in 0..30 {
            other.execute(Carry(vec![7; 20 << 10])).unwrap();
            (0..5).for_each(|value| drop(other.execute(Mix(value)).unwrap().to_string()));
            if round % 5 == 4 {
                other.snapshot().unwrap();
            }
        }
    });
    let mut reads = 0;
    while !writer.is_finished() {
        let history = database.history();
        for sequence in [history.newest() / 3, history.newest() / 2, history.newest()] {
            let then = history.at(sequence).unwrap();
            assert_eq!((then.sequence(), then.changes), (sequence, sequence));
        }
        let records = history.records(history.newest() / 2..).unwrap();
        assert!(
            records.map(Result::unwrap).last().is_none_or(|r| r.sequence() == history.newest())
        );
        reads += 1;
    }
    writer.join().unwrap();
    assert!(reads > 0);
}

#[test]
fn sequences_that_are_not_there_are_told() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    database.execute(Mix(1)).unwrap();
    let history = database.history();
    database.execute(Mix(2)).unwrap();
    let error = history.at(2).unwrap_err();
    assert!(matches!(error, Error::NotReached { wanted: 2, newest: 1 }), "{error}");
    assert_eq!(history.records(..).unwrap().count(), 1, "it ends where it was asked for");
    assert_eq!(database.history().at(2).unwrap().changes, 2);
    assert_eq!((history.newest(), history.oldest_record().unwrap()), (1, 1));
}

#[test]
fn a_truncated_history_names_the_oldest_it_reaches() {
    let (_directory, path) = temporary();
    let database = builder().retention(Retention::Truncate).open(&path).unwrap();
    let early = std::time::SystemTime::now();
    fill_a_segment(&database);
    let oldest = database.snapshot().unwrap().sequence;
    database.execute(Mix(2)).unwrap();
    let history = database.history();
    let told = history.at(2).unwrap_err();
    assert!(
        matches!(told, Error::HistoryTruncated { wanted: 2, oldest: o, .. } if o == oldest),
        "{told}"
    );
    let told = history.at_time(early).unwrap_err();
    assert!(matches!(told, Error::TimeTruncated { oldest: o, .. } if o == oldest), "{told}");
    assert_eq!(history.at(oldest).unwrap().changes, 6);
    let stored = history.oldest_record().unwrap();
    assert!(stored > 1);
    let told = history.records(..).unwrap_err();
    assert!(
        matches!(told, Error::HistoryTruncated { wanted: 1, oldest: o, .. } if o == stored),
        "{told}"
    );
    assert_eq!(history.records(stored..).unwrap().count() as u64, 8 - stored);
    let told = history.replay_as::<Ledger>().unwrap_err();
    assert!(matches!(told, Error::HistoryTruncated { wanted: 1, .. }), "{told}");
}

#[test]
fn damage_in_the_archive_is_an_error_that_names_the_file() {
    let (_directory, path) = temporary();
    four_archives(&path);
    let damaged = archives(&path)[1].clone();
    let sound = std::fs::read(&damaged).unwrap();
    for at in (0..sound.len()).step_by(97).chain([sound.len() - 1]) {
        for cut in [false, true] {
            let mut bytes = sound.clone();
            if cut {
                bytes.truncate(at)
            } else {
                bytes[at] ^= 4
            }
            std::fs::write(&damaged, bytes).unwrap();
            // A header is read by every open, the rest only by whoever needs it.
            let read = builder().open(&path).and_then(|database| {
                database.history().records(..)?.collect::<Result<Vec<_>, _>>()
            });
            match read.unwrap_err() {
                Error::Corrupt { path, .. } | Error::UnsupportedFormat { path, .. } => {
                    assert_eq!(path, damaged)
                }
                other => panic!("{other}"),
            }
        }
    }
    std::fs::write(&damaged, sound).unwrap();
    let database = builder().open(&path).unwrap();
    assert_eq!(database.history().records(..).unwrap().count(), 28);
}

#[test]
fn a_missing_archive_is_an_error_that_names_both_sides() {
    let (_directory, path) = temporary();
    let states = four_archives(&path);
    let all = archives(&path);
    std::fs::remove_file(&all[1]).unwrap();
    let database = builder().open(&path).unwrap();
    let history = database.history();
    let told = history.records(..).unwrap().find_map(Result::err).unwrap().to_string();
    for file in &all[..3] {
        assert!(told.contains(file.to_str().unwrap()), "{told}");
    }
    let reachable: Vec<_> = (0..states.len() as u64).map(|s| history.at(s).is_ok()).collect();
    assert!(reachable[28] && reachable[0] && reachable.contains(&false));
    for (sequence, _) in reachable.iter().enumerate().filter(|(_, reachable)| !**reachable) {
        let error = history.at(sequence as u64).unwrap_err();
        assert!(matches!(error, Error::Missing { .. }), "{error}");
    }
}

#[test]
fn an_archive_of_another_history_is_noticed() {
    let (_directory, path) = temporary();
    four_archives(&path);
    let (_other_directory, other) = temporary();
    four_archives(&other);
    std::fs::copy(&archives(&other)[1], &archives(&path)[1]).unwrap();
    let database = builder().open(&path).unwrap();
    let told = database.history().records(..).unwrap().find_map(Result::err).unwrap();
    assert!(matches!(told, Error::ForeignFile { .. }), "{told}");
}

/// A copy that was used separately has the same identity, and files with the same names.
#[test]
fn an_archive_of_a_copy_that_went_on_by_itself_is_noticed() {
    let (_directory, path) = temporary();
    four_archives(&path);
    let (_copy_directory, copy) = temporary();
    common::copy_directory(&path, &copy);
    for (database, value) in [(&path, 50), (&copy, 60)] {
        let database = builder().open(database).unwrap();
        (0..3).for_each(|_| one_archive(&database, value, &mut Vec::new()));
        database.close().unwrap();
    }
    let (ours, theirs) = (archives(&path), archives(&copy));
    let last = ours.len() - 1;
    assert_eq!(ours[last].file_name(), theirs[last].file_name());
    let sound = std::fs::read(&ours[last]).unwrap();
    std::fs::copy(&theirs[last], &ours[last]).unwrap();
    let told = |path| {
        let database = builder().open(path).unwrap();
        database.history().records(..).unwrap().find_map(Result::err)
    };
    match told(&path).unwrap() {
        Error::Corrupt { path, position: 76, expected, .. } => {
            assert!(path == ours[last] && expected.contains(ours[last - 1].to_str().unwrap()));
        }
        other => panic!("{other}"),
    }
    std::fs::write(&ours[last], sound).unwrap();
    assert!(told(&path).is_none());
}

#[test]
fn a_damaged_snapshot_costs_time_and_is_reported() {
    let (_directory, path) = temporary();
    let states = four_archives(&path);
    let [_, _, damaged, _] = &files(&path.join("archive"), "snapshot")[..] else { panic!() };
    let mut bytes = std::fs::read(damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(damaged, bytes).unwrap();
    let database = builder().open(&path).unwrap();
    let history = database.history();
    assert_eq!(history.at(15).unwrap().bytes(), states[15]);
    let noted = history.damaged_snapshots();
    assert_eq!(noted.len(), 1);
    assert_eq!(&noted[0].path, damaged);
    // Nothing older, and nothing to replay from.
    for snapshot in &files(&path.join("archive"), "snapshot")[..2] {
        std::fs::write(snapshot, "no snapshot").unwrap();
    }
    let error = history.at(15).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[test]
fn superseded_snapshots_are_archived_as_was_asked_for() {
    for (archived, expected) in [
        (ArchivedSnapshots::All, vec![0, 6, 12, 18]),
        (ArchivedSnapshots::EveryCommands(12), vec![0, 12]),
        (ArchivedSnapshots::FirstOnly, vec![0]),
    ] {
        let (_directory, path) = temporary();
        let database = builder().archive_snapshots(archived).open(&path).unwrap();
        for _ in 0..4 {
            fill_a_segment(&database);
            database.snapshot().unwrap();
        }
        assert_eq!(archived_snapshots(&path), expected, "{archived:?}");
        let kept = files(&path.join("snapshots"), "snapshot");
        assert_eq!(kept.len(), 1, "{archived:?}");
    }
}

#[test]
fn progress_is_told_in_commands() {
    let (_directory, path) = temporary();
    four_archives(&path);
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = told.clone();
    let database = builder().open(&path).unwrap();
    let history = database.history().on_progress(move |progress| {
        seen.lock().unwrap().push((progress.phase, progress.done, progress.total));
    });
    history.at(17).unwrap();
    let told = told.lock().unwrap();
    let snapshot = told[1];
    assert_eq!(told[0], (Phase::Snapshot, 0, snapshot.2));
    assert_eq!(told[2..], [(Phase::History, 0, 3), (Phase::History, 3, 3)]);
}

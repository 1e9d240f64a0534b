//! History and its files: what is archived meanwhile, damaged, missing, truncated; and other models
//! over the same commands.

mod common;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use common::{Add, Carry, Ledger, Mix, Stamp, temporary};
use prevalence::{
    ArchivedSnapshots, Command, Context, Database, Error, Metadata, Model, Phase, Retention,
    SnapshotPolicy,
};
use serde::{Deserialize, Serialize};

fn builder() -> prevalence::Builder<Ledger> {
    Database::<Ledger>::builder()
        .segment_bytes(64 << 10)
        .keep_snapshots(1)
        .snapshots(SnapshotPolicy::manual())
        .retention(Retention::Archive)
}

/// Commands of about 60 KiB together: a segment is left for the next one.
fn fill_a_segment(database: &Database<Ledger>) {
    for _ in 0..6 {
        database.execute(Carry(vec![7; 10 << 10])).unwrap();
    }
}

/// Four archives, four archived snapshots and a segment. Gives the states.
fn four_archives(path: &Path) -> Vec<Vec<u8>> {
    let database = builder().open(path).unwrap();
    let mut states = vec![database.view().bytes()];
    for round in 0..4 {
        for value in 0..7 {
            match value {
                6 => drop(database.execute(Mix(round)).unwrap().to_string()),
                _ => drop(database.execute(Carry(vec![7; 10 << 10])).unwrap().to_string()),
            }
            states.push(database.view().bytes());
        }
        database.snapshot().unwrap();
    }
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
        assert_eq!(records.next().unwrap().unwrap().sequence(), 1);
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
        for (record, number) in rest.iter().zip(1u8..) {
            assert_eq!(record.sequence(), u64::from(number) + 1);
            assert_eq!(record.command::<Carry>().unwrap().unwrap().0[0], number);
        }
        assert_eq!(rest.len(), 39);
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
    let told = history.project::<Ledger>().unwrap_err();
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

/// What came in, by caller: a model that nobody thought of at first.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Callers {
    commands: imbl::OrdMap<String, u64>,
    stamps: Vec<common::Stamped>,
}

impl Model for Callers {
    type Event = ();
}

impl Callers {
    fn count(&mut self, cx: &Context<'_, Self>) {
        *self.commands.entry(cx.metadata().actor).or_default() += 1;
    }
}

macro_rules! counted {
    ($command:ty) => {
        impl Command<Callers> for $command {
            type Output = ();
            type Rejection = ();
            fn apply(self, callers: &mut Callers, cx: &mut Context<'_, Callers>) -> Result<(), ()> {
                callers.count(cx);
                Ok(())
            }
        }
    };
}

counted!(Add);
counted!(Carry);

impl Command<Callers> for Stamp {
    type Output = ();
    type Rejection = ();
    fn apply(self, callers: &mut Callers, cx: &mut Context<'_, Callers>) -> Result<(), ()> {
        callers.stamps.push(common::Stamped {
            sequence: cx.sequence(),
            now: cx.now(),
            random: (cx.random(), cx.random()),
            actor: cx.metadata().actor,
        });
        Ok(())
    }
}

impl Command<Callers> for Mix {
    type Output = ();
    type Rejection = ();
    fn apply(self, _: &mut Callers, _: &mut Context<'_, Callers>) -> Result<(), ()> {
        if self.0 == 13 { Err(()) } else { Ok(()) }
    }
}

prevalence::commands! { Callers { 1 => Add, 3 => Stamp, 4 => Carry, 5 => Mix } }

/// As `Callers`, for who counts nothing but additions.
mod additions {
    use super::*;
    #[derive(Clone, Default, Serialize, Deserialize)]
    pub struct Additions(pub u64);
    impl Model for Additions {
        type Event = ();
    }
    impl Command<Additions> for Add {
        type Output = ();
        type Rejection = ();
        fn apply(
            self,
            additions: &mut Additions,
            _: &mut Context<'_, Additions>,
        ) -> Result<(), ()> {
            additions.0 += 1;
            Ok(())
        }
    }
    prevalence::commands! { Additions { 1 => Add } }

    #[derive(Clone, Default, Serialize, Deserialize)]
    pub struct Renumbered;
    impl Model for Renumbered {
        type Event = ();
    }
    impl Command<Renumbered> for Add {
        type Output = ();
        type Rejection = ();
        fn apply(self, _: &mut Renumbered, _: &mut Context<'_, Renumbered>) -> Result<(), ()> {
            Ok(())
        }
    }
    prevalence::commands! { Renumbered { 5 => Add } }
}

#[test]
fn another_model_is_projected_from_the_same_commands() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let mut stamps = Vec::new();
    for actor in ["ann", "bob", "ann"] {
        let metadata = Metadata { actor: actor.to_owned(), ..Metadata::default() };
        let caller = database.with_metadata(&metadata).unwrap();
        fill_a_segment(&caller);
        caller.execute(Add { account: 1, amount: 1 }).unwrap();
        stamps.push(caller.execute(Stamp).unwrap());
        database.snapshot().unwrap();
    }
    let history = database.history();
    // On another thread, as nothing may depend on it.
    let callers = std::thread::scope(|scope| {
        scope.spawn(|| history.project::<Callers>().unwrap()).join().unwrap()
    });
    assert_eq!(callers.sequence(), 24);
    assert_eq!(callers.time(), database.view().time());
    assert_eq!(callers.commands["ann"], 14);
    assert_eq!(callers.commands["bob"], 7);
    assert_eq!(callers.stamps, stamps);

    let told = history.project::<additions::Additions>().unwrap_err();
    assert!(
        matches!(&told, Error::UnknownTag { sequence: 1, tag: 4, command, .. } if command == "Carry"),
        "{told}"
    );
    let (additions, skipped) = history.project_listed(additions::Additions(100)).unwrap();
    assert_eq!((additions.0, skipped, additions.sequence()), (103, 21, 24));

    database.execute(Mix(13)).unwrap();
    let told = database.history().project::<Callers>().unwrap_err();
    assert!(
        matches!(&told, Error::ProjectionFailed { sequence: 25, model, .. } if model == "Callers"),
        "{told}"
    );
    // The segment's table says what tag 5 means, whether such a command is in it or not.
    let told = database.history().project_listed(additions::Renumbered).unwrap_err();
    assert!(matches!(told, Error::RenumberedTag { tag: 5, .. }), "{told}");
}

/// A release that has forgotten `Stamp`.
mod later {
    use super::*;
    #[derive(Clone, Default, Serialize, Deserialize)]
    pub struct Ledger(common::Ledger);
    impl Model for Ledger {
        type Event = ();
    }
    macro_rules! ignored {
        ($($command:ty),*) => { $(impl Command<Ledger> for $command {
            type Output = ();
            type Rejection = ();
            fn apply(self, _: &mut Ledger, _: &mut Context<'_, Ledger>) -> Result<(), ()> {
                Ok(())
            }
        })* };
    }
    ignored!(Add, Carry, Mix);
    prevalence::commands! { Ledger { 1 => Add, 4 => Carry, 5 => Mix } }
}

#[test]
fn a_removed_command_that_is_still_archived_is_an_error_at_open() {
    for stamped in [false, true] {
        let (_directory, path) = temporary();
        let database = builder().open(&path).unwrap();
        fill_a_segment(&database);
        if stamped {
            database.execute(Stamp).unwrap();
        }
        fill_a_segment(&database);
        database.snapshot().unwrap();
        database.close().unwrap();
        let before = common::content(&path);
        let opened = Database::<later::Ledger>::open(&path);
        match opened.err() {
            None => assert!(!stamped),
            Some(Error::UnknownTag { path: file, sequence, tag, command }) => {
                assert!(stamped && archives(&path).contains(&file));
                assert_eq!((sequence, tag, command.as_str()), (7, 3, "Stamp"));
                assert_eq!(common::content(&path), before, "nothing was changed");
            }
            Some(other) => panic!("{other}"),
        }
    }
}

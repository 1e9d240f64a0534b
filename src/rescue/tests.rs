//! Tests backups, repairs and restores on a simulated disk that crashes or fails at every point.

mod compact;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::held_files::HeldFiles;
use super::restore::{How, restore_with};
use super::{BackupHistory, BackupReport, Point, simulated};
use crate::collections::Map;
use crate::options::Options;
use crate::recovery::{read_whole, recover};
use crate::storage::simulated::{
    Fate, Fault, FaultKind, Operation, Random, SimulatedDisk, State, Target, choices,
};
use crate::storage::{Disk, HeldDisk, ReadOnlyDisk, Storage, is_temporary};
use crate::{Command, Context, Database, Error, Model, Retention, SnapshotPolicy};

const PATH: &str = "/data/shelf.db";
const COPY: &str = "/copies/shelf.db";

/// What may fail.
const TARGETS: [Target; 7] = [
    Target::Write,
    Target::Sync,
    Target::SyncDirectory,
    Target::Rename,
    Target::Remove,
    Target::Create,
    Target::Read,
];

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Shelf(Map<u64, Vec<u8>>);

impl Model for Shelf {
    type Event = ();
}

impl Shelf {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        crate::codec::encode_stream(self, &mut bytes).unwrap();
        bytes
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Put(u64, Vec<u8>);

impl Command<Shelf> for Put {
    type Output = ();
    type Rejection = ();

    fn apply(self, shelf: &mut Shelf, _: &mut Context<'_, Shelf>) -> Result<(), ()> {
        shelf.0.insert(self.0, self.1);
        Ok(())
    }
}

crate::commands! { Shelf { 1 => Put } }

fn options() -> Options {
    Options {
        segment_bytes: 8 << 10,
        keep_snapshots: 1,
        retention: Retention::Archive,
        snapshots: SnapshotPolicy::manual(),
        ..Options::default()
    }
}

fn open(disk: &SimulatedDisk, path: &str) -> Database<Shelf> {
    let progress = &mut (Box::new(|_| {}) as _);
    let storage = Arc::new(disk.clone());
    Database::open_with(storage, Path::new(path), options(), Shelf::default, progress).unwrap()
}

/// The encoded model, by sequence.
type States = BTreeMap<u64, Vec<u8>>;

/// Executes commands, with snapshots between them.
fn work(disk: &SimulatedDisk, rounds: std::ops::Range<u64>, states: &mut States) {
    let shelf = open(disk, PATH);
    states.insert(shelf.sequence(), shelf.query(Shelf::bytes));
    for round in rounds {
        for number in 0..4 {
            shelf.execute(Put(round * 2 + number, vec![round as u8; 600])).unwrap();
            states.insert(shelf.sequence(), shelf.query(Shelf::bytes));
        }
        if round % 2 == 1 {
            shelf.snapshot().unwrap();
        }
    }
    shelf.close().unwrap();
}

/// Makes everything on the disk durable.
fn settled(state: &State) -> State {
    let units = state.units();
    let fates = vec![Fate::New; units.len()];
    state.after_power_cut(&units, &fates, &mut Random::new(1))
}

fn back_up(disk: &SimulatedDisk, history: BackupHistory) -> Result<BackupReport, Error> {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    simulated::back_up(&storage, Path::new(PATH), Path::new(COPY), history)
}

/// Opens the copy on a disk. Returns the sequence that it has come to, or `None` if it says that it
/// is not finished.
fn opened(image: State, seed: u64, states: &States) -> Option<u64> {
    let disk = SimulatedDisk::new(image, seed, false);
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    match recover(&storage, Path::new(COPY), &options(), Shelf::default, &mut |_| {}) {
        Ok(recovered) => {
            let sequence = recovered.version.sequence;
            let bytes = recovered.version.model.bytes();
            assert!(states[&sequence] == bytes, "not the state at {sequence}");
            Some(sequence)
        }
        Err(Error::Missing { path, .. }) if path.ends_with("MANIFEST") => None,
        Err(error) => panic!("{error}\n{:#?}", disk.state().files()),
    }
}

/// Looks at every image that a crash during a backup may leave. An open of it gives `before` or
/// what comes later, and if the backup is repeated, it comes to its end. Returns how many images
/// were at each sequence.
fn walk(
    start: &State,
    log: &[Operation],
    history: BackupHistory,
    (before, after): (u64, u64),
    states: &States,
) -> BTreeMap<Option<u64>, usize> {
    let mut random = Random::new(3);
    let (mut known, mut found) = (HashSet::new(), BTreeMap::new());
    let mut state = start.clone();
    for operation in log {
        state.apply(operation);
        let units = state.units();
        let cuts = choices(&units, &mut random);
        let cuts: Vec<_> =
            cuts.iter().map(|fates| state.after_power_cut(&units, fates, &mut random)).collect();
        for image in cuts.into_iter().chain([state.after_kill()]) {
            if !known.insert(image.fingerprint())
                || (cfg!(debug_assertions) && known.len() > 40 && !random.once_in(6))
            {
                continue;
            }
            let sequence = opened(image.clone(), random.next(), states);
            // Before the first backup has made its mark, there is nothing in the directory.
            let is_empty = before == 0 && sequence == Some(0);
            let is_good = match sequence {
                None => before == 0,
                Some(sequence) => is_empty || (before.max(1)..=after).contains(&sequence),
            };
            assert!(is_good, "{sequence:?} is not from {before} to {after}");
            *found.entry(sequence).or_default() += 1;
            let disk = SimulatedDisk::new(image, random.next(), false);
            back_up(&disk, history).unwrap();
            assert_eq!(opened(disk.state(), 1, states), Some(after));
        }
    }
    found
}

#[test]
fn a_crash_during_a_backup_leaves_the_last_one_and_it_can_be_repeated() {
    for history in [BackupHistory::With, BackupHistory::Without] {
        let mut states = States::new();
        let disk = SimulatedDisk::new(State::empty(), 1, false);
        work(&disk, 0..5, &mut states);
        let start = settled(&disk.state());
        let disk = SimulatedDisk::new(start.clone(), 2, true);
        let first = back_up(&disk, history).unwrap();
        let log = disk.take_log();
        let found = walk(&start, &log, history, (0, first.sequence), &states);
        println!("first: {found:?}");
        assert!(found[&None] > 10 && found[&Some(first.sequence)] > 0, "{found:?}");

        let start = settled(&disk.state());
        let disk = SimulatedDisk::new(start, 3, false);
        work(&disk, 5..9, &mut states);
        let start = settled(&disk.state());
        let disk = SimulatedDisk::new(start.clone(), 2, true);
        let second = back_up(&disk, history).unwrap();
        let log = disk.take_log();
        let range = (first.sequence, second.sequence);
        let found = walk(&start, &log, history, range, &states);
        println!("second: {found:?}");
        assert!(found[&Some(range.0)] > 5 && found[&Some(range.1)] > 0, "{found:?}");
    }
}

#[test]
fn a_failure_during_a_backup_leaves_the_last_one_and_it_can_be_repeated() {
    let mut states = States::new();
    let disk = SimulatedDisk::new(State::empty(), 1, false);
    work(&disk, 0..5, &mut states);
    let first = back_up(&disk, BackupHistory::With).unwrap().sequence;
    work(&disk, 5..8, &mut states);
    let start = settled(&disk.state());
    let disk = SimulatedDisk::new(start.clone(), 2, false);
    let second = back_up(&disk, BackupHistory::With).unwrap().sequence;
    let mut failures = 0;
    for target in TARGETS {
        for after in (0..).step_by(if cfg!(debug_assertions) { 3 } else { 1 }) {
            let disk = SimulatedDisk::new(start.clone(), 7, false);
            disk.plan(Fault { target, after, kind: FaultKind::Error(5) });
            let done = back_up(&disk, BackupHistory::With);
            if disk.faults_fired() == 0 {
                done.unwrap();
                break;
            }
            failures += 1;
            disk.cancel_faults();
            let sequence = opened(disk.state(), 1, &states).unwrap();
            assert!((first..=second).contains(&sequence), "{target:?} {after}");
            assert_eq!(back_up(&disk, BackupHistory::With).unwrap().sequence, second);
            assert_eq!(opened(disk.state(), 1, &states), Some(second));
        }
    }
    assert!(failures > 50, "{failures}");
}

/// A restore or a repair of the database on a disk.
type Making = fn(&Arc<dyn Storage>) -> Result<u64, Error>;

fn restore(storage: &Arc<dyn Storage>) -> Result<u64, Error> {
    let how = (Point::Sequence(13), false);
    let copied = simulated::restore(storage, Path::new(PATH), Path::new(COPY), how)?;
    Ok(copied.sequence)
}

fn repair(storage: &Arc<dyn Storage>) -> Result<u64, Error> {
    let plan = simulated::plan(storage, Path::new(PATH))?;
    Ok(simulated::repair(&plan, storage, Path::new(COPY))?.sequence)
}

/// Returns how many half-made copies are on a disk.
fn locked_copies(state: &State) -> usize {
    let is_lock = |path: &&String| {
        path.starts_with("/copies/.prevalence-") && path.ends_with("/.prevalence-copying.tmp")
    };
    state.files().keys().filter(is_lock).count()
}

#[test]
fn a_crash_during_a_restore_or_a_repair_leaves_all_or_nothing() {
    let mut states = States::new();
    let disk = SimulatedDisk::new(State::empty(), 1, false);
    work(&disk, 0..5, &mut states);
    let start = settled(&disk.state());
    for (making, sequence) in [(restore as Making, 13), (repair, 20)] {
        let disk = SimulatedDisk::new(start.clone(), 2, true);
        let storage: Arc<dyn Storage> = Arc::new(disk.clone());
        assert_eq!(making(&storage).unwrap(), sequence);
        let (mut state, mut random) = (start.clone(), Random::new(5));
        let (mut known, mut found) = (HashSet::new(), [0; 2]);
        for operation in disk.take_log() {
            state.apply(&operation);
            let units = state.units();
            let fates = choices(&units, &mut random);
            let cuts = fates.iter().map(|it| state.after_power_cut(&units, it, &mut random));
            for image in cuts.collect::<Vec<_>>().into_iter().chain([state.after_kill()]) {
                let is_there = image.find(Path::new(COPY)).is_some();
                if !known.insert(image.fingerprint()) {
                    continue;
                }
                if is_there {
                    assert_eq!(opened(image.clone(), 1, &states), Some(sequence));
                }
                found[usize::from(is_there)] += 1;
                let disk = SimulatedDisk::new(image, 9, false);
                let storage: Arc<dyn Storage> = Arc::new(disk.clone());
                let (_, version) =
                    read_whole::<Shelf>(&storage, Path::new(PATH), &options()).unwrap();
                assert!(version.model.bytes() == states[&20], "the original was changed");
                match making(&storage) {
                    Ok(_) => assert!(!is_there),
                    Err(error) => assert!(is_there && matches!(error, Error::NotEmpty { .. })),
                }
            }
        }
        // All states of the temporary directory are alike.
        assert!(found[0] > 1 && found[1] > 0, "{found:?}");
    }
}

#[test]
fn what_a_killed_restore_or_repair_has_left_is_removed_by_the_next() {
    let mut states = States::new();
    let disk = SimulatedDisk::new(State::empty(), 1, false);
    work(&disk, 0..4, &mut states);
    let start = settled(&disk.state());
    for making in [restore as Making, repair] {
        let disk = SimulatedDisk::new(start.clone(), 2, true);
        making(&(Arc::new(disk.clone()) as _)).unwrap();
        let (mut state, mut half_made) = (start.clone(), 0);
        for (at, operation) in disk.take_log().iter().enumerate() {
            state.apply(operation);
            let left = locked_copies(&state.after_kill());
            if left == 0 || at % 9 > 0 {
                continue;
            }
            half_made += 1;
            let disk = SimulatedDisk::new(state.after_kill(), 9, false);
            assert!(repair(&(Arc::new(disk.clone()) as _)).is_ok());
            assert_eq!(locked_copies(&disk.state()), 0, "a half-made copy stays");
            assert_eq!(opened(disk.state(), 1, &states), Some(16));
        }
        assert!(half_made > 2, "{half_made}");
    }
}

/// Opens a shelf on the real disk.
fn on_disk(path: &Path) -> Database<Shelf> {
    let progress = &mut (Box::new(|_| {}) as _);
    Database::open_with(Arc::new(HeldDisk::default()), path, options(), Shelf::default, progress)
        .unwrap()
}

/// Executes commands and takes a snapshot, behind which segments are archived and removed.
fn busy(shelf: &Database<Shelf>) {
    for number in 0..4 {
        shelf.execute(Put(number, vec![3; 3000])).unwrap();
    }
    shelf.snapshot().unwrap();
}

#[test]
fn a_restore_reaches_its_end_while_the_program_archives_at_each_step() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shelf.db");
    let shelf = on_disk(&path);
    for _ in 0..6 {
        busy(&shelf);
    }
    let source: Arc<dyn Storage> = Arc::new(ReadOnlyDisk);
    let disk: Arc<dyn Storage> = Arc::new(Disk);
    for (name, point) in [("newest", Point::Newest), ("early", Point::Sequence(24))] {
        let held = HeldFiles::of(&source, &path);
        let look = simulated::look(&source, &path).unwrap();
        let how = How { point, accepts_gaps: false };
        let target = directory.path().join(name);
        let mut rounds = 0;
        // The program works while the copy is written: whenever a file was read or written.
        let mut works = |_| {
            let names = Disk.list(directory.path()).unwrap();
            if rounds < 12 && names.iter().any(|name| is_temporary(name)) {
                busy(&shelf);
                rounds += 1;
            }
        };
        let copied = restore_with(&held, &look, &disk, &target, how, &mut works).unwrap();
        assert!(rounds > 4, "the program was idle: {rounds}");
        let copy = on_disk(&target);
        assert_eq!(copy.sequence(), copied.sequence);
        assert!(copied.sequence >= 24 && copied.missing_history.is_empty());
        assert_eq!(copy.query(|shelf| shelf.0.len()), 4);
    }
}

#[test]
fn the_proof_of_a_copy_is_told_as_progress_too() {
    let mut states = States::new();
    let disk = SimulatedDisk::new(State::empty(), 1, false);
    work(&disk, 0..5, &mut states);
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let before: usize = disk.state().files().values().sum();
    let mut told = Vec::new();
    let plan = simulated::plan(&storage, Path::new(PATH)).unwrap();
    plan.carry_out_with(&storage, Path::new(COPY), &mut |it| told.push(it)).unwrap();
    assert!(told.windows(2).all(|two| two[0].done_bytes <= two[1].done_bytes), "{told:?}");
    let last = told.last().unwrap();
    assert_eq!(last.done_bytes, last.total_bytes, "{told:?}");
    // All of the original is less than what the proof reads: segments have their full length.
    assert!(last.done_bytes > before as u64, "{before} {told:?}");
}

//! Tests backups, repairs and restores on a simulated disk that crashes or fails at every point.

mod compact;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::backup::Copying;
use super::{BackupHistory, BackupReport, Point};
use crate::collections::Map;
use crate::inspect::{Inspection, Opener};
use crate::options::Options;
use crate::recovery::{read_whole, recover};
use crate::storage::Storage;
use crate::storage::simulated::{
    Fate, Fault, FaultKind, Operation, Random, SimulatedDisk, State, Target, choices,
};
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

fn look(storage: &Arc<dyn Storage>, path: &str) -> Result<Inspection, Error> {
    Inspection::open_with(storage.clone(), Path::new(path), |_| Opener::NobodySeen)
}

fn back_up(disk: &SimulatedDisk, history: BackupHistory) -> Result<BackupReport, Error> {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let look = look(&storage, PATH)?;
    let end = look.newest_sequence();
    let copying = Copying { source: &storage, storage: &storage, look: &look, end, history };
    copying.carry_out(Path::new(COPY), &mut |_| {})
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
    let look = look(storage, PATH)?;
    let how = super::restore::How { point: Point::Sequence(13), accepts_gaps: false };
    super::restore::restore_with(storage, &look, storage, Path::new(COPY), how, &mut |_| {})
        .map(|copied| copied.sequence)
}

fn repair(storage: &Arc<dyn Storage>) -> Result<u64, Error> {
    let plan = super::repair::plan_with(storage, Path::new(PATH), &mut |_| {})?;
    plan.carry_out_with(storage, Path::new(COPY), &mut |_| {}).map(|copied| copied.sequence)
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

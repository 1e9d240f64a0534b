//! A reader that looks after each operation of a writer on a simulated disk, and in the middle of
//! each write. It never fails and never goes back, it shows what the writer had at that sequence,
//! and no power cut takes back what it has shown.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::model::{Mix, Window, bytes_at, reader, writer};
use crate::options::Options;
use crate::storage::Storage;
use crate::storage::simulated::{Operation, Random, SimulatedDisk, State, choices};
use crate::{Database, Durability, Error, Retention, SnapshotPolicy};

const PATH: &str = "/data/mixture.db";

#[derive(Clone, Copy, Debug)]
struct How {
    durability: Durability,
    retention: Retention,
    /// Whether runs end with a kill, and not with a close.
    killed: bool,
    seed: u64,
}

fn options(how: How) -> Options {
    Options {
        durability: how.durability,
        retention: how.retention,
        segment_bytes: 8 << 10,
        keep_snapshots: 1,
        snapshots: SnapshotPolicy::manual(),
        ..Options::default()
    }
}

fn open(disk: &SimulatedDisk, how: How) -> Result<Database<super::model::Mixture>, Error> {
    writer(Arc::new(disk.clone()), Path::new(PATH), options(how))
}

/// What happened from one power-on to the next.
struct Life {
    start: State,
    log: Vec<Operation>,
    /// The values of all commands that were ever accepted by then.
    values: Vec<u64>,
}

/// One life of a disk that begins with `start`, in which `values` were accepted.
fn live(start: State, values: &mut Vec<u64>, how: How, number: u64) -> (Life, State) {
    let disk = SimulatedDisk::new(start.clone(), how.seed + number, true);
    if disk.kind(Path::new("/data")).unwrap().is_none() {
        disk.create_directory(Path::new("/data")).unwrap();
        disk.sync_directory(Path::new("/")).unwrap();
    }
    let database = open(&disk, how).unwrap();
    values.truncate(database.sequence() as usize);
    let mut random = Random::new(how.seed * 100 + number);
    for round in 0..6 {
        let count = 1 + random.below(4);
        let padding = random.pick(&[10, 400, 2_500]);
        let pending: Vec<_> = (0..count)
            .map(|_| {
                let value = values.len() as u64 * 1_000 + number;
                values.push(value);
                database.submit(Mix(value, vec![7; padding])).unwrap()
            })
            .collect();
        pending.into_iter().for_each(|pending| assert!(pending.wait().unwrap() > 0));
        if round == 3 && number > 0 {
            database.snapshot().unwrap();
        }
    }
    if how.killed {
        disk.kill(); // whatever it does from now on has no effect
        database.close().unwrap_err();
        let mut log = disk.take_log();
        // It dies between the write of a batch and its sync, so that nothing confirms that batch.
        let is_batch = |operation: &Operation| match operation {
            Operation::Write { bytes, .. } => bytes.starts_with(b"PVFR") && bytes.len() > 40,
            _ => false,
        };
        let last = log.iter().rposition(is_batch).unwrap();
        log.truncate(last + 1);
        let mut state = start.clone();
        log.iter().for_each(|operation| state.apply(operation));
        return (Life { start, log, values: values.clone() }, state);
    }
    database.close().unwrap();
    let log = disk.take_log();
    (Life { start, log, values: values.clone() }, disk.state())
}

fn frozen(state: &State) -> SimulatedDisk {
    SimulatedDisk::new(state.clone(), 1, false)
}

/// Walks along a life. Returns how many versions the reader has shown.
fn walk(life: &Life, how: How, images: &mut usize) -> usize {
    let mut state = life.start.clone();
    let mut random = Random::new(how.seed);
    let window = Window::onto(frozen(&state));
    let path = Path::new(PATH);
    let mut follower = reader(window.clone(), path).ok();
    let mut shown = BTreeSet::new();
    let mut before = 0;
    for operation in &life.log {
        for cut in halves(operation) {
            let mut half = state.clone();
            half.apply(&cut);
            window.show(frozen(&half));
            if let Some(follower) = &follower {
                follower.refresh().unwrap_or_else(|error| panic!("{how:?} {cut:?}: {error}"));
            }
        }
        state.apply(operation);
        window.show(frozen(&state));
        let Some(follower) = &follower else {
            follower = reader(window.clone(), path).ok();
            continue;
        };
        let sequence =
            follower.refresh().unwrap_or_else(|error| panic!("{how:?} {operation:?}: {error}"));
        assert!(sequence >= before, "{how:?}: from {before} back to {sequence}");
        let view = follower.view();
        assert_eq!(view.sequence(), sequence);
        assert!(view.bytes() == bytes_at(&life.values, sequence), "{how:?}: {sequence}");
        // Who opens now sees the same.
        if shown.insert(sequence) || matches!(operation, Operation::Rename { .. }) {
            let fresh = reader(window.clone(), path).unwrap();
            assert_eq!(fresh.sequence(), sequence, "{how:?} {operation:?}");
        }
        if sequence > 0 {
            power_cuts(&state, sequence, how, &mut random, images);
        }
        before = sequence;
    }
    shown.len()
}

/// The forms that a reader may see of a write that is under way.
fn halves(operation: &Operation) -> Vec<Operation> {
    let Operation::Write { file, position, bytes } = operation else { return Vec::new() };
    let lengths = BTreeSet::from([1, bytes.len() / 2, bytes.len().saturating_sub(1)]);
    let cut = |length: usize| {
        let bytes = bytes[..length].to_vec();
        Operation::Write { file: *file, position: *position, bytes }
    };
    lengths.into_iter().filter(|length| (1..bytes.len()).contains(length)).map(cut).collect()
}

/// Opens some images that a power cut may leave now: none may have lost what was shown.
fn power_cuts(state: &State, shown: u64, how: How, random: &mut Random, images: &mut usize) {
    let units = state.units();
    let mut fates = choices(&units, random);
    while fates.len() > 2 {
        let left_out = random.below(fates.len());
        fates.swap_remove(left_out);
    }
    for fates in fates {
        let image = state.after_power_cut(&units, &fates, random);
        let opened = open(&frozen(&image), how).unwrap();
        assert!(
            opened.sequence() >= shown,
            "{how:?}: {shown} was shown, and a power cut leaves {}",
            opened.sequence()
        );
        *images += 1;
    }
}

fn walk_lives(how: How) {
    let (mut state, mut values) = (State::empty(), Vec::new());
    let (mut versions, mut images) = (0, 0);
    for number in 0..3 {
        let (life, after) = live(state, &mut values, how, number);
        versions += walk(&life, how, &mut images);
        state = after;
    }
    println!("{how:?}: {versions} versions, {images} images of power cuts");
    assert!(versions > 9 && images > 100, "only {versions} versions and {images} images");
}

#[test]
fn a_reader_beside_runs_that_close() {
    let (durability, retention) = (Durability::Sync, Retention::Truncate);
    walk_lives(How { durability, retention, killed: false, seed: 1 });
}

#[test]
fn a_reader_beside_runs_that_are_killed() {
    let (durability, retention) = (Durability::Sync, Retention::Archive);
    walk_lives(How { durability, retention, killed: true, seed: 2 });
}

#[test]
fn a_reader_beside_runs_that_answer_before_they_sync() {
    let (durability, retention) = (Durability::Buffered, Retention::Truncate);
    walk_lives(How { durability, retention, killed: false, seed: 3 });
    walk_lives(How { durability, retention, killed: true, seed: 4 });
}

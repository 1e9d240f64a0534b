//! What a failure of the disk at any step leaves of a skip, a replay and a checkpoint.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::model::{Folded, Notes, Put};
use crate::files::{DatabaseId, Packing};
use crate::followers::{CheckpointOf, write_checkpoint};
use crate::mutex::lock;
use crate::options::Options;
use crate::stats::Counters;
use crate::storage::simulated::{Fault, FaultKind, Random, SimulatedDisk, State, Target, choices};
use crate::storage::{Disk, Room};
use crate::{
    Database, Error, FollowerError, FollowerOptions, FollowerState, Projection, ProjectionHandle,
    Recorded, SnapshotPolicy,
};

const LONG: Duration = Duration::from_secs(120);
const FAILS: u64 = 7;
const LAST: u64 = 12;

/// Held by the test that runs, because they share what follows.
static ALONE: Mutex<()> = Mutex::new(());

/// Whether the command with the sequence `FAILS` fails.
static FAILS_NOW: AtomicU64 = AtomicU64::new(1);

/// Fails at one command, behind what it has changed.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Failing(Folded);

impl Projection<Notes> for Failing {
    fn apply(&mut self, recorded: &Recorded<Notes>) -> Result<(), FollowerError> {
        self.0.take(recorded.sequence, &recorded.events);
        let fails = recorded.sequence == FAILS && FAILS_NOW.load(Ordering::SeqCst) == 1;
        if fails { Err("on purpose".into()) } else { Ok(()) }
    }
}

type Handle = ProjectionHandle<Notes, Failing>;

fn open(disk: &SimulatedDisk) -> Database<Notes> {
    let options = Options { snapshots: SnapshotPolicy::manual(), ..Options::default() };
    let progress = &mut (Box::new(|_| {}) as _);
    let (storage, path) = (Arc::new(disk.clone()), Path::new("/data/notes.db"));
    Database::open_with(storage, path, options, Notes::default, progress).unwrap()
}

fn start(database: &Database<Notes>) -> Handle {
    database.projection("failing", Failing::default(), FollowerOptions::new()).unwrap()
}

/// What it must be after these commands, in this order.
fn expected(database: &Database<Notes>, sequences: impl Iterator<Item = u64>) -> Vec<u8> {
    let all = database.history().records(..).unwrap();
    let events: Vec<Vec<u64>> = all.map(|it| it.unwrap().events().unwrap().unwrap()).collect();
    let mut folded = Folded::default();
    sequences.for_each(|sequence| folded.take(sequence, &events[sequence as usize - 1]));
    folded.bytes()
}

fn letters(handle: &Handle) -> Vec<u64> {
    handle.dead_letters().unwrap().iter().map(|it| it.sequence).collect()
}

fn check(handle: &Handle, expected: &[u8], put_aside: &[u64], when: &str) {
    assert_eq!(letters(handle), put_aside, "{when}");
    assert!(handle.query(|it| it.0.bytes() == expected), "{when}");
}

/// Does something that may fail, with a failing disk and again without. Returns whether the first
/// try has failed.
fn twice(
    disk: &SimulatedDisk,
    (target, after): (Target, u64),
    act: &dyn Fn() -> Result<(), Error>,
) -> bool {
    disk.plan(Fault { target, after, kind: FaultKind::Error(5) });
    let first = act();
    disk.cancel_faults();
    if first.is_ok() {
        return false;
    }
    // It may have become durable nevertheless, so the second try may find nothing to do.
    act().ok();
    true
}

#[test]
fn a_failing_disk_neither_loses_nor_doubles_what_was_skipped_or_replayed() {
    let _alone = lock(&ALONE);
    let mut failures = 0;
    for target in [Target::Create, Target::Rename, Target::SyncDirectory, Target::Sync] {
        for after in 0..6 {
            let when = format!("{target:?} {after}");
            let disk = SimulatedDisk::new(State::empty(), 1, false);
            let database = open(&disk);
            FAILS_NOW.store(1, Ordering::SeqCst);
            let handle = start(&database);
            for _ in 0..LAST {
                database.execute(Put { padding: Vec::new() }).unwrap();
            }
            handle.wait_for(LAST, LONG).unwrap_err();
            let skipped = expected(&database, (1..=LAST).filter(|it| *it != FAILS));
            let at = (target, after);
            failures += u32::from(twice(&disk, at, &|| handle.skip()));
            assert_eq!(handle.wait_for(LAST, LONG).unwrap(), LAST, "{when}");
            check(&handle, &skipped, &[FAILS], &when);
            failures += u32::from(twice(&disk, at, &|| handle.checkpoint()));
            handle.checkpoint().unwrap();
            FAILS_NOW.store(0, Ordering::SeqCst);
            failures += u32::from(twice(&disk, at, &|| handle.replay(FAILS)));
            let in_order = (1..=LAST).filter(|it| *it != FAILS).chain([FAILS]);
            let replayed = expected(&database, in_order);
            check(&handle, &replayed, &[], &when);
            assert_eq!(handle.status().unwrap().state, FollowerState::Running, "{when}");
            handle.close().unwrap();
            let handle = start(&database);
            assert_eq!(handle.status().unwrap().damage, None, "{when}");
            check(&handle, &replayed, &[], &when);
            drop((handle, database));
        }
    }
    assert!(failures > 15, "only {failures} steps have failed");
}

/// Opens an image, in which nothing fails any more, and checks what the projection comes to. Returns
/// whether the command was put aside there.
fn look(image: State) -> Option<bool> {
    let disk = SimulatedDisk::new(image, 2, false);
    let database = open(&disk);
    let last = database.sequence();
    if last < LAST {
        return None;
    }
    let handle = start(&database);
    assert_eq!(handle.status().unwrap().damage, None);
    handle.wait_for(last, LONG).unwrap();
    let without = || (1..=last).filter(|it| *it != FAILS);
    let (skipped, in_order) = (expected(&database, without()), expected(&database, 1..=last));
    let replayed = expected(&database, without().chain([FAILS]));
    let found = handle.query(|it| it.0.bytes());
    match letters(&handle)[..] {
        [] => assert!(found == in_order || found == replayed, "{:#?}", disk.state().files()),
        [FAILS] => assert!(found == skipped, "{:#?}", disk.state().files()),
        ref other => panic!("{other:?}"),
    }
    Some(letters(&handle) == [FAILS])
}

#[test]
fn a_crash_at_any_moment_leaves_a_skip_and_a_replay_whole_or_undone() {
    let _alone = lock(&ALONE);
    FAILS_NOW.store(1, Ordering::SeqCst);
    let disk = SimulatedDisk::new(State::empty(), 1, true);
    let database = open(&disk);
    let handle = start(&database);
    for _ in 0..LAST {
        database.execute(Put { padding: Vec::new() }).unwrap();
    }
    handle.wait_for(LAST, LONG).unwrap_err();
    handle.skip().unwrap();
    handle.wait_for(LAST, LONG).unwrap();
    FAILS_NOW.store(0, Ordering::SeqCst);
    handle.replay(FAILS).unwrap();
    drop((handle, database));
    let (mut state, mut random) = (State::empty(), Random::new(3));
    let mut found = [0; 2];
    for operation in disk.take_log() {
        state.apply(&operation);
        let text = format!("{operation:?}");
        if !text.contains("failing") && !text.contains("STANDING") {
            continue;
        }
        let units = state.units();
        let cut = choices(&units, &mut random).into_iter();
        let mut images: Vec<State> =
            cut.map(|fates| state.after_power_cut(&units, &fates, &mut random)).collect();
        images.push(state.after_kill());
        for is_aside in images.into_iter().filter_map(look) {
            found[usize::from(is_aside)] += 1;
        }
    }
    assert!(found[0] > 5 && found[1] > 5, "{found:?}");
}

/// Waits until another thread has done something. After two minutes it is certain that it does not.
fn until(done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < LONG, "it never happened");
        std::thread::yield_now();
    }
}

/// One that has stopped may stay so for days. What it has worked on is saved as soon as the disk
/// allows, and nobody has to tell it.
#[test]
fn one_that_has_stopped_saves_what_it_could_not_save_before() {
    let _alone = lock(&ALONE);
    FAILS_NOW.store(1, Ordering::SeqCst);
    let disk = SimulatedDisk::new(State::empty(), 1, false);
    let database = open(&disk);
    let options = FollowerOptions::new().checkpoint_interval(Duration::ZERO);
    let handle = database.projection("failing", Failing::default(), options).unwrap();
    database.execute(Put { padding: Vec::new() }).unwrap();
    handle.wait_for(1, LONG).unwrap();
    for _ in 0..500 {
        disk.plan(Fault { target: Target::Create, after: 0, kind: FaultKind::Error(5) });
    }
    for _ in 1..LAST {
        database.execute(Put { padding: Vec::new() }).unwrap();
    }
    handle.wait_for(LAST, LONG).unwrap_err();
    let status = || handle.status().unwrap();
    until(|| status().checkpoint_failure.is_some());
    assert!(status().durable_position < FAILS - 1);
    disk.cancel_faults();
    until(|| status().durable_position == FAILS - 1);
    assert!(matches!(status().state, FollowerState::Stopped { sequence: FAILS, .. }));
    until(|| status().checkpoint_failure.is_none());
}

/// A value that is encoded when the journal has asked for room.
struct OnceAsked<'a>(&'a Room);

impl serde::Serialize for OnceAsked<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        while self.0.requests() == 0 {
            std::thread::yield_now();
        }
        vec![7_u8; 1 << 20].serialize(serializer)
    }
}

/// The journal needs the space: a checkpoint ends early and leaves nothing. The next one, which was
/// not asked, succeeds.
#[test]
fn a_checkpoint_gives_up_its_space_when_the_journal_wants_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoint");
    let (counters, never, room) = (Counters::default(), AtomicBool::new(false), Room::default());
    let of = CheckpointOf { database: DatabaseId([1; 16]), name: "it", version: 1, position: 9 };
    let packing = Packing { compression_level: 0, compression_threads: 0 };
    let beside = (&counters, &never, &room);
    let write = || write_checkpoint(&Disk, &path, of, &OnceAsked(&room), packing, beside);
    std::thread::scope(|scope| {
        // Until there is a checkpoint, nobody can be asked.
        scope.spawn(|| while !room.reclaim() {});
        assert!(write().is_err(), "it has not ended");
    });
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    write().unwrap();
}

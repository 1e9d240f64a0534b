//! What a failure of the disk at any step leaves of a skip, a replay and a checkpoint.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::model::{Folded, Notes, Put};
use crate::options::Options;
use crate::storage::simulated::{Fault, FaultKind, SimulatedDisk, State, Target};
use crate::{
    Database, Error, FollowerError, FollowerOptions, FollowerState, Projection, ProjectionHandle,
    Recorded, SnapshotPolicy,
};

const LONG: Duration = Duration::from_secs(120);
const FAILS: u64 = 7;
const LAST: u64 = 12;

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

fn check(handle: &Handle, expected: &[u8], letters: &[u64], when: &str) {
    let found: Vec<u64> = handle.dead_letters().unwrap().iter().map(|it| it.sequence).collect();
    assert_eq!(found, letters, "{when}");
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

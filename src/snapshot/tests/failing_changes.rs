//! Tests of snapshots of changes on a failing disk, and on a full one.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use super::changes::bytes;
use super::failure::STEPS;
use crate::collections::Map;
use crate::laboratory::Sizes;
use crate::options::{Options, SnapshotPolicy};
use crate::storage::faulty::Faulty;
use crate::storage::{Disk, Storage};
use crate::test_support::{killed, options};
use crate::{Command, Context, Database, Health, Model};

/// A map of several parts, so that snapshots rest on each other.
#[derive(Clone, Serialize, Deserialize)]
struct Shelf(Map<u64, u64>);

impl Default for Shelf {
    fn default() -> Self {
        Self((0..200).map(|key| (key, key)).collect())
    }
}

impl Model for Shelf {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
struct Put(u64, u64);

impl Command<Shelf> for Put {
    type Output = ();
    type Rejection = std::convert::Infallible;

    fn apply(self, shelf: &mut Shelf, _: &mut Context<'_, Shelf>) -> Result<(), Self::Rejection> {
        shelf.0.put(self.0, self.1);
        Ok(())
    }
}

crate::commands! { Shelf { 1 => Put } }

fn open(storage: Arc<dyn Storage>, path: &Path, options: Options) -> Database<Shelf> {
    let mut silent: crate::recovery::ProgressCallback = Box::new(|_| {});
    Database::open_with(storage, path, options, Shelf::default, &mut silent).unwrap()
}

/// Changes three entries, and returns the state.
fn change(database: &Database<Shelf>, round: u64) -> Vec<u8> {
    for step in 0..3 {
        database.execute(Put((round * 37 + step * 71) % 220, round)).unwrap();
    }
    database.query(bytes)
}

/// Wherever in a chain a step fails: commands go on, a kill loses nothing, and the next try works.
#[test]
fn a_failed_step_in_a_chain_disturbs_nothing_and_is_made_up_for() {
    let _sizes = Sizes::small();
    let hits = Arc::new(AtomicU32::new(0));
    let mut shared = 0;
    for (step, fails) in STEPS {
        for (keep_snapshots, at) in
            [1, 2].into_iter().flat_map(|keep| (0..6).map(move |at| (keep, at)))
        {
            let what = format!("{step}, {keep_snapshots} kept, at {at}");
            let directory = tempfile::tempdir().unwrap();
            let root = directory.path().to_path_buf();
            let armed = Arc::new(AtomicBool::new(false));
            let (seen, hit, place) = (armed.clone(), hits.clone(), root.clone());
            let storage = Faulty::new(move |operation| {
                let fails = seen.load(Ordering::SeqCst) && fails(operation, &place);
                hit.fetch_add(fails.into(), Ordering::SeqCst);
                fails.then(|| io::Error::other("on purpose"))
            });
            let database = open(storage, &root, Options { keep_snapshots, ..options() });
            for round in 0..at {
                change(&database, round);
                database.snapshot().unwrap();
            }
            change(&database, at);
            armed.store(true, Ordering::SeqCst);
            // Not every step is part of every snapshot.
            database.snapshot().ok();
            armed.store(false, Ordering::SeqCst);
            let expected = change(&database, at + 1);
            let crashed = killed(&root);
            let info = database.snapshot().unwrap();
            shared += u32::from(info.shared_bytes > 0);
            assert!(matches!(database.health(), Health::Running), "{what}");
            let after = killed(&root);
            database.close().unwrap();
            for path in [crashed.path(), after.path(), &root] {
                let reopened = open(Arc::new(Disk), path, options());
                assert!(reopened.query(bytes) == expected, "{what}");
                assert!(reopened.recovery().damaged_snapshots.is_empty(), "{what}");
            }
        }
    }
    let hits = hits.load(Ordering::SeqCst);
    assert!(hits > 60 && shared > 40, "{hits} steps failed, {shared} snapshots were shared");
}

/// What keeps the older snapshot also keeps the journal behind it, so a change makes no room.
#[test]
fn a_full_disk_is_a_reason_for_a_whole_snapshot_if_older_ones_are_kept() {
    let _sizes = Sizes::small();
    for keep_snapshots in [1, 2] {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = SnapshotPolicy::every_commands(1_000_000);
        let options = Options { keep_snapshots, snapshots, ..options() };
        let database = open(Arc::new(Disk), directory.path(), options);
        for round in 0..2 {
            change(&database, round);
            database.snapshot().unwrap();
        }
        assert!(database.stats().snapshot_shared_bytes > 0);
        change(&database, 2);
        database.snapshot_board().want_room();
        while database.stats().snapshot_sequence < 9 {
            std::thread::yield_now();
        }
        let is_whole = database.stats().snapshot_shared_bytes == 0;
        assert_eq!(is_whole, keep_snapshots == 2);
    }
}

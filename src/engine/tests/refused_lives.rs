//! Tests runs in which random steps fail and are refused, from the first batch on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::options::Options;
use crate::storage::faulty::{Faulty, Operation};
use crate::test_support::{Add, Count, killed, open};
use crate::{Database, Durability, Error, ExecuteError, Retention, SnapshotPolicy};

struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// One bit for each kind of operation that can fail.
const KINDS: u64 = 7;

/// Makes a disk on which the kinds of operations fail whose bits are set in `failing`.
fn disk(failing: &Arc<AtomicU64>) -> Arc<Faulty> {
    let failing = failing.clone();
    Faulty::new(move |operation| {
        let (bit, errno) = match operation {
            Operation::CreateTemporary(path) if path.ends_with("journal") => (1, 24),
            Operation::CreateTemporary(path) if path.ends_with("snapshots") => (2, 24),
            Operation::CreateTemporary(_) => (4, 24),
            Operation::SyncAll => (8, 5),
            Operation::Publish(path) if path.ends_with("RESERVE") => (0, 0),
            Operation::Publish(path) if path.ends_with("MANIFEST") => (16, 28),
            Operation::Publish(_) => (32, 28),
            Operation::Remove(_) => (64, 5),
            _ => (0, 0),
        };
        (failing.load(Ordering::SeqCst) & bit != 0).then(|| io::Error::from_raw_os_error(errno))
    })
}

fn options(draw: &mut Draw, archives: bool) -> Options {
    let durability = [Durability::Sync, Durability::Buffered][draw.below(2) as usize];
    Options {
        segment_bytes: 64 << 10,
        durability,
        snapshots: SnapshotPolicy::manual(),
        keep_snapshots: 1 + draw.below(2) as usize,
        retention: if archives { Retention::Archive } else { Retention::default() },
        ..Options::default()
    }
}

/// Takes up to six snapshots and commands while operations fail. `expected` counts the accepted
/// commands.
fn run(database: &Database<Count>, draw: &mut Draw, failing: &AtomicU64, expected: &mut u64) {
    for _ in 0..draw.below(7) {
        let kinds = if draw.below(2) == 0 { 0 } else { 1 << draw.below(KINDS) };
        failing.store(kinds, Ordering::SeqCst);
        if draw.below(5) == 0 {
            drop(database.snapshot());
            continue;
        }
        let bytes = [1, 1, 3000, 20_000, 70_000][draw.below(5) as usize];
        match database.execute(Add(vec![7; bytes])) {
            Ok(count) => {
                *expected += 1;
                assert_eq!(count, *expected);
            }
            Err(ExecuteError::NotWritten { .. }) => {}
            Err(error) => panic!("{error} while kinds {kinds} fail"),
        }
    }
}

/// Leads one directory through six runs, some of which are killed.
fn live(seed: u64) {
    let mut draw = Draw(seed * 7919 + 3);
    let mut directory = tempfile::tempdir().unwrap();
    let mut expected = 0;
    for number in 0..6 {
        println!("seed {seed}, run {number}");
        let failing = Arc::new(AtomicU64::new(0));
        let storage = disk(&failing);
        let options = options(&mut draw, seed.is_multiple_of(2));
        // A failed open must leave a directory that the next open accepts.
        if draw.below(3) == 0 && number > 0 {
            failing.store(1 << draw.below(KINDS), Ordering::SeqCst);
        }
        let database = match open(storage.clone(), directory.path(), options.clone()) {
            Ok(database) => database,
            Err(error) => {
                assert!(matches!(error, Error::Io { .. }), "{error}");
                failing.store(0, Ordering::SeqCst);
                open(storage, directory.path(), options).unwrap()
            }
        };
        let found = (database.sequence(), database.query(|count| count.0));
        assert_eq!(found, (expected, expected));
        run(&database, &mut draw, &failing, &mut expected);
        if draw.below(2) == 0 {
            failing.store(0, Ordering::SeqCst);
        }
        let next = killed(directory.path());
        let clean = draw.below(2) == 0;
        let closed = database.close();
        if clean {
            assert!(matches!(closed, Ok(()) | Err(Error::Io { .. })), "{closed:?}");
        } else {
            directory = next;
        }
        if draw.below(2) == 0 {
            let report = crate::verify_history::<Count>(directory.path()).unwrap();
            assert!(report.divergence.is_none(), "{report:?}");
        }
    }
}

#[test]
fn a_refusal_at_any_step_of_any_run_leaves_no_trace() {
    (0..8).for_each(live);
}

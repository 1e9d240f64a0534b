//! Tests runs in which random steps fail and are refused, from the first batch on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::options::Options;
use crate::storage::faulty::{Faulty, Operation};
use crate::test_support::{Add, Count, killed, open};
use crate::{Durability, Error, ExecuteError, Retention, SnapshotPolicy};

struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn a_refusal_at_any_step_of_any_run_leaves_no_trace() {
    for seed in 0..8 {
        let mut draw = Draw(seed * 7919 + 3);
        let mut directory = tempfile::tempdir().unwrap();
        let mut expected = 0;
        for run in 0..6 {
            // A bit for each kind of operation that fails.
            let state = Arc::new(AtomicU64::new(0));
            let inner = state.clone();
            let storage = Faulty::new(move |operation| {
                let kinds = inner.load(Ordering::SeqCst);
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
                (kinds & bit != 0).then(|| io::Error::from_raw_os_error(errno))
            });
            let options = Options {
                segment_bytes: 64 << 10,
                durability: if draw.below(2) == 0 {
                    Durability::Sync
                } else {
                    Durability::Buffered
                },
                snapshots: SnapshotPolicy::manual(),
                keep_snapshots: 1 + draw.below(2) as usize,
                retention: if seed % 2 == 0 { Retention::Archive } else { Retention::default() },
                ..Options::default()
            };
            // A failed open must leave a directory that the next open accepts.
            if draw.below(3) == 0 && run > 0 {
                state.store(1 << draw.below(7), Ordering::SeqCst);
            }
            let database = match open(storage.clone(), directory.path(), options.clone()) {
                Ok(database) => database,
                Err(error) => {
                    assert!(matches!(error, Error::Io { .. }), "seed {seed} run {run}: {error}");
                    state.store(0, Ordering::SeqCst);
                    open(storage, directory.path(), options).unwrap()
                }
            };
            assert_eq!(
                (database.sequence(), database.query(|c| c.0)),
                (expected, expected),
                "seed {seed} run {run}"
            );
            for _ in 0..draw.below(7) {
                let kinds = if draw.below(2) == 0 { 0 } else { 1 << draw.below(7) };
                state.store(kinds, Ordering::SeqCst);
                match draw.below(5) {
                    0 => drop(database.snapshot()),
                    _ => {
                        let bytes = [1, 1, 3000, 20_000, 70_000][draw.below(5) as usize];
                        match database.execute(Add(vec![7; bytes])) {
                            Ok(count) => {
                                expected += 1;
                                assert_eq!(count, expected);
                            }
                            Err(ExecuteError::NotWritten { .. }) => {}
                            Err(error) => panic!("seed {seed} run {run}: {error} kinds {kinds}"),
                        }
                    }
                }
            }
            if draw.below(2) == 0 {
                state.store(0, Ordering::SeqCst);
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
                let report = crate::verify_history::<Count>(directory.path());
                let report =
                    report.unwrap_or_else(|error| panic!("seed {seed} run {run}: {error}"));
                assert!(report.divergence.is_none(), "{report:?}");
            }
        }
    }
}

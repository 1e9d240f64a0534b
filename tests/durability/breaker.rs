//! Tests random lives of a database: runs that are closed or killed, with any options, in any
//! order.

use std::path::{Path, PathBuf};
use std::time::Duration;

use prevalence::{Database, Durability, PurgeAction, Retention, SnapshotPolicy};

use crate::common::{Add, Carry, Ledger, Mix, copy_directory, temporary};

struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn open(draw: &mut Draw, path: &Path, archive: bool) -> Database<Ledger> {
    let durability = match draw.below(3) {
        0 => Durability::Sync,
        1 => Durability::Buffered,
        _ => Durability::Interval(Duration::from_millis(1)),
    };
    let retention = if archive { Retention::Archive } else { Retention::default() };
    let segment_bytes = [64 << 10, 256 << 10, 1 << 20, 4 << 30][draw.below(4) as usize];
    Database::builder()
        .durability(durability)
        .retention(retention)
        .segment_bytes(segment_bytes)
        .keep_snapshots(1 + draw.below(3) as usize)
        .snapshots(if draw.below(2) == 0 {
            SnapshotPolicy::manual()
        } else {
            SnapshotPolicy::default()
        })
        .open(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn live(seed: u64, root: &Path, archive: bool) {
    let mut draw = Draw(seed);
    let mut path: PathBuf = root.join("0");
    let mut oracle = Ledger::default();
    let mut count = 0;
    for run in 1..8 {
        let database = open(&mut draw, &path, archive);
        assert_eq!(database.query(Ledger::bytes), oracle.bytes(), "run {run}, {path:?}");
        assert_eq!(database.sequence(), count);
        for _ in 0..draw.below(6) {
            match draw.below(8) {
                0 => drop(database.snapshot().unwrap()),
                1 => {
                    let bytes = draw.below(150_000) as usize;
                    database.execute(Carry(vec![7; bytes])).unwrap();
                    oracle.changes += 1;
                    count += 1;
                }
                2 => {
                    for value in 0..200 {
                        database.execute(Mix(value)).unwrap();
                        oracle.mix(value);
                        count += 1;
                    }
                }
                3 => {
                    let history = database.history();
                    let oldest = history.oldest_record().unwrap();
                    let read = history.records(oldest..).unwrap().map(Result::unwrap).count();
                    assert_eq!(read as u64, count + 1 - oldest);
                }
                4 => {
                    let target = root.join(format!("backup{run}-{count}"));
                    if !target.exists() {
                        database.backup(&target).unwrap();
                        let copy = Database::<Ledger>::open(&target).unwrap();
                        assert_eq!(copy.query(Ledger::bytes), oracle.bytes());
                    }
                }
                _ => {
                    let amount = draw.below(9) as i64;
                    database.execute(Add { account: 1, amount }).unwrap();
                    oracle.add(1, amount);
                    count += 1;
                }
            }
        }
        let next = root.join(run.to_string());
        match draw.below(3) {
            0 => copy_directory(&path, &next),
            1 => {
                copy_directory(&path, &next);
                database.close().unwrap();
            }
            _ => {
                database.close().unwrap();
                std::fs::rename(&path, &next).unwrap();
            }
        }
        path = next;
        if draw.below(3) == 0 {
            let report = prevalence::verify_history::<Ledger>(&path).unwrap();
            assert!(report.divergence.is_none(), "{report:?}");
        }
        if archive && draw.below(4) == 0 && count > 0 {
            let victim = 1 + draw.below(count);
            prevalence::purge::<Ledger>(&path, |record| {
                if record.sequence() == victim {
                    PurgeAction::DropMetadata
                } else {
                    PurgeAction::Keep
                }
            })
            .unwrap();
        }
    }
}

#[test]
fn random_lives() {
    for seed in 0..4 {
        let (directory, _path) = temporary();
        eprintln!("seed {seed}");
        live(seed * 7919 + 1, directory.path(), seed % 2 == 1);
    }
}

/// The first command of a run is larger than any segment, and follows frames that the new segment
/// copies.
#[test]
fn the_first_command_of_a_run_may_be_of_any_size() {
    let (_directory, path) = temporary();
    for (count, bytes) in (0..).zip([10, 900 << 10, 10, 200 << 10, 60_000, 100]) {
        let killed = path.with_extension(count.to_string());
        let builder = || Database::<Ledger>::builder().segment_bytes(64 << 10);
        let database = builder().open(&path).unwrap();
        assert_eq!(database.sequence(), count);
        database.execute(Carry(vec![1; bytes])).unwrap();
        copy_directory(&path, &killed);
        database.close().unwrap();
        let database = builder().open(&killed).unwrap();
        assert_eq!((database.sequence(), database.query(|l| l.changes)), (count + 1, count + 1));
    }
}

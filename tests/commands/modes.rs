//! What a database does in memory alone is what it does on a disk: one body for both.

use prevalence::{
    Builder, Database, Durability, ExecuteError, Health, Retention, SnapshotPolicy, WaitError,
};

use crate::common::{self, Add, Fail, Failure, Ledger, Mix, Stamp, bytes, quiet_panics, temporary};

/// Where a database is: in memory or on a disk.
enum Mode {
    Disk(tempfile::TempDir),
    Memory,
}

impl Mode {
    fn open(&self, builder: Builder<Ledger>) -> Database<Ledger> {
        match self {
            Self::Disk(directory) => builder.open(directory.path().join("x.db")),
            Self::Memory => builder.open_in_memory(),
        }
        .unwrap()
    }
}

fn builder() -> Builder<Ledger> {
    Database::builder().snapshots(SnapshotPolicy::manual())
}

/// Runs `body` in both modes. The results must be equal.
fn in_both<T: PartialEq + std::fmt::Debug>(body: impl Fn(&Mode) -> T) {
    let disk = body(&Mode::Disk(tempfile::tempdir().unwrap()));
    assert_eq!(disk, body(&Mode::Memory));
}

#[test]
fn answers_statistics_and_content_are_the_same() {
    quiet_panics();
    in_both(|mode| {
        let database = mode.open(builder());
        assert!(database.recovery().created);
        let mut answers = Vec::new();
        for number in 0..100 {
            let add = database.execute(Add { account: number % 7, amount: 3 });
            answers.push(format!("{add:?}"));
            let how = if number % 2 == 0 { Failure::Reject } else { Failure::Panic };
            let failed = database.execute(Fail { account: number % 7, how });
            answers.push(format!("{failed:?}"));
        }
        let view = database.view();
        let stale = database.execute_if(99, Mix(1)).unwrap_err();
        answers.push(format!("{stale:?} {}", database.execute_if(100, Mix(1)).unwrap()));
        let forked = database.what_if(|sandbox| sandbox.execute(Mix(2)).unwrap());
        let stats = database.stats();
        let counted = (stats.accepted, stats.rejected, stats.panicked, stats.stale);
        let stamp = database.execute(Stamp).unwrap();
        assert!(stamp.now >= view.time());
        (answers, view.sequence(), view.bytes(), forked, counted, stats.durable_sequence)
    });
}

#[test]
fn pipelined_commands_keep_their_order_under_every_durability() {
    let interval = Durability::Interval(std::time::Duration::from_millis(1));
    for durability in [Durability::Sync, interval, Durability::Buffered] {
        in_both(|mode| {
            let database = mode.open(builder().durability(durability).max_batch_commands(7));
            let submit = |value| database.submit(Mix(value)).unwrap();
            let pending: Vec<_> = (0..1000).map(submit).collect();
            let places: Vec<u64> = pending.into_iter().map(|one| one.wait().unwrap()).collect();
            assert!(places.iter().copied().eq(1..=1000));
            let last = bytes(&database);
            let kept = database.clone();
            database.close().unwrap();
            assert!(matches!(kept.execute(Mix(1)), Err(ExecuteError::Stopped)));
            let wait = kept.wait_for(1001, std::time::Duration::ZERO);
            assert!(matches!(wait, Err(WaitError::Stopped { reached: 1000, .. })));
            assert!(matches!(kept.health(), Health::Stopped));
            assert_eq!(bytes(&kept), last);
            last
        });
    }
}

/// Frames of a kilobyte go through many small segments, which snapshots then allow to be removed.
#[test]
fn snapshots_segments_and_archives_come_and_go() {
    for retention in [Retention::Truncate, Retention::Archive] {
        in_both(|mode| {
            let options = builder().retention(retention).segment_bytes(64 << 10);
            let database = mode.open(options);
            let mut snapshots = Vec::new();
            for round in 0..4 {
                for number in 0..300 {
                    let carried = vec![round; 1000 + number];
                    database.execute(common::Carry(carried)).unwrap();
                }
                let info = database.snapshot().unwrap();
                assert!(info.path.ends_with(format!("snapshots/{:020}.snapshot", info.sequence)));
                snapshots.push((info.sequence, info.raw_bytes, info.file_bytes));
            }
            let Stats { taken, failed, since } = stats(&database);
            assert_eq!((taken, failed, since), (4, 0, 0));
            (snapshots, bytes(&database))
        });
    }
}

#[derive(PartialEq)]
struct Stats {
    taken: u64,
    failed: u64,
    since: u64,
}

fn stats(database: &Database<Ledger>) -> Stats {
    let stats = database.stats();
    Stats {
        taken: stats.snapshots_taken,
        failed: stats.snapshots_failed,
        since: stats.commands_since_snapshot,
    }
}

#[test]
fn a_backup_goes_to_the_disk_and_opens_there() {
    in_both(|mode| {
        let database = mode.open(builder());
        for value in 0..50 {
            database.execute(Mix(value)).unwrap();
        }
        let (_directory, target) = temporary();
        let info = database.backup(&target).unwrap();
        assert!(info.path.is_file());
        let copy = Database::<Ledger>::open(&target).unwrap();
        copy.execute(Mix(50)).unwrap();
        database.execute(Mix(50)).unwrap();
        assert_eq!(bytes(&copy), bytes(&database));
        (info.sequence, bytes(&copy))
    });
}

#[test]
fn nothing_in_memory_touches_the_disk_or_another_database_in_memory() {
    let names = || -> Vec<_> {
        let mut names: Vec<_> =
            std::fs::read_dir(".").unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    let one = Database::<Ledger>::in_memory().unwrap();
    let given = Ledger { changes: 7, ..Ledger::default() };
    let other = Database::builder().initial(given).open_in_memory().unwrap();
    one.execute(Mix(1)).unwrap();
    let info = one.snapshot().unwrap();
    assert!(info.path.starts_with("<in memory>") && !info.path.exists());
    assert_eq!((one.query(|ledger| ledger.changes), other.query(|ledger| ledger.changes)), (1, 7));
    assert_eq!(names(), before);
    let view = other.view();
    drop(other);
    assert_eq!(view.changes, 7);
    let refused = Database::<Ledger>::builder().queue_capacity(0).open_in_memory();
    assert!(matches!(refused, Err(prevalence::Error::InvalidOption { .. })));
}

//! Snapshots from outside: what they leave behind, what they survive, what they never disturb.

mod migration;
mod on_demand;
mod sharing;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prevalence::{
    Command, Context, Database, Durability, Error, Health, MigrationError, Model, Retention,
    SnapshotPolicy, SnapshotReader,
};
use serde::{Deserialize, Serialize};

use crate::common::{
    self, Add, Ledger, Mix, bytes, content, copy_directory, segments, temporary, until,
};

fn builder() -> prevalence::Builder<Ledger> {
    Database::<Ledger>::builder().segment_bytes(64 << 10).snapshots(SnapshotPolicy::manual())
}

fn mix(database: &Database<Ledger>, values: std::ops::Range<u64>) {
    let pending: Vec<_> = values.map(|value| database.submit(Mix(value)).unwrap()).collect();
    for pending in pending {
        pending.wait().unwrap();
    }
}

fn numbers(directory: &Path, extension: &str) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut numbers: Vec<u64> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().parse().unwrap())
        .collect();
    numbers.sort_unstable();
    numbers
}

fn snapshots(database: &Path) -> Vec<u64> {
    numbers(&database.join("snapshots"), "snapshot")
}

fn first_sequences(database: &Path) -> Vec<u64> {
    numbers(&database.join("journal"), "journal")
}

fn temporaries(database: &Path) -> Vec<PathBuf> {
    let ours = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "tmp");
    content(database).into_keys().filter(ours).collect()
}

#[test]
fn a_start_loads_the_snapshot_and_replays_only_the_tail() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    mix(&database, 0..500);
    let info = database.snapshot().unwrap();
    assert_eq!(info.sequence, 500);
    assert_eq!(info.file_bytes, std::fs::metadata(&info.path).unwrap().len());
    assert!(info.raw_bytes > 0 && !info.duration.is_zero());
    mix(&database, 500..520);
    let expected = bytes(&database);
    assert_eq!(database.stats().commands_since_snapshot, 20);
    drop(database);
    let database = builder().open(&path).unwrap();
    assert_eq!(bytes(&database), expected);
    let report = database.recovery();
    assert_eq!((report.snapshot_sequence, report.commands_replayed), (500, 20));
    assert!(report.damaged_snapshots.is_empty());
}

#[test]
fn nothing_changed_is_no_reason_for_a_snapshot() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    assert_eq!(database.snapshot().unwrap().sequence, 0, "the initial model's");
    mix(&database, 0..3);
    let first = database.snapshot().unwrap();
    let again = database.snapshot().unwrap();
    assert_eq!((again.sequence, again.duration), (first.sequence, Duration::ZERO));
    assert_eq!(database.stats().snapshots_taken, 1);
}

#[test]
fn only_kept_snapshots_and_the_journal_behind_the_oldest_stay() {
    const COMMANDS: u64 = 30_000;
    let (_directory, path) = temporary();
    let database = builder()
        .snapshots(SnapshotPolicy::every_commands(COMMANDS / 10))
        .max_batch_commands(200)
        .open(&path)
        .unwrap();
    mix(&database, 0..COMMANDS);
    until(|| database.stats().commands_since_snapshot < COMMANDS / 10);
    let policy_took = database.stats().snapshots_taken;
    assert!((1..=10).contains(&policy_took), "{policy_took}");
    mix(&database, 0..1);
    database.snapshot().unwrap();
    let kept = snapshots(&path);
    assert_eq!((kept.len(), kept[1]), (2, COMMANDS + 1));
    let journal = first_sequences(&path);
    let needed = journal.iter().rposition(|&first| first <= kept[0] + 1).unwrap();
    assert_eq!(needed, 0, "segments {journal:?} with snapshots {kept:?}");
    let expected = bytes(&database);
    database.close().unwrap();
    assert_eq!(bytes(&builder().open(&path).unwrap()), expected);
}

#[test]
fn as_many_snapshots_are_kept_as_was_asked_for() {
    for keep in [1, 3] {
        let (_directory, path) = temporary();
        let database = builder().keep_snapshots(keep).open(&path).unwrap();
        for round in 0..6 {
            mix(&database, round * 10..round * 10 + 10);
            database.snapshot().unwrap();
        }
        assert_eq!(snapshots(&path).len(), keep);
    }
}

#[test]
fn policies_of_time_bytes_and_close() {
    for policy in [
        SnapshotPolicy::every(Duration::from_millis(5)),
        SnapshotPolicy::every_bytes(500),
        SnapshotPolicy::startup_within(Duration::ZERO),
    ] {
        let (_directory, path) = temporary();
        let database = builder().snapshots(policy).open(&path).unwrap();
        // As many as take a noticeable part of the fixed cost of an open to replay.
        mix(&database, 0..20_000);
        until(|| database.stats().snapshot_sequence > 0);
    }
    let (_directory, path) = temporary();
    let database = builder().snapshots(SnapshotPolicy::on_close()).open(&path).unwrap();
    mix(&database, 0..100);
    assert_eq!(database.stats().snapshots_taken, 0);
    drop(database);
    let database = builder().open(&path).unwrap();
    assert_eq!(database.recovery().snapshot_sequence, 100);
    assert!(database.recovery().clean);
}

/// Makes two snapshots and commands behind them. Returns the expected bytes.
fn two_snapshots(path: &Path) -> Vec<u8> {
    let database = builder().open(path).unwrap();
    for round in 0..2 {
        mix(&database, round * 100..round * 100 + 100);
        database.snapshot().unwrap();
    }
    mix(&database, 0..5);
    let expected = bytes(&database);
    database.close().unwrap();
    expected
}

#[test]
fn a_damaged_newest_snapshot_costs_nothing_but_time() {
    let (_directory, path) = temporary();
    let expected = two_snapshots(&path);
    let newest = path.join("snapshots/00000000000000000200.snapshot");
    let whole = std::fs::read(&newest).unwrap();
    for damage in 0..3 {
        let image = path.with_extension(format!("image-{damage}"));
        copy_directory(&path, &image);
        let newest = image.join("snapshots/00000000000000000200.snapshot");
        match damage {
            0 => std::fs::remove_file(&newest).unwrap(),
            1 => std::fs::write(&newest, &whole[..whole.len() / 2]).unwrap(),
            _ => {
                let mut flipped = whole.clone();
                flipped[whole.len() / 2] ^= 1;
                std::fs::write(&newest, flipped).unwrap();
            }
        }
        let database = builder().open(&image).unwrap();
        assert_eq!(bytes(&database), expected);
        let report = database.recovery();
        assert_eq!((report.snapshot_sequence, report.commands_replayed), (100, 105));
        assert_eq!(report.damaged_snapshots.len(), 1);
        assert_eq!(report.damaged_snapshots[0].path, newest);
        // It is not counted on any more.
        mix(&database, 5..10);
        let after = bytes(&database);
        database.snapshot().unwrap();
        drop(database);
        assert_eq!(bytes(&builder().open(&image).unwrap()), after);
    }
}

#[test]
fn a_damaged_snapshot_without_the_journal_behind_an_older_one_is_an_error() {
    let (_directory, path) = temporary();
    two_snapshots(&path);
    let newest = path.join("snapshots/00000000000000000200.snapshot");
    let mut flipped = std::fs::read(&newest).unwrap();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    std::fs::write(&newest, flipped).unwrap();
    std::fs::remove_file(&segments(&path)[0]).unwrap();
    let before = content(&path);
    let error = builder().open(&path).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { path, .. } if *path == newest), "{error}");
    assert_eq!(content(&path), before);
}

/// Every damage to a database with snapshots gives the exact state or an error.
#[test]
fn no_damage_goes_unnoticed() {
    let (_directory, path) = temporary();
    let expected = two_snapshots(&path);
    for (name, whole) in content(&path) {
        let places = (0..whole.len()).filter(|&at| whole[at] != 0 && at % 3 == 0);
        for at in places.take(150) {
            let image = path.with_extension("image");
            copy_directory(&path, &image);
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            std::fs::write(image.join(&name), flipped).unwrap();
            if let Ok(database) = builder().open(&image) {
                assert_eq!(bytes(&database), expected, "byte {at} of {}", name.display());
            }
            std::fs::remove_dir_all(&image).unwrap();
        }
    }
}

#[test]
fn a_snapshot_is_never_ahead_of_the_journal() {
    for durability in [Durability::Buffered, Durability::Interval(Duration::from_secs(600))] {
        let (_directory, path) = temporary();
        let database = builder().durability(durability).open(&path).unwrap();
        mix(&database, 0..50);
        assert_eq!(database.snapshot().unwrap().sequence, 50);
        assert_eq!(database.stats().durable_sequence, 50);
    }
}

#[test]
fn archived_segments_leave_no_gap_in_history() {
    let (_directory, path) = temporary();
    for round in 0..3 {
        let database =
            builder().retention(Retention::Archive).keep_snapshots(1).open(&path).unwrap();
        for _ in 0..4 {
            mix(&database, 0..2000);
            database.snapshot().unwrap();
        }
        assert_eq!(database.sequence(), (round + 1) * 8000);
    }
    let archived = numbers(&path.join("archive"), "archive");
    let journal = first_sequences(&path);
    assert!(archived.len() > 5, "{archived:?}");
    assert_eq!(archived[0], 1);
    assert!(archived.iter().all(|first| !journal.contains(first)), "{archived:?} {journal:?}");
    let sizes: u64 = content(&path.join("archive")).values().map(|file| file.len() as u64).sum();
    assert!(sizes < 24_000 * 24, "{sizes} bytes for records of 16 and more bytes each");
    assert!(temporaries(&path).is_empty());
}

static SERIALIZE_FAILS: AtomicBool = AtomicBool::new(false);

/// A model whose `Serialize` panics on demand.
#[derive(Clone, Default, Deserialize)]
struct Delicate(u64);

impl Serialize for Delicate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if SERIALIZE_FAILS.load(Ordering::SeqCst) {
            panic!("on purpose");
        }
        serializer.serialize_newtype_struct("Delicate", &self.0)
    }
}

impl Model for Delicate {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
struct Touch;

impl Command<Delicate> for Touch {
    type Output = ();
    type Rejection = ();

    fn apply(self, model: &mut Delicate, _: &mut Context<'_, Delicate>) -> Result<(), ()> {
        model.0 += 1;
        Ok(())
    }
}

prevalence::commands! { Delicate { 1 => Touch } }

#[test]
fn a_panic_in_serialize_disturbs_no_command_and_is_visible() {
    common::quiet_panics();
    let (_directory, path) = temporary();
    let database = Database::<Delicate>::open(&path).unwrap();
    database.execute(Touch).unwrap();
    SERIALIZE_FAILS.store(true, Ordering::SeqCst);
    let error = database.snapshot().unwrap_err();
    assert!(matches!(error, Error::Encode { .. }), "{error}");
    assert!(matches!(database.health(), Health::SnapshotsFailing(_)));
    assert_eq!(database.stats().snapshots_failed, 1);
    database.execute(Touch).unwrap();
    SERIALIZE_FAILS.store(false, Ordering::SeqCst);
    assert_eq!(database.snapshot().unwrap().sequence, 2);
    assert!(matches!(database.health(), Health::Running));
    // While it is open, the reserve may be in the making, and the snapshot may be tried again.
    database.close().unwrap();
    assert_eq!(temporaries(&path), Vec::<PathBuf>::new());
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Sluggish(u64);

impl Model for Sluggish {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
struct Ponder;

impl Command<Sluggish> for Ponder {
    type Output = ();
    type Rejection = ();

    fn apply(self, model: &mut Sluggish, _: &mut Context<'_, Sluggish>) -> Result<(), ()> {
        std::thread::sleep(Duration::from_millis(2)); // what replay will take, too
        model.0 += 1;
        Ok(())
    }
}

prevalence::commands! { Sluggish { 1 => Ponder } }

#[test]
fn a_startup_budget_notices_how_slow_commands_are() {
    let (_directory, path) = temporary();
    let policy = SnapshotPolicy::startup_within(Duration::from_millis(100));
    let database = Database::<Sluggish>::builder().snapshots(policy).open(&path).unwrap();
    // By the first guess of 1 µs a command, none would be due for long.
    let pending: Vec<_> = (0..200).map(|_| database.submit(Ponder).unwrap()).collect();
    pending.into_iter().for_each(|pending| pending.wait().unwrap());
    until(|| database.stats().snapshots_taken > 0);
    until(|| database.stats().predicted_startup < Duration::from_millis(150));
}

#[test]
fn a_backup_of_a_running_database_opens_by_itself_and_is_restored() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    mix(&database, 0..100);
    let backup = path.with_extension("backup");
    let (at, expected) = std::thread::scope(|scope| {
        let writing = scope.spawn(|| mix(&database, 100..1000));
        let info = database.backup(&backup).unwrap();
        writing.join().unwrap();
        let mut oracle = Ledger::default();
        (0..info.sequence).for_each(|value| oracle.mix(value));
        (info.sequence, oracle.bytes())
    });
    assert!(matches!(database.backup(&backup), Err(Error::NotEmpty { .. })));
    let restored = path.with_extension("restored");
    Database::<Ledger>::restore(&backup, &restored).unwrap();
    for copy in [&backup, &restored] {
        let copied = builder().open(copy).unwrap();
        assert_eq!((copied.sequence(), bytes(&copied)), (at, expected.clone()));
        assert!(copied.recovery().clean);
        copied.execute(Add { account: 1, amount: 1 }).unwrap();
        drop(copied);
        assert_eq!(builder().open(copy).unwrap().sequence(), at + 1);
    }
    let nowhere = path.with_extension("nowhere");
    let error = Database::<Ledger>::restore(&nowhere, path.with_extension("x")).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    assert!(!nowhere.exists());
    assert!(matches!(
        Database::<Ledger>::restore(&path, path.with_extension("y")),
        Err(Error::Locked { .. })
    ));
}

#[test]
fn json_says_what_the_model_says() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    database.execute(Add { account: 7, amount: -5 }).unwrap();
    let mut json = Vec::new();
    assert_eq!(database.export_json(&mut json).unwrap(), 1);
    let parsed: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(parsed["accounts"]["7"], -5);
}

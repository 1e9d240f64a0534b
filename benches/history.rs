//! Measures the cost of keeping and reading a whole history: a state in the middle beside its floor
//! (loading one snapshot and replaying the commands up to the next), the size of archived commands,
//! and how much archiving slows commands down. Prints its own figures. `cargo bench --bench history
//! -- --test` runs a small form.

mod ledger;
#[path = "support/mod.rs"]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use ledger::{Add, Ledger, random_key};
use prevalence::{Database, Pending, Retention, SnapshotPolicy};

const IN_FLIGHT: usize = 4096;
const SNAPSHOTS: u64 = 10;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory is writable")
}

fn open(path: &Path, retention: Retention, policy: SnapshotPolicy) -> Database<Ledger> {
    Database::<Ledger>::builder()
        .retention(retention)
        .snapshots(policy)
        .keep_snapshots(1)
        .open(path)
        .expect("open")
}

/// Each command adds 1 to some entry.
fn run(database: &Database<Ledger>, commands: std::ops::Range<u64>, entries: u64) {
    let mut pending = std::collections::VecDeque::new();
    for index in commands {
        if pending.len() == IN_FLIGHT {
            let oldest: Pending<_, _> = pending.pop_front().expect("not empty");
            oldest.wait().expect("accepted");
        }
        pending.push_back(database.submit(Add(random_key(index, entries), 1)).expect("queued"));
    }
    pending.into_iter().for_each(|pending| pending.wait().expect("accepted"));
}

fn bytes_of(directory: &Path, extension: &str) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .map(|path| path.metadata().expect("a file").len())
        .sum()
}

fn timed<R>(action: impl FnOnce() -> R) -> (Duration, R) {
    let began = Instant::now();
    let result = action();
    (began.elapsed(), result)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Runs commands with that retention, and snapshots meanwhile. Returns the commands per second.
fn throughput(retention: Retention, commands: u64, entries: u64) -> Duration {
    let directory = directory();
    let policy = SnapshotPolicy::every_commands(commands / SNAPSHOTS);
    let database = open(directory.path(), retention, policy);
    timed(|| run(&database, 0..commands, entries)).0
}

fn writing(commands: u64, entries: u64, runs: usize) {
    let kinds = [Retention::Truncate, Retention::Archive];
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..runs {
        for (kind, times) in kinds.iter().zip(&mut times) {
            times.push(throughput(*kind, commands, entries));
        }
    }
    println!(
        "\n== writing {commands} commands, a snapshot every {} ({runs} runs)",
        commands / SNAPSHOTS
    );
    let medians = times.map(median);
    for (kind, time) in kinds.iter().zip(medians) {
        println!("{kind:?}: {:.0} commands/s", commands as f64 / time.as_secs_f64());
    }
    println!("Archive / Truncate: {:.3}", medians[0].as_secs_f64() / medians[1].as_secs_f64());
}

fn reading(commands: u64, entries: u64, runs: usize) {
    let interval = commands / SNAPSHOTS;
    println!("\n== {commands} archived commands, {entries} entries, a snapshot every {interval}");
    let directory = directory();
    let path = directory.path();
    let database = open(path, Retention::Archive, SnapshotPolicy::manual());
    for number in 0..SNAPSHOTS {
        run(&database, number * interval..(number + 1) * interval, entries);
        database.snapshot().expect("snapshot");
    }
    let written = database.stats().journal_bytes;
    // The floor: an open with as many commands.
    run(&database, commands..commands + interval, entries);
    database.close().expect("close");
    let mut floors = Vec::new();
    for _ in 0..runs {
        let database = open(path, Retention::Archive, SnapshotPolicy::manual());
        let report = database.recovery();
        assert_eq!(report.commands_replayed, interval);
        floors.push(report.snapshot_time + report.replay_time);
    }
    let floor = median(floors);
    let database = open(path, Retention::Archive, SnapshotPolicy::manual());
    let archived = bytes_of(&path.join("archive"), "archive");
    let snapshots = bytes_of(&path.join("archive"), "snapshot");
    println!(
        "journal {written} bytes, archived {archived} ({:.2} times smaller, {:.1} bytes a command); \
         archived snapshots {snapshots}",
        written as f64 / archived as f64,
        archived as f64 / commands as f64
    );
    println!("an open that loads a snapshot and replays {interval}: {floor:?}");
    let history = database.history();
    let middle = commands / 2;
    for (what, sequence) in [
        ("at a snapshot in the middle", middle),
        ("half an interval behind it", middle + interval / 2),
        ("right before the next snapshot", middle + interval - 1),
    ] {
        let times = (0..runs).map(|_| {
            let (time, then) = timed(|| history.at(sequence).expect("it is there"));
            assert_eq!(then.0.values().sum::<i64>() as u64, sequence);
            time
        });
        let time = median(times.collect());
        println!(
            "{what}, at({sequence}): {time:?}, {:.2} of that open",
            time.as_secs_f64() / floor.as_secs_f64()
        );
    }
    let (time, count) = timed(|| history.records(1..=commands).expect("all").count() as u64);
    assert_eq!(count, commands);
    println!("all records: {:.0} a second", count as f64 / time.as_secs_f64());
    let (time, replayed) = timed(|| history.replay_as::<Ledger>().expect("all"));
    assert_eq!(replayed.sequence(), commands + interval);
    let rate = replayed.sequence() as f64 / time.as_secs_f64();
    println!("replayed from 1 on: {rate:.0} commands a second");
}

fn main() {
    let short = std::env::args().any(|argument| argument == "--test");
    let (commands, entries, runs) = if short { (20_000, 500, 1) } else { (1_000_000, 100_000, 5) };
    reading(commands, entries, runs);
    writing(commands, entries, runs);
}

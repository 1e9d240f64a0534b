//! Measures the same commands with different intervals between snapshots.

use std::time::Instant;

use prevalence::{Database, LoadModel, SnapshotPolicy};

use crate::ledger::{Ledger, put};
use crate::open;
use crate::support::run::median;
use crate::support::{directory, disk_bytes};

/// The intervals: the number of all commands is divided by these.
const PARTS: [u64; 7] = [1, 2, 5, 10, 20, 50, 100];
/// The number of times that disk use is measured during a run.
const LOOKS: u64 = 40;

/// The result for one interval: medians over the rounds.
pub struct Point {
    pub every_commands: u64,
    pub commands_per_second: f64,
    pub snapshots_taken: f64,
    /// The maximum while commands ran.
    pub disk_bytes: f64,
    /// The maximum after the newest snapshot.
    pub commands_behind: f64,
    /// What a snapshot wrote: the mean of those that were seen.
    pub written_bytes: f64,
    /// The time of the open after the last command, and of one that loads on demand.
    pub open_seconds: f64,
    pub late_open_seconds: f64,
}

/// Runs rounds over all intervals, so that all of them use the disk in the same state.
pub fn measure(entries: u64, commands: u64, rounds: usize) -> Vec<Point> {
    println!(
        "\n== intervals: {commands} pipelined commands on {entries} entries, medians of {rounds}"
    );
    let mut runs: Vec<Vec<Point>> = PARTS.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (parts, runs) in PARTS.into_iter().zip(&mut runs) {
            runs.push(one(entries, commands, commands / parts));
        }
    }
    println!(
        "{:>9} {:>11} {:>10} {:>10} {:>10} {:>8} {:>15} {:>10} {:>10}",
        "every",
        "commands/s",
        "lowest",
        "snapshots",
        "each wrote",
        "disk MB",
        "behind at most",
        "next open",
        "on demand"
    );
    runs.iter().map(|runs| show(runs)).collect()
}

fn one(entries: u64, commands: u64, every: u64) -> Point {
    let directory = directory();
    let database = open::<Ledger>(directory.path(), SnapshotPolicy::every_commands(every), entries);
    let (mut disk, mut behind, mut written) = (0, 0, Vec::new());
    let mut elapsed = 0.0;
    let step = commands / LOOKS;
    for look in 0..LOOKS {
        let began = Instant::now();
        put(&database, look * step..(look + 1) * step, entries);
        elapsed += began.elapsed().as_secs_f64();
        let stats = database.stats();
        behind = behind.max(stats.commands_since_snapshot);
        if stats.snapshot_sequence > 0 {
            written.push(stats.snapshot_file_bytes as f64);
        }
        disk = disk.max(disk_bytes(directory.path()));
    }
    let taken = database.stats().snapshots_taken;
    database.close().expect("close");
    let open = |load_model| {
        let builder = Database::<Ledger>::builder().snapshots(SnapshotPolicy::manual());
        let began = Instant::now();
        let database = builder.load_model(load_model).open(directory.path()).expect("open");
        let took = began.elapsed().as_secs_f64();
        database.close().expect("close");
        took
    };
    Point {
        every_commands: every,
        commands_per_second: (step * LOOKS) as f64 / elapsed,
        snapshots_taken: taken as f64,
        disk_bytes: disk as f64,
        commands_behind: behind as f64,
        written_bytes: written.iter().fold(0.0, |sum, bytes| sum + bytes)
            / written.len().max(1) as f64,
        open_seconds: open(LoadModel::AtOpen),
        late_open_seconds: open(LoadModel::OnDemand),
    }
}

fn show(runs: &[Point]) -> Point {
    let middle = |of: fn(&Point) -> f64| median(runs.iter().map(of));
    let point = Point {
        every_commands: runs[0].every_commands,
        commands_per_second: middle(|run| run.commands_per_second),
        snapshots_taken: middle(|run| run.snapshots_taken),
        disk_bytes: middle(|run| run.disk_bytes),
        commands_behind: middle(|run| run.commands_behind),
        written_bytes: middle(|run| run.written_bytes),
        open_seconds: middle(|run| run.open_seconds),
        late_open_seconds: middle(|run| run.late_open_seconds),
    };
    let lowest = runs.iter().map(|run| run.commands_per_second).fold(f64::INFINITY, f64::min);
    println!(
        "{:>9} {:>11.0} {lowest:>10.0} {:>10.0} {:>7.1} MB {:>8.0} {:>15.0} {:>7.0} ms {:>7.0} ms",
        point.every_commands,
        point.commands_per_second,
        point.snapshots_taken,
        point.written_bytes / 1e6,
        point.disk_bytes / 1e6,
        point.commands_behind,
        point.open_seconds * 1e3,
        point.late_open_seconds * 1e3,
    );
    point
}

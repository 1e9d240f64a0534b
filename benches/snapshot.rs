//! What a snapshot in progress costs commands and memory, and what the interval between snapshots
//! costs and saves. Prints figures of its own; `cargo bench --bench snapshot -- --test` runs it
//! small. Entries: `PREVALENCE_BENCH_ENTRIES` (default 5,000,000).

mod ledger;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ledger::{Add, Ledger, random_key};
use prevalence::{Database, SnapshotPolicy};

const ROUNDS: u64 = 10;

/// Latencies of commands executed one after the other while `go_on` holds.
fn latencies(
    database: &Database<Ledger>,
    entries: u64,
    go_on: impl Fn(u64) -> bool,
) -> Vec<Duration> {
    let mut latencies = Vec::new();
    let mut index = 0;
    while go_on(index) {
        let began = Instant::now();
        database.execute(Add(random_key(index, entries), 1)).expect("accepted");
        latencies.push(began.elapsed());
        index += 1;
    }
    latencies
}

fn percentile(sorted: &[Duration], per_mille: usize) -> Duration {
    sorted[(sorted.len() * per_mille / 1000).min(sorted.len() - 1)]
}

fn show(name: &str, sorted: &mut [Duration]) {
    sorted.sort_unstable();
    println!(
        "{name:<28} {:>8} commands  p50 {:>9.1?}  p99 {:>9.1?}  p99.9 {:>9.1?}  max {:>9.1?}",
        sorted.len(),
        percentile(sorted, 500),
        percentile(sorted, 990),
        percentile(sorted, 999),
        sorted[sorted.len() - 1],
    );
}

/// Resident memory in bytes, as Linux says it.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("VmRSS: 0 kB");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory is writable")
}

fn open(path: &Path, policy: SnapshotPolicy, entries: u64) -> Database<Ledger> {
    let ledger = Ledger((0..entries).map(|key| (key, 1)).collect());
    let builder = Database::<Ledger>::builder().snapshots(policy).initial(ledger);
    builder.open(path).expect("open")
}

fn memory_and_latency(entries: u64, commands: u64) {
    println!("\n== one snapshot of {entries} entries");
    let directory = directory();
    let database = open(directory.path(), SnapshotPolicy::manual(), entries);
    database.execute(Add(0, 1)).expect("accepted");
    let before = resident();
    let (info, peak) = std::thread::scope(|scope| {
        let snapshot = scope.spawn(|| database.snapshot().expect("snapshot"));
        let mut peak = before;
        while !snapshot.is_finished() {
            peak = peak.max(resident());
            std::thread::sleep(Duration::from_millis(2));
        }
        (snapshot.join().expect("no panic"), peak)
    });
    println!(
        "idle: {:.2?}, {} MB of encoding in a file of {} MB, peak extra memory {:.1} MiB of {} MiB",
        info.duration,
        info.raw_bytes / 1_000_000,
        info.file_bytes / 1_000_000,
        (peak - before) as f64 / (1 << 20) as f64,
        before >> 20,
    );
    // In alternating rounds, so that both meet the same disk.
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.extend(latencies(&database, entries, |index| index < commands / ROUNDS));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    database.snapshot().expect("snapshot");
                }
            });
            with.extend(latencies(&database, entries, |index| index < commands / ROUNDS));
            done.store(true, Ordering::Relaxed);
        });
    }
    show("without a snapshot", &mut without);
    show("while they are taken", &mut with);
    println!(
        "p99.9 ratio {:.2}",
        percentile(&with, 999).as_secs_f64() / percentile(&without, 999).as_secs_f64()
    );
}

/// Commands pipelined as fast as they go, with a snapshot every so many.
fn intervals(entries: u64, commands: u64) {
    println!("\n== intervals: {commands} pipelined commands on {entries} entries");
    println!("   every    commands/s   snapshots   disk MB   next open");
    for parts in [1, 2, 5, 10, 20] {
        let directory = directory();
        let every = commands / parts;
        let policy = SnapshotPolicy::every_commands(every);
        let database = open(directory.path(), policy, entries);
        let began = Instant::now();
        let mut pending = std::collections::VecDeque::new();
        for index in 0..commands {
            if pending.len() == 4096 {
                let oldest: prevalence::Pending<_, _> = pending.pop_front().expect("not empty");
                oldest.wait().expect("accepted");
            }
            pending.push_back(database.submit(Add(random_key(index, entries), 1)).expect("queued"));
        }
        pending.into_iter().for_each(|pending| pending.wait().expect("accepted"));
        let rate = commands as f64 / began.elapsed().as_secs_f64();
        let snapshots = database.stats().snapshots_taken;
        database.close().expect("close");
        let disk = disk_bytes(directory.path());
        let began = Instant::now();
        drop(Database::<Ledger>::open(directory.path()).expect("open"));
        println!(
            "{every:>8} {rate:>13.0} {snapshots:>11} {:>9} {:>11.1?}",
            disk / 1_000_000,
            began.elapsed()
        );
    }
}

fn disk_bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).expect("a directory");
    entries
        .map(|entry| entry.expect("an entry"))
        .map(|entry| match entry.file_type().expect("a type").is_dir() {
            true => disk_bytes(&entry.path()),
            false => entry.metadata().expect("metadata").len(),
        })
        .sum()
}

fn main() {
    let small = std::env::args().any(|argument| argument == "--test");
    let entries = std::env::var("PREVALENCE_BENCH_ENTRIES").ok().and_then(|n| n.parse().ok());
    let entries = entries.unwrap_or(if small { 20_000 } else { 5_000_000 });
    memory_and_latency(entries, if small { 200 } else { 50_000 });
    intervals(entries / 5, if small { 2_000 } else { 500_000 });
}

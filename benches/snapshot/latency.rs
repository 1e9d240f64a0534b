//! Measures one snapshot, and the commands beside it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use prevalence::{Database, SnapshotPolicy};

use crate::contents::Contents;
use crate::open;
use crate::support::comparison::verdict;
use crate::support::run::Run;
use crate::support::{directory, resident_bytes};

const ROUNDS: u64 = 10;
const TAIL_AT_MOST: f64 = 1.3;
/// In MiB.
const MEMORY_AT_MOST: f64 = 16.0;

pub fn measure<C: Contents>(entries: u64, commands: u64) {
    println!("\n== latency: one snapshot of {entries} entries, {}", C::NAME);
    let directory = directory();
    let database = open::<C>(directory.path(), SnapshotPolicy::manual(), entries);
    database.execute(C::command(0, entries)).expect("accepted");
    idle(&database);
    // The rounds alternate, so that both use the disk in the same state.
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let each = commands / ROUNDS;
        without.push(execute(&database, 2 * round * each, each, entries));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    database.snapshot().expect("snapshot");
                }
            });
            with.push(execute(&database, (2 * round + 1) * each, each, entries));
            done.store(true, Ordering::Relaxed);
        });
    }
    let without = show("without a snapshot", &Run::sum(without.iter()));
    let with = show("while they are taken", &Run::sum(with.iter()));
    for (name, with, without) in [("p99", with.0, without.0), ("p99.9", with.1, without.1)] {
        let ratio = with.as_secs_f64() / without.as_secs_f64();
        println!(
            "ratio  {name} during a snapshot {ratio:.2} x without, target at most {TAIL_AT_MOST}: {}",
            verdict(ratio <= TAIL_AT_MOST)
        );
    }
}

fn idle<C: Contents>(database: &Database<C>) {
    let before = resident_bytes();
    let (info, peak) = std::thread::scope(|scope| {
        let snapshot = scope.spawn(|| database.snapshot().expect("snapshot"));
        let mut peak = before;
        while !snapshot.is_finished() {
            peak = peak.max(resident_bytes());
            std::thread::sleep(Duration::from_millis(2));
        }
        (snapshot.join().expect("no panic"), peak)
    });
    println!(
        "idle: {:.2?}, {} MB of encoding in a file of {} MB, beside a model of {} MiB",
        info.duration,
        info.raw_bytes / 1_000_000,
        info.file_bytes / 1_000_000,
        before >> 20,
    );
    let extra = (peak - before) as f64 / (1 << 20) as f64;
    println!(
        "peak   {extra:.1} MiB of memory beyond the model, target at most {MEMORY_AT_MOST}: {}",
        verdict(extra <= MEMORY_AT_MOST)
    );
}

/// Executes commands one after the other, and returns their latencies.
fn execute<C: Contents>(database: &Database<C>, first: u64, commands: u64, entries: u64) -> Run {
    let one = |index| {
        let command = C::command(index, entries);
        let began = Instant::now();
        database.execute(command).expect("accepted");
        began.elapsed()
    };
    Run::alone(commands, || (first..first + commands).map(one).collect())
}

/// Returns the p99 and the p99.9.
fn show(name: &str, run: &Run) -> (Duration, Duration) {
    let of = run.percentiles([500, 990, 999, 1000]).expect("latencies");
    println!(
        "{name:<28} {:>8} commands  p50 {:>9.1?}  p99 {:>9.1?}  p99.9 {:>9.1?}  max {:>9.1?}",
        run.operations, of[0], of[1], of[2], of[3],
    );
    (of[1], of[2])
}

//! Measures the cost of a snapshot in progress for commands and memory, and the cost and the saving
//! of an interval between snapshots. Prints its own figures, because criterion has no percentiles.
//!
//! `cargo bench --bench snapshot -- WORD…` runs the parts with these words in their names
//! (`latency`, `fat`, `changes`, `intervals`); `-- --test` runs small forms of all. Entries:
//! `PREVALENCE_BENCH_ENTRIES` (default 5,000,000, and a fifth of it for `fat` and `intervals`). The chart of
//! the intervals is written to the file `PREVALENCE_BENCH_CHART` (default:
//! `target/tmp/snapshot-intervals.svg`).

#[path = "../ledger/mod.rs"]
mod ledger;
#[path = "../support/mod.rs"]
mod support;

mod changes;
mod chart;
mod contents;
mod intervals;
mod latency;

use std::path::Path;

use contents::{Contents, Fat};
use ledger::Ledger;
use prevalence::{Database, SnapshotPolicy};
use support::{is_short, is_wanted, setting};

fn open<C: Contents>(path: &Path, policy: SnapshotPolicy, entries: u64) -> Database<C> {
    let builder = Database::<C>::builder().snapshots(policy).initial(C::of(entries));
    builder.open(path).expect("open")
}

fn main() {
    let short = is_short();
    let entries = setting("PREVALENCE_BENCH_ENTRIES", if short { 20_000 } else { 5_000_000 });
    if is_wanted("latency") {
        latency::measure::<Ledger>(entries, if short { 200 } else { 50_000 });
    }
    if is_wanted("latency, fat values") {
        latency::measure::<Fat>(entries / 5, if short { 200 } else { 50_000 });
    }
    if is_wanted("changes") {
        // Smaller snapshots are whole.
        let entries = entries.max(200_000);
        for part in [100, 1000] {
            changes::measure::<Ledger>(entries, entries / part);
            changes::measure::<Fat>(entries / 5, entries / 5 / part);
        }
    }
    if is_wanted("intervals") {
        let (commands, rounds) = if short { (20_000, 1) } else { (2_000_000, 3) };
        let points = intervals::measure(entries / 5, commands, rounds);
        let otherwise = || format!("{}/snapshot-intervals.svg", env!("CARGO_TARGET_TMPDIR"));
        let path = std::env::var("PREVALENCE_BENCH_CHART").unwrap_or_else(|_| otherwise());
        chart::draw(Path::new(&path), &points).expect("the chart");
        println!("drawn: {path}");
    }
}

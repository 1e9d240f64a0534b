//! Measures how long an open takes. Prints its own figures, because criterion cannot report parts
//! of the time of a run. The files are in the page cache.
//!
//! `cargo bench --bench startup -- WORD…` runs the parts with these words in their names (`tails`,
//! `eager`, `on demand`, `journal alone`, `budget`); `-- --test` runs small forms of all of them.
//! Entries for `tails`: `PREVALENCE_BENCH_ENTRIES` (default: 1,000,000 and 5,000,000).

#[path = "../snapshot/contents.rs"]
mod contents;
#[path = "../ledger/mod.rs"]
mod ledger;
#[path = "../support/mod.rs"]
mod support;

mod budget;
mod eager;
mod journal_alone;
mod on_demand;
mod tails;

use std::path::Path;
use std::time::Duration;

use ledger::Ledger;
use prevalence::{Database, LoadModel, SnapshotPolicy};
use support::{is_short, is_wanted, setting};

fn open(path: &Path, policy: SnapshotPolicy) -> Database<Ledger> {
    Database::<Ledger>::builder().snapshots(policy).open(path).expect("open")
}

fn main() {
    let short = is_short();
    if is_wanted("tails") {
        let (first, second) = if short { (5_000, 10_000) } else { (1_000_000, 5_000_000) };
        let tails = if short { [0, 2_000, 20_000] } else { [0, 100_000, 1_000_000] };
        match setting("PREVALENCE_BENCH_ENTRIES", 0) {
            0 => [first, second].into_iter().for_each(|entries| tails::measure(entries, tails)),
            entries => tails::measure(entries, tails),
        }
    }
    if is_wanted("eager") {
        eager::measure(if short { 10_000 } else { 1_000_000 });
    }
    if is_wanted("on demand") {
        // Smaller snapshots are whole.
        let scale = if short { 50 } else { 1 };
        let changes = if short { 2 } else { 20 };
        on_demand::measure::<Ledger>(10_000_000 / scale, 0, 0);
        on_demand::measure::<Ledger>(10_000_000 / scale, changes, 20_000 / scale);
        on_demand::measure::<contents::Fat>(1_000_000 / scale, 0, 0);
        on_demand::measure::<contents::Fat>(1_000_000 / scale, changes, 2_000 / scale);
    }
    if is_wanted("journal alone") {
        journal_alone::measure(if short { 10_000 } else { 1_000_000 }, 20);
    }
    if is_wanted("budget") {
        budgets(short);
    }
}

/// Three sizes of models, and every way to load them.
fn budgets(short: bool) {
    let scale = if short { 100 } else { 1 };
    let budget = Duration::from_millis(if short { 50 } else { 500 });
    let rounds = if short { 1 } else { 8 };
    for load_model in [LoadModel::AtOpen, LoadModel::InBackground, LoadModel::OnDemand] {
        for (entries, commands) in [(100_000, 700_000), (1_000_000, 500_000), (5_000_000, 700_000)]
        {
            let (entries, commands) = (entries / scale, commands / scale);
            let case = budget::Case { budget, entries, rounds, commands, load_model };
            budget::measure::<Ledger>(&case);
        }
        let (entries, commands) = (1_000_000 / scale, 500_000 / scale);
        let case = budget::Case { budget, entries, rounds, commands, load_model };
        budget::measure::<contents::Fat>(&case);
    }
}

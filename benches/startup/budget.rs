//! Measures how well the prediction of the next start holds, and so how well `startup_within` keeps
//! its budget.

use std::time::Duration;

use prevalence::{Database, LoadModel, SnapshotPolicy};

use crate::contents::{Contents, put};
use crate::support::directory;

/// An open may take so much more or less than predicted.
const TOLERANCE: f64 = 0.25;

/// One database under `startup_within`.
pub struct Case {
    pub budget: Duration,
    /// Entries at the end; it begins with half as many.
    pub entries: u64,
    pub rounds: u64,
    /// Commands of each round, on random entries.
    pub commands: u64,
    pub load_model: LoadModel,
}

/// Runs a database that grows. Prints the prediction at each close and the time of the next open.
pub fn measure<M: Contents>(case: &Case) {
    let Case { budget, entries, rounds, commands, load_model } = *case;
    println!("\n== budget: startup_within({budget:?}), {entries} of {}, {load_model:?}", M::NAME);
    println!("  round   snapshots      behind      load    replay   predicted    actual    ratio");
    let directory = directory();
    let mut last: Option<(Duration, u64)> = None;
    let mut within = 0;
    for round in 0..=rounds {
        let database = Database::<M>::builder()
            .snapshots(SnapshotPolicy::startup_within(budget))
            .load_model(load_model)
            .initial(M::of(if round == 0 { entries / 2 } else { 0 }))
            .open(directory.path())
            .expect("open");
        let report = database.recovery();
        if let Some((predicted, taken)) = last {
            let ratio = report.total.as_secs_f64() / predicted.as_secs_f64();
            within += u64::from((ratio - 1.0).abs() <= TOLERANCE);
            println!(
                "{round:>7} {taken:>11} {:>11} {:>9.1?} {:>9.1?} {predicted:>11.1?} {:>9.1?} {ratio:>8.2}",
                report.commands_replayed, report.snapshot_time, report.replay_time, report.total,
            );
        }
        let now = entries / 2 + entries * (round + 1) / (rounds + 1) / 2;
        put(&database, round * commands..(round + 1) * commands, now);
        // The close may take a snapshot, or end one that is being written.
        let handle = database.clone();
        database.close().expect("close");
        let stats = handle.stats();
        last = Some((stats.predicted_startup, stats.snapshots_taken));
    }
    println!("within {:.0} % of the prediction: {within} of {rounds}", TOLERANCE * 100.0);
}

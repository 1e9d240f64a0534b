//! Measures how well `startup_within` keeps its budget.

use std::time::Duration;

use prevalence::SnapshotPolicy;

use crate::ledger::put;
use crate::open;
use crate::support::directory;

/// Runs a growing database under `startup_within`. Prints the prediction at each close and the time
/// of the next open.
pub fn measure(budget: Duration, rounds: u64, commands: u64) {
    println!("\n== budget: startup_within({budget:?}) over a growing database");
    println!("   entries   commands   snapshots   predicted      actual   actual/predicted");
    let directory = directory();
    let mut predicted: Option<Duration> = None;
    let mut taken = 0;
    for round in 0..=rounds {
        let database = open(directory.path(), SnapshotPolicy::startup_within(budget));
        let actual = database.recovery().total;
        if let Some(predicted) = predicted {
            println!(
                "{:>10} {:>10} {taken:>11} {predicted:>11.1?} {actual:>11.1?} {:>18.2}",
                database.query(|ledger| ledger.0.len()),
                database.sequence(),
                actual.as_secs_f64() / predicted.as_secs_f64(),
            );
        }
        let entries = commands * (round + 1) / 4;
        put(&database, round * commands..(round + 1) * commands, entries);
        let stats = database.stats();
        (predicted, taken) = (Some(stats.predicted_startup), stats.snapshots_taken);
        database.close().expect("close");
    }
}

//! Owns telling the figures of a database to the program's `metrics` recorder. Knows nothing of who
//! exports them.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use super::Database;
use crate::engine::Health;
use crate::model::Model;
use crate::stats::Stats;

/// The unit of a figure, by its name.
fn unit(name: &str) -> Unit {
    if name.ends_with("_bytes") || name.contains("_bytes_") { Unit::Bytes } else { Unit::Count }
}

/// Tells one figure of each kind: those that only grow, those that go up and down, and durations.
macro_rules! report {
    (
        $stats:ident of $database:ident:
        counters { $($counter:ident,)* }
        gauges { $($gauge:ident,)* }
        seconds { $($seconds:ident,)* }
    ) => {
        // If `Stats` gets a field, it must be told, too.
        let Stats { $($counter,)* $($gauge,)* $($seconds,)* } = $stats;
        $(
            let name = concat!("prevalence_", stringify!($counter));
            describe_counter!(name, unit(name), concat!("`", stringify!($counter), "` of `Stats`"));
            counter!(name, "database" => $database.clone()).absolute($counter);
        )*
        $(
            let name = concat!("prevalence_", stringify!($gauge));
            describe_gauge!(name, unit(name), concat!("`", stringify!($gauge), "` of `Stats`"));
            // Figures beyond 2^53 lose their last digits: a gauge is a float.
            gauge!(name, "database" => $database.clone()).set($gauge as f64);
        )*
        $(
            let name = concat!("prevalence_", stringify!($seconds), "_seconds");
            let told = concat!("`", stringify!($seconds), "` of `Stats`");
            describe_gauge!(name, Unit::Seconds, told);
            gauge!(name, "database" => $database.clone()).set($seconds.as_secs_f64());
        )*
    };
}

impl<M: Model> Database<M> {
    /// Tells all figures of [`Stats`] to the recorder that the program has installed with the crate
    /// `metrics`: counters and gauges with the names of the fields behind `prevalence_`, durations
    /// as `…_seconds`, and `prevalence_healthy`, which is 1 while the database accepts commands.
    /// Each has the label `database` with this text. Call it before each scrape, or now and then.
    /// It takes a few microseconds, and nothing is told otherwise. Exists with the feature
    /// `metrics`.
    ///
    /// Figures since the open begin with 0 after each open, as `Stats` does.
    ///
    /// # Panics
    /// If the recorder panics. The database is not affected.
    pub fn report_metrics(&self, database: &str) {
        let database = database.to_owned();
        let stats = self.stats();
        report! {
            stats of database:
            counters {
            accepted,
            rejected,
            panicked,
            stale,
            duplicates,
            requests_full,
            not_written,
            reapplied,
            batches,
            inline_batches,
            syncs,
            journal_bytes,
            snapshots_taken,
            snapshots_failed,
            }
            gauges {
            sequence,
            durable_sequence,
            remembered_requests,
            reserve_bytes,
            largest_batch,
            journal_bytes_since_snapshot,
            segments_since_snapshot,
            commands_since_snapshot,
            snapshot_sequence,
            snapshot_raw_bytes,
            snapshot_file_bytes,
            snapshot_shared_bytes,
            recent_versions,
            recent_oldest_sequence,
            recent_commands,
            followers,
            followers_lost,
            followers_held_bytes,
            queued_commands,
            queued_bytes,
            }
            seconds {
            oldest_request_age,
            snapshot_duration,
            predicted_startup,
            }
        }
        describe_gauge!("prevalence_healthy", Unit::Count, "1 while commands are accepted");
        let is_healthy = matches!(self.health(), Health::Running | Health::SnapshotsFailing(_));
        gauge!("prevalence_healthy", "database" => database).set(f64::from(u8::from(is_healthy)));
    }
}

//! Reading history back, verifying it, and purging from it.

#[path = "../common/mod.rs"]
mod common;

mod events;
mod files;
mod long_names;
mod mixed;
mod models;
mod purge;
mod purge_refused;
mod purged;
mod reading;
mod verify;
mod walk;

use common::{Carry, Ledger};
use prevalence::{Builder, Database, Retention, SnapshotPolicy};

/// All history is kept, in small segments; and snapshots are taken only where a test asks for them.
fn builder() -> Builder<Ledger> {
    Database::builder()
        .segment_bytes(64 << 10)
        .keep_snapshots(1)
        .snapshots(SnapshotPolicy::manual())
        .retention(Retention::Archive)
}

/// Executes commands of about 60 KiB together, so that the journal leaves a segment for the next
/// one.
fn fill_a_segment(database: &Database<Ledger>) {
    for _ in 0..6 {
        database.execute(Carry(vec![7; 10 << 10])).unwrap();
    }
}

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
mod purged_followers;
mod reading;
mod verify;
mod verify_running;
mod walk;

use common::{Carry, Ledger, keeping_history};
use prevalence::{Builder, Database};

fn builder() -> Builder<Ledger> {
    keeping_history()
}

/// Executes commands of about 60 KiB together, so that the journal leaves a segment for the next
/// one.
fn fill_a_segment(database: &Database<Ledger>) {
    for _ in 0..6 {
        database.execute(Carry(vec![7; 10 << 10])).unwrap();
    }
}

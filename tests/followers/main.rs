//! Following a database: subscriptions and futures.

#[path = "../common/mod.rs"]
mod common;

mod futures;
mod lagging;
mod subscriptions;

use common::Ledger;
use prevalence::{Builder, Database, Retention, SnapshotPolicy, Subscription};

/// All history is kept, in small segments; and snapshots are taken only where a test asks for them.
fn builder() -> Builder<Ledger> {
    Database::builder()
        .segment_bytes(64 << 10)
        .keep_snapshots(1)
        .snapshots(SnapshotPolicy::manual())
        .retention(Retention::Archive)
}

/// Takes commands until one with this sequence came. Checks that there is no gap, and that each has
/// the events of its command: `Add` emits its sequence.
fn take_to(subscription: &mut Subscription<Ledger>, last: u64) {
    while subscription.next_sequence() <= last {
        let expected = subscription.next_sequence();
        let recorded = subscription.next().expect("it is open").unwrap();
        assert_eq!(recorded.sequence, expected);
        let emits = recorded.command.command_name() == "Add";
        assert_eq!(recorded.events, if emits { vec![expected] } else { Vec::new() });
    }
}

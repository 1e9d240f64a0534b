//! Following a database: subscriptions and futures.

#[path = "../common/mod.rs"]
mod common;

mod closing;
mod derived;
mod futures;
mod holds;
mod lagging;
mod projections;
mod reactors;
mod sinks;
mod subscriptions;
mod tally;

use common::{Ledger, keeping_history};
use prevalence::{Builder, Subscription};

fn builder() -> Builder<Ledger> {
    keeping_history()
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

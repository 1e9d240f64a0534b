//! The model that the benches share: a ledger of accounts, and keys in a random order.

// Each bench uses only a part of this module.
#![allow(dead_code)]

use std::collections::VecDeque;

use prevalence::collections::Map;
use prevalence::{Command, Context, Database, Model, Pending};
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Ledger(pub Map<u64, i64>);

impl Model for Ledger {
    type Event = ();
}

impl Ledger {
    /// Makes a ledger with the keys 0, 1, 2 …, each with the amount 1.
    pub fn of(entries: u64) -> Self {
        Self((0..entries).map(|key| (key, 1)).collect())
    }

    /// Does the work of an [`Add`].
    pub fn add(&mut self, key: u64, amount: i64) {
        *self.0.entry(key).or_default() += amount;
    }
}

#[derive(Serialize, Deserialize)]
pub struct Add(pub u64, pub i64);

impl Command<Ledger> for Add {
    type Output = ();
    type Rejection = std::convert::Infallible;

    fn apply(
        self,
        ledger: &mut Ledger,
        _: &mut Context<'_, Ledger>,
    ) -> Result<(), Self::Rejection> {
        ledger.add(self.0, self.1);
        Ok(())
    }
}

prevalence::commands! { Ledger { 1 => Add } }

/// Returns key number `index`. Keys are the same in each run, and spread as if at random
/// (SplitMix64).
pub fn random_key(index: u64, entries: u64) -> u64 {
    crate::support::mix(index) % entries
}

/// Submits the [`Add`]s with these numbers, with 4,096 in flight, and waits for all of them.
pub fn put(database: &Database<Ledger>, numbers: impl Iterator<Item = u64>, entries: u64) {
    let mut in_flight = VecDeque::new();
    for index in numbers {
        if in_flight.len() == 4096 {
            let oldest: Pending<_, _> = in_flight.pop_front().expect("not empty");
            oldest.wait().expect("accepted");
        }
        let command = Add(random_key(index, entries), 1);
        in_flight.push_back(database.submit(command).expect("queued"));
    }
    in_flight.into_iter().for_each(|pending| pending.wait().expect("accepted"));
}

pub fn encoded(ledger: &Ledger) -> Vec<u8> {
    bincode::serde::encode_to_vec(ledger, bincode::config::standard()).expect("encodes")
}

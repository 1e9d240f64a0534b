//! The model that the benches share: a ledger of accounts, and keys in an order that is not one.

use imbl::OrdMap;
use prevalence::{Command, Context, Model};
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Ledger(pub OrdMap<u64, i64>);

impl Model for Ledger {
    type Event = ();
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
        *ledger.0.entry(self.0).or_default() += self.1;
        Ok(())
    }
}

prevalence::commands! { Ledger { 1 => Add } }

pub fn random_key(index: u64, entries: u64) -> u64 {
    (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) % entries
}

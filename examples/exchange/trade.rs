//! Trades: what the book tells to whoever follows it.

use serde::{Deserialize, Serialize};

/// An execution of an order: the event of the two commands that execute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trade {
    /// Its place among all trades, counted from 1. Who follows the book needs no counter.
    pub number: u64,
    pub message: u64,
    /// In nanoseconds since midnight.
    pub time: u64,
    /// `None` if the order was hidden.
    pub order: Option<u64>,
    pub price: i64,
    pub shares: u64,
}

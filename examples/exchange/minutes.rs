//! A projection: how much was traded in each minute of the day.

use prevalence::collections::Map;
use prevalence::{FollowerError, Projection, Recorded};
use serde::{Deserialize, Serialize};

use crate::book::Book;

const MINUTE: u64 = 60 * 1_000_000_000;

/// What was traded in one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minute {
    pub trades: u64,
    pub shares: u128,
    /// Shares times price, in dollars times 10,000.
    pub turnover: i128,
}

/// The minutes with trades, each counted from midnight.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct TradesPerMinute(Map<u64, Minute>);

impl TradesPerMinute {
    pub fn iter(&self) -> impl Iterator<Item = (&u64, &Minute)> {
        self.0.iter()
    }

    /// Returns the minute with the most trades.
    pub fn busiest(&self) -> Option<(u64, Minute)> {
        let most = self.0.iter().max_by_key(|(_, minute)| minute.trades);
        most.map(|(at, minute)| (*at, *minute))
    }

    pub fn trades(&self) -> u64 {
        self.0.values().map(|minute| minute.trades).sum()
    }
}

impl Projection<Book> for TradesPerMinute {
    fn apply(&mut self, recorded: &Recorded<Book>) -> Result<(), FollowerError> {
        for trade in &recorded.events {
            // The time of the message and not that of the command: so it does not matter when and
            // how often the program was started.
            let minute = self.0.entry(trade.time / MINUTE).or_default();
            let turnover = i128::from(trade.price) * i128::from(trade.shares);
            let sum = minute.turnover.checked_add(turnover);
            minute.trades += 1;
            minute.shares += u128::from(trade.shares);
            minute.turnover = sum.ok_or("the turnover of a minute does not fit in 128 bits")?;
        }
        Ok(())
    }
}

/// Returns the time of day of a minute, such as 09:30.
pub fn clock(minute: u64) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

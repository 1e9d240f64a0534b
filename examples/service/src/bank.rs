//! The bank: its state, and the commands that change it. Knows nothing of HTTP.

use std::fmt;

use prevalence::collections::Map;
use prevalence::{Command, Context, Model};
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Bank {
    balances: Map<u32, u64>,
}

impl Bank {
    pub fn balance(&self, account: u32) -> u64 {
        self.balances.get(&account).copied().unwrap_or(0)
    }

    fn add(&mut self, account: u32, cents: u64) -> Result<u64, Refusal> {
        let balance = self.balance(account).checked_add(cents).ok_or(Refusal::TooMuch)?;
        self.balances.insert(account, balance);
        Ok(balance)
    }
}

impl Model for Bank {
    type Event = ();
}

/// Why the bank refuses.
#[derive(Debug)]
pub enum Refusal {
    Overdrawn { missing_cents: u64 },
    TooMuch,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overdrawn { missing_cents } => {
                write!(f, "the account lacks {missing_cents} cents for this")
            }
            Self::TooMuch => f.write_str("no account can hold so much"),
        }
    }
}

impl std::error::Error for Refusal {}

/// What an account holds afterwards.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    pub cents: u64,
}

#[derive(Serialize, Deserialize)]
pub struct Deposit {
    pub account: u32,
    pub cents: u64,
}

impl Command<Bank> for Deposit {
    type Output = Balance;
    type Rejection = Refusal;

    fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<Balance, Refusal> {
        bank.add(self.account, self.cents).map(|cents| Balance { cents })
    }
}

#[derive(Serialize, Deserialize)]
pub struct Transfer {
    pub from: u32,
    pub to: u32,
    pub cents: u64,
}

impl Command<Bank> for Transfer {
    type Output = Balance;
    type Rejection = Refusal;

    fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<Balance, Refusal> {
        let before = bank.balance(self.from);
        let Some(left) = before.checked_sub(self.cents) else {
            return Err(Refusal::Overdrawn { missing_cents: self.cents - before });
        };
        bank.balances.insert(self.from, left);
        // A refusal leaves no trace: the engine takes back what was changed before it.
        bank.add(self.to, self.cents)?;
        Ok(Balance { cents: bank.balance(self.from) })
    }
}

prevalence::commands! { Bank { 1 => Deposit, 2 => Transfer } }

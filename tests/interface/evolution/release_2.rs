use prevalence::collections::Map;
use prevalence::{Command, Context, Model};
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Bank {
    pub balances: Map<u32, u64>,
}

impl Model for Bank {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
pub struct Deposit {
    pub account: u32,
    pub cents: u64,
    pub fee_cents: u64, // new
}

impl Command<Bank> for Deposit {
    type Output = u64;
    type Rejection = &'static str;
    fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<u64, &'static str> {
        let cents = self.cents.checked_sub(self.fee_cents).ok_or("less than its fee")?;
        let before = bank.balances.get(&self.account).copied().unwrap_or(0);
        let balance = before.checked_add(cents).ok_or("the account is full")?;
        bank.balances.insert(self.account, balance);
        Ok(balance)
    }
}

/// The deposit of release 1: only decoded, so it is no command any more.
#[derive(Deserialize)]
struct DepositV1 {
    account: u32,
    cents: u64,
}

impl From<DepositV1> for Deposit {
    fn from(old: DepositV1) -> Self {
        Self { account: old.account, cents: old.cents, fee_cents: 0 }
    }
}

/// Was called `Withdraw`.
#[derive(Serialize, Deserialize)]
pub struct PayOut {
    pub account: u32,
    pub cents: u64,
}

impl Command<Bank> for PayOut {
    type Output = u64;
    type Rejection = &'static str;
    fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<u64, &'static str> {
        let before = bank.balances.get(&self.account).copied().unwrap_or(0);
        let balance = before.checked_sub(self.cents).ok_or("not that much in the account")?;
        bank.balances.insert(self.account, balance);
        Ok(balance)
    }
}

#[derive(Serialize, Deserialize)]
pub struct AddInterest {
    pub percent: u8,
}

impl Command<Bank> for AddInterest {
    type Output = ();
    type Rejection = &'static str;
    fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<(), &'static str> {
        for (account, cents) in bank.balances.clone() {
            let interest = cents / 100 * u64::from(self.percent);
            let balance = cents.checked_add(interest).ok_or("an account is full")?;
            bank.balances.insert(account, balance);
        }
        Ok(())
    }
}

prevalence::commands! {
    Bank {
        1 => DepositV1 as Deposit, // what release 1 wrote
        2 => PayOut = "Withdraw",  // the journal's name for it stays
        3 => AddInterest,
        4 => Deposit,              // what is written from now on
    }
}

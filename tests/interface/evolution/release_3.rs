use prevalence::collections::Map;
use prevalence::{Command, Context, MigrationError, Model, SnapshotReader};
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Bank {
    pub accounts: Map<u32, Account>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Account {
    pub cents: u64,
    pub frozen: bool, // new
}

/// The bank in the snapshots of releases 1 and 2.
#[derive(Deserialize)]
struct BankV1 {
    balances: Map<u32, u64>,
}

impl From<BankV1> for Bank {
    fn from(old: BankV1) -> Self {
        let account = |(number, cents)| (number, Account { cents, frozen: false });
        Self { accounts: old.balances.into_iter().map(account).collect() }
    }
}

impl Model for Bank {
    type Event = ();
    const VERSION: u32 = 2;

    fn migrate(from: u32, snapshot: &mut SnapshotReader<'_>) -> Result<Self, MigrationError> {
        match from {
            1 => Ok(snapshot.decode::<BankV1>()?.into()),
            _ => Err(MigrationError::Unsupported),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub struct Deposit {
    pub account: u32,
    pub cents: u64,
    pub fee_cents: u64,
}

impl Command<Bank> for Deposit {
    type Output = u64;
    type Rejection = &'static str;
    fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<u64, &'static str> {
        let cents = self.cents.checked_sub(self.fee_cents).ok_or("less than its fee")?;
        let account = bank.accounts.entry(self.account).or_default();
        account.cents = account.cents.checked_add(cents).ok_or("the account is full")?;
        Ok(account.cents)
    }
}

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

#[derive(Serialize, Deserialize)]
pub struct PayOut {
    pub account: u32,
    pub cents: u64,
}

impl Command<Bank> for PayOut {
    type Output = u64;
    type Rejection = &'static str;
    fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<u64, &'static str> {
        let account = bank.accounts.entry(self.account).or_default();
        if account.frozen {
            return Err("the account is frozen");
        }
        account.cents = account.cents.checked_sub(self.cents).ok_or("not that much")?;
        Ok(account.cents)
    }
}

/// New: from now on, an account may be frozen.
#[derive(Serialize, Deserialize)]
pub struct Freeze(pub u32);

impl Command<Bank> for Freeze {
    type Output = ();
    type Rejection = &'static str;
    fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<(), &'static str> {
        bank.accounts.get_mut(&self.0).ok_or("no such account")?.frozen = true;
        Ok(())
    }
}

/// Nobody can execute these any more, but the archive is full of them.
mod retired {
    use super::*;

    #[derive(Serialize, Deserialize)]
    pub struct AddInterest {
        percent: u8,
    }

    impl Command<Bank> for AddInterest {
        type Output = ();
        type Rejection = &'static str;
        fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<(), &'static str> {
            for (number, mut account) in bank.accounts.clone() {
                let interest = account.cents / 100 * u64::from(self.percent);
                account.cents = account.cents.checked_add(interest).ok_or("an account is full")?;
                bank.accounts.insert(number, account);
            }
            Ok(())
        }
    }
}

prevalence::commands! {
    Bank {
        1 => DepositV1 as Deposit,
        2 => PayOut = "Withdraw",
        3 => retired::AddInterest,
        4 => Deposit,
        5 => Freeze,
    }
}

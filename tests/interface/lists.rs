//! Vocabularies that are put together from several modules, and all commands as one type.

use prevalence::{Command, Context, Database, Error, Model, PurgeAction, Retention};
use serde::{Deserialize, Serialize};

use crate::common::temporary;

type Never = std::convert::Infallible;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Bank {
    cents: i64,
    changes: u64,
}

impl Model for Bank {
    type Event = ();
}

macro_rules! command {
    ($command:ident, $content:ty, $self:ident => $cents:expr) => {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        pub struct $command(pub $content);

        impl Command<Bank> for $command {
            type Output = i64;
            type Rejection = Never;

            fn apply($self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<i64, Never> {
                bank.cents += $cents;
                bank.changes += 1;
                Ok(bank.cents)
            }
        }
    };
}

mod accounts {
    use super::*;

    command!(Deposit, u32, self => i64::from(self.0));
    command!(Withdraw, u64, self => -(self.0 as i64));
    prevalence::commands! {
        /// The commands of accounts.
        pub list Accounts for Bank { 1 => Deposit, 2 => Withdraw = "TakeOut" | "Withdraw" }
    }
}

mod loans {
    use super::*;

    #[derive(Serialize, Deserialize)]
    pub struct LendV1(u8);

    impl From<LendV1> for Lend {
        fn from(old: LendV1) -> Self {
            Self(old.0.into())
        }
    }

    command!(Lend, i64, self => self.0);
    prevalence::commands! { pub(super) list Loans for Bank { 100 => LendV1 as Lend, 101 => Lend } }
    // A module without commands yet.
    prevalence::commands! { pub(super) list Nothing for Bank {} }
}

command!(Close, (), self => 0);

prevalence::commands! {
    Bank { ..accounts::Accounts, ..loans::Nothing, ..loans::Loans, 7 => Close }
}

#[test]
fn a_vocabulary_is_put_together_from_lists() {
    let (_directory, path) = temporary();
    let open = || Database::<Bank>::builder().retention(Retention::Archive).open(&path).unwrap();
    let bank = open();
    assert_eq!(bank.execute(accounts::Deposit(9)).unwrap(), 9);
    assert_eq!(bank.execute(accounts::Withdraw(2)).unwrap(), 7);
    assert_eq!(bank.execute(loans::Lend(30)).unwrap(), 37);
    assert_eq!(bank.execute(Close(())).unwrap(), 37);
    drop(bank);
    let bank = open();
    assert_eq!((bank.recovery().commands_replayed, bank.query(|bank| bank.changes)), (4, 4));
    let records = bank.history().records(..).unwrap();
    let named: Vec<(u16, String)> = records
        .map(|record| record.unwrap())
        .map(|record| (record.tag(), record.command_name().to_owned()))
        .collect();
    let expected = [(1, "Deposit"), (2, "TakeOut"), (101, "Lend"), (7, "Close")];
    assert_eq!(named, expected.map(|(tag, name)| (tag, name.to_owned())));
}

/// The same application as one list, which makes an enum.
mod whole {
    use super::*;

    #[derive(Clone, Default, Serialize, Deserialize)]
    pub struct Till(pub i64);

    impl Model for Till {
        type Event = ();
    }

    macro_rules! till {
        ($command:ident, $content:ty) => {
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            pub struct $command(pub $content);

            impl Command<Till> for $command {
                type Output = ();
                type Rejection = Never;

                fn apply(self, till: &mut Till, _: &mut Context<'_, Till>) -> Result<(), Never> {
                    till.0 += i64::from(self.0);
                    Ok(())
                }
            }
        };
    }

    till!(Pay, u32);
    till!(Take, i64);

    #[derive(Serialize, Deserialize)]
    pub struct TakeV1(pub u8);

    impl From<TakeV1> for Take {
        fn from(old: TakeV1) -> Self {
            Self(old.0.into())
        }
    }

    pub mod before {
        use super::*;

        till!(TakeV1, u8);

        impl Command<Past> for TakeV1 {
            type Output = ();
            type Rejection = Never;

            fn apply(self, past: &mut Past, _: &mut Context<'_, Past>) -> Result<(), Never> {
                past.0 += i64::from(self.0);
                Ok(())
            }
        }

        #[derive(Clone, Default, Serialize, Deserialize)]
        pub struct Past(pub i64);

        impl Model for Past {
            type Event = ();
        }

        prevalence::commands! { Past = "Till" { 2 => TakeV1 } }
    }

    prevalence::commands! {
        Till { 1 => Pay, 2 => TakeV1 as Take, 3 => Take = "TakeMore" }

        /// What a till is told.
        #[derive(Debug, PartialEq)]
        pub enum TillCommand;
    }
}

#[test]
fn a_history_is_matched_by_one_type() {
    use whole::{Pay, Take, Till, TillCommand, before};

    let (_directory, path) = temporary();
    let past =
        Database::<before::Past>::builder().retention(Retention::Archive).open(&path).unwrap();
    past.execute(before::TakeV1(4)).unwrap();
    drop(past);
    let builder = || Database::<Till>::builder().retention(Retention::Archive);
    let till = builder().open(&path).unwrap();
    till.execute(Pay(10)).unwrap();
    till.execute(Take(-3)).unwrap();
    let decoded = |till: &Database<Till>| -> Vec<Result<TillCommand, Error>> {
        let records = till.history().records(..).unwrap();
        records.map(|record| record.unwrap().decode()).collect()
    };
    let all: Vec<TillCommand> = decoded(&till).into_iter().map(Result::unwrap).collect();
    let expected =
        [TillCommand::TakeV1(Take(4)), TillCommand::Pay(Pay(10)), TillCommand::Take(Take(-3))];
    assert_eq!(all, expected);
    // Followers match in the same way.
    let mut sum = 0;
    for recorded in till.subscribe(prevalence::From::Beginning).unwrap().take(3) {
        match recorded.unwrap().command.decode().unwrap() {
            TillCommand::Pay(Pay(cents)) => sum += i64::from(cents),
            TillCommand::TakeV1(Take(cents)) | TillCommand::Take(Take(cents)) => sum += cents,
        }
    }
    assert_eq!(sum, till.query(|till| till.0));
    drop(till);
    prevalence::purge::<Till>(&path, |record| match record.sequence() {
        2 => PurgeAction::Redact,
        _ => PurgeAction::Keep,
    })
    .unwrap();
    let till = builder().open(&path).unwrap();
    let all = decoded(&till);
    assert!(matches!(all[1], Err(Error::Erased { sequence: 2 })), "{all:?}");
    assert_eq!(all[2].as_ref().unwrap(), &TillCommand::Take(Take(-3)));
}

//! Questions to a bank that keeps every command: the balances at an earlier time, who made a
//! change, what would have happened under another rule, and whether the code of the next release
//! gives the same results.
//!
//! Run it with `cargo run --example ledger_history`, after reading `examples/bank.rs`.

use std::path::Path;
use std::time::SystemTime;

use prevalence::collections::Map;
use prevalence::{Command, Context, Database, Metadata, Model, Retention};
use serde::{Deserialize, Serialize};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;
type Account = u32;
type Cents = u64;

const ANN: Account = 1;
const BOB: Account = 2;

// 1. The bank: balances, and two commands.

#[derive(Clone, Default, Serialize, Deserialize)]
struct Bank {
    balances: Map<Account, Cents>,
}

impl Model for Bank {
    type Event = ();
}

impl Bank {
    fn balance(&self, account: Account) -> Cents {
        self.balances.get(&account).copied().unwrap_or(0)
    }

    fn add(&mut self, account: Account, cents: Cents) {
        self.balances.insert(account, self.balance(account).saturating_add(cents));
    }

    fn take(&mut self, account: Account, cents: Cents) -> Option<()> {
        let rest = self.balance(account).checked_sub(cents)?;
        self.balances.insert(account, rest);
        Some(())
    }
}

#[derive(Serialize, Deserialize)]
struct Deposit(Account, Cents);

impl Command<Bank> for Deposit {
    type Output = ();
    type Rejection = std::convert::Infallible;
    fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<(), Self::Rejection> {
        bank.add(self.0, self.1);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Transfer {
    from: Account,
    to: Account,
    cents: Cents,
}

impl Command<Bank> for Transfer {
    type Output = ();
    type Rejection = &'static str;
    fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<(), &'static str> {
        bank.take(self.from, self.cents).ok_or("not that much in the account")?;
        bank.add(self.to, self.cents);
        Ok(())
    }
}

prevalence::commands! { Bank { 1 => Deposit, 2 => Transfer } }

// 2. Other models of the same commands. Each is a separate model, with its own `apply` for every
//    command, under the same tags. They did not exist when the commands were executed.

/// The bank, if it had charged 1 % of each transfer.
#[derive(Clone, Default, Serialize, Deserialize)]
struct ChargingBank {
    bank: Bank,
    fees: Cents,
    /// Transfers that the payer could not have paid with the fee.
    refused: u32,
}

impl Model for ChargingBank {
    type Event = ();
}

impl Command<ChargingBank> for Deposit {
    type Output = ();
    type Rejection = ();
    fn apply(self, model: &mut ChargingBank, _: &mut Context<'_, ChargingBank>) -> Result<(), ()> {
        model.bank.add(self.0, self.1);
        Ok(())
    }
}

impl Command<ChargingBank> for Transfer {
    type Output = ();
    type Rejection = ();
    fn apply(self, model: &mut ChargingBank, _: &mut Context<'_, ChargingBank>) -> Result<(), ()> {
        let fee = self.cents / 100;
        if model.bank.take(self.from, self.cents.saturating_add(fee)).is_some() {
            model.bank.add(self.to, self.cents);
            model.fees += fee;
        } else {
            model.refused += 1; // A projection must accept every accepted command.
        }
        Ok(())
    }
}

prevalence::commands! { ChargingBank { 1 => Deposit, 2 => Transfer } }

/// The sum that each teller has moved. The bank itself never kept this aggregate.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Turnover {
    by_teller: Map<String, Cents>,
}

impl Model for Turnover {
    type Event = ();
}

impl Command<Turnover> for Deposit {
    type Output = ();
    type Rejection = ();
    fn apply(self, turnover: &mut Turnover, cx: &mut Context<'_, Turnover>) -> Result<(), ()> {
        *turnover.by_teller.entry(cx.metadata().actor).or_default() += self.1;
        Ok(())
    }
}

impl Command<Turnover> for Transfer {
    type Output = ();
    type Rejection = ();
    fn apply(self, turnover: &mut Turnover, cx: &mut Context<'_, Turnover>) -> Result<(), ()> {
        *turnover.by_teller.entry(cx.metadata().actor).or_default() += self.cents;
        Ok(())
    }
}

prevalence::commands! { Turnover { 1 => Deposit, 2 => Transfer } }

// 3. The bank of the next release. It should behave in the same way, but the code is different: it
//    uses `entry` instead of `get` and `insert`. Step 4 checks that this made no mistake.

mod next_release {
    use super::{Account, Cents, Command, Context, Deposit, Map, Model, Transfer};
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Default, Serialize, Deserialize)]
    pub(super) struct Bank {
        pub(super) balances: Map<Account, Cents>,
    }

    impl Model for Bank {
        type Event = ();
    }

    impl Command<Bank> for Deposit {
        type Output = ();
        type Rejection = ();
        fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<(), ()> {
            let balance = bank.balances.entry(self.0).or_default();
            *balance = balance.saturating_add(self.1);
            Ok(())
        }
    }

    impl Command<Bank> for Transfer {
        type Output = ();
        type Rejection = ();
        fn apply(self, bank: &mut Bank, cx: &mut Context<'_, Bank>) -> Result<(), ()> {
            let balance = bank.balances.entry(self.from).or_default();
            *balance = balance.checked_sub(self.cents).ok_or(())?;
            Deposit(self.to, self.cents).apply(bank, cx)
        }
    }

    prevalence::commands! { Bank { 1 => Deposit, 2 => Transfer } }
}

// 4. The questions.

fn main() -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let bank = Database::<Bank>::builder()
        .retention(Retention::Archive) // keeps every command for ever
        .open(directory.path())?;

    // Paula is at the counter in the morning, Quentin in the afternoon.
    let at = |teller: &str| {
        let metadata = Metadata { actor: teller.to_owned(), ..Metadata::default() };
        bank.with_metadata(&metadata)
    };
    let (paula, quentin) = (at("Paula")?, at("Quentin")?);
    paula.execute(Deposit(ANN, 100_000))?;
    paula.execute(Transfer { from: ANN, to: BOB, cents: 40_000 })?;
    bank.snapshot()?; // the history reads snapshots and archives
    let noon = a_moment_after(bank.view().time());
    quentin.execute(Transfer { from: BOB, to: ANN, cents: 15_000 })?;
    quentin.execute(Transfer { from: ANN, to: BOB, cents: 75_000 })?;
    bank.snapshot()?;
    drop((paula, quentin));

    balance_on_a_date(&bank, noon)?;
    who_did_this(&bank)?;
    what_if(&bank)?;
    what_each_teller_moved(&bank)?;
    bank.close()?;
    the_next_release_means_the_same(directory.path())
}

/// Reads the model at a given time. It is the nearest older snapshot plus the commands after it.
fn balance_on_a_date(bank: &Database<Bank>, noon: SystemTime) -> Outcome<()> {
    let then = bank.history().at_time(noon)?;
    println!("at noon Ann had {} cents, Bob {}", then.balance(ANN), then.balance(BOB));
    same("what they had", (then.balance(ANN), then.balance(BOB)), (60_000, 40_000))?;
    let now = bank.view();
    println!("now Ann has {} cents, Bob {}", now.balance(ANN), now.balance(BOB));
    same("what they have", (now.balance(ANN), now.balance(BOB)), (0, 100_000))
}

/// Finds out who made a change. Every record has its time and the person who asked for it.
fn who_did_this(bank: &Database<Bank>) -> Outcome<()> {
    for record in bank.history().records(..)? {
        let record = record?;
        let Some(transfer) = record.command::<Transfer>().transpose()? else { continue };
        if transfer.from == ANN && transfer.cents > 50_000 {
            let (teller, sequence) = (record.metadata().actor, record.sequence());
            println!("{teller} emptied Ann's account, with the command at sequence {sequence}");
            return same("the teller", (teller.as_str(), sequence), ("Quentin", 4));
        }
    }
    Err("nobody emptied Ann's account".into())
}

/// Tries another rule on the past, and a command on a private copy. Neither changes the bank.
fn what_if(bank: &Database<Bank>) -> Outcome<()> {
    let charging = bank.history().replay_as::<ChargingBank>()?;
    println!("a fee of 1 % would have earned {} cents so far,", charging.fees);
    println!("and {} transfer could not have been paid", charging.refused);
    same("fees and refused transfers", (charging.fees, charging.refused), (550, 1))?;

    let left = bank.what_if(|sandbox| {
        let cents = sandbox.query(|bank| bank.balance(BOB)) / 100;
        sandbox.execute(Transfer { from: BOB, to: 99, cents })?;
        Outcome::Ok(sandbox.query(|bank| bank.balance(BOB)))
    })?;
    println!("if Bob paid 1 % now, he would have {left} cents left");
    same("what Bob would have", left, 99_000)?;
    same("what Bob has", bank.query(|bank| bank.balance(BOB)), 100_000)
}

/// Fills a new model with all commands from the first one on.
fn what_each_teller_moved(bank: &Database<Bank>) -> Outcome<()> {
    let turnover = bank.history().replay_as::<Turnover>()?;
    for (teller, cents) in &turnover.by_teller {
        println!("{teller} has moved {cents} cents");
    }
    let moved: Vec<Cents> = turnover.by_teller.values().copied().collect();
    same("what each moved", moved, vec![140_000, 90_000])
}

/// Proves with the whole history that a refactoring changed no result.
fn the_next_release_means_the_same(path: &Path) -> Outcome<()> {
    // Compares with the snapshots that the bank stored at the time …
    let report = prevalence::verify_history::<next_release::Bank>(path)?;
    same("the divergence", report.divergence, None)?;
    same("commands replayed", (report.commands_replayed, report.snapshots_compared), (4, 2))?;
    // … and with the former code, command by command if they differ.
    let equal = |old: &Bank, new: &next_release::Bank| old.balances == new.balances;
    let report = prevalence::verify_against::<Bank, next_release::Bank>(path, equal)?;
    same("the divergence", report.divergence, None)?;
    println!(
        "the next release gives the same results for all {} commands",
        report.commands_replayed
    );
    Ok(())
}

/// Returns a moment that is after the given time and before all later commands.
fn a_moment_after(time: SystemTime) -> SystemTime {
    let next = |time| {
        std::iter::repeat_with(SystemTime::now).find(|&now| now > time).expect("clocks go on")
    };
    let moment = next(time);
    next(moment);
    moment
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Outcome<()> {
    if found != expected {
        return Err(format!("{what}: found {found:?}, but expected {expected:?}").into());
    }
    Ok(())
}

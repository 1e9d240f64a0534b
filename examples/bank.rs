//! Ten minutes with `prevalence`: a bank whose accounts are a plain Rust value and durable.
//!
//! Run it with `cargo run --example bank`, and read it from top to bottom.

use prevalence::collections::Map;
use prevalence::{Command, Context, Database, ExecuteError, Model};
use serde::{Deserialize, Serialize};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

// 1. The model: everything that the bank knows, as one value in memory. The engine clones it very
//    often, so the clones should share the contents of its collections, as `prevalence::collections` do.
//    Such a clone costs the same for ten accounts and for ten million.

type Account = u32;
type Cents = u64;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Bank {
    accounts: Map<Account, Cents>,
}

impl Model for Bank {
    type Event = (); // Commands may emit events for subscribers. This bank has none.
}

impl Bank {
    fn balance(&self, account: Account) -> Result<Cents, Refusal> {
        let found = self.accounts.get(&account);
        found.copied().ok_or(Refusal::Unknown(account))
    }

    fn total(&self) -> u128 {
        self.accounts.values().map(|cents| u128::from(*cents)).sum()
    }
}

/// Why the bank refuses a command: an ordinary typed value, like any other result.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("account {0} is already open")]
    AlreadyOpen(Account),
    #[error("there is no account {0}")]
    Unknown(Account),
    #[error("account {0} does not hold that much")]
    Overdraft(Account),
    #[error("account {0} cannot hold that much")]
    Overflow(Account),
}

// 2. The commands: only they change the model. A command is a small value that says what a caller
//    wants. The journal stores it, and it is applied again after a crash. So it must do the same
//    every time: it must not use the clock, random numbers or files. (The `Context` offers time and
//    random numbers.)

#[derive(Serialize, Deserialize)]
struct Open(Account);

impl Command<Bank> for Open {
    type Output = ();
    type Rejection = Refusal;
    fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<(), Refusal> {
        if bank.accounts.contains_key(&self.0) {
            return Err(Refusal::AlreadyOpen(self.0));
        }
        bank.accounts.insert(self.0, 0);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Deposit(Account, Cents);

impl Command<Bank> for Deposit {
    type Output = Cents; // The new balance. The caller gets it when the deposit is on the disk.
    type Rejection = Refusal;
    fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<Cents, Refusal> {
        let Deposit(account, cents) = self;
        let sum = bank.balance(account)?.checked_add(cents);
        let balance = sum.ok_or(Refusal::Overflow(account))?;
        bank.accounts.insert(account, balance);
        Ok(balance)
    }
}

#[derive(Serialize, Deserialize)]
struct Withdraw(Account, Cents);

impl Command<Bank> for Withdraw {
    type Output = Cents;
    type Rejection = Refusal;
    fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<Cents, Refusal> {
        let Withdraw(account, cents) = self;
        let rest = bank.balance(account)?.checked_sub(cents);
        let balance = rest.ok_or(Refusal::Overdraft(account))?;
        bank.accounts.insert(account, balance);
        Ok(balance)
    }
}

#[derive(Serialize, Deserialize)]
struct Transfer {
    from: Account,
    to: Account,
    cents: Cents,
}

impl Command<Bank> for Transfer {
    type Output = Cents;
    type Rejection = Refusal;
    fn apply(self, bank: &mut Bank, cx: &mut Context<'_, Bank>) -> Result<Cents, Refusal> {
        // A command can use other commands. Either both happen, or, if one is refused, neither.
        Withdraw(self.from, self.cents).apply(bank, cx)?;
        Deposit(self.to, self.cents).apply(bank, cx)
    }
}

// Records in the journal hold these numbers: a number belongs to its command for ever.
prevalence::commands! { Bank { 1 => Open, 2 => Deposit, 3 => Withdraw, 4 => Transfer } }

// 3. The program.

fn main() -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let bank = Database::<Bank>::open(directory.path())?;
    for account in 0..10 {
        bank.execute(Open(account))?;
        bank.execute(Deposit(account, 1_000))?;
    }
    // When `execute` returns `Ok`, the command is on the disk: a power cut cannot undo it.
    let total = bank.query(Bank::total); // A read never waits.
    println!("10 accounts hold {total} cents");
    be_refused(&bank)?;

    // A view pins the present version of the bank. It costs almost nothing, and commands go on.
    let view = bank.view();
    let refused = move_money(&bank)?;
    let (then, now) = (view.sequence(), bank.sequence());
    println!("4 tellers made 250 transfers each, of which {refused} were refused");
    println!("the bank is at sequence {now}, and the view is still at {then}");
    same("the total in the view", view.total(), total)?;
    same("the total afterwards", bank.query(Bank::total), total)?;
    bank.close()?;

    // Opening loads the newest snapshot and applies the commands that came after it.
    let bank = Database::<Bank>::open(directory.path())?;
    println!("opened again in {:.1?}", bank.recovery().total);
    same("the sequence after opening", bank.sequence(), now)?;
    same("the total after opening", bank.query(Bank::total), total)?;
    println!("10 accounts still hold {total} cents");
    Ok(bank.close()?)
}

/// A refused command changes nothing, and the journal never sees it.
fn be_refused(bank: &Database<Bank>) -> Outcome<()> {
    let before = bank.view();
    // The command notices only after the withdrawal from account 0 that there is no account 99.
    let (from, to, cents) = (0, 99, 500);
    match bank.execute(Transfer { from, to, cents }) {
        Err(ExecuteError::Rejected(refusal)) => println!("a transfer is refused: {refusal}"),
        other => return Err(format!("a transfer to nowhere should be refused: {other:?}").into()),
    }
    let after = bank.view();
    same("account 0", after.balance(0)?, before.balance(0)?)?;
    same("the sequence", after.sequence(), before.sequence())
}

/// Transfers money on four threads at the same time. Returns how many transfers were refused.
fn move_money(bank: &Database<Bank>) -> Outcome<u32> {
    std::thread::scope(|scope| {
        let tellers = [0, 1, 2, 3].map(|n| scope.spawn(move || be_teller(bank, n)));
        let mut refused = 0;
        for teller in tellers {
            refused += teller.join().map_err(|_| "a teller panicked")??;
        }
        Ok(refused)
    })
}

/// Makes 250 transfers. Commands are applied one at a time, so no lock is needed, and waiting
/// tellers share disk writes.
fn be_teller(bank: &Database<Bank>, n: u32) -> Result<u32, ExecuteError<Refusal>> {
    let mut refused = 0;
    for i in 0..250 {
        let (from, to) = ((n + i) % 10, (3 * n + 7 * i + 1) % 10);
        let cents = u64::from(37 * i % 400);
        match bank.execute(Transfer { from, to, cents }) {
            Ok(_balance) => {}
            Err(ExecuteError::Rejected(Refusal::Overdraft(_))) => refused += 1,
            Err(error) => return Err(error), // Not a refusal, but a failure.
        }
    }
    Ok(refused)
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Outcome<()> {
    if found != expected {
        return Err(format!("{what} is {found:?} and should be {expected:?}").into());
    }
    Ok(())
}

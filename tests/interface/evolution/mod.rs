//! Tests three releases of one application on one directory: the worked example of
//! `docs::evolution`, with its code.

mod changed;
mod changed_commands;
mod release_1;
mod release_2;
mod release_3;

use std::collections::BTreeMap;
use std::path::Path;

use prevalence::testing::{assert_deterministic, assert_history};
use prevalence::{
    Builder, Database, Error, Evidence, Model, Retention, SnapshotPolicy, verify_against,
    verify_history,
};

use crate::common::temporary;

type Balances = BTreeMap<u32, u64>;

/// What every release can do.
trait Bank: Model + Default {
    fn balances(&self) -> Balances;

    fn builder() -> Builder<Self> {
        Database::builder()
            .segment_bytes(64 << 10)
            .keep_snapshots(1)
            .snapshots(SnapshotPolicy::manual())
            .retention(Retention::Archive)
    }
}

impl Bank for release_1::Bank {
    fn balances(&self) -> Balances {
        self.balances.iter().map(|(account, cents)| (*account, *cents)).collect()
    }
}

impl Bank for release_2::Bank {
    fn balances(&self) -> Balances {
        self.balances.iter().map(|(account, cents)| (*account, *cents)).collect()
    }
}

impl Bank for release_3::Bank {
    fn balances(&self) -> Balances {
        self.accounts.iter().map(|(number, account)| (*number, account.cents)).collect()
    }
}

/// The balances that each release saw in its time, by sequence.
struct Seen(Vec<Balances>);

impl Seen {
    fn nothing() -> Self {
        Self(vec![Balances::new()])
    }

    fn note<B: Bank>(&mut self, bank: &Database<B>) {
        self.0.push(bank.query(Bank::balances));
        assert_eq!(self.0.len() as u64, bank.sequence() + 1);
    }
}

/// Makes two runs: a snapshot at sequence 4, and four commands behind it.
fn live_release_1(path: &Path, retention: Retention, seen: &mut Seen) {
    use release_1::{AddInterest, Bank, Deposit, Withdraw};
    for first_account in [1, 3] {
        let bank = Bank::builder().retention(retention).open(path).unwrap();
        for account in [first_account, first_account + 1] {
            bank.execute(Deposit { account, cents: 1_000 }).unwrap();
            seen.note(&bank);
        }
        bank.execute(Withdraw { account: first_account, cents: 300 }).unwrap();
        seen.note(&bank);
        bank.execute(AddInterest { percent: 2 }).unwrap();
        seen.note(&bank);
        if first_account == 1 {
            bank.snapshot().unwrap();
        }
        bank.close().unwrap();
    }
}

/// Upcasts four commands behind the snapshot, and leaves two behind its own.
fn live_release_2(path: &Path, seen: &mut Seen) {
    use release_2::{AddInterest, Bank, Deposit, PayOut};
    let bank = Bank::builder().open(path).unwrap();
    assert_eq!((bank.recovery().snapshot_sequence, bank.recovery().commands_replayed), (4, 4));
    assert_eq!(bank.query(Bank::balances), seen.0[8]);
    bank.execute(Deposit { account: 1, cents: 500, fee_cents: 50 }).unwrap();
    seen.note(&bank);
    bank.execute(PayOut { account: 1, cents: 64 }).unwrap();
    seen.note(&bank);
    bank.snapshot().unwrap();
    bank.execute(AddInterest { percent: 1 }).unwrap();
    seen.note(&bank);
    bank.execute(Deposit { account: 5, cents: 70, fee_cents: 7 }).unwrap();
    seen.note(&bank);
    bank.close().unwrap();
}

/// Migrates the newest snapshot, and takes one of its own.
fn live_release_3(path: &Path, seen: &mut Seen) {
    use release_3::{Bank, Deposit, Freeze, PayOut};
    let bank = Bank::builder().open(path).unwrap();
    assert!(bank.recovery().snapshot_sequence > 0 && bank.recovery().commands_replayed > 0);
    assert_eq!(bank.query(Bank::balances), *seen.0.last().unwrap());
    bank.execute(Deposit { account: 5, cents: 30, fee_cents: 3 }).unwrap();
    seen.note(&bank);
    bank.execute(Freeze(5)).unwrap();
    seen.note(&bank);
    bank.snapshot().unwrap();
    assert!(bank.execute(PayOut { account: 5, cents: 1 }).is_err());
    bank.execute(PayOut { account: 1, cents: 1 }).unwrap();
    seen.note(&bank);
    bank.close().unwrap();
}

/// Checks, for the test suite of a release, a directory that an earlier release left.
fn means_what_it_meant(fixture: &Path) {
    let report = assert_history::<release_3::Bank>(fixture);
    assert!(report.snapshots_compared > 0, "a history without snapshots proves little");
    assert_deterministic::<release_3::Bank>(fixture);
}

/// Checks that a release sees at every sequence what the release of that time saw.
fn sees_what_was_seen<B: Bank>(path: &Path, seen: &Seen) {
    let bank = B::builder().open(path).unwrap();
    let history = bank.history();
    assert_eq!(history.newest() + 1, seen.0.len() as u64);
    for (sequence, balances) in (0..).zip(&seen.0) {
        assert_eq!(history.at(sequence).unwrap().balances(), *balances, "at {sequence}");
    }
    assert_eq!(history.records(..).unwrap().map(Result::unwrap).count() as u64, history.newest());
    bank.close().unwrap();
}

#[test]
fn one_release_after_the_other() {
    let (_directory, path) = temporary();
    let mut seen = Seen::nothing();
    live_release_1(&path, Retention::Archive, &mut seen);
    assert_eq!(verify_history::<release_2::Bank>(&path).unwrap().divergence, None);
    live_release_2(&path, &mut seen);
    means_what_it_meant(&path);
    live_release_3(&path, &mut seen);
    means_what_it_meant(&path);
    let report = verify_history::<release_3::Bank>(&path).unwrap();
    assert_eq!((report.begins, report.sequence, report.snapshots_compared), (0, 15, 3));
    sees_what_was_seen::<release_3::Bank>(&path, &seen);
    assert!(path.join("archive").read_dir().unwrap().count() > 2, "something was archived");
}

#[test]
fn a_release_left_out() {
    let (_directory, path) = temporary();
    let mut seen = Seen::nothing();
    live_release_1(&path, Retention::Archive, &mut seen);
    means_what_it_meant(&path);
    live_release_3(&path, &mut seen);
    means_what_it_meant(&path);
    sees_what_was_seen::<release_3::Bank>(&path, &seen);
}

#[test]
fn the_releases_agree_on_every_stored_command() {
    let (_directory, path) = temporary();
    live_release_1(&path, Retention::Archive, &mut Seen::nothing());
    let report = verify_against::<release_1::Bank, release_3::Bank>(&path, |old, new| {
        old.balances() == new.balances()
    });
    let report = report.unwrap();
    assert_eq!((report.divergence, report.commands_replayed), (None, 8));
}

#[test]
fn old_commands_are_read_in_their_new_shape_and_under_their_old_names() {
    let (_directory, path) = temporary();
    let mut seen = Seen::nothing();
    live_release_1(&path, Retention::Archive, &mut seen);
    live_release_2(&path, &mut seen);
    let bank = release_3::Bank::builder().open(&path).unwrap();
    let records: Vec<_> = bank.history().records(..).unwrap().map(Result::unwrap).collect();
    let names: Vec<&str> = records.iter().map(|record| record.command_name()).collect();
    assert_eq!(names[..4], ["Deposit", "Deposit", "Withdraw", "AddInterest"]);
    assert_eq!(names[8..], ["Deposit", "Withdraw", "AddInterest", "Deposit"]);
    let deposit = |at: usize| records[at].command::<release_3::Deposit>().unwrap().unwrap();
    assert_eq!((deposit(0).cents, deposit(0).fee_cents), (1_000, 0));
    assert_eq!((deposit(8).cents, deposit(8).fee_cents), (500, 50));
    assert_eq!((records[0].tag(), records[8].tag()), (1, 4));
}

#[test]
fn there_is_no_way_back() {
    let (_directory, path) = temporary();
    let mut seen = Seen::nothing();
    live_release_1(&path, Retention::Archive, &mut seen);
    live_release_2(&path, &mut seen);
    // Tag 1 is the old deposit now, and tag 4 is unknown.
    let error = release_1::Bank::builder().open(&path).unwrap_err();
    assert!(matches!(error, Error::RenumberedTag { tag: 1, .. }), "{error}");
    live_release_3(&path, &mut seen);
    let error = release_2::Bank::builder().open(&path).unwrap_err();
    assert!(matches!(error, Error::WrongVersion { expected: 1, found: 2, .. }), "{error}");
}

/// A release that lacks a command.
mod careless {
    use prevalence::{Command, Context, MigrationError, Model, SnapshotReader};
    use serde::{Deserialize, Serialize};

    use super::{Balances, release_3};

    #[derive(Clone, Default, Serialize, Deserialize)]
    pub struct Bank(release_3::Bank);
    impl Model for Bank {
        type Event = ();
        const VERSION: u32 = release_3::Bank::VERSION;
        fn migrate(from: u32, snapshot: &mut SnapshotReader<'_>) -> Result<Self, MigrationError> {
            release_3::Bank::migrate(from, snapshot).map(Self)
        }
    }
    impl super::Bank for Bank {
        fn balances(&self) -> Balances {
            self.0.balances()
        }
    }
    #[derive(Serialize, Deserialize)]
    pub struct Deposit {
        account: u32,
        cents: u64,
    }
    impl Command<Bank> for Deposit {
        type Output = ();
        type Rejection = ();
        fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<(), ()> {
            bank.0.accounts.entry(self.account).or_default().cents += self.cents;
            Ok(())
        }
    }
    #[derive(Serialize, Deserialize)]
    pub struct Withdraw {
        account: u32,
        cents: u64,
    }
    impl Command<Bank> for Withdraw {
        type Output = ();
        type Rejection = ();
        fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<(), ()> {
            bank.0.accounts.entry(self.account).or_default().cents -= self.cents;
            Ok(())
        }
    }
    prevalence::commands! { Bank { 1 => Deposit, 2 => Withdraw } }
}

/// Takes snapshots at the end, so that no command is left to replay. Before them, it executes so
/// much that the journal leaves the segment with the old commands.
fn snapshot_at_the_end(path: &Path, retention: Retention) {
    let builder = release_1::Bank::builder().retention(retention).segment_bytes(64 << 10);
    let bank = builder.open(path).unwrap();
    bank.execute(release_1::Deposit { account: 9, cents: 9 }).unwrap();
    for _ in 0..2 {
        let nothing = || release_1::Deposit { account: 9, cents: 0 };
        let pending: Vec<_> = (0..2000).map(|_| bank.submit(nothing()).unwrap()).collect();
        pending.into_iter().for_each(|pending| assert!(pending.wait().is_ok()));
        bank.snapshot().unwrap();
    }
    bank.close().unwrap();
}

#[test]
fn a_command_that_is_still_archived_cannot_be_removed() {
    let (_directory, path) = temporary();
    live_release_1(&path, Retention::Archive, &mut Seen::nothing());
    snapshot_at_the_end(&path, Retention::Archive);
    let error = careless::Bank::builder().open(&path).unwrap_err();
    assert!(
        matches!(&error, Error::UnknownTag { tag: 3, sequence: 4, command, path }
            if command == "AddInterest" && path.parent().unwrap().ends_with("archive")),
        "{error}"
    );
    release_3::Bank::builder().open(&path).unwrap();
}

#[test]
fn a_command_that_is_nowhere_stored_may_be_removed() {
    let (_directory, path) = temporary();
    let mut seen = Seen::nothing();
    live_release_1(&path, Retention::Truncate, &mut seen);
    let builder = || careless::Bank::builder().retention(Retention::Truncate);
    let error = builder().open(&path).unwrap_err();
    assert!(matches!(error, Error::UnknownTag { tag: 3, sequence: 8, .. }), "{error}");
    snapshot_at_the_end(&path, Retention::Truncate);
    let bank = builder().open(&path).unwrap();
    let mut expected = seen.0[8].clone();
    expected.insert(9, 9);
    assert_eq!(bank.query(Bank::balances), expected);
}

/// A release that counts deposits, which old snapshots do not hold.
mod hasty {
    use prevalence::{Command, Context, MigrationError, Model, SnapshotReader};
    use serde::{Deserialize, Serialize};

    use super::release_1;

    #[derive(Clone, Default, Serialize, Deserialize)]
    pub struct Bank {
        deposits: u64,
        old: release_1::Bank,
    }
    impl Model for Bank {
        type Event = ();
        const VERSION: u32 = 2;
        fn migrate(_: u32, snapshot: &mut SnapshotReader<'_>) -> Result<Self, MigrationError> {
            Ok(Self { deposits: 0, old: snapshot.decode()? })
        }
    }
    macro_rules! command {
        ($command:ident, $deposits:literal) => {
            #[derive(Serialize, Deserialize)]
            pub struct $command(release_1::$command);
            impl Command<Bank> for $command {
                type Output = ();
                type Rejection = ();
                fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<(), ()> {
                    bank.deposits += $deposits;
                    Ok(())
                }
            }
        };
    }
    command!(Deposit, 1);
    command!(Withdraw, 0);
    command!(AddInterest, 0);
    prevalence::commands! { Bank { 1 => Deposit, 2 => Withdraw, 3 => AddInterest } }
}

#[test]
fn a_field_that_no_old_snapshot_knows_is_found_out() {
    let (_directory, path) = temporary();
    live_release_1(&path, Retention::Archive, &mut Seen::nothing());
    let divergence = verify_history::<hasty::Bank>(&path).unwrap().divergence.unwrap();
    assert_eq!((divergence.after, divergence.at), (0, 4));
    assert_eq!(divergence.evidence, Evidence::SnapshotDiffers);
}

/// The guide shows only code that is tested here.
#[test]
fn every_block_of_the_guide_is_part_of_these_tests() {
    let sources = [
        include_str!("release_1.rs"),
        include_str!("release_2.rs"),
        include_str!("release_3.rs"),
        include_str!("mod.rs"),
    ];
    let guide = include_str!("../../../src/docs/evolution.md");
    let mut blocks = 0;
    for block in guide.split("```rust").skip(1) {
        let (_, code) = block.split_once('\n').unwrap();
        let (code, _) = code.split_once("```").unwrap();
        let shown = code.lines().filter(|line| !line.starts_with("# ")).collect::<Vec<_>>();
        let shown = shown.join("\n");
        blocks += 1;
        assert!(sources.iter().any(|source| source.contains(shown.trim())), "{shown}");
    }
    assert_eq!(blocks, 4);
}

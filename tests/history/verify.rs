//! Whether today's code does what was done once: proved over the stored history, or else parted
//! from it at a command that is named.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use imbl::OrdMap;
use prevalence::{
    Command, Context, Database, Divergence, Error, Evidence, Metadata, MigrationError, Model,
    Retention, SnapshotPolicy, SnapshotReader, verify_against, verify_history,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::common::{content, temporary};

/// A release, with its way to apply a deposit.
macro_rules! release {
    ($name:ident, $deposit:expr) => {
        mod $name {
            use super::*;

            #[derive(Clone, Default, Serialize, Deserialize)]
            pub struct Bank {
                pub balances: OrdMap<u32, u64>,
            }
            impl Model for Bank {
                type Event = ();
            }
            #[derive(Serialize, Deserialize)]
            pub struct Deposit {
                pub account: u32,
                pub cents: u64,
            }
            impl Command<Bank> for Deposit {
                type Output = ();
                type Rejection = &'static str;
                fn apply(
                    self,
                    bank: &mut Bank,
                    cx: &mut Context<'_, Bank>,
                ) -> Result<(), &'static str> {
                    let deposit: fn(&mut OrdMap<u32, u64>, u32, u64, u64) -> _ = $deposit;
                    deposit(&mut bank.balances, self.account, self.cents, cx.sequence())
                }
            }
            prevalence::commands! { Bank { 1 => Deposit } }
        }
    };
}

release!(first, |balances, account, cents, _| {
    *balances.entry(account).or_default() += cents;
    Ok(())
});
// Other code, which does the same.
release!(refactored, |balances, account, cents, _| {
    let sum = balances.get(&account).copied().unwrap_or(0) + cents;
    balances.insert(account, sum);
    Ok(())
});
// Deposits of more than 1000 cents are rounded.
release!(rounding, |balances, account, cents, _| {
    let cents = if cents > 1000 { cents / 10 * 10 } else { cents };
    *balances.entry(account).or_default() += cents;
    Ok(())
});
// Deposits of more than 1000 cents are refused.
release!(strict, |balances, account, cents, _| {
    if cents > 1000 {
        return Err("too much");
    }
    *balances.entry(account).or_default() += cents;
    Ok(())
});
// Deposits of more than 1000 cents depend on what the process did before.
release!(fickle, |balances, account, cents, _| {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let luck = if cents > 1000 { CALLS.fetch_add(1, Ordering::SeqCst) + 1 } else { 0 };
    *balances.entry(account).or_default() += cents + luck;
    Ok(())
});
// Deposits of more than 1000 cents are refused, but for the first time.
release!(moody, |balances, account, cents, _| {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let large = cents > 1000;
    if large && CALLS.fetch_add(1, Ordering::SeqCst) > 0 {
        return Err("not again");
    }
    *balances.entry(account).or_default() += cents + u64::from(large);
    Ok(())
});
// Deposits of more than 1000 cents count twice, and what is too much together is refused.
release!(doubling, |balances, account, cents, _| {
    let cents = if cents > 1000 { cents * 2 } else { cents };
    if balances.values().sum::<u64>() + cents > 4200 {
        return Err("too much together");
    }
    *balances.entry(account).or_default() += cents;
    Ok(())
});

/// Makes a history of deposits of these amounts by changing actors, with snapshots after these
/// sequences, in several runs.
fn history(path: &Path, amounts: &[u64], snapshots: &[u64]) {
    let open = || {
        Database::<first::Bank>::builder()
            .segment_bytes(64 << 10)
            .snapshots(SnapshotPolicy::manual())
            .retention(Retention::Archive)
            .keep_snapshots(1)
            .linger(std::time::Duration::from_millis(1))
            .open(path)
            .unwrap()
    };
    let mut bank = open();
    let mut pending = Vec::new();
    for (&cents, sequence) in amounts.iter().zip(1..) {
        // So long that each run fills more of a segment than the next one would carry on.
        let attributes = [("note".to_owned(), ".".repeat(6000))].into();
        let actor = format!("actor {sequence}");
        let metadata = Metadata { actor, attributes, ..Metadata::default() };
        let caller = bank.with_metadata(&metadata).unwrap();
        let deposit = first::Deposit { account: (cents % 5) as u32, cents };
        // Not one by one, so that batches are larger than one command.
        pending.push(caller.submit(deposit).unwrap());
        drop(caller);
        if snapshots.contains(&sequence) || sequence % 7 == 0 {
            pending.drain(..).for_each(|pending| pending.wait().unwrap());
        }
        if snapshots.contains(&sequence) {
            bank.snapshot().unwrap();
        }
        if sequence % 7 == 0 {
            bank.close().unwrap();
            bank = open();
        }
    }
    pending.drain(..).for_each(|pending| pending.wait().unwrap());
    bank.close().unwrap();
}

const ORDINARY: u64 = 70;
const LARGE: u64 = 1234;

/// Makes a history of forty deposits, of which the 23rd is large, with snapshots after 10, 20 and
/// 30.
fn with_one_large(path: &Path) {
    let mut amounts = [ORDINARY; 40];
    amounts[22] = LARGE;
    history(path, &amounts, &[10, 20, 30]);
}

/// What [`with_one_large`] shows where one command is known to be the one.
fn assert_at_the_large_one(divergence: Divergence, evidence: Evidence) {
    assert_eq!((divergence.after, divergence.at), (22, 23));
    assert_eq!(divergence.evidence, evidence);
    assert_eq!(divergence.culprit.unwrap().metadata.actor, "actor 23");
}

#[test]
fn a_refactoring_is_proved_and_nothing_is_changed() {
    let (_directory, path) = temporary();
    with_one_large(&path);
    let before = content(&path);
    for report in [
        verify_history::<first::Bank>(&path).unwrap(),
        verify_history::<refactored::Bank>(&path).unwrap(),
        verify_against::<first::Bank, refactored::Bank>(&path, |old, new| {
            old.balances == new.balances
        })
        .unwrap(),
    ] {
        assert_eq!(report.divergence, None);
        assert_eq!((report.begins, report.sequence), (0, 40));
        assert_eq!((report.commands_replayed, report.snapshots_compared), (40, 3));
    }
    assert_eq!(content(&path), before);
    Database::<refactored::Bank>::open(&path).unwrap();
}

#[test]
fn another_effect_is_bracketed_by_snapshots_and_found_by_the_former_code() {
    let (_directory, path) = temporary();
    with_one_large(&path);
    let divergence = verify_history::<rounding::Bank>(&path).unwrap().divergence.unwrap();
    assert_eq!((divergence.after, divergence.at), (20, 30));
    assert_eq!((divergence.evidence, divergence.culprit), (Evidence::SnapshotDiffers, None));
    assert_eq!(divergence.commands, [("Deposit".to_owned(), 10)]);

    let equal = |old: &first::Bank, new: &rounding::Bank| old.balances == new.balances;
    let report = verify_against::<first::Bank, rounding::Bank>(&path, equal).unwrap();
    let divergence = report.divergence.unwrap();
    assert_eq!((divergence.after, divergence.at), (22, 23));
    assert_eq!(divergence.evidence, Evidence::ModelsDiffer);
    let text = divergence.to_string();
    assert!(text.contains("`Deposit` with sequence 23") && text.contains("`actor 23`"), "{text}");
    let culprit = divergence.culprit.unwrap();
    assert_eq!((culprit.sequence, culprit.command.as_str()), (23, "Deposit"));
    assert_eq!(culprit.metadata.actor, "actor 23");
}

#[test]
fn one_command_between_two_snapshots_is_known_to_be_the_one() {
    let (_directory, path) = temporary();
    let mut amounts = [ORDINARY; 12];
    amounts[5] = LARGE;
    history(&path, &amounts, &[5, 6, 9]);
    let divergence = verify_history::<rounding::Bank>(&path).unwrap().divergence.unwrap();
    assert_eq!((divergence.after, divergence.at), (5, 6));
    assert_eq!(divergence.evidence, Evidence::SnapshotDiffers);
    assert_eq!(divergence.culprit.unwrap().metadata.actor, "actor 6");
}

#[test]
fn a_command_that_is_refused_now_is_named() {
    let (_directory, path) = temporary();
    with_one_large(&path);
    let equal = |old: &first::Bank, new: &strict::Bank| old.balances == new.balances;
    for (report, after) in [
        (verify_history::<strict::Bank>(&path).unwrap(), 20),
        (verify_against::<first::Bank, strict::Bank>(&path, equal).unwrap(), 22),
    ] {
        assert_eq!((report.sequence, report.commands_replayed), (22, 22));
        let divergence = report.divergence.unwrap();
        assert_eq!((divergence.after, divergence.at), (after, 23));
        let told = divergence.to_string();
        assert_eq!(told.contains("before it, from sequence 21 on"), after == 20, "{told}");
        assert!(matches!(&divergence.evidence, Evidence::Refused(why) if why.contains("rejected")));
        assert_eq!(divergence.culprit.unwrap().sequence, 23);
    }
    // The former code must accept what it accepted.
    let equal = |old: &strict::Bank, new: &first::Bank| old.balances == new.balances;
    let error = verify_against::<strict::Bank, first::Bank>(&path, equal).unwrap_err();
    assert!(matches!(error, Error::ReplayDiverged { sequence: 23, .. }), "{error}");
}

#[test]
fn the_command_to_blame_is_not_the_one_that_cannot_follow_it() {
    let (_directory, path) = temporary();
    with_one_large(&path);
    let report = verify_history::<doubling::Bank>(&path).unwrap();
    assert_eq!(report.divergence.unwrap().at, 26);
    let equal = |old: &first::Bank, new: &doubling::Bank| old.balances == new.balances;
    let report = verify_against::<first::Bank, doubling::Bank>(&path, equal).unwrap();
    let divergence = report.divergence.unwrap();
    assert_at_the_large_one(divergence, Evidence::ModelsDiffer);
}

#[test]
fn a_command_that_is_refused_the_second_time_is_not_deterministic() {
    let (_directory, path) = temporary();
    with_one_large(&path);
    let divergence = verify_history::<moody::Bank>(&path).unwrap().divergence.unwrap();
    assert_at_the_large_one(divergence, Evidence::NotDeterministic);
}

#[test]
fn code_that_is_not_deterministic_is_told_apart() {
    let (_directory, path) = temporary();
    with_one_large(&path);
    let divergence = verify_history::<fickle::Bank>(&path).unwrap().divergence.unwrap();
    assert_at_the_large_one(divergence, Evidence::NotDeterministic);
}

/// `first::Bank`, and what it had by version 2.
mod second {
    use super::*;

    #[derive(Clone, Default, Serialize, Deserialize)]
    pub struct Bank {
        pub deposits: u64,
        pub balances: OrdMap<u32, u64>,
    }
    impl Model for Bank {
        type Event = ();
        const VERSION: u32 = 2;
        fn migrate(from: u32, snapshot: &mut SnapshotReader<'_>) -> Result<Self, MigrationError> {
            let first::Bank { balances } = match from {
                1 => snapshot.decode()?,
                _ => return Err(MigrationError::Unsupported),
            };
            // Every deposit of these tests is of the same amount.
            let deposits = balances.values().sum::<u64>() / ORDINARY;
            Ok(Self { deposits, balances })
        }
    }
    #[derive(Serialize, Deserialize)]
    pub struct Deposit {
        pub account: u32,
        pub cents: u64,
    }
    impl Command<Bank> for Deposit {
        type Output = ();
        type Rejection = ();
        fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<(), ()> {
            bank.deposits += 1;
            *bank.balances.entry(self.account).or_default() += self.cents;
            Ok(())
        }
    }
    prevalence::commands! { Bank { 1 => Deposit } }
}

#[test]
fn snapshots_of_another_version_are_migrated_and_compared() {
    let (_directory, path) = temporary();
    history(&path, &[ORDINARY; 20], &[5, 15]);
    let bank = Database::<second::Bank>::open(&path).unwrap();
    bank.execute(second::Deposit { account: 1, cents: ORDINARY }).unwrap();
    bank.snapshot().unwrap();
    bank.close().unwrap();
    let report = verify_history::<second::Bank>(&path).unwrap();
    assert_eq!(report.divergence, None);
    assert_eq!((report.sequence, report.snapshots_compared), (21, 3));
    // The former release cannot read what came after it.
    let error = verify_history::<first::Bank>(&path).unwrap_err();
    assert!(matches!(error, Error::WrongVersion { expected: 1, found: 2, .. }), "{error}");
}

#[test]
fn what_is_open_damaged_or_missing_is_not_verified() {
    let (_directory, path) = temporary();
    let error = verify_history::<first::Bank>(&path).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    with_one_large(&path);
    let bank = Database::<first::Bank>::open(&path).unwrap();
    let error = verify_history::<first::Bank>(&path).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    bank.close().unwrap();
    let snapshot = path.join("archive/00000000000000000010.snapshot");
    let sound = std::fs::read(&snapshot).unwrap();
    std::fs::write(&snapshot, &sound[..sound.len() - 1]).unwrap();
    let error = verify_history::<first::Bank>(&path).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { path, .. } if *path == snapshot), "{error}");
    std::fs::write(&snapshot, sound).unwrap();
    std::fs::remove_file(path.join("archive/00000000000000000008.archive")).unwrap();
    let error = verify_history::<first::Bank>(&path).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
}

/// The error does not name the MANIFEST, which is intact.
#[test]
fn the_journal_of_another_database_is_told_as_such() {
    let (_directory, path) = temporary();
    let other = path.with_extension("other");
    for path in [&path, &other] {
        history(path, &[ORDINARY; 3], &[]);
    }
    std::fs::remove_dir_all(path.join("journal")).unwrap();
    std::fs::rename(other.join("journal"), path.join("journal")).unwrap();
    let error = verify_history::<first::Bank>(&path).unwrap_err();
    assert!(matches!(error, Error::ForeignFile { .. }), "{error}");
    let keep = |_: &prevalence::HistoryRecord<first::Bank>| prevalence::PurgeAction::Keep;
    let error = prevalence::purge(&path, keep).unwrap_err();
    assert!(matches!(error, Error::ForeignFile { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// The first large deposit is found wherever it is, even with few snapshots.
    #[test]
    fn the_former_code_finds_the_first_command_that_parts(
        length in 1..150usize,
        large in proptest::collection::btree_set(0..150usize, 1..4),
        snapshots in proptest::collection::vec(1..150u64, 0..4),
    ) {
        let mut amounts = vec![ORDINARY; length];
        large.iter().filter(|at| **at < length).for_each(|&at| amounts[at] = LARGE);
        let (_directory, path) = temporary();
        history(&path, &amounts, &snapshots);
        let equal = |old: &first::Bank, new: &rounding::Bank| old.balances == new.balances;
        let report = verify_against::<first::Bank, rounding::Bank>(&path, equal).unwrap();
        let expected = large.first().filter(|at| **at < length).map(|at| *at as u64 + 1);
        let found = report.divergence.map(|divergence| divergence.culprit.unwrap().sequence);
        prop_assert_eq!(found, expected);
    }
}

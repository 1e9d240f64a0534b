//! Tests of reading history: every state and every command of random histories.

use std::path::Path;
use std::time::SystemTime;

use prevalence::{ArchivedSnapshots, Database, Error, ExecuteError, Metadata, Pending, Retention};
use proptest::prelude::*;

use crate::common::{
    self, Add, Carry, Fail, Failure, Ledger, Mix, Stamp, Stamped, quiet_panics, temporary,
};

fn builder() -> prevalence::Builder<Ledger> {
    super::builder().max_batch_commands(5)
}

// ---- every state and every command of random histories ----

#[derive(Clone, Debug)]
enum Step {
    Commands(Vec<Kind>),
    Snapshot,
    Reopen,
}

#[derive(Clone, Debug)]
enum Kind {
    Add(u32, i64),
    Mix(u64),
    Stamp,
    Carry(usize),
    Reject,
    Panic,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![
        4 => (0..9u32, any::<i64>()).prop_map(|(account, amount)| Kind::Add(account, amount)),
        4 => any::<u64>().prop_map(Kind::Mix),
        2 => Just(Kind::Stamp),
        2 => (1..30usize).prop_map(|kib| Kind::Carry(kib << 10)),
        1 => Just(Kind::Reject),
        1 => Just(Kind::Panic),
    ];
    let step = prop_oneof![
        4 => proptest::collection::vec(kind, 1..20).prop_map(Step::Commands),
        2 => Just(Step::Snapshot),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..14)
}

/// What an accepted command did, from the answer that its caller got.
#[derive(Clone, Debug)]
struct Accepted {
    kind: Kind,
    actor: String,
    stamped: Option<Stamped>,
}

/// An answer that is on its way.
enum Waiting {
    Add(Pending<i64, std::convert::Infallible>),
    Mix(Pending<u64, std::convert::Infallible>),
    Stamp(Pending<Stamped, std::convert::Infallible>),
    Carry(Pending<usize, std::convert::Infallible>),
    Fails(Pending<(), common::Refused>),
}

fn submit(database: &Database<Ledger>, kind: &Kind) -> Waiting {
    let fail = |how| Waiting::Fails(database.submit(Fail { account: 1, how }).unwrap());
    match *kind {
        Kind::Add(account, amount) => {
            Waiting::Add(database.submit(Add { account, amount }).unwrap())
        }
        Kind::Mix(value) => Waiting::Mix(database.submit(Mix(value)).unwrap()),
        Kind::Stamp => Waiting::Stamp(database.submit(Stamp).unwrap()),
        Kind::Carry(bytes) => Waiting::Carry(database.submit(Carry(vec![3; bytes])).unwrap()),
        Kind::Reject => fail(Failure::Reject),
        Kind::Panic => fail(Failure::Panic),
    }
}

impl Waiting {
    /// Waits for the answer. Returns whether the command was accepted, and what a stamp returned.
    fn wait(self) -> Option<Option<Stamped>> {
        match self {
            Self::Add(pending) => drop(pending.wait().unwrap()),
            Self::Mix(pending) => drop(pending.wait().unwrap()),
            Self::Carry(pending) => drop(pending.wait().unwrap()),
            Self::Stamp(pending) => return Some(Some(pending.wait().unwrap())),
            Self::Fails(pending) => {
                let failed = pending.wait().unwrap_err();
                let on_purpose =
                    matches!(failed, ExecuteError::Rejected(_) | ExecuteError::Panicked { .. });
                assert!(on_purpose, "{failed}");
                return None;
            }
        }
        Some(None)
    }
}

/// Applies an accepted command to the expected model, by the rules alone.
fn expect(model: &mut Ledger, accepted: &Accepted) {
    match accepted.kind {
        Kind::Add(account, amount) => drop(model.add(account, amount)),
        Kind::Mix(value) => model.mix(value),
        Kind::Stamp => model.stamp.clone_from(&accepted.stamped),
        Kind::Carry(_) => model.changes += 1,
        Kind::Reject | Kind::Panic => unreachable!("never accepted"),
    }
}

struct Played {
    accepted: Vec<Accepted>,
    /// The encoded model after each sequence, from 0 on.
    states: Vec<Vec<u8>>,
}

fn play(path: &Path, steps: &[Step], open: impl Fn() -> prevalence::Builder<Ledger>) -> Played {
    quiet_panics();
    let mut model = Ledger::default();
    let mut played = Played { accepted: Vec::new(), states: vec![model.bytes()] };
    let mut database = open().open(path).unwrap();
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Commands(kinds) => {
                let actor = format!("caller {number}");
                let metadata = Metadata { actor: actor.clone(), ..Metadata::default() };
                let caller = database.with_metadata(&metadata).unwrap();
                let waiting: Vec<_> = kinds.iter().map(|kind| submit(&caller, kind)).collect();
                for (kind, waiting) in kinds.iter().zip(waiting) {
                    let Some(stamped) = waiting.wait() else { continue };
                    let accepted = Accepted { kind: kind.clone(), actor: actor.clone(), stamped };
                    expect(&mut model, &accepted);
                    played.states.push(model.bytes());
                    played.accepted.push(accepted);
                }
            }
            Step::Snapshot => drop(database.snapshot().unwrap()),
            Step::Reopen => {
                database.close().unwrap();
                database = open().open(path).unwrap();
            }
        }
        // Somewhere in between, beside whatever the snapshot thread does.
        let sequence = played.accepted.len() / 2;
        let then = database.history().at(sequence as u64);
        if let Ok(then) = then {
            assert_eq!(then.bytes(), played.states[sequence]);
        }
    }
    played
}

fn check_records(database: &Database<Ledger>, played: &Played) {
    let history = database.history();
    let records: Vec<_> = history.records(..).unwrap().map(Result::unwrap).collect();
    assert_eq!(records.len(), played.accepted.len());
    for (index, (record, accepted)) in records.iter().zip(&played.accepted).enumerate() {
        assert_eq!(record.sequence(), index as u64 + 1);
        assert_eq!(record.metadata().actor, accepted.actor);
        let json = record.command_json().unwrap();
        match accepted.kind {
            Kind::Add(account, amount) => {
                assert_eq!((record.command_name(), record.tag()), ("Add", 1));
                let add = record.command::<Add>().unwrap().unwrap();
                assert_eq!((add.account, add.amount), (account, amount));
                assert!(record.command::<Mix>().is_none());
                assert_eq!(json, format!(r#"{{"account":{account},"amount":{amount}}}"#));
            }
            Kind::Mix(value) => {
                assert_eq!((record.command_name(), json), ("Mix", value.to_string()));
                assert_eq!(record.command::<Mix>().unwrap().unwrap().0, value);
            }
            Kind::Stamp => {
                assert_eq!(record.command_name(), "Stamp");
                assert_eq!(record.time(), accepted.stamped.as_ref().unwrap().now);
            }
            Kind::Carry(bytes) => {
                assert_eq!(record.command_name(), "Carry");
                assert_eq!(record.command::<Carry>().unwrap().unwrap().0.len(), bytes);
            }
            Kind::Reject | Kind::Panic => unreachable!("never accepted"),
        }
    }
    check_ranges(database, records.len() as u64);
    check_times(database, &records);
}

/// Checks ranges, which also begin and end within batches.
fn check_ranges(database: &Database<Ledger>, last: u64) {
    let history = database.history();
    let sequences = |records: prevalence::HistoryRecords<Ledger>| -> Vec<u64> {
        records.map(|record| record.unwrap().sequence()).collect()
    };
    for from in (1..=last).step_by(3) {
        let expected: Vec<u64> = (from..=last.min(from + 6)).collect();
        assert_eq!(sequences(history.records(from..=from + 6).unwrap()), expected);
    }
    assert!(sequences(history.records(last + 1..).unwrap()).is_empty());
    assert!(sequences(history.records(0..1).unwrap()).is_empty());
}

/// Checks that the state at a time is the state after the last command that was not later.
fn check_times(database: &Database<Ledger>, records: &[prevalence::HistoryRecord<Ledger>]) {
    let history = database.history();
    for record in records {
        let after: u64 =
            records.iter().filter(|other| other.time() <= record.time()).count() as u64;
        let then = history.at_time(record.time()).unwrap();
        assert_eq!((then.sequence(), then.time()), (after, record.time()));
        assert_eq!(then.bytes(), history.at(after).unwrap().bytes());
    }
    assert_eq!(history.at_time(SystemTime::UNIX_EPOCH).unwrap().sequence(), 0);
    let newest = history.at_time(SystemTime::now() + std::time::Duration::from_secs(60)).unwrap();
    assert_eq!(newest.sequence(), records.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_state_and_every_command_can_be_read_back(steps in steps(), every in 0..3u64) {
        let archived = [
            ArchivedSnapshots::All,
            ArchivedSnapshots::FirstOnly,
            ArchivedSnapshots::EveryCommands(20),
        ];
        let open = || builder().archive_snapshots(archived[every as usize]);
        let (_directory, path) = temporary();
        let played = play(&path, &steps, open);
        let database = open().open(&path).unwrap();
        let history = database.history();
        for (sequence, expected) in played.states.iter().enumerate() {
            let then = history.at(sequence as u64).unwrap();
            prop_assert_eq!(then.sequence(), sequence as u64);
            prop_assert!(&then.bytes() == expected, "at {}", sequence);
        }
        check_records(&database, &played);
    }

    #[test]
    fn what_was_truncated_is_an_error_and_the_rest_can_be_read_back(steps in steps()) {
        let open = || builder().retention(Retention::Truncate);
        let (_directory, path) = temporary();
        let played = play(&path, &steps, open);
        let database = open().open(&path).unwrap();
        let history = database.history();
        let mut reachable = None;
        for (sequence, expected) in played.states.iter().enumerate() {
            match history.at(sequence as u64) {
                Ok(then) => {
                    reachable.get_or_insert(sequence as u64);
                    prop_assert!(&then.bytes() == expected, "at {}", sequence);
                }
                Err(Error::HistoryTruncated { wanted, oldest, .. }) => {
                    prop_assert_eq!((wanted, reachable), (sequence as u64, None));
                    prop_assert!(oldest > wanted && history.at(oldest).is_ok());
                    prop_assert!(history.at(oldest - 1).is_err());
                }
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
    }
}

//! Batches: whatever fails in one, at whatever place, leaves its batch-mates unharmed.

use std::time::Duration;

use prevalence::{Database, ExecuteError, Pending};
use proptest::prelude::*;

use crate::common::{self, Add, Fail, Failure, Ledger, bytes, quiet_panics, temporary};

/// A time so long that a batch closes only because it is full.
const UNTIL_FULL: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug)]
enum Step {
    Add(Add),
    Fail(Fail),
    Stamp,
}

enum Submitted {
    Stamp(Pending<common::Stamped, std::convert::Infallible>),
    Add(Pending<i64, std::convert::Infallible>),
    Fail(Pending<(), common::Refused>, Failure),
}

fn submit(database: &Database<Ledger>, step: Step) -> Submitted {
    match step {
        Step::Add(add) => Submitted::Add(database.submit(add).unwrap()),
        Step::Fail(fail) => Submitted::Fail(database.submit(fail).unwrap(), fail.how),
        Step::Stamp => Submitted::Stamp(database.submit(common::Stamp).unwrap()),
    }
}

/// Runs `steps` as one single batch and compares outputs and bytes with a sequential oracle, live
/// and after a reopen.
fn check_one_batch(steps: &[Step]) {
    quiet_panics();
    let (_directory, path) = temporary();
    let database = Database::<Ledger>::builder()
        .max_batch_commands(u32::try_from(steps.len()).unwrap())
        .linger(UNTIL_FULL)
        .open(&path)
        .unwrap();
    let submitted: Vec<_> = steps.iter().map(|&step| submit(&database, step)).collect();
    let mut oracle = Ledger::default();
    let mut accepted = 0;
    for (step, submitted) in steps.iter().zip(submitted) {
        match (step, submitted) {
            (Step::Add(Add { account, amount }), Submitted::Add(pending)) => {
                assert_eq!(pending.wait().unwrap(), oracle.add(*account, *amount), "{steps:?}");
                accepted += 1;
            }
            (Step::Fail(fail), Submitted::Fail(pending, how)) => {
                let expected = oracle.clone().add(fail.account, 1_000_000);
                match (pending.wait().unwrap_err(), how) {
                    (ExecuteError::Rejected(refused), Failure::Reject) => {
                        assert_eq!(refused.0, expected, "{steps:?}");
                    }
                    (ExecuteError::Panicked { .. }, Failure::Panic) => {}
                    (other, _) => panic!("{other:?} for {steps:?}"),
                }
            }
            (Step::Stamp, Submitted::Stamp(pending)) => {
                accepted += 1;
                let stamped = pending.wait().unwrap();
                assert_eq!(stamped.sequence, accepted);
                // What the context said once, it must have said on every rollback too.
                oracle.stamp = Some(stamped);
            }
            _ => unreachable!(),
        }
    }
    assert_eq!(bytes(&database), oracle.bytes(), "{steps:?}");
    assert_eq!(database.sequence(), accepted);
    let stats = database.stats();
    assert_eq!(stats.batches, u64::from(accepted > 0), "one batch is one frame: {steps:?}");
    assert!(stats.reapplied <= accepted, "each is applied twice at most: {stats:?}");
    database.close().unwrap();
    let database = Database::<Ledger>::open(&path).unwrap();
    assert_eq!(bytes(&database), oracle.bytes(), "{steps:?}");
    assert_eq!(database.recovery().commands_replayed, accepted);
}

#[test]
fn a_failure_at_every_place_of_a_batch() {
    let good =
        |index: usize| Step::Add(Add { account: index as u32 % 3, amount: index as i64 + 1 });
    for length in 1..=6 {
        for bad in 0..length {
            for how in [Failure::Reject, Failure::Panic] {
                let mut steps: Vec<_> = (0..length).map(good).collect();
                steps[bad] = Step::Fail(Fail { account: 1, how });
                check_one_batch(&steps);
            }
        }
    }
}

#[test]
fn batches_of_nothing_but_failures() {
    for how in [Failure::Reject, Failure::Panic] {
        check_one_batch(&[Step::Fail(Fail { account: 1, how }); 5]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_mixture(steps in proptest::collection::vec(
        prop_oneof![
            3 => (0u32..5, -9i64..9).prop_map(|(account, amount)| Step::Add(Add { account, amount })),
            1 => Just(Step::Stamp),
            1 => (0u32..5).prop_map(|account| Step::Fail(Fail { account, how: Failure::Reject })),
            1 => (0u32..5).prop_map(|account| Step::Fail(Fail { account, how: Failure::Panic })),
        ],
        1..60,
    )) {
        check_one_batch(&steps);
    }
}

/// Every output is the command's place in the order. The same commands in that order must give the
/// same bytes on a plain model.
#[test]
fn many_threads_against_a_sequential_oracle() {
    quiet_panics();
    const THREADS: u64 = 8;
    const COMMANDS: u64 = 400;
    let (_directory, path) = temporary();
    let database = Database::<Ledger>::builder().segment_bytes(64 << 10).open(&path).unwrap();
    let mut applied: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let database = &database;
                scope.spawn(move || run_caller(database, thread, COMMANDS))
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    applied.sort_unstable();
    let mut oracle = Ledger::default();
    for (expected, (sequence, value)) in (1..).zip(&applied) {
        assert_eq!(*sequence, expected, "every sequence is given once");
        oracle.mix(*value);
    }
    assert_eq!(database.sequence(), THREADS * COMMANDS);
    assert_eq!(bytes(&database), oracle.bytes());
    database.close().unwrap();
    assert_eq!(bytes(&Database::<Ledger>::open(&path).unwrap()), oracle.bytes());
}

/// Executes commands on one thread. Half of the threads pipeline, half wait for each answer; after
/// every tenth command, a failing one follows. Returns sequence and value of each accepted command.
fn run_caller(database: &Database<Ledger>, thread: u64, commands: u64) -> Vec<(u64, u64)> {
    let mut applied = Vec::new();
    let mut pending = Vec::new();
    for index in 0..commands {
        if index % 10 == 0 {
            let how = if index % 20 == 0 { Failure::Panic } else { Failure::Reject };
            drop(database.submit(Fail { account: 1, how }).unwrap());
        }
        let value = thread << 32 | index;
        let submitted = database.submit(common::Mix(value)).unwrap();
        if thread.is_multiple_of(2) {
            applied.push((submitted.wait().unwrap(), value));
        } else {
            pending.push((submitted, value));
        }
    }
    applied.extend(pending.into_iter().map(|(pending, value)| (pending.wait().unwrap(), value)));
    assert!(applied.is_sorted(), "one thread's commands keep their order");
    applied
}

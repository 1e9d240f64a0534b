//! Tests of decisions before a command: trying commands on a fork, and executing one only if
//! nothing has changed since the decision.

use prevalence::{Database, ExecuteError, Metadata};

use crate::common::{
    Add, Fail, Failure, Ledger, Mix, Refused, Stamp, bytes, quiet_panics, temporary,
};

fn add(account: u32) -> Add {
    Add { account, amount: 1 }
}

#[test]
fn a_fork_says_what_would_happen_and_nothing_happens() {
    quiet_panics();
    let (_directory, path) = temporary();
    let database = Database::<Ledger>::open(&path).unwrap();
    database.execute(add(1)).unwrap();
    let state = || {
        let mut stats = database.stats();
        stats.reserve_bytes = 0; // the reserve is made in the background
        (bytes(&database), stats)
    };
    let before = state();
    let tried = database.what_if(|sandbox| {
        assert_eq!(sandbox.execute(add(1)).unwrap(), 2);
        for how in [Failure::Reject, Failure::Panic] {
            let kept = sandbox.query(Ledger::bytes);
            match sandbox.execute(Fail { account: 1, how }).unwrap_err() {
                ExecuteError::Rejected(Refused(balance)) => assert_eq!(balance, 1_000_002),
                ExecuteError::Panicked { message } => assert_eq!(message, "on purpose"),
                other => panic!("{other}"),
            }
            assert_eq!(sandbox.query(Ledger::bytes), kept);
        }
        let stamp = sandbox.execute(Stamp).unwrap();
        assert_eq!((sandbox.sequence(), sandbox.time()), (3, stamp.now));
        stamp
    });
    assert_eq!(state(), before);
    // The same commands get the same numbers afterwards, but for the time.
    database.execute(add(1)).unwrap();
    let stamp = database.execute(Stamp).unwrap();
    assert_eq!((stamp.sequence, stamp.random), (tried.sequence, tried.random));
    assert!(stamp.now >= tried.now);
    database.close().unwrap();
    let database = Database::<Ledger>::open(&path).unwrap();
    assert_eq!(database.recovery().commands_replayed, 3);
}

#[test]
fn a_fork_stays_as_it_is_while_the_database_goes_on() {
    let (_directory, path) = temporary();
    let metadata = Metadata { actor: "auditor".to_owned(), ..Metadata::default() };
    let database = Database::<Ledger>::open(&path).unwrap();
    let audited = database.with_metadata(&metadata).unwrap();
    audited.what_if(|sandbox| {
        sandbox.execute(add(7)).unwrap();
        for account in 0..10 {
            database.execute(add(account)).unwrap();
        }
        assert_eq!(sandbox.query(|ledger| ledger.changes), 1);
        assert_eq!(sandbox.execute(Stamp).unwrap().actor, "auditor");
    });
    assert_eq!(database.sequence(), 10);
}

#[test]
fn a_fork_outlives_the_database() {
    let (_directory, path) = temporary();
    let database = Database::<Ledger>::open(&path).unwrap();
    let reader = database.clone();
    database.close().unwrap();
    assert_eq!(reader.what_if(|sandbox| sandbox.execute(add(1)).unwrap()), 1);
    assert!(matches!(reader.execute(add(1)), Err(ExecuteError::Stopped)));
}

#[test]
fn what_was_decided_on_an_older_version_is_refused() {
    quiet_panics();
    let (_directory, path) = temporary();
    let database = Database::<Ledger>::open(&path).unwrap();
    assert_eq!(database.execute_if(0, add(1)).unwrap(), 1);
    let stale = database.execute_if(0, add(1)).unwrap_err();
    assert!(matches!(stale, ExecuteError::Stale { expected: 0, found: 1 }), "{stale}");
    // A sequence that is yet to come is no better.
    let early = database.execute_if(2, add(1)).unwrap_err();
    assert!(matches!(early, ExecuteError::Stale { expected: 2, found: 1 }), "{early}");
    // What is refused does not count as a change.
    database.execute(Fail { account: 1, how: Failure::Reject }).unwrap_err();
    let fail = Fail { account: 1, how: Failure::Reject };
    assert!(matches!(database.execute_if(1, fail), Err(ExecuteError::Rejected(_))));
    assert_eq!(database.execute_if(1, add(1)).unwrap(), 2);
    let stats = database.stats();
    assert_eq!((stats.accepted, stats.rejected, stats.stale), (2, 2, 2));
    let expected = bytes(&database);
    database.close().unwrap();
    assert_eq!(bytes(&Database::<Ledger>::open(&path).unwrap()), expected);
}

/// Every thread reads, decides, and tries again when it was too late. No update is lost.
#[test]
fn concurrent_deciders_lose_no_update() {
    const EACH: u64 = 50;
    let (_directory, path) = temporary();
    let database = Database::<Ledger>::open(&path).unwrap();
    std::thread::scope(|scope| {
        for decider in 0..4 {
            let database = &database;
            scope.spawn(move || {
                for done in 0..EACH {
                    loop {
                        let view = database.view();
                        // The place that this command will get, if nobody comes between.
                        let place = view.sequence() + 1;
                        match database.execute_if(view.sequence(), Mix(decider * EACH + done)) {
                            Ok(got) => break assert_eq!(got, place),
                            Err(ExecuteError::Stale { expected, found }) => {
                                assert!(found > expected);
                            }
                            Err(other) => panic!("{other}"),
                        }
                    }
                }
            });
        }
    });
    assert_eq!(database.query(|ledger| ledger.changes), 4 * EACH);
    assert_eq!(database.sequence(), 4 * EACH);
}

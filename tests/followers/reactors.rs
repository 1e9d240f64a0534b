//! Reactors: each effect at least once, each of their commands exactly once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use prevalence::{
    Database, Error, FollowerError, FollowerHandle, FollowerKind, FollowerOptions, FollowerState,
    From, OnFailure, Reaction, Reactor, Recorded,
};

use crate::builder;
use crate::common::{Add, Ledger, temporary};
use crate::tally::{LONG, fill};

/// The account that reactions change.
const ACCOUNT: u32 = 1_000_000;

/// What it has done, and at which sequences it fails, and how often.
#[derive(Default)]
struct Log {
    effects: Vec<u64>,
    fails: Vec<(u64, u32)>,
    panics: bool,
}

/// Adds to an account for each tenth command of others.
#[derive(Clone, Default)]
struct Tenth(Arc<Mutex<Log>>);

impl Reactor<Ledger> for Tenth {
    fn react(
        &mut self,
        recorded: &Recorded<Ledger>,
        reaction: &mut Reaction<'_, Ledger>,
    ) -> Result<(), FollowerError> {
        let sequence = recorded.sequence;
        if !recorded.metadata.actor.is_empty() {
            return Ok(()); // one of its own
        }
        if sequence.is_multiple_of(10) {
            reaction.execute(Add { account: ACCOUNT, amount: 1 })?;
            reaction.execute(Add { account: ACCOUNT, amount: 1000 })?;
        }
        let mut log = self.0.lock().unwrap();
        log.effects.push(sequence);
        let panics = log.panics;
        if let Some((_, left)) =
            log.fails.iter_mut().find(|(at, left)| *at == sequence && *left > 0)
        {
            *left -= 1;
            drop(log);
            assert!(!panics, "on purpose");
            return Err(format!("attempt {} fails", reaction.attempt()).into());
        }
        Ok(())
    }
}

fn options() -> FollowerOptions {
    FollowerOptions::new()
        .begin(From::Beginning)
        .pauses(Duration::from_micros(10), Duration::from_micros(100))
}

/// Waits until it has reacted to everything, also to its own commands.
fn settle(database: &Database<Ledger>, reactor: &FollowerHandle<Ledger>) {
    while reactor.lag().unwrap() > 0 {
        reactor.wait_for(database.sequence(), LONG).unwrap();
    }
}

/// Checks that every command of others was reacted to, and each effect on the model is there once.
fn check(database: &Database<Ledger>, tenth: &Tenth) {
    let mut others: Vec<u64> = Vec::new();
    for record in database.history().records(..).unwrap() {
        let record = record.unwrap();
        if record.metadata().actor.is_empty() {
            others.push(record.sequence());
        }
    }
    let mut seen = tenth.0.lock().unwrap().effects.clone();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, others);
    let wanted = others.iter().filter(|sequence| sequence.is_multiple_of(10)).count() as i64;
    let found = database.query(|model| model.accounts.get(&ACCOUNT).copied().unwrap_or(0));
    assert_eq!(found, wanted * 1001);
}

#[test]
fn it_reacts_to_each_command_and_its_own_commands_take_effect_once() {
    let (_directory, path) = temporary();
    let tenth = Tenth::default();
    for round in 0..4 {
        let database = builder().open(&path).unwrap();
        let reactor = database.reactor("tenth", tenth.clone(), options()).unwrap();
        fill(&database, 95);
        // Attempts that fail after their commands were executed, and one that panics.
        let at = database.sequence() + 5;
        tenth.0.lock().unwrap().fails = (at..at + 20).map(|at| (at, 2)).collect();
        tenth.0.lock().unwrap().panics = round == 1;
        fill(&database, 40);
        settle(&database, &reactor);
        check(&database, &tenth);
        drop((reactor, database));
    }
}

#[test]
fn what_is_lost_of_its_position_is_done_again_and_changes_nothing() {
    let (_directory, path) = temporary();
    let tenth = Tenth::default();
    let database = builder().open(&path).unwrap();
    let reactor = database.reactor("tenth", tenth.clone(), options()).unwrap();
    let standing = path.join("reactors/tenth/STANDING");
    let first = std::fs::read(&standing).unwrap();
    fill(&database, 200);
    settle(&database, &reactor);
    let before = tenth.0.lock().unwrap().effects.len();
    drop((reactor, database));
    // A crash before any position became durable.
    std::fs::write(&standing, first).unwrap();
    let database = builder().open(&path).unwrap();
    let reactor = database.reactor("tenth", tenth.clone(), options()).unwrap();
    settle(&database, &reactor);
    assert_eq!(tenth.0.lock().unwrap().effects.len(), 2 * before, "all of it was done again");
    check(&database, &tenth);
    // Its directory is damaged: nobody knows what it has done.
    drop((reactor, database));
    std::fs::write(&standing, "damaged").unwrap();
    let database = builder().open(&path).unwrap();
    let refused = database.reactor("tenth", tenth.clone(), options());
    assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
    assert!(database.followers().unwrap()[0].damage.is_some());
    database.remove_follower(FollowerKind::Reactor, "tenth").unwrap();
    let reactor = database.reactor("tenth", tenth.clone(), options().begin(From::Now)).unwrap();
    settle(&database, &reactor);
    check(&database, &tenth);
}

#[test]
fn what_fails_too_often_stops_it_or_is_put_aside() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let tenth = Tenth::default();
    tenth.0.lock().unwrap().fails = vec![(7, 3), (20, 100), (33, 100)];
    let options = options().attempts(5);
    let reactor = database.reactor("tenth", tenth.clone(), options.clone()).unwrap();
    fill(&database, 50);
    reactor.wait_for(database.sequence() + 1000, LONG).unwrap_err();
    let state = reactor.status().unwrap().state;
    let FollowerState::Stopped { sequence: 20, ref reason } = state else { panic!("{state:?}") };
    assert_eq!(&**reason, "attempt 5 fails");
    assert_eq!(reactor.status().unwrap().position, 19);
    reactor.skip().unwrap();
    assert_eq!(reactor.dead_letters().unwrap()[0].sequence, 20);
    reactor.wait_for(database.sequence() + 1000, LONG).unwrap_err();
    assert_eq!(reactor.status().unwrap().position, 32);
    drop((reactor, database));
    let database = builder().open(&path).unwrap();
    let options = options.on_failure(OnFailure::DeadLetter);
    let reactor = database.reactor("tenth", tenth.clone(), options).unwrap();
    settle(&database, &reactor);
    let letters = reactor.dead_letters().unwrap();
    assert_eq!(letters.iter().map(|it| it.sequence).collect::<Vec<_>>(), [20, 33]);
    assert_eq!(letters[1].attempts, 5);
    assert!(reactor.replay(33).is_err(), "it still fails");
    tenth.0.lock().unwrap().fails.clear();
    reactor.replay(33).unwrap();
    reactor.replay(20).unwrap();
    assert!(reactor.dead_letters().unwrap().is_empty());
    settle(&database, &reactor);
    check(&database, &tenth);
}

#[test]
fn a_new_one_begins_now_and_never_reacts_to_a_replay() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let before = fill(&database, 30);
    let tenth = Tenth::default();
    let options = options().begin(From::Now);
    let reactor = database.reactor("tenth", tenth.clone(), options.clone()).unwrap();
    fill(&database, 5);
    settle(&database, &reactor);
    drop((reactor, database));
    let database = builder().open(&path).unwrap();
    let reactor = database.reactor("tenth", tenth.clone(), options.clone()).unwrap();
    settle(&database, &reactor);
    let expected: Vec<u64> = (before + 1..=before + 5).collect();
    assert_eq!(tenth.0.lock().unwrap().effects, expected);
    let again = database.reactor("tenth", tenth.clone(), options.clone());
    assert!(matches!(again, Err(Error::FollowerRuns { .. })), "{again:?}");
    drop((reactor, database));
    let database = builder().remembered_requests(0).open(&path).unwrap();
    let refused = database.reactor("tenth", tenth, options);
    assert!(matches!(refused, Err(Error::FollowerRefuses { .. })), "{refused:?}");
}

/// Closes the database, and drops the last handle, from its own thread.
struct Closer;

impl Reactor<Ledger> for Closer {
    fn react(
        &mut self,
        _: &Recorded<Ledger>,
        reaction: &mut Reaction<'_, Ledger>,
    ) -> Result<(), FollowerError> {
        Ok(reaction.database().clone().close()?)
    }
}

#[test]
fn one_that_closes_its_database_does_not_wait_for_itself() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let reactor = database.reactor("closer", Closer, options()).unwrap();
    fill(&database, 1);
    drop(database);
    drop(reactor);
    crate::common::until(|| builder().open(&path).is_ok());
}

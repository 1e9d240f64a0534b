//! From history to live, without a gap or a duplicate.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prevalence::{Command, Context, Database, Durability, Error, From, Metadata, Retention};
use serde::{Deserialize, Serialize};

use crate::common::{Add, Ledger, Mix, temporary};
use crate::tally::{Tally, check};
use crate::{builder, take_to};

fn add(database: &Database<Ledger>, count: u64) {
    let pending: Vec<_> =
        (0..count).map(|_| database.submit(Add { account: 1, amount: 1 }).unwrap()).collect();
    pending.into_iter().for_each(|pending| assert!(pending.wait().is_ok()));
}

#[test]
fn a_subscription_goes_from_the_files_to_what_is_committed_now() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    add(&database, 3_000);
    database.snapshot().unwrap();
    database.close().unwrap();
    let database = builder().open(&path).unwrap();
    add(&database, 2_000);
    let actor = Metadata { actor: "ann".to_owned(), ..Metadata::default() };
    let mut all = database.subscribe(From::Beginning).unwrap();
    let mut late = database.subscribe(From::After(4_321)).unwrap();
    let mut now = database.subscribe(From::Now).unwrap();
    assert_eq!((late.next_sequence(), now.next_sequence()), (4_322, 5_001));
    assert!(now.try_next().unwrap().is_none() && !now.has_ended());
    database.with_metadata(&actor).unwrap().execute(Mix(7)).unwrap();
    add(&database, 1_000);
    let mixed = now.try_next().unwrap().unwrap();
    assert_eq!((mixed.sequence, &mixed.metadata, mixed.events.len()), (5_001, &actor, 0));
    assert_eq!(mixed.command.command::<Mix>().unwrap().unwrap().0, 7);
    assert_eq!(mixed.time, mixed.command.time());
    for subscription in [&mut all, &mut late, &mut now] {
        take_to(subscription, 6_001);
        assert!(subscription.try_next().unwrap().is_none());
    }
    // What was accepted before the end is given, and then the end.
    add(&database, 10);
    database.close().unwrap();
    for subscription in [&mut all, &mut late, &mut now] {
        take_to(subscription, 6_011);
        assert!(subscription.next().is_none());
        assert!(subscription.has_ended() && subscription.try_next().unwrap().is_none());
    }
}

/// Several threads follow from everywhere while commands are accepted, snapshots are taken, and
/// segments are archived.
#[test]
fn nothing_is_missed_while_files_come_and_go() {
    let (_directory, path) = temporary();
    let database = builder().max_batch_commands(50).open(&path).unwrap();
    const LAST: u64 = 20_000;
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for follower in 0..4_u64 {
            let database = database.clone();
            scope.spawn(move || {
                database.wait_for(follower * 3_000, Duration::from_secs(60)).unwrap();
                let from =
                    if follower == 0 { From::Beginning } else { From::After(follower * 997) };
                let mut subscription = database.subscribe(from).unwrap();
                drop(database);
                take_to(&mut subscription, LAST);
            });
        }
        scope.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                database.snapshot().unwrap();
            }
        });
        for _ in 0..LAST / 500 {
            add(&database, 500);
        }
        is_done.store(true, Ordering::SeqCst);
    });
}

#[test]
fn what_is_no_longer_stored_is_told_with_where_history_begins() {
    let (_directory, path) = temporary();
    let database = builder().retention(Retention::Truncate).open(&path).unwrap();
    add(&database, 5_000);
    database.snapshot().unwrap();
    add(&database, 5_000);
    database.snapshot().unwrap();
    match database.subscribe(From::After(2)) {
        Err(Error::HistoryTruncated { wanted: 3, oldest, .. }) => {
            assert!(oldest > 3, "{oldest}");
            let mut rest = database.subscribe(From::After(oldest - 1)).unwrap();
            take_to(&mut rest, 10_000);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_wanted_commands_are_given_and_each_is_looked_at_once() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    add(&database, 10);
    let mut seen = 0;
    let wanted = move |recorded: &prevalence::Recorded<Ledger>| {
        seen += 1;
        assert_eq!(recorded.sequence, seen);
        recorded.events.iter().any(|event| event % 3 == 0)
    };
    let subscription = database.subscribe(From::Beginning).unwrap().only(wanted);
    add(&database, 10);
    database.close().unwrap();
    let sequences: Vec<_> = subscription.map(|recorded| recorded.unwrap().sequence).collect();
    assert_eq!(sequences, [3, 6, 9, 12, 15, 18]);
}

/// Under `Buffered`, a command is readable before it is durable. Only then is it given.
#[test]
fn only_what_is_durable_is_given() {
    let (_directory, path) = temporary();
    let database = builder().durability(Durability::Buffered).open(&path).unwrap();
    let mut subscription = database.subscribe(From::Beginning).unwrap();
    add(&database, 10);
    assert_eq!(database.sequence(), 10);
    assert!(subscription.try_next().unwrap().is_none());
    assert!(subscription.next_timeout(Duration::from_millis(1)).unwrap().is_none());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| take_to(&mut subscription, 10));
        database.sync().unwrap();
        waiting.join().unwrap();
    });
    add(&database, 10);
    assert!(subscription.try_next().unwrap().is_none());
    database.close().unwrap();
    take_to(&mut subscription, 20);
    assert!(subscription.next().is_none());
}

#[test]
fn in_memory_databases_are_followed_too() {
    let database = Database::<Ledger>::in_memory().unwrap();
    let mut subscription = database.subscribe(From::Beginning).unwrap();
    add(&database, 100);
    take_to(&mut subscription, 100);
    let mut late = database.subscribe(From::After(50)).unwrap();
    take_to(&mut late, 100);
    let tally = database.projection("tally", Tally::<30>::default(), <_>::default()).unwrap();
    check(&database, &tally, 100, &[]);
    tally.close().unwrap();
    assert_eq!(database.followers().unwrap()[0].position, 100);
    let tally = database.projection("tally", Tally::<30>::default(), <_>::default()).unwrap();
    check(&database, &tally, 100, &[]);
}

/// A follower inside a command's `apply` would wait for itself.
#[test]
fn a_command_cannot_wait_for_the_next_one() {
    use std::sync::Mutex;
    type Following = prevalence::Subscription<Model>;
    static FOLLOWING: Mutex<Option<Following>> = Mutex::new(None);

    #[derive(Clone, Default, Serialize, Deserialize)]
    struct Model;

    impl prevalence::Model for Model {
        type Event = ();
    }

    #[derive(Serialize, Deserialize)]
    struct Look;

    impl Command<Model> for Look {
        type Output = String;
        type Rejection = ();

        fn apply(self, _: &mut Model, _: &mut Context<'_, Model>) -> Result<String, ()> {
            let mut following = FOLLOWING.lock().unwrap();
            Ok(format!("{:?}", following.as_mut().unwrap().next()))
        }
    }

    prevalence::commands! { Model { 1 => Look } }

    let (_directory, path) = temporary();
    let database = Database::<Model>::open(&path).unwrap();
    *FOLLOWING.lock().unwrap() = Some(database.subscribe(From::Now).unwrap());
    assert_eq!(database.execute(Look).unwrap(), "Some(Err(Reentrant))");
    FOLLOWING.lock().unwrap().take();
}

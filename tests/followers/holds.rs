//! Durable followers keep the journal that they have not read, up to a limit.

use std::path::Path;

use prevalence::{
    Builder, Database, Error, Events, FollowerError, FollowerKind, FollowerOptions, FollowerState,
    From, Reaction, Reactor, Recorded, Retention, Sink, Source,
};

use crate::common::{Carry, Ledger, segments, temporary, until};
use crate::tally::{LONG, Tally, fill};

fn builder() -> Builder<Ledger> {
    crate::builder().retention(Retention::Truncate)
}

/// Fills many segments.
fn fill_segments(database: &Database<Ledger>) -> u64 {
    for _ in 0..20 {
        let pending: Vec<_> =
            (0..10).map(|_| database.submit(Carry(vec![7; 4 << 10])).unwrap()).collect();
        pending.into_iter().for_each(|pending| assert!(pending.wait().is_ok()));
    }
    database.sequence()
}

fn options() -> FollowerOptions {
    FollowerOptions::new()
}

fn oldest(path: &Path) -> u64 {
    let name = segments(path)[0].file_stem().unwrap().to_str().unwrap().to_owned();
    name.parse().unwrap()
}

#[test]
fn what_was_not_read_stays_until_it_was() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let held = fill(&database, 100);
    let tally = database.projection("tally", Tally::<20>::default(), options()).unwrap();
    tally.wait_for(held, LONG).unwrap();
    tally.close().unwrap();
    fill_segments(&database);
    database.snapshot().unwrap();
    assert!(oldest(&path) <= held + 1);
    assert!(database.stats().followers_held_bytes > 500 << 10);
    drop(database);
    // It holds also while the program does not start it.
    let database = builder().open(&path).unwrap();
    let last = fill_segments(&database);
    database.snapshot().unwrap();
    assert!(oldest(&path) <= held + 1);
    let tally = database.projection("tally", Tally::<20>::default(), options()).unwrap();
    tally.wait_for(last, LONG).unwrap();
    assert_eq!(tally.query(|tally| tally.commands), last);
    assert!(oldest(&path) <= held + 1, "its position is not durable yet");
    tally.checkpoint().unwrap();
    // Nobody has to take a snapshot for that.
    until(|| database.stats().followers_held_bytes == 0);
    assert!(oldest(&path) > held + 1);
}

#[test]
fn a_forgotten_one_can_be_removed() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let held = fill(&database, 100);
    drop(database.projection("forgotten", Tally::<21>::default(), options()).unwrap());
    fill_segments(&database);
    database.snapshot().unwrap();
    assert!(oldest(&path) <= held + 1);
    let found = database.followers().unwrap();
    assert_eq!((&*found[0].name, found[0].runs, found[0].lost), ("forgotten", false, None));
    database.remove_follower(FollowerKind::Projection, "forgotten").unwrap();
    fill_segments(&database);
    database.snapshot().unwrap();
    assert!(oldest(&path) > held + 1);
    assert_eq!(database.stats().followers_held_bytes, 0);
}

struct Nothing;

impl Sink<Ledger> for Nothing {
    type Error = String;

    fn position(&mut self, _: &Source) -> Result<u64, String> {
        Ok(0)
    }

    fn apply_batch(&mut self, _: &[Recorded<Ledger>]) -> Result<(), String> {
        Err("it never stores anything".to_owned())
    }
}

impl Reactor<Ledger> for Nothing {
    fn react(
        &mut self,
        _: &Recorded<Ledger>,
        _: &mut Reaction<'_, Ledger>,
    ) -> Result<(), FollowerError> {
        Ok(())
    }
}

#[test]
fn one_that_would_hold_too_much_is_lost_and_says_so() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    fill(&database, 100);
    let options = options().hold_at_most(100 << 10).begin(From::Beginning).attempts(1);
    drop(database.projection("tally", Tally::<22>::default(), options.clone()).unwrap());
    drop(database.reactor("nothing", Nothing, options.clone()).unwrap());
    let sink = database.sink("nothing", Nothing, options.clone()).unwrap();
    let patient = options.clone().hold_at_most(u64::MAX);
    drop(database.projection("patient", Tally::<22>::default(), patient.clone()).unwrap());
    fill_segments(&database);
    database.snapshot().unwrap();
    let lost = |database: &Database<Ledger>| -> Vec<bool> {
        database.followers().unwrap().iter().map(|it| it.lost.is_some()).collect()
    };
    // In the order of kinds and names: one that holds without limit is not lost.
    assert_eq!(lost(&database), [false, true, true, true]);
    assert_eq!(database.stats().followers_lost, 3);
    assert!(oldest(&path) <= 101, "the patient one holds it");
    database.remove_follower(FollowerKind::Projection, "patient").unwrap();
    fill_segments(&database);
    database.snapshot().unwrap();
    assert!(oldest(&path) > 101);
    // The one that runs has stopped for another reason. Told to go on, it finds out.
    sink.retry().unwrap();
    sink.wait_for(1, LONG).unwrap_err();
    let state = sink.status().unwrap().state;
    assert!(matches!(state, FollowerState::Lost { oldest } if oldest > 101), "{state:?}");
    drop(sink);
    let refused = database.projection("tally", Tally::<22>::default(), options.clone());
    assert!(matches!(refused, Err(Error::HistoryTruncated { .. })), "{refused:?}");
    let reactor = database.reactor("nothing", Nothing, options.clone()).unwrap();
    reactor.wait_for(1_000_000, LONG).unwrap_err();
    assert!(matches!(reactor.status().unwrap().state, FollowerState::Lost { .. }));
    assert!(matches!(reactor.rebuild(), Err(Error::HistoryTruncated { .. })));
    drop(reactor);
    let options = options.begin(From::Now);
    let reactor = database.reactor("nothing", Nothing, options).unwrap();
    reactor.wait_for(1_000_000, LONG).unwrap_err();
    reactor.rebuild().unwrap();
    let last = fill(&database, 10);
    reactor.wait_for(last, LONG).unwrap();
    assert_eq!(lost(&database), [true, true, false]);
}

/// A follower stays lost, and that is told, when segments are archived from then on.
#[test]
fn one_that_is_lost_is_told_also_where_nothing_is_held() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    fill(&database, 100);
    let options = options().hold_at_most(1);
    drop(database.projection("tally", Tally::<29>::default(), options).unwrap());
    fill_segments(&database);
    database.snapshot().unwrap();
    assert_eq!(database.stats().followers_lost, 1);
    drop(database);
    let database = crate::builder().open(&path).unwrap();
    assert!(database.followers().unwrap()[0].lost.is_some());
    fill_segments(&database);
    database.snapshot().unwrap();
    assert_eq!(database.stats().followers_lost, 1);
}

/// To derive the events of what is held, the model before it is needed, too.
#[test]
fn what_derives_events_holds_the_snapshot_that_it_needs() {
    let (_directory, path) = temporary();
    let builder = || builder().events(Events::Derived);
    let database = builder().open(&path).unwrap();
    let held = fill(&database, 100);
    let tally = database.projection("tally", Tally::<24>::default(), options()).unwrap();
    tally.wait_for(held, LONG).unwrap();
    tally.close().unwrap();
    for _ in 0..3 {
        fill_segments(&database);
        fill(&database, 10);
        database.snapshot().unwrap();
    }
    drop(database);
    let database = builder().open(&path).unwrap();
    let last = fill(&database, 10);
    database.snapshot().unwrap();
    let tally = database.projection("tally", Tally::<24>::default(), options()).unwrap();
    tally.wait_for(last, LONG).unwrap();
    assert_eq!(tally.query(|tally| (tally.commands, tally.seen.len())), (last, 140));
    tally.checkpoint().unwrap();
    until(|| database.stats().followers_held_bytes == 0);
    assert!(oldest(&path) > held + 1);
}

/// What was derived stays so, whatever the options say later, and what was stored is no reason to
/// give up the snapshot from which the rest is derived.
#[test]
fn what_derives_events_is_not_lost_when_the_options_change() {
    let changes = [(Events::Derived, Events::Stored), (Events::Derived, Events::Off)];
    for (first, then) in changes.into_iter().chain([(Events::Stored, Events::Derived)]) {
        let (_directory, path) = temporary();
        let database = builder().events(first).open(&path).unwrap();
        let held = fill(&database, 100);
        let tally = database.projection("tally", Tally::<25>::default(), options()).unwrap();
        tally.wait_for(held, LONG).unwrap();
        tally.close().unwrap();
        let more = |database: &Database<Ledger>| {
            for _ in 0..3 {
                fill_segments(database);
                fill(database, 10);
                database.snapshot().unwrap();
            }
        };
        more(&database);
        drop(database);
        let database = builder().events(then).open(&path).unwrap();
        more(&database);
        drop(database);
        let database = builder().events(then).open(&path).unwrap();
        let last = fill(&database, 10);
        database.snapshot().unwrap();
        let tally = database.projection("tally", Tally::<25>::default(), options()).unwrap();
        tally.wait_for(last, LONG).unwrap();
        let emitted = if then == Events::Off { 130 } else { 170 };
        assert_eq!(tally.query(|tally| (tally.commands, tally.seen.len())), (last, emitted));
    }
}

/// A damaged snapshot is none from which events can be derived.
#[test]
fn what_derives_events_holds_a_snapshot_that_is_sound() {
    let (_directory, path) = temporary();
    let builder = || builder().events(Events::Derived).keep_snapshots(2);
    let database = builder().open(&path).unwrap();
    let tally = database.projection("tally", Tally::<26>::default(), options()).unwrap();
    for _ in 0..2 {
        fill(&database, 50);
        database.snapshot().unwrap();
    }
    let held = fill(&database, 50);
    tally.wait_for(held, LONG).unwrap();
    drop((tally, database));
    let damaged = path.join("snapshots").join(format!("{:020}.snapshot", 100));
    let mut bytes = std::fs::read(&damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    let database = builder().open(&path).unwrap();
    assert_eq!(database.recovery().damaged_snapshots.len(), 1);
    for _ in 0..3 {
        fill_segments(&database);
        database.snapshot().unwrap();
    }
    drop(database);
    let database = builder().open(&path).unwrap();
    let last = fill(&database, 10);
    let tally = database.projection("tally", Tally::<26>::default(), options()).unwrap();
    tally.wait_for(last, LONG).unwrap();
    assert_eq!(tally.query(|tally| (tally.commands, tally.seen.len())), (last, 160));
}

#[test]
fn archives_are_read_and_nothing_is_held_for_them() {
    let (_directory, path) = temporary();
    let database = crate::builder().open(&path).unwrap();
    let held = fill(&database, 100);
    let options = options().hold_at_most(0);
    drop(database.projection("tally", Tally::<23>::default(), options.clone()).unwrap());
    let last = fill_segments(&database);
    database.snapshot().unwrap();
    assert!(oldest(&path) > held + 1);
    assert_eq!((database.stats().followers_held_bytes, database.stats().followers_lost), (0, 0));
    let tally = database.projection("tally", Tally::<23>::default(), options).unwrap();
    tally.wait_for(last, LONG).unwrap();
    assert_eq!(tally.query(|tally| tally.commands), last);
}

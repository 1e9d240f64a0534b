//! Events that are not stored are derived: whoever follows gets what the commands emit on replay.

use prevalence::{Error, Events, From, Retention};

use crate::common::{Carry, temporary, until};
use crate::projections::OfModel;
use crate::tally::{LONG, Tally, check, fail_at, fill, stopped};
use crate::{builder, take_to};

#[test]
fn derived_events_are_given_from_the_files_from_the_middle_and_live() {
    let (_directory, path) = temporary();
    let database = builder().events(Events::Derived).open(&path).unwrap();
    let mut live = database.subscribe(From::Now).unwrap();
    let mut last = fill(&database, 500);
    take_to(&mut live, last);
    for _ in 0..40 {
        database.execute(Carry(vec![7; 4 << 10])).unwrap();
    }
    database.snapshot().unwrap();
    last = fill(&database, 500);
    take_to(&mut live, last);
    for from in [0, 1, 250, 499, 540, 800, last - 1] {
        let mut late = database.subscribe(From::After(from)).unwrap();
        take_to(&mut late, last);
    }
    // Those of other runs are what they were: stored, derived, or dropped.
    drop(database);
    let database = builder().events(Events::Stored).open(&path).unwrap();
    last = fill(&database, 300);
    let mut all = database.subscribe(From::Beginning).unwrap();
    take_to(&mut all, last);
    drop((all, database));
    let database = builder().events(Events::Derived).open(&path).unwrap();
    last = fill(&database, 300);
    let mut all = database.subscribe(From::Beginning).unwrap();
    take_to(&mut all, last);
    drop((all, database));
    let database = builder().events(Events::Off).open(&path).unwrap();
    fill(&database, 1);
    let mut dropped = database.subscribe(From::After(last)).unwrap();
    assert!(dropped.next().unwrap().unwrap().events.is_empty());
}

#[test]
fn projections_and_dead_letters_have_derived_events() {
    let (_directory, path) = temporary();
    let database = builder().events(Events::Derived).open(&path).unwrap();
    fail_at(14, 150, true);
    let tally = database.projection("tally", Tally::<14>::default(), <_>::default()).unwrap();
    let last = fill(&database, 300);
    assert_eq!(stopped(&tally).0, 150);
    tally.skip().unwrap();
    check(&database, &tally, last, &[150]);
    assert_eq!(tally.query(|tally| tally.seen.len() as u64), last - 1, "each had its event");
    drop((tally, database));
    // A run that drops events still has that of the letter.
    let database = builder().events(Events::Off).open(&path).unwrap();
    fail_at(14, 0, false);
    let tally = database.projection("tally", Tally::<14>::default(), <_>::default()).unwrap();
    tally.replay(150).unwrap();
    assert!(tally.query(|tally| tally.seen.contains_key(&150)));
}

/// The commands may all be there, and the model before them may not.
#[test]
fn a_build_that_cannot_derive_its_first_events_does_not_begin() {
    let (_directory, path) = temporary();
    let builder = || builder().events(Events::Derived).retention(Retention::Truncate);
    let database = builder().open(&path).unwrap();
    let tally = database.projection("tally", Tally::<27>::default(), <_>::default()).unwrap();
    for _ in 0..3 {
        let last = fill(&database, 50);
        tally.wait_for(last, LONG).unwrap();
        tally.checkpoint().unwrap();
        database.snapshot().unwrap();
    }
    let snapshots = || std::fs::read_dir(path.join("snapshots")).unwrap().count();
    until(|| snapshots() == 1);
    let first = database.history().records(..).unwrap().next().unwrap().unwrap();
    assert_eq!(first.sequence(), 1, "the segment is there");
    let not_derivable = |error| matches!(error, Error::EventsNotDerivable { oldest: 150, .. });
    assert!(not_derivable(database.subscribe(From::Beginning).unwrap_err()));
    assert!(not_derivable(tally.rebuild().unwrap_err()));
    let fresh = database.projection("fresh", Tally::<28>::default(), <_>::default());
    assert!(not_derivable(fresh.unwrap_err()));
    // The old build goes on, and another projection can be made of the model.
    let last = fill(&database, 10);
    tally.wait_for(last, LONG).unwrap();
    assert_eq!(tally.query(|tally| (tally.commands, tally.seen.len())), (last, 160));
    let changes = database.projection("changes", OfModel::default(), <_>::default()).unwrap();
    changes.wait_for(last, LONG).unwrap();
    drop((tally, changes, database));
    let database = builder().open(&path).unwrap();
    let tally = database.projection("tally", Tally::<27>::default(), <_>::default()).unwrap();
    assert_eq!(tally.query(|tally| (tally.commands, tally.seen.len())), (last, 160));
}

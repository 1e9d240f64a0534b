//! Events that are not stored are derived: whoever follows gets what the commands emit on replay.

use prevalence::{Events, From};

use crate::common::{Carry, temporary};
use crate::tally::{Tally, check, fail_at, fill, stopped};
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

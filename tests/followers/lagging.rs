//! A follower that is slow, asleep, leaked or gone harms nobody, and comes back.

use prevalence::{Database, From};

use crate::common::{Add, Carry, Ledger, temporary};
use crate::{builder, take_to};

/// More bytes than recent batches may have, and then some.
fn fill(database: &Database<Ledger>) -> u64 {
    for _ in 0..150 {
        let pending: Vec<_> =
            (0..10).map(|_| database.submit(Carry(vec![7; 10 << 10])).unwrap()).collect();
        pending.into_iter().for_each(|pending| assert!(pending.wait().is_ok()));
    }
    database.sequence()
}

#[test]
fn who_falls_behind_reads_files_and_comes_back() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let mut slow = database.subscribe(From::Beginning).unwrap();
    database.execute(Add { account: 1, amount: 1 }).unwrap();
    take_to(&mut slow, 1);
    let reached = fill(&database);
    database.snapshot().unwrap();
    take_to(&mut slow, reached / 2);
    let reached = fill(&database);
    take_to(&mut slow, reached);
    database.execute(Add { account: 1, amount: 1 }).unwrap();
    take_to(&mut slow, reached + 1);
    assert!(slow.try_next().unwrap().is_none());
}

#[test]
fn a_leaked_follower_keeps_nobody_from_anything() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    std::mem::forget(database.subscribe(From::Beginning).unwrap());
    let mut other = database.subscribe(From::Now).unwrap();
    let reached = fill(&database);
    take_to(&mut other, reached);
    database.snapshot().unwrap();
    drop(database);
    assert!(other.next().is_none(), "the last handle is gone, so the database is closed");
    builder().open(&path).unwrap().close().unwrap();
}

#[test]
fn a_filter_that_panics_harms_only_its_owner() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let mut loud = database.subscribe(From::Beginning).unwrap().only(|_| panic!("on purpose"));
    database.execute(Add { account: 1, amount: 1 }).unwrap();
    let next = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| loud.next()));
    assert!(next.is_err() && loud.has_ended() && loud.next().is_none());
    drop(loud);
    database.execute(Add { account: 1, amount: 1 }).unwrap();
    database.close().unwrap();
}

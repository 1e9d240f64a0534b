//! Followers that do not end, that nobody ends, and that are in the child of a fork.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use prevalence::{
    Error, FollowerError, FollowerOptions, FollowerState, Reaction, Reactor, Recorded, WaitError,
};

use crate::builder;
use crate::common::{Ledger, content, temporary};
use crate::tally::{LONG, Tally, check, fill};

#[test]
fn a_leaked_handle_keeps_nobody_from_anything() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let tally = database.projection("leaked", Tally::<10>::default(), <_>::default()).unwrap();
    let last = fill(&database, 100);
    tally.wait_for(last, LONG).unwrap();
    std::mem::forget(tally);
    let again = database.projection("leaked", Tally::<10>::default(), <_>::default());
    assert!(matches!(again, Err(Error::FollowerRuns { .. })), "{again:?}");
    drop(database); // the last handle that is one of the database
    let database = builder().open(&path).unwrap();
    assert_eq!(database.followers().unwrap()[0].position, last, "it has ended in order");
    let tally = database.projection("leaked", Tally::<10>::default(), <_>::default()).unwrap();
    check(&database, &tally, last, &[]);
}

/// Does not return until it is told.
struct Stuck {
    entered: Arc<Barrier>,
    may_go: Arc<AtomicBool>,
}

impl Reactor<Ledger> for Stuck {
    fn react(
        &mut self,
        _: &Recorded<Ledger>,
        _: &mut Reaction<'_, Ledger>,
    ) -> Result<(), FollowerError> {
        self.entered.wait();
        while !self.may_go.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        Ok(())
    }
}

/// A close waits some seconds for it, and no longer. Afterwards it changes nothing in the directory,
/// which may be another process's then.
#[test]
fn one_that_does_not_return_keeps_no_close_waiting_for_ever() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let (entered, may_go) = (Arc::new(Barrier::new(2)), Arc::new(AtomicBool::new(false)));
    let stuck = Stuck { entered: entered.clone(), may_go: may_go.clone() };
    let options = FollowerOptions::new().checkpoint_every(1);
    let reactor = database.reactor("stuck", stuck, options).unwrap();
    fill(&database, 1);
    entered.wait();
    // The handle that the reaction has does not keep `close` from closing.
    database.clone().close().unwrap();
    let closed = content(&path);
    let other = builder().open(&path).unwrap();
    other.close().unwrap();
    let late = database.projection("late", Tally::<11>::default(), <_>::default());
    assert!(matches!(late, Err(Error::Stopped)), "{late:?}");
    may_go.store(true, Ordering::SeqCst);
    let ended = reactor.wait_for(1_000_000, LONG);
    assert!(matches!(ended, Err(WaitError::FollowerStopped { .. })), "{ended:?}");
    assert_eq!(reactor.status().unwrap().state, FollowerState::Ended);
    assert!(reactor.status().unwrap().checkpoint_failure.is_some(), "it could not save");
    assert!(reactor.close().is_err());
    let standing = std::path::Path::new("reactors/stuck/STANDING");
    let now = content(&path);
    let of = |all: &std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>| {
        all.iter().find(|(name, _)| name.ends_with(standing)).map(|(_, bytes)| bytes.clone())
    };
    assert!(of(&now) == of(&closed) && of(&now).is_some());
    drop(database);
}

/// Whoever would wait for itself is told so.
struct Waiting(prevalence::ProjectionHandle<Ledger, Tally<12>>);

impl Reactor<Ledger> for Waiting {
    fn react(
        &mut self,
        recorded: &Recorded<Ledger>,
        _: &mut Reaction<'_, Ledger>,
    ) -> Result<(), FollowerError> {
        // A reaction may wait for a projection, and may not give it orders.
        self.0.wait_for(recorded.sequence, LONG)?;
        match self.0.checkpoint() {
            Err(Error::Reentrant) => Ok(()),
            other => Err(format!("{other:?}").into()),
        }
    }
}

#[test]
fn a_reaction_may_wait_for_a_projection() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let tally = database.projection("tally", Tally::<12>::default(), <_>::default()).unwrap();
    let options = FollowerOptions::new().attempts(1);
    let reactor = database.reactor("waiting", Waiting(tally), options).unwrap();
    let last = fill(&database, 50);
    assert_eq!(reactor.wait_for(last, LONG).unwrap(), last);
    database.close().unwrap();
}

/// Another directory stands at the path now. Nothing of a follower may get into it.
#[test]
fn a_moved_database_keeps_its_followers_out_of_what_takes_its_place() {
    let (directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let tally = database.projection("tally", Tally::<15>::default(), <_>::default()).unwrap();
    let last = fill(&database, 50);
    tally.wait_for(last, LONG).unwrap();
    std::fs::rename(&path, directory.path().join("moved")).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(tally.checkpoint().is_err());
    assert!(tally.status().unwrap().checkpoint_failure.is_some());
    assert_eq!(tally.query(|tally| tally.commands), last, "it can still be read");
    assert!(tally.close().is_err());
    assert!(database.close().is_err());
    assert!(content(&path).is_empty(), "{:?}", content(&path).keys());
}

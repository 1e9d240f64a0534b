//! The history of an open database is verified while it goes on.

use std::sync::atomic::{AtomicU64, Ordering};

use prevalence::{Command, Context, Database, Error, Evidence, Model, Retention, verify_history};
use serde::{Deserialize, Serialize};

use crate::builder;
use crate::common::{Carry, Ledger, Mix, temporary};

#[test]
fn it_is_that_of_the_closed_directory_and_disturbs_nobody() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let other = database.clone();
    let writer = std::thread::spawn(move || {
        for round in 0..30 {
            other.execute(Carry(vec![7; 20 << 10])).unwrap();
            (0..5).for_each(|value| assert!(other.execute(Mix(value)).unwrap() > 0));
            if round % 3 == 2 {
                other.snapshot().unwrap();
            }
        }
    });
    let mut verified = 0;
    while !writer.is_finished() {
        let history = database.history();
        let report = history.verify().unwrap();
        assert_eq!((report.begins, report.sequence), (0, history.newest()));
        assert_eq!((report.commands_replayed, report.divergence), (history.newest(), None));
        verified += 1;
    }
    writer.join().unwrap();
    let running = database.history().verify().unwrap();
    assert!(verified > 0 && running.snapshots_compared > 3, "{running:?}");
    database.close().unwrap();
    assert_eq!(verify_history::<Ledger>(&path).unwrap(), running);
}

/// What a deposit is multiplied with: the code that a release changes.
static FACTOR: AtomicU64 = AtomicU64::new(1);

#[derive(Clone, Default, Serialize, Deserialize)]
struct Till(u64);

impl Model for Till {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
struct PayIn(u64);

impl Command<Till> for PayIn {
    type Output = ();
    type Rejection = ();

    fn apply(self, till: &mut Till, _: &mut Context<'_, Till>) -> Result<(), ()> {
        till.0 += self.0 * FACTOR.load(Ordering::Relaxed);
        Ok(())
    }
}

prevalence::commands! { Till { 1 => PayIn } }

#[test]
fn a_changed_release_learns_what_it_has_changed_while_it_runs() {
    let (_directory, path) = temporary();
    let open = || Database::<Till>::builder().retention(Retention::Archive).open(&path).unwrap();
    let till = open();
    for cents in [5, 6] {
        till.execute(PayIn(cents)).unwrap();
        till.snapshot().unwrap();
    }
    assert_eq!(till.history().verify().unwrap().divergence, None);
    till.close().unwrap();
    FACTOR.store(2, Ordering::Relaxed);
    let till = open();
    let divergence = till.history().verify().unwrap().divergence.unwrap();
    assert_eq!((divergence.after, divergence.at), (0, 1));
    assert_eq!(divergence.evidence, Evidence::SnapshotDiffers);
    till.execute(PayIn(1)).unwrap();
}

#[test]
fn commands_that_are_gone_are_told() {
    let (_directory, path) = temporary();
    let till = Database::<Till>::builder().keep_snapshots(1).open(&path).unwrap();
    let early = till.history();
    let report = early.verify().unwrap();
    assert_eq!((report.sequence, report.commands_replayed), (0, 0));
    for cents in 0..3 {
        till.execute(PayIn(cents)).unwrap();
    }
    let history = till.history();
    till.snapshot().unwrap();
    // The snapshot took the place of the commands, or they were still there.
    match history.verify() {
        Ok(report) => assert_eq!(report.divergence, None),
        Err(error) => assert!(
            matches!(error, Error::HistoryTruncated { .. } | Error::Missing { .. }),
            "{error}"
        ),
    }
}

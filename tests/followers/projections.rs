//! Projections: they equal the fold of all events, whatever happens to them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prevalence::{
    Error, FollowerKind, FollowerOptions, FollowerState, Health, Retention, WaitError,
};

use crate::builder;
use crate::common::{quiet_panics, temporary};
use crate::tally::{LONG, Tally, check, fail_at, fill, stopped};

fn options() -> FollowerOptions {
    FollowerOptions::new()
}

#[test]
fn a_projection_follows_and_goes_on_from_its_checkpoint() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let mut last = fill(&database, 3000);
    let tally = database.projection("tally", Tally::<0>::default(), options()).unwrap();
    check(&database, &tally, last, &[]);
    last = fill(&database, 2000);
    check(&database, &tally, last, &[]);
    assert_eq!((tally.lag().unwrap(), database.stats().followers), (0, 1));
    tally.close().unwrap();
    assert_eq!(database.followers().unwrap()[0].position, last);
    last = fill(&database, 10);
    // Only what follows the checkpoint is worked on: else this would stop it.
    fail_at(0, 4000, false);
    let tally = database.projection("tally", Tally::<0>::default(), options()).unwrap();
    check(&database, &tally, last, &[]);
    database.close().unwrap();
    assert_eq!(tally.status().unwrap().state, FollowerState::Ended);
    assert_eq!(tally.query(|tally| tally.commands), last);
    let database = builder().open(&path).unwrap();
    assert_eq!(database.followers().unwrap()[0].position, last, "closing makes it durable");
    let tally = database.projection("tally", Tally::<0>::default(), options()).unwrap();
    check(&database, &tally, last, &[]);
}

#[test]
fn two_of_one_name_are_an_error_and_other_names_are_others() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let first = database.projection("one", Tally::<1>::default(), options()).unwrap();
    let again = database.projection("one", Tally::<1>::default(), options());
    assert!(matches!(again, Err(Error::FollowerRuns { .. })), "{again:?}");
    let other = database.projection("two", Tally::<1>::default(), options()).unwrap();
    for name in ["", "a/b", "..", "x y", &"n".repeat(101)] {
        let refused = database.projection(name, Tally::<1>::default(), options());
        assert!(matches!(refused, Err(Error::InvalidOption { .. })), "{name}");
    }
    let removed = database.remove_follower(FollowerKind::Projection, "one");
    assert!(matches!(removed, Err(Error::FollowerRuns { .. })), "{removed:?}");
    drop(first);
    database.remove_follower(FollowerKind::Projection, "one").unwrap();
    let removed = database.remove_follower(FollowerKind::Projection, "one");
    assert!(matches!(removed, Err(Error::FollowerRefuses { .. })), "{removed:?}");
    let names: Vec<_> = database.followers().unwrap().into_iter().map(|it| it.name).collect();
    assert_eq!(names, ["two"]);
    assert!(!path.join("projections/one").exists());
    let last = fill(&database, 10);
    check(&database, &other, last, &[]);
}

#[test]
fn one_that_fails_stops_there_and_is_retried_and_skipped() {
    for panics in [false, true] {
        let (_directory, path) = temporary();
        let database = builder().open(&path).unwrap();
        let tally = database.projection("tally", Tally::<2>::default(), options()).unwrap();
        fail_at(2, 1500, panics);
        let last = fill(&database, 2000);
        let (at, reason) = stopped(&tally);
        assert_eq!(at, 1500);
        assert!(reason.contains(if panics { "on purpose" } else { "as the test" }), "{reason}");
        check(&database, &tally, 1499, &[]);
        let waited = tally.wait_for(1500, LONG);
        assert!(matches!(waited, Err(WaitError::FollowerStopped { .. })), "{waited:?}");
        assert!(matches!(database.health(), Health::Running), "it harms nobody");
        tally.retry().unwrap();
        assert_eq!(stopped(&tally).0, 1500);
        tally.skip().unwrap();
        check(&database, &tally, last, &[1500]);
        let letters = tally.dead_letters().unwrap();
        assert_eq!((letters.len(), letters[0].sequence), (1, 1500));
        assert!(letters[0].reason.contains(&reason[..20]), "{}", letters[0].reason);
        let refused = tally.replay(1500);
        assert!(matches!(refused, Err(Error::FollowerRefuses { .. })), "it fails again");
        check(&database, &tally, last, &[1500]);
        drop((tally, database));
        // What was skipped stays skipped, and its letter can be replayed.
        let database = builder().open(&path).unwrap();
        fail_at(2, 0, false);
        let tally = database.projection("tally", Tally::<2>::default(), options()).unwrap();
        check(&database, &tally, last, &[1500]);
        assert!(tally.replay(3).is_err(), "there is no such letter");
        tally.replay(1500).unwrap();
        assert_eq!(tally.query(|tally| tally.commands), last);
        assert!(tally.query(|tally| tally.seen.contains_key(&1500)));
        assert!(tally.dead_letters().unwrap().is_empty());
        assert!(tally.skip().is_err(), "it has not stopped");
        drop((tally, database));
        let database = builder().open(&path).unwrap();
        let tally = database.projection("tally", Tally::<2>::default(), options()).unwrap();
        assert_eq!(tally.query(|tally| tally.commands), last, "the replay is durable");
    }
}

#[test]
fn one_that_has_failed_goes_on_when_its_code_is_mended() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    fail_at(3, 700, true);
    let tally = database.projection("tally", Tally::<3>::default(), options()).unwrap();
    let last = fill(&database, 1000);
    assert_eq!(stopped(&tally).0, 700);
    drop((tally, database));
    fail_at(3, 0, false);
    let database = builder().open(&path).unwrap();
    assert_eq!(database.followers().unwrap()[0].position, 699);
    let tally = database.projection("tally", Tally::<3>::default(), options()).unwrap();
    check(&database, &tally, last, &[]);
}

#[test]
fn a_new_version_is_built_beside_the_old_checkpoint() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let last = fill(&database, 2000);
    let old = database.projection("tally", Tally::<4, 1>::default(), options()).unwrap();
    check(&database, &old, last, &[]);
    old.close().unwrap();
    let checkpoints = || {
        let listed = std::fs::read_dir(path.join("projections/tally")).unwrap();
        let names = listed.map(|it| it.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".checkpoint")).count()
    };
    assert_eq!(checkpoints(), 1);
    // The new code fails on its way.
    fail_at(4, 1000, false);
    let new = database.projection("tally", Tally::<4, 2>::default(), options()).unwrap();
    assert_eq!(stopped(&new).0, 1000);
    assert_eq!(new.status().unwrap().rebuilt_at, Some(last));
    new.checkpoint().unwrap();
    assert_eq!(checkpoints(), 2, "the old one stays until the new one has caught up");
    drop(new);
    // A program that goes back to the old code still finds its checkpoint.
    let old = database.projection("tally", Tally::<4, 1>::default(), options()).unwrap();
    check(&database, &old, last, &[]);
    assert_eq!(old.status().unwrap().damage, None);
    old.checkpoint().unwrap();
    drop(old);
    let old = database.projection("tally", Tally::<4, 1>::default(), options()).unwrap();
    assert_eq!(old.status().unwrap().damage, None, "both builds are whole");
    check(&database, &old, last, &[]);
    drop(old);
    fail_at(4, 0, false);
    let new = database.projection("tally", Tally::<4, 2>::default(), options()).unwrap();
    assert_eq!(new.status().unwrap().damage, None);
    check(&database, &new, last, &[]);
    new.checkpoint().unwrap();
    assert_eq!((new.status().unwrap().rebuilt_at, checkpoints()), (None, 1));
    assert_eq!(database.followers().unwrap()[0].version, 2);
}

#[test]
fn a_rebuild_begins_anew_while_it_runs() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let tally = database.projection("tally", Tally::<5>::default(), options()).unwrap();
    let last = fill(&database, 1000);
    check(&database, &tally, last, &[]);
    tally.checkpoint().unwrap();
    // The same events make something else of it now: the rebuild shows that it begins anew.
    fail_at(5, 500, false);
    tally.rebuild().unwrap();
    assert_eq!(stopped(&tally).0, 500);
    tally.rebuild().unwrap();
    assert_eq!(stopped(&tally).0, 500);
    fail_at(5, 0, false);
    tally.retry().unwrap();
    let last = fill(&database, 10);
    check(&database, &tally, last, &[]);
    tally.checkpoint().unwrap(); // it may not have come to that yet
    assert_eq!(tally.status().unwrap().rebuilt_at, None);
}

#[test]
fn damage_is_told_and_the_projection_is_built_anew() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let last = fill(&database, 500);
    let own = path.join("projections/tally");
    let newest = || {
        let listed = std::fs::read_dir(&own).unwrap().map(|it| it.unwrap().path());
        let is_one =
            |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == "checkpoint");
        listed.filter(is_one).max().unwrap()
    };
    let flip = |path: std::path::PathBuf, at: usize| {
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.len() * at / 100;
        bytes[at] ^= 4;
        std::fs::write(path, bytes).unwrap();
    };
    let damages: [(&str, &dyn Fn()); 5] = [
        ("a checkpoint", &|| flip(newest(), 50)),
        ("its end", &|| flip(newest(), 99)),
        ("no checkpoint", &|| std::fs::remove_file(newest()).unwrap()),
        ("STANDING", &|| flip(own.join("STANDING"), 50)),
        ("an empty STANDING", &|| std::fs::write(own.join("STANDING"), "").unwrap()),
    ];
    for (what, damage) in damages {
        let tally = database.projection("tally", Tally::<6>::default(), options()).unwrap();
        check(&database, &tally, last, &[]);
        tally.close().unwrap();
        damage();
        assert!(database.followers().is_ok(), "{what}");
        let tally = database.projection("tally", Tally::<6>::default(), options()).unwrap();
        assert!(tally.status().unwrap().damage.is_some(), "{what}");
        check(&database, &tally, last, &[]);
        tally.checkpoint().unwrap();
        tally.close().unwrap();
        let tally = database.projection("tally", Tally::<6>::default(), options()).unwrap();
        assert_eq!(tally.status().unwrap().damage, None, "{what}");
    }
    // A directory of another follower is not this one's.
    let other = path.join("projections/other");
    std::fs::create_dir(&other).unwrap();
    std::fs::copy(own.join("STANDING"), other.join("STANDING")).unwrap();
    let tally = database.projection("other", Tally::<6>::default(), options()).unwrap();
    assert!(tally.status().unwrap().damage.is_some());
    check(&database, &tally, last, &[]);
}

#[test]
fn a_position_beyond_the_end_is_not_trusted() {
    let (_directory, path) = temporary();
    let copy = path.with_extension("copy");
    let database = builder().open(&path).unwrap();
    fill(&database, 100);
    drop(database);
    // An operator puts the journal of last night back, and the projection stays.
    let copied = std::process::Command::new("cp").arg("-r").args([&path, &copy]).status();
    assert!(copied.unwrap().success());
    let database = builder().open(&path).unwrap();
    let tally = database.projection("tally", Tally::<7>::default(), options()).unwrap();
    let last = fill(&database, 100);
    check(&database, &tally, last, &[]);
    drop((tally, database));
    std::fs::rename(path.join("projections"), copy.join("projections")).unwrap();
    let database = builder().open(&copy).unwrap();
    let tally = database.projection("tally", Tally::<7>::default(), options()).unwrap();
    let damage = tally.status().unwrap().damage.unwrap();
    assert!(damage.contains("where the database ends"), "{damage}");
    check(&database, &tally, 100, &[]);
}

#[test]
fn without_history_it_is_made_of_the_model_or_not_at_all() {
    let (_directory, path) = temporary();
    let database = builder().retention(Retention::Truncate).open(&path).unwrap();
    fill(&database, 5000);
    database.snapshot().unwrap();
    let refused = database.projection("tally", Tally::<8>::default(), options());
    assert!(matches!(refused, Err(Error::HistoryTruncated { .. })), "{refused:?}");
    let changes = database.projection("changes", OfModel::default(), options()).unwrap();
    let last = fill(&database, 10);
    changes.wait_for(last, LONG).unwrap();
    assert_eq!(changes.query(|changes| changes.0), database.query(|model| model.changes));
    drop((changes, database));
    let database = builder().retention(Retention::Truncate).open(&path).unwrap();
    let changes = database.projection("changes", OfModel::default(), options()).unwrap();
    changes.wait_for(last, LONG).unwrap();
    assert_eq!(changes.query(|changes| changes.0), database.query(|model| model.changes));
}

/// It counts the changes, and the model knows how many there were.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct OfModel(u64);

impl prevalence::Projection<crate::common::Ledger> for OfModel {
    fn apply(
        &mut self,
        _: &prevalence::Recorded<crate::common::Ledger>,
    ) -> Result<(), prevalence::FollowerError> {
        self.0 += 1;
        Ok(())
    }

    fn from_model(model: &crate::common::Ledger) -> Option<Self> {
        Some(Self(model.changes))
    }
}

/// Its `Drop` panics once, when a test says so.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct PanicsInDrop(u64);

static PANICS: AtomicBool = AtomicBool::new(false);
static STOPS_AT: AtomicU64 = AtomicU64::new(101);

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        assert!(self.0 == 0 || !PANICS.swap(false, Ordering::SeqCst), "on purpose");
    }
}

impl prevalence::Projection<crate::common::Ledger> for PanicsInDrop {
    fn apply(
        &mut self,
        recorded: &prevalence::Recorded<crate::common::Ledger>,
    ) -> Result<(), prevalence::FollowerError> {
        if recorded.sequence == STOPS_AT.load(Ordering::SeqCst) {
            return Err("as the test wants it".into());
        }
        self.0 += 1;
        Ok(())
    }
}

/// The value with which a rebuild begins never counts as the one at the old position.
#[test]
fn a_panic_while_a_rebuild_begins_leaves_a_whole_value() {
    quiet_panics();
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let last = fill(&database, 120);
    let start = || database.projection("counts", PanicsInDrop::default(), options()).unwrap();
    let counts = start();
    assert_eq!(stopped(&counts).0, 101);
    PANICS.store(true, Ordering::SeqCst);
    let refused = counts.rebuild().unwrap_err();
    assert!(refused.to_string().contains("on purpose"), "{refused}");
    counts.checkpoint().unwrap();
    let value = |counts: &PanicsInDrop| counts.0;
    let view = counts.view();
    assert_eq!((view.sequence(), value(&view)), (100, 100));
    drop(view);
    counts.close().unwrap();
    STOPS_AT.store(0, Ordering::SeqCst);
    let counts = start();
    counts.wait_for(last, LONG).unwrap();
    assert_eq!(counts.query(value), last);
}

//! What `prevalence::testing` lets pass and what it does not.

mod common;

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use common::{Add, Carry, Fail, Failure, Ledger, Refused, Stamp, content, temporary};
use imbl::OrdMap;
use prevalence::testing::{assert_deterministic, assert_history, given};
use prevalence::{Command, Context, Database, Metadata, Model, Retention, SnapshotPolicy};
use serde::{Deserialize, Serialize};

/// What a failed test says.
fn failure<T>(test: impl FnOnce() -> T) -> String {
    common::quiet_panics();
    let caught = catch_unwind(AssertUnwindSafe(test));
    let panic = caught.err().expect("it should have failed");
    panic.downcast_ref::<String>().cloned().expect("a text with figures")
}

fn says<T>(test: impl FnOnce() -> T, expected: &[&str]) {
    let text = failure(test);
    assert!(expected.iter().all(|expected| text.contains(expected)), "{text}");
}

// ---- the fixture ----

#[test]
fn accepted_commands_change_the_model_and_give_their_output() {
    given(Ledger::default())
        .and(Add { account: 1, amount: 30 })
        .when(Add { account: 1, amount: 12 })
        .then(|ledger, balance| assert_eq!((ledger.accounts[&1], *balance), (42, 42)))
        .then_output(&42)
        .then_events(&[2])
        .when(Add { account: 1, amount: 1 })
        .then_output(&43);
}

#[test]
fn rejected_and_panicking_commands_leave_no_trace() {
    common::quiet_panics();
    let fixture = given(Ledger::default()).and(Add { account: 1, amount: 5 });
    let before = fixture.model().bytes();
    let rejected = fixture
        .when(Fail { account: 1, how: Failure::Reject })
        .then_rejected(|ledger, rejection| {
            assert_eq!((ledger.accounts[&1], rejection), (5, &Refused(1_000_005)));
        })
        .then_rejection(&Refused(1_000_005))
        .then_events(&[]);
    assert!(rejected.events().is_empty());
    let panicked = rejected.when(Fail { account: 1, how: Failure::Panic });
    assert_eq!(panicked.fixture().model().bytes(), before);
}

#[test]
fn the_context_says_what_the_test_states() {
    let ann = Metadata { actor: "ann".to_owned(), ..Metadata::default() };
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_800);
    let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let first = given(Ledger::default()).when(Stamp).then(|_, stamped| {
        assert_eq!((stamped.sequence, stamped.now, stamped.actor.as_str()), (1, start, ""));
    });
    let mut drawn = None;
    let second =
        first.fixture().at_time(noon).with_metadata(&ann).next_sequence(700).when(Stamp).then(
            |_, stamped| {
                assert_eq!((stamped.sequence, stamped.now, &*stamped.actor), (700, noon, "ann"));
                drawn = Some(stamped.random);
            },
        );
    let third = second.fixture().at_time(start).later_by(Duration::from_secs(5));
    let later = noon + Duration::from_secs(5);
    let third = third.when(Stamp).then(|_, stamped| {
        assert_eq!((stamped.sequence, stamped.now), (701, later));
        assert_ne!(Some(stamped.random), drawn);
    });
    // The same numbers in every test, and a rejected command leaves its sequence to the next.
    let again = third.when(Fail { account: 1, how: Failure::Reject }).then_rejected(|_, _| {});
    again.when(Stamp).then(|_, stamped| assert_eq!(stamped.sequence, 702));
    given(Ledger::default())
        .next_sequence(700)
        .when(Stamp)
        .then(|_, stamped| assert_eq!(Some(stamped.random), drawn));
}

#[test]
fn wrong_expectations_are_told() {
    common::quiet_panics();
    let add = Add { account: 1, amount: 5 };
    let (reject, panic) = (Failure::Reject, Failure::Panic);
    says(|| given(Ledger::default()).when(add).then_output(&6), &["`Add`: output is 5", "be 6"]);
    says(|| given(Ledger::default()).when(add).then_events(&[9]), &["`Add`: events is [1]", "[9]"]);
    says(
        || given(Ledger::default()).when(add).then_rejected(|_, _| {}),
        &["`Add` should be rejected, and was accepted"],
    );
    says(
        || given(Ledger::default()).and(Fail { account: 1, how: reject }),
        &["`Fail` should be accepted, and was rejected"],
    );
    says(
        || given(Ledger::default()).when(Fail { account: 1, how: panic }).then(|_, ()| {}),
        &["`Fail` should be accepted, and was ended by a panic: on purpose"],
    );
    says(
        || given(Ledger::default()).when(Carry(vec![0; 17 << 20])),
        &["`Carry` takes", "at most 16777216"],
    );
}

// ---- commands and models that the guard must notice ----

/// A shelf, in the ways that shelves go wrong.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Shelf {
    items: OrdMap<u32, u64>,
    picked: Vec<u64>,
    /// Encoded in order, iterated in any.
    #[serde(serialize_with = "in_order")]
    labels: HashMap<u32, u64>,
    #[serde(skip)]
    cache: u64,
    #[serde(serialize_with = "load", deserialize_with = "store")]
    shared: Arc<AtomicU64>,
}

fn load<S: serde::Serializer>(shared: &AtomicU64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(shared.load(Ordering::SeqCst))
}

fn store<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Arc<AtomicU64>, D::Error> {
    u64::deserialize(deserializer).map(|value| Arc::new(AtomicU64::new(value)))
}

fn in_order<S: serde::Serializer>(
    labels: &HashMap<u32, u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter().collect::<std::collections::BTreeMap<_, _>>())
}

impl Model for Shelf {
    type Event = ();
}

type ShelfContext<'a> = Context<'a, Shelf>;
type Verdict<O> = Result<O, &'static str>;

macro_rules! command {
    ($command:ident, $output:ty, $apply:expr) => {
        #[derive(Clone, Copy, Serialize, Deserialize)]
        struct $command;

        impl Command<Shelf> for $command {
            type Output = $output;
            type Rejection = &'static str;
            fn apply(self, shelf: &mut Shelf, cx: &mut ShelfContext<'_>) -> Verdict<$output> {
                let apply: fn(&mut Shelf, &mut ShelfContext<'_>) -> Verdict<$output> = $apply;
                apply(shelf, cx)
            }
        }
    };
}

fn clock_ns() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// How often this thread has asked, so that tests do not disturb each other.
fn calls_on_this_thread() -> u64 {
    thread_local! {
        static CALLS: Cell<u64> = const { Cell::new(0) };
    }
    CALLS.replace(CALLS.get() + 1)
}

command!(Fill, (), |shelf, _| {
    shelf.items.extend((0..30).map(|item: u32| (item, 7u64)));
    shelf.labels.extend((0..30).map(|item| (item, 7)));
    Ok(())
});
command!(PickFromSet, (), |shelf, _| {
    let set: HashSet<u64> = shelf.items.keys().map(|&item| item.into()).collect();
    shelf.picked.extend(set);
    Ok(())
});
command!(PickLabels, (), |shelf, _| {
    shelf.picked.extend(shelf.labels.keys().map(|&label| u64::from(label)));
    Ok(())
});
command!(ReadClock, (), |shelf, _| {
    shelf.picked.push(clock_ns());
    Ok(())
});
command!(CountCalls, (), |shelf, _| {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    shelf.picked.push(CALLS.fetch_add(1, Ordering::SeqCst));
    Ok(())
});
command!(RejectEverySecond, (), |_, _| {
    if calls_on_this_thread() % 2 == 1 { Err("it is the second time") } else { Ok(()) }
});
command!(EmitMore, (), |_, cx| {
    (0..calls_on_this_thread()).for_each(|_| cx.emit(()));
    Ok(())
});
command!(TellClock, u64, |_, _| Ok(clock_ns()));
command!(RejectByClock, (), |_, _| {
    Err(if calls_on_this_thread() % 2 == 1 { "odd" } else { "even" })
});
command!(CountInCache, (), |shelf, _| {
    shelf.cache += 1;
    Ok(())
});
command!(ReadCache, (), |shelf, _| {
    shelf.picked.push(shelf.cache);
    Ok(())
});
command!(ChangeInPlace, (), |shelf, _| {
    shelf.shared.fetch_add(1, Ordering::SeqCst);
    Ok(())
});
command!(ChangeInPlaceAndReject, (), |shelf, _| {
    shelf.shared.fetch_add(1, Ordering::SeqCst);
    Err("too late")
});

prevalence::commands! {
    Shelf {
        1 => Fill, 2 => PickFromSet, 3 => PickLabels, 4 => ReadClock, 5 => CountCalls,
        6 => RejectEverySecond, 7 => EmitMore, 8 => TellClock, 9 => RejectByClock,
        10 => CountInCache, 11 => ReadCache, 12 => ChangeInPlace, 13 => ChangeInPlaceAndReject,
    }
}

#[test]
fn commands_that_are_not_deterministic_are_named() {
    let shelf = || given(Shelf::default()).and(Fill);
    let differ = "is not deterministic: applied twice, with equal models and contexts, it left \
                  models that differ at byte";
    says(|| shelf().and(PickFromSet), &["`PickFromSet`", differ]);
    says(|| shelf().and(PickLabels), &["`PickLabels`", differ]);
    says(|| shelf().when(ReadClock), &["`ReadClock`", differ]);
    says(|| shelf().when(CountCalls), &["`CountCalls`", differ]);
    says(|| shelf().and(CountInCache).when(ReadCache), &["`ReadCache`", differ]);
    says(
        || shelf().when(RejectEverySecond),
        &["`RejectEverySecond`", "it was accepted once and rejected the other time"],
    );
    says(
        || shelf().when(EmitMore),
        &["`EmitMore`", "it emitted 2 events once and 3 the other time"],
    );
}

#[test]
fn outputs_and_rejections_are_compared_where_they_are_stated() {
    let mut told = 0;
    let tell = given(Shelf::default()).when(TellClock).then(|_, &clock| told = clock);
    says(|| tell.then_output(&told), &["`TellClock` is not deterministic", "its output was"]);
    says(
        || given(Shelf::default()).when(RejectByClock).then_rejection(&"even"),
        &["`RejectByClock` is not deterministic", "its rejection was \"even\" once"],
    );
}

#[test]
fn a_trace_in_an_older_version_is_noticed() {
    says(
        || given(Shelf::default()).when(ChangeInPlace),
        &["`ChangeInPlace` was accepted and has changed an older version of the model"],
    );
    says(
        || given(Shelf::default()).when(ChangeInPlaceAndReject),
        &["`ChangeInPlaceAndReject` was rejected and has changed an older version"],
    );
}

/// Models that do not come out of their encoding as they went in.
mod unsound {
    use super::*;

    #[derive(Clone, Default, Serialize, Deserialize)]
    pub struct Hashed(pub HashMap<u32, u32>);
    impl Model for Hashed {
        type Event = ();
    }
    #[derive(Serialize, Deserialize)]
    pub struct Put(pub u32);
    impl Command<Hashed> for Put {
        type Output = ();
        type Rejection = ();
        fn apply(self, model: &mut Hashed, _: &mut Context<'_, Hashed>) -> Result<(), ()> {
            model.0.extend((0..self.0).map(|key| (key, self.0)));
            Ok(())
        }
    }
    #[derive(Serialize, Deserialize)]
    pub struct PutClock;
    impl Command<Hashed> for PutClock {
        type Output = ();
        type Rejection = ();
        fn apply(self, model: &mut Hashed, _: &mut Context<'_, Hashed>) -> Result<(), ()> {
            model.0.insert(0, clock_ns() as u32);
            Ok(())
        }
    }
    prevalence::commands! { Hashed { 1 => Put, 2 => PutClock } }

    #[derive(Clone, Default, Serialize, Deserialize)]
    pub struct Gappy {
        #[serde(skip_serializing_if = "Option::is_none")]
        pub text: Option<String>,
        pub number: u64,
    }
    impl Model for Gappy {
        type Event = ();
    }
    #[derive(Serialize, Deserialize)]
    pub struct Clear;
    impl Command<Gappy> for Clear {
        type Output = ();
        type Rejection = ();
        fn apply(self, model: &mut Gappy, _: &mut Context<'_, Gappy>) -> Result<(), ()> {
            *model = Gappy { text: None, number: 900 };
            Ok(())
        }
    }
    prevalence::commands! { Gappy { 1 => Clear } }
}

#[test]
fn models_that_change_on_their_way_through_a_snapshot_are_noticed() {
    use unsound::{Clear, Gappy, Hashed, Put, PutClock};
    let hashed = || given(Hashed::default()).and(Put(1));
    says(
        || hashed().and(Put(30)),
        &["the model after `Put` changes when it is encoded", "HashMap", "compared_by"],
    );
    let equal = |left: &Hashed, right: &Hashed| left.0 == right.0;
    hashed().compared_by(equal).and(Put(30)).when(Put(30)).then_output(&());
    says(
        || hashed().compared_by(equal).and(Put(30)).when(PutClock),
        &["`PutClock` is not deterministic", "according to `compared_by`"],
    );
    let full = || given(Gappy { text: Some("x".to_owned()), number: 1 });
    says(|| full().and(Clear), &["the model after `Clear` cannot be decoded"]);
    let given_gappy = || given(Gappy { text: None, number: 900 });
    says(given_gappy, &["the given model cannot be decoded from its own encoding"]);
}

// ---- stored histories ----

/// A history under `Retention::Archive`, with a snapshot after every 20 commands.
fn history<M: Model + Default>(path: &Path, execute: impl FnOnce(&Database<M>)) {
    let database = Database::<M>::builder()
        .segment_bytes(64 << 10)
        .keep_snapshots(1)
        .snapshots(SnapshotPolicy::manual())
        .retention(Retention::Archive)
        .open(path)
        .unwrap();
    execute(&database);
    database.close().unwrap();
}

#[test]
fn a_sound_history_passes_and_its_directory_stays_as_it_is() {
    let (_directory, path) = temporary();
    history::<Ledger>(&path, |database| {
        for account in 0..60 {
            database.execute(Add { account, amount: 1 }).unwrap();
            database.execute(Stamp).unwrap();
            if account % 20 == 9 {
                database.snapshot().unwrap();
            }
        }
    });
    std::fs::remove_file(path.join("LOCK")).unwrap();
    let before = content(&path);
    for report in [assert_history::<Ledger>(&path), assert_deterministic::<Ledger>(&path)] {
        assert_eq!((report.begins, report.sequence), (0, 120));
        assert_eq!((report.commands_replayed, report.snapshots_compared), (120, 3));
    }
    assert_eq!(content(&path), before);
}

#[test]
fn a_history_that_changed_its_meaning_is_told_with_all_that_is_known() {
    let (_directory, path) = temporary();
    history::<Shelf>(&path, |database| {
        let ann = Metadata { actor: "ann".to_owned(), ..Metadata::default() };
        (0..30).for_each(|_| database.execute(Fill).unwrap());
        database.with_metadata(&ann).unwrap().execute(ReadClock).unwrap();
        database.snapshot().unwrap();
    });
    says(
        || assert_history::<Shelf>(&path),
        &["no longer means", "different models at sequence 31", "`ReadClock`", "`ann`"],
    );
    says(|| assert_history::<Ledger>(&path), &["cannot be read", "Shelf"]);
    says(|| assert_history::<Shelf>(path.join("nowhere")), &["cannot be copied"]);
}

/// What is said of a history of 701 commands, all of one kind but for those that may be to blame.
fn told_of(blamed: impl FnOnce(&Database<Shelf>)) -> String {
    let (_directory, path) = temporary();
    history::<Shelf>(&path, |database| {
        let fill = |commands: u32| {
            let pending = (0..commands).map(|_| database.submit(Fill).unwrap());
            pending.for_each(drop);
        };
        fill(450);
        blamed(database);
        fill(250);
    });
    failure(|| assert_deterministic::<Shelf>(&path))
}

#[test]
fn the_command_that_is_not_deterministic_is_found_in_a_history() {
    for (name, text) in [
        ("PickFromSet", told_of(|shelf| shelf.execute(PickFromSet).unwrap())),
        ("PickLabels", told_of(|shelf| shelf.execute(PickLabels).unwrap())),
        ("ReadClock", told_of(|shelf| shelf.execute(ReadClock).unwrap())),
        ("CountCalls", told_of(|shelf| shelf.execute(CountCalls).unwrap())),
    ] {
        let expected = format!(
            "two replays made different models at sequence 451; up to sequence 450 there is no \
             difference. The command is `{name}` with sequence 451"
        );
        assert!(text.contains(&expected), "{text}");
    }
}

/// What the other replay has forgotten since it went through an encoding.
#[test]
fn a_field_that_is_not_stored_is_noticed_in_a_history() {
    let text = told_of(|shelf| {
        shelf.execute(CountInCache).unwrap();
        (0..9).for_each(|_| shelf.execute(Fill).unwrap());
        shelf.execute(ReadCache).unwrap();
    });
    assert!(text.contains("The command is `ReadCache` with sequence 461"), "{text}");
}

#[test]
fn a_command_that_is_refused_now_and_then_is_found_in_a_history() {
    let text = told_of(|shelf| while shelf.execute(RejectEverySecond).is_err() {});
    assert!(text.contains("replay fails at sequence 451: it is rejected now"), "{text}");
    assert!(text.contains("`RejectEverySecond`"), "{text}");
}

#[test]
fn models_that_do_not_survive_their_encoding_are_noticed_in_a_history() {
    use unsound::{Clear, Gappy, Hashed, Put};
    let (_directory, path) = temporary();
    history::<Hashed>(&path, |database| {
        (0..40).for_each(|_| database.execute(Put(30)).unwrap());
    });
    says(|| assert_deterministic::<Hashed>(&path), &["the model at sequence 1 ", "`HashMap`"]);
    let equal = |left: &Hashed, right: &Hashed| left.0 == right.0;
    let report = prevalence::verify_against::<Hashed, Hashed>(&path, equal).unwrap();
    assert_eq!(report.divergence, None);

    let (_directory, path) = temporary();
    let full = Gappy { text: Some("x".to_owned()), number: 1 };
    let database = Database::builder().initial(full).open(&path).unwrap();
    database.execute(Clear).unwrap();
    database.close().unwrap();
    says(|| assert_deterministic::<Gappy>(&path), &["the model at sequence 1 "]);
}

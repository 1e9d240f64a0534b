//! What became of a request: by its answer, by its status, by the feed of rejections, and by a
//! second try.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, SystemTime};

use futures_core::Stream;
use prevalence::{
    Builder, Command, Context, Database, Error, ExecuteError, FirstAnswer, HistoryRecord, Metadata,
    Model, PurgeAction, RequestStatus, Retention, SnapshotPolicy, purge,
};
use serde::{Deserialize, Serialize};

use crate::common::{copy_directory, quiet_panics, temporary};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Till(u64);

impl Model for Till {
    type Event = ();
}

#[derive(Debug, Serialize, Deserialize)]
struct Put(u64);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Receipt {
    before: u64,
    text: String,
}

impl Command<Till> for Put {
    type Output = Receipt;
    type Rejection = std::convert::Infallible;

    fn apply(self, till: &mut Till, _: &mut Context<'_, Till>) -> Result<Receipt, Self::Rejection> {
        let before = till.0;
        till.0 += self.0;
        Ok(Receipt { before, text: "x".repeat(usize::try_from(self.0).unwrap_or(0)) })
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Take(u64);

#[derive(Debug)]
struct Short(u64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1000 => panic!("a Display that panics"),
            left => write!(f, "only {left} are left"),
        }
    }
}

/// An output that cannot be serialized.
#[derive(Debug)]
struct Opaque;

impl Command<Till> for Take {
    type Output = Opaque;
    type Rejection = Short;

    fn apply(self, till: &mut Till, _: &mut Context<'_, Till>) -> Result<Opaque, Short> {
        assert!(self.0 != 13, "thirteen");
        till.0 = till.0.checked_sub(self.0).ok_or(Short(till.0))?;
        Ok(Opaque)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Mute(bool);

/// Neither `Debug` nor `Display`.
struct Silent;

/// An output whose `Serialize` panics.
#[derive(Debug)]
struct Trap;

impl Serialize for Trap {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("a Serialize that panics")
    }
}

impl Command<Till> for Mute {
    type Output = Trap;
    type Rejection = Silent;

    fn apply(self, _: &mut Till, _: &mut Context<'_, Till>) -> Result<Trap, Silent> {
        if self.0 { Ok(Trap) } else { Err(Silent) }
    }
}

prevalence::commands! { Till { 1 => Put, 2 => Take, 3 => Mute } }

const HOUR: Duration = Duration::from_secs(3600);

fn builder() -> Builder<Till> {
    Database::builder().snapshots(SnapshotPolicy::manual())
}

fn request(id: &str) -> Metadata {
    Metadata { request_id: id.to_owned(), ..Metadata::default() }
}

fn of(actor: &str, id: &str) -> Metadata {
    Metadata { actor: actor.to_owned(), ..request(id) }
}

fn accepted(sequence: u64) -> RequestStatus {
    RequestStatus::Accepted { sequence }
}

fn reason(status: RequestStatus) -> String {
    match status {
        RequestStatus::Rejected { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

/// The first answer behind a duplicate.
fn first<O: fmt::Debug, R>(answer: Result<O, ExecuteError<R>>) -> (u64, FirstAnswer) {
    match answer {
        Err(ExecuteError::Duplicate { sequence, first }) => (sequence, *first),
        Ok(output) => panic!("{output:?}"),
        Err(_) => panic!("another error"),
    }
}

/// A clock that stands until it is moved.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn go(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    fn clock(&self) -> impl Fn() -> SystemTime + Send + Sync + 'static {
        let seconds = self.0.clone();
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        move || begin + Duration::from_secs(seconds.load(Ordering::SeqCst))
    }
}

#[test]
fn the_status_says_what_became_of_a_request() {
    quiet_panics();
    let (_directory, path) = temporary();
    let never = Duration::from_secs(600);
    let till = builder().linger(never).max_batch_commands(3).open(&path).unwrap();
    assert_eq!(till.status("one"), RequestStatus::Unknown);
    let one = till.submit_with(&request("one"), Put(5)).unwrap();
    let two = till.submit_with(&request("two"), Take(6)).unwrap();
    // The batch stays open until it has three commands.
    assert_eq!(till.status("one"), RequestStatus::InFlight);
    assert_eq!(till.status("two"), RequestStatus::InFlight);
    let three = till.submit_with(&request("three"), Take(13)).unwrap();
    assert_eq!(one.wait().unwrap().before, 0);
    assert!(two.wait().is_err() && three.wait().is_err());
    assert_eq!(till.status("one"), accepted(1));
    assert_eq!(reason(till.status("two")), "only 5 are left");
    assert_eq!(reason(till.status("three")), "the command panicked and was rolled back: thirteen");
    assert_eq!(till.status(""), RequestStatus::Unknown);
    // A further try counts: while it is on its way, and afterwards.
    let again = till.submit_with(&request("two"), Take(1)).unwrap();
    assert_eq!(till.status("two"), RequestStatus::InFlight);
    let twice = till.submit_with(&request("one"), Put(5)).unwrap();
    assert_eq!(till.status("one"), accepted(1), "whatever becomes of the second try");
    let four = till.submit_with(&request("four"), Put(1)).unwrap();
    assert!(again.wait().is_ok() && four.wait().is_ok());
    assert_eq!(first(twice.wait()).0, 1);
    assert_eq!((till.status("one"), till.status("two")), (accepted(1), accepted(2)));
    drop(till);
    // What was accepted is known after a start; what was refused is not.
    let till = builder().open(&path).unwrap();
    assert_eq!((till.status("one"), till.status("two")), (accepted(1), accepted(2)));
    assert_eq!(till.status("three"), RequestStatus::Unknown);
    let stale = till.execute_if(0, Put(1)).unwrap_err();
    assert!(matches!(stale, ExecuteError::Stale { .. }));
    let five = till.with_metadata(&request("five")).unwrap();
    assert!(five.execute_if(0, Put(1)).is_err());
    assert!(reason(till.status("five")).contains("was decided on at sequence 0"));
}

/// A refusal is what became of a request only until the next try.
#[test]
fn what_was_accepted_is_not_told_as_refused_when_it_is_forgotten() {
    let till = builder().remembered_requests(1).open_in_memory().unwrap();
    assert!(till.execute_with(&request("one"), Take(5)).is_err());
    till.execute(Put(5)).unwrap();
    assert!(matches!(till.status("one"), RequestStatus::Rejected { .. }));
    assert!(till.execute_with(&request("one"), Take(5)).is_ok());
    till.execute_with(&request("two"), Put(1)).unwrap();
    assert_eq!(till.status("one"), RequestStatus::Unknown, "it is forgotten");
    assert_eq!(till.status("two"), accepted(3));
}

#[test]
fn a_submission_that_is_dropped_is_not_in_flight() {
    let till = builder().open_in_memory().unwrap();
    let dropped = till.submit_async_with(&request("one"), Put(1));
    assert_eq!(till.status("one"), RequestStatus::InFlight);
    drop(dropped);
    assert_eq!(till.status("one"), RequestStatus::Unknown);
    let other = till.clone();
    till.close().unwrap();
    assert!(matches!(other.execute_with(&request("two"), Put(1)), Err(ExecuteError::Stopped)));
    assert_eq!(other.status("two"), RequestStatus::Unknown, "it was not taken");
}

#[test]
fn rejections_are_forgotten_by_number_and_by_age() {
    let hand = Hand::default();
    let till = builder().clock(hand.clock()).remembered_rejections(3, Duration::from_secs(60));
    let till = till.open_in_memory().unwrap();
    let refuse = |id: &str| assert!(till.execute_with(&request(id), Take(1)).is_err());
    let known = |ids: &[&str]| -> Vec<bool> {
        ids.iter().map(|id| till.status(id) != RequestStatus::Unknown).collect()
    };
    for id in ["a", "b", "c", "d"] {
        refuse(id);
        hand.go(20);
    }
    assert_eq!(known(&["a", "b", "c", "d"]), [false, true, true, true]);
    hand.go(1); // "b" is 61 seconds old now, "c" 41, and "d" 21
    assert_eq!(known(&["a", "b", "c", "d"]), [false, false, true, true]);
    refuse("c");
    hand.go(60);
    assert_eq!(known(&["c", "d"]), [true, false], "the newest try counts");
    // Long reasons and long actors take the place of more.
    let long = of(&"x".repeat(60_000), "long");
    assert!(till.execute_with(&long, Take(1)).is_err());
    assert_eq!(known(&["c", "long"]), [false, false]);
}

#[test]
fn listeners_get_every_refusal_or_know_how_many_they_missed() {
    quiet_panics();
    let till = builder().remembered_rejections(2, Duration::from_secs(600));
    let till = till.initial(Till(1000)).open_in_memory().unwrap();
    assert!(till.execute(Take(2000)).is_err());
    let mut early = till.rejections();
    assert_eq!(early.try_next(), None, "what was refused before is not told");
    assert_eq!(early.next_timeout(Duration::ZERO), None);
    till.execute_with(&of("ann", "one"), Take(1)).unwrap();
    assert!(till.execute_with(&of("ann", "two"), Take(1000)).is_err());
    let told = early.next().unwrap();
    assert_eq!((told.command, told.actor.as_str()), ("Take", "ann"));
    assert_eq!((told.request_id.as_str(), told.reason.as_str()), ("two", "only 999 are left"));
    // Without an id, and without a way to be shown.
    assert!(till.execute(Mute(false)).is_err());
    let told = early.next().unwrap();
    assert_eq!((told.command, told.request_id.as_str(), told.actor.as_str()), ("Mute", "", ""));
    assert!(told.reason.contains("Silent, which has neither Display nor Debug"), "{told:?}");
    // A Display that panics is told, and its caller is answered.
    till.execute(Put(1)).unwrap();
    assert!(matches!(till.execute(Take(1001)), Err(ExecuteError::Rejected(Short(1000)))));
    assert_eq!(early.next().unwrap().reason, "it cannot be shown, because that panics");
    let mut late = till.rejections();
    for amount in [2001, 2002, 2003, 2004] {
        till.execute(Put(1)).unwrap();
        assert!(till.execute(Take(amount)).is_err());
    }
    assert_eq!(late.next().unwrap().reason, "only 1003 are left");
    assert_eq!((late.missed(), early.missed()), (2, 0));
    assert_eq!(early.try_next().unwrap().reason, "only 1003 are left");
    assert_eq!(early.missed(), 2);
    // A duplicate was accepted before: that is no refusal.
    first(till.execute_with(&of("ann", "one"), Take(1)));
    assert_eq!(early.try_next().unwrap().reason, "only 1004 are left");
    assert!(!early.has_ended());
    // As a stream, without a runtime.
    let mut early = pin!(early);
    let mut cx = TaskContext::from_waker(Waker::noop());
    assert!(early.as_mut().poll_next(&mut cx).is_pending());
    assert!(till.execute(Take(5000)).is_err());
    assert!(matches!(early.as_mut().poll_next(&mut cx), Poll::Ready(Some(_))));
    // Whoever waits is woken by the close.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| late.by_ref().map(|told| told.reason).collect::<Vec<_>>());
        till.close().unwrap();
        assert_eq!(waiting.join().unwrap(), ["only 1004 are left", "only 1004 are left"]);
    });
    assert!(matches!(early.as_mut().poll_next(&mut cx), Poll::Ready(None)));
}

#[test]
fn what_is_promised_is_refused_early_and_never_forgotten() {
    let (_directory, path) = temporary();
    let hand = Hand::default();
    let open = |requests, seconds| {
        let builder = builder().remembered_requests(requests).clock(hand.clock());
        builder.remember_requests_for(Duration::from_secs(seconds)).open(&path).unwrap()
    };
    let put = |till: &Database<Till>, id: &str| till.execute_with(&request(id), Put(1));
    let till = open(3, 60);
    for id in ["a", "b", "c"] {
        put(&till, id).unwrap();
        hand.go(10);
    }
    let full = put(&till, "d").unwrap_err();
    assert!(
        matches!(&full, ExecuteError::RequestsFull { remembered: 3, frees_in } if frees_in.as_secs() == 30),
        "{full}"
    );
    assert!(reason(till.status("d")).contains("3 request ids are remembered"), "{full}");
    till.execute(Put(1)).unwrap(); // without an id there is nothing to remember
    assert_eq!(first(put(&till, "a")).0, 1, "a retry is answered, however full it is");
    let stats = till.stats();
    assert_eq!((stats.requests_full, stats.remembered_requests), (1, 3));
    assert_eq!(stats.oldest_request_age, Duration::from_secs(30));
    till.with_metadata(&request("d")).unwrap().what_if(|sandbox| {
        assert!(matches!(sandbox.execute(Put(1)), Err(ExecuteError::RequestsFull { .. })));
    });
    // The same after a kill, and after a snapshot under a smaller limit.
    let killed = path.with_extension("killed");
    copy_directory(&path, &killed);
    let from_journal = builder().remembered_requests(3).clock(hand.clock());
    let from_journal = from_journal.remember_requests_for(Duration::from_secs(60)).open(&killed);
    let from_journal = from_journal.unwrap();
    assert!(matches!(put(&from_journal, "d"), Err(ExecuteError::RequestsFull { .. })));
    till.snapshot().unwrap();
    drop(till);
    let till = open(1, 60);
    for (id, sequence) in [("a", 1), ("b", 2), ("c", 3)] {
        assert_eq!(first(put(&till, id)).0, sequence, "{id}");
    }
    assert!(matches!(put(&till, "d"), Err(ExecuteError::RequestsFull { remembered: 3, .. })));
    hand.go(50); // now the promises of all three are over
    assert_eq!(put(&till, "d").unwrap().before, 4);
    assert_eq!(till.stats().remembered_requests, 1);
    assert!(matches!(put(&till, "a"), Err(ExecuteError::RequestsFull { remembered: 1, .. })));
    let nothing = builder().remembered_requests(0).remember_requests_for(Duration::from_secs(1));
    assert!(matches!(nothing.open_in_memory(), Err(Error::InvalidOption { .. })));
}

/// Journaled time stands still while the clock is behind, so the wait is longer than the promise.
#[test]
fn the_wait_for_room_counts_a_clock_that_was_set_back() {
    let hand = Hand::default();
    hand.go(1000);
    let till = builder().clock(hand.clock()).remembered_requests(1);
    let till = till.remember_requests_for(Duration::from_secs(60)).open_in_memory().unwrap();
    till.execute_with(&request("a"), Put(1)).unwrap();
    hand.0.fetch_sub(500, Ordering::SeqCst);
    let other = till.with_metadata(&request("b")).unwrap();
    let waits = |full: ExecuteError<_>| match full {
        ExecuteError::RequestsFull { frees_in, .. } => frees_in.as_secs(),
        other => panic!("{other}"),
    };
    assert_eq!(waits(other.execute(Put(1)).unwrap_err()), 560);
    assert_eq!(other.what_if(|sandbox| waits(sandbox.execute(Put(1)).unwrap_err())), 560);
    hand.go(560);
    other.execute(Put(1)).unwrap();
}

/// A purge makes the snapshots anew, with what the commands that are left return.
#[test]
fn a_purge_keeps_what_is_promised_and_makes_outputs_again() {
    let (_directory, path) = temporary();
    let hand = Hand::default();
    let open = || {
        let builder = builder().retention(Retention::Archive).clock(hand.clock());
        let builder = builder.remembered_requests(2).remember_requests_for(HOUR);
        builder.remembered_outputs(100).request_ids_by_actor(true).open(&path).unwrap()
    };
    let till = open();
    till.execute_with(&of("ann", "one"), Put(3)).unwrap();
    hand.go(1);
    till.execute_with(&of("bob", "one"), Put(4)).unwrap();
    till.snapshot().unwrap();
    till.close().unwrap();
    let erase = |record: &HistoryRecord<Till>| match record.metadata().actor.as_str() {
        "ann" => PurgeAction::Redact,
        _ => PurgeAction::Keep,
    };
    assert_eq!(purge::<Till>(&path, erase).unwrap().redacted, 1);
    let till = open();
    let (sequence, kept) = first(till.execute_with(&of("bob", "one"), Put(4)));
    let kept: Receipt = kept.output().unwrap().unwrap();
    assert_eq!((sequence, kept.before), (2, 0), "as if the other one had never been");
    assert_eq!(till.stats().remembered_requests, 1);
    till.execute_with(&of("ann", "one"), Put(1)).unwrap();
    let full = till.execute_with(&of("ann", "two"), Put(1));
    assert!(matches!(full, Err(ExecuteError::RequestsFull { remembered: 2, .. })), "{full:?}");
}

#[test]
fn a_second_try_gets_the_first_answer_where_that_is_remembered() {
    quiet_panics();
    let (_directory, path) = temporary();
    let open = |bytes| builder().remembered_outputs(bytes).open(&path).unwrap();
    let till = open(100);
    assert_eq!(till.execute_with(&of("ann", "one"), Put(3)).unwrap().before, 0);
    till.execute_with(&request("two"), Put(200)).unwrap();
    till.execute_with(&request("three"), Take(1)).unwrap();
    assert!(till.execute_with(&request("four"), Mute(true)).is_ok());
    let check = |till: &Database<Till>| {
        let (sequence, one) = first(till.execute_with(&of("bob", "one"), Take(1)));
        assert_eq!((sequence, one.command, one.actor.as_str()), (1, Some("Put"), "ann"));
        assert!(one.is::<Put>() && !one.is::<Take>());
        let kept = one.output::<Receipt>().unwrap().unwrap();
        assert_eq!(kept, Receipt { before: 0, text: "xxx".to_owned() });
        assert_eq!(one.output_json(), Some(r#"{"before":0,"text":"xxx"}"#));
        let wrong = one.output::<u64>().unwrap_err().to_string();
        assert!(wrong.contains("cannot be read as u64"), "{wrong}");
        for (id, command) in [("two", "Put"), ("three", "Take"), ("four", "Mute")] {
            let (_, other) = first(till.execute_with(&request(id), Put(1)));
            assert_eq!((other.command, other.output_json()), (Some(command), None), "{id}");
        }
        let error = till.execute_with(&request("one"), Put(3)).unwrap_err().to_string();
        assert!(error.contains("at sequence 1 as `Put` for `ann`"), "{error}");
        assert_eq!(till.sequence(), 4);
    };
    check(&till);
    // A replay makes them again, and a snapshot has them.
    let killed = path.with_extension("killed");
    copy_directory(&path, &killed);
    check(&builder().remembered_outputs(100).open(&killed).unwrap());
    till.snapshot().unwrap();
    let backup = path.with_extension("backup");
    till.backup(&backup).unwrap();
    drop(till);
    check(&open(100));
    // A backup, and a copy that is made of a journal.
    for (number, from) in [backup, killed].iter().enumerate() {
        let copy = path.with_extension(format!("copy-{number}"));
        Database::<Till>::restore(from, &copy).unwrap();
        check(&builder().remembered_outputs(100).open(&copy).unwrap());
    }
    // Without the option, none are kept.
    let till = open(0);
    assert_eq!(first(till.execute_with(&request("one"), Put(3))).1.output_json(), None);
    till.execute(Put(1)).unwrap();
    till.snapshot().unwrap();
    drop(till);
    assert_eq!(first(open(100).execute_with(&request("one"), Put(3))).1.output_json(), None);
    let fork = builder().remembered_outputs(100).open_in_memory().unwrap();
    fork.with_metadata(&request("one")).unwrap().what_if(|sandbox| {
        sandbox.execute(Put(1)).unwrap();
        let (sequence, one) = first(sandbox.execute(Put(1)));
        assert_eq!((sequence, one.output::<Receipt>().unwrap().unwrap().before), (1, 0));
    });
}

#[test]
fn actors_have_ids_of_their_own_if_the_option_says_so() {
    let till = builder().request_ids_by_actor(true).open_in_memory().unwrap();
    till.execute_with(&of("ann", "one"), Put(1)).unwrap();
    till.execute_with(&of("bob", "one"), Put(1)).unwrap();
    assert_eq!(first(till.execute_with(&of("ann", "one"), Put(1))).0, 1);
    assert_eq!(till.status("one"), RequestStatus::Unknown, "nobody has asked for it");
    let bob = till.with_metadata(&of("bob", "")).unwrap();
    assert_eq!(bob.status("one"), accepted(2));
}

#[test]
fn request_ids_have_a_longest_length() {
    let till = builder().max_request_id_bytes(150).open_in_memory().unwrap();
    till.execute_with(&request(&"x".repeat(150)), Put(1)).unwrap();
    let long = request(&"x".repeat(151));
    let refused = till.execute_with(&long, Put(1)).unwrap_err();
    assert!(matches!(refused, ExecuteError::Metadata { .. }), "{refused}");
    assert!(
        refused.to_string().contains("a request id of 151 bytes, and the most are 150"),
        "{refused}"
    );
    assert!(matches!(till.with_metadata(&long), Err(Error::InvalidOption { .. })));
    let short = builder().max_request_id_bytes(149).open_in_memory();
    assert!(matches!(short, Err(Error::InvalidOption { .. })));
}

//! What stands between a caller and the queue: forms of a call, futures, errors that are shown.

use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context as TaskContext, Poll, Wake, Waker};

use prevalence::{
    Command, Context, Database, ExecuteError, Listed, Metadata, Model, TrySubmitError,
};
use serde::{Deserialize, Serialize};

use crate::common::{Add, Ledger};

const ADD: Add = Add { account: 1, amount: 1 };

/// Counts how often it was called.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls on this thread, which sleeps meanwhile.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// A helper that is generic over the command, as the documentation says.
async fn run<C: Listed<Ledger>>(
    db: &Database<Ledger>,
    c: C,
) -> Result<C::Output, ExecuteError<C::Rejection>> {
    db.submit_async(c).await?.await
}

#[test]
fn a_generic_helper_needs_only_public_names() {
    let database = Database::<Ledger>::in_memory().unwrap();
    assert_eq!(block_on(run(&database, ADD)).unwrap(), 1);
}

/// A model whose command waits for the test, so that the queue behind it stays full.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Held(Vec<u64>);

impl Model for Held {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
struct Hold {
    waits: bool,
    number: u64,
}

/// What the command that holds the writer tells and is told.
type Gate = (Sender<()>, Receiver<()>);

static GATE: std::sync::Mutex<Option<Gate>> = std::sync::Mutex::new(None);
/// Only one test at a time can hold a writer.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

impl Command<Held> for Hold {
    type Output = usize;
    type Rejection = std::convert::Infallible;

    fn apply(self, held: &mut Held, _: &mut Context<'_, Held>) -> Result<usize, Self::Rejection> {
        if self.waits
            && let Some((begun, ends)) = GATE.lock().unwrap().take()
        {
            begun.send(()).unwrap();
            ends.recv().unwrap();
        }
        held.0.push(self.number);
        Ok(held.0.len())
    }
}

prevalence::commands! { Held { 1 => Hold } }

fn hold(number: u64) -> Hold {
    Hold { waits: false, number }
}

/// Makes a database whose queue is full. Its writer goes on when the sender is used.
fn full() -> (Database<Held>, Vec<prevalence::Pending<usize, std::convert::Infallible>>, Sender<()>)
{
    let database = Database::<Held>::builder().queue_capacity(4).open_in_memory().unwrap();
    let ((begun, has_begun), (go, ends)) = (channel(), channel());
    *GATE.lock().unwrap() = Some((begun, ends));
    let mut pending = vec![database.submit(Hold { waits: true, number: 0 }).unwrap()];
    has_begun.recv().unwrap();
    for number in 1.. {
        match database.try_submit(hold(number)) {
            Ok(queued) => pending.push(queued),
            Err(TrySubmitError::Busy(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    (database, pending, go)
}

type Held1 = Pin<Box<prevalence::Submitting<Held, usize, std::convert::Infallible>>>;

fn poll(future: &mut Held1, waker: &Waker) -> bool {
    match future.as_mut().poll(&mut TaskContext::from_waker(waker)) {
        Poll::Ready(submitted) => {
            drop(submitted.unwrap());
            true
        }
        Poll::Pending => false,
    }
}

#[test]
fn a_task_waits_for_room_and_no_thread_does() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (database, pending, go) = full();
    let counts: Vec<Arc<Count>> = (0..20).map(|_| Arc::default()).collect();
    let mut futures: Vec<Held1> =
        (0..20).map(|number| Box::pin(database.submit_async(hold(100 + number)))).collect();
    for (future, count) in futures.iter_mut().zip(&counts) {
        // This very thread asks all of them, and it does not wait.
        assert!(!poll(future, &count.clone().into()));
        assert!(!poll(future, &count.clone().into()), "it asks twice and waits once");
    }
    // Who gives up has left no trace and is not woken.
    drop(futures.remove(0));
    go.send(()).unwrap();
    let mut left: Vec<usize> = (0..19).collect();
    while !left.is_empty() {
        left.retain(|&at| !poll(&mut futures[at], &counts[at + 1].clone().into()));
        std::thread::yield_now();
    }
    let last = pending.len() as u64 + 19;
    database.wait_for(last, std::time::Duration::from_secs(60)).unwrap();
    assert_eq!(counts[0].0.load(Ordering::SeqCst), 0);
    assert!(pending.into_iter().all(|pending| pending.wait().is_ok()));
    let mut held = database.query(|held| held.0.clone());
    held.retain(|number| *number >= 100);
    held.sort_unstable();
    assert_eq!(held, (101..120).collect::<Vec<_>>());
}

#[test]
fn a_task_that_waits_for_room_is_woken_and_told_when_the_database_is_closed() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (database, pending, go) = full();
    let count: Arc<Count> = Arc::default();
    let mut future: Held1 = Box::pin(database.submit_async(hold(7)));
    assert!(!poll(&mut future, &count.clone().into()));
    let closing = std::thread::spawn({
        let database = database.clone();
        move || database.close()
    });
    crate::common::until(|| count.0.load(Ordering::SeqCst) > 0);
    assert!(matches!(block_on(future), Err(ExecuteError::Stopped)));
    go.send(()).unwrap();
    closing.join().unwrap().unwrap();
    drop(pending);
}

/// Submits in each form, and returns what each gives.
fn each_form<R: fmt::Debug>(
    forms: [Result<prevalence::Pending<i64, R>, ExecuteError<R>>; 3],
) -> Vec<Result<i64, ExecuteError<R>>> {
    forms.into_iter().map(|submitted| submitted.unwrap().wait()).collect()
}

fn taken<C, T, R>(tried: Result<T, TrySubmitError<C, R>>) -> Result<T, ExecuteError<R>> {
    tried.map_err(|error| match error {
        TrySubmitError::Refused(error) => error,
        _ => panic!("the queue is full"),
    })
}

#[test]
fn a_condition_goes_with_every_form() {
    let database = Database::<Ledger>::in_memory().unwrap();
    database.execute(ADD).unwrap();
    let at = |sequence| {
        each_form([
            database.submit_if(sequence, ADD),
            taken(database.try_submit_if(sequence, ADD)),
            block_on(database.submit_async_if(sequence, ADD)),
        ])
    };
    for stale in at(0) {
        assert!(matches!(stale, Err(ExecuteError::Stale { expected: 0, found: 1 })), "{stale:?}");
    }
    // One of them is first, and the others are late.
    let mut accepted = at(1);
    accepted.retain(Result::is_ok);
    assert_eq!((accepted.len(), database.sequence()), (1, 2));
}

#[test]
fn metadata_goes_with_every_form_and_only_with_its_command() {
    let database = Database::<Ledger>::in_memory().unwrap();
    let asked = |id: &str| Metadata { request_id: id.to_owned(), ..Metadata::default() };
    let of = |id: &str| {
        let asked = asked(id);
        each_form([
            database.submit_with(&asked, ADD),
            taken(database.try_submit_with(&asked, ADD)),
            block_on(database.submit_async_with(&asked, ADD)),
        ])
    };
    database.execute_with(&asked("first"), ADD).unwrap();
    for again in of("first") {
        assert!(matches!(again, Err(ExecuteError::Duplicate { sequence: 1, .. })), "{again:?}");
    }
    assert!(matches!(
        database.execute_with(&asked("first"), ADD),
        Err(ExecuteError::Duplicate { sequence: 1, .. })
    ));
    let mut accepted = of("second");
    accepted.retain(Result::is_ok);
    assert_eq!(accepted.len(), 1);
    // The handle has another one, and the next call has none of these.
    let ann = Metadata { actor: "ann".to_owned(), ..Metadata::default() };
    let handle = database.with_metadata(&ann).unwrap();
    handle.execute_with(&asked("third"), ADD).unwrap();
    handle.execute(ADD).unwrap();
    let records = database.history().records(1..).unwrap();
    let told: Vec<_> = records.map(|record| record.unwrap().metadata()).collect();
    assert_eq!(told, [asked("first"), asked("second"), asked("third"), ann]);
    let large = Metadata { actor: "x".repeat(70_000), ..Metadata::default() };
    let refused = [
        database.execute_with(&large, ADD).unwrap_err(),
        database.submit_with(&large, ADD).unwrap_err(),
        taken(database.try_submit_with(&large, ADD)).unwrap_err(),
        block_on(database.submit_async_with(&large, ADD)).unwrap_err(),
    ];
    for error in refused {
        let says = error.to_string();
        assert!(matches!(error, ExecuteError::Metadata { .. }) && says.contains("65535"), "{says}");
    }
    assert_eq!(database.sequence(), 4);
}

#[test]
fn the_sequence_comes_beside_the_output() {
    let database = Database::<Ledger>::in_memory().unwrap();
    let numbered = database.submit(ADD).unwrap().wait_numbered().unwrap();
    assert_eq!((numbered.sequence, numbered.output), (1, 1));
    let numbered = block_on(database.submit(ADD).unwrap().numbered()).unwrap();
    assert_eq!((numbered.sequence, numbered.output), (2, 2));
    let stale = database.submit_if(0, ADD).unwrap().wait_numbered();
    assert!(matches!(stale, Err(ExecuteError::Stale { .. })));
}

/// A model whose commands refuse with reasons of different kinds.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Strict;

impl Model for Strict {
    type Event = ();
}

#[derive(Debug, thiserror::Error)]
#[error("{missing} cents are missing")]
struct Overdrawn {
    missing: u64,
    #[source]
    because: std::num::ParseIntError,
}

#[derive(Debug)]
struct Shown;

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is shown")
    }
}

#[derive(Debug)]
struct Plain {
    #[expect(dead_code, reason = "it is shown by `Debug`")]
    why: u32,
}

macro_rules! refuses {
    ($command:ident, $rejection:ty, $value:expr) => {
        #[derive(Serialize, Deserialize)]
        struct $command;

        impl Command<Strict> for $command {
            type Output = ();
            type Rejection = $rejection;

            fn apply(self, _: &mut Strict, _: &mut Context<'_, Strict>) -> Result<(), $rejection> {
                Err($value)
            }
        }
    };
}

refuses!(Withdraw, Overdrawn, Overdrawn { missing: 5, because: "x".parse::<u8>().unwrap_err() });
refuses!(Show, Shown, Shown);
refuses!(Hide, Plain, Plain { why: 3 });
refuses!(Say, &'static str, "no");
refuses!(Refuse, (), ());

prevalence::commands! {
    Strict { 1 => Withdraw, 2 => Show, 3 => Hide, 4 => Say = "Tell", 5 => Refuse }
}

#[test]
fn a_rejection_is_shown_as_its_own_type_wants() {
    let database = Database::<Strict>::in_memory().unwrap();
    let overdrawn = database.execute(Withdraw).unwrap_err();
    assert_eq!(overdrawn.to_string(), "the command was rejected: 5 cents are missing");
    let source = overdrawn.source().unwrap();
    assert!(source.downcast_ref::<Overdrawn>().is_some_and(|it| it.missing == 5));
    assert!(source.source().unwrap().to_string().contains("invalid digit"));
    let shown = database.execute(Show).unwrap_err();
    assert_eq!(shown.to_string(), "the command was rejected: it is shown");
    assert!(shown.source().is_none());
    let plain = database.execute(Hide).unwrap_err();
    assert_eq!(plain.to_string(), "the command was rejected: Plain { why: 3 }");
    assert_eq!(database.execute(Say).unwrap_err().to_string(), "the command was rejected: no");
    assert_eq!(database.execute(Refuse).unwrap_err().to_string(), "the command was rejected: ()");
    let mapped = overdrawn.map_rejected(|it| it.missing);
    assert!(matches!(mapped, ExecuteError::Rejected(5)));
    assert_eq!(mapped.rejected(), Some(5));
    // It is an error for `?`, whatever the rejection is.
    let boxed: Box<dyn std::error::Error> = plain.into();
    assert!(boxed.to_string().contains("rejected"));
}

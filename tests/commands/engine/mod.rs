//! The engine from outside: answers, order, limits, closing.

mod dropping;
mod gate;
mod reentrant;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Context as TaskContext, Poll, Wake};
use std::time::{Duration, SystemTime};

use prevalence::{
    Command, Context, Database, Durability, Error, ExecuteError, Health, Metadata, Model,
    TrySubmitError, WaitError,
};
use serde::{Deserialize, Serialize};

use crate::common::{
    Add, Carry, Fail, Failure, Ledger, Refused, Stamp, bytes, quiet_panics, temporary,
};

/// A time so long that a test that waits for it has failed.
const NEVER: Duration = Duration::from_secs(600);

#[test]
fn outputs_rejections_and_panics_reach_their_callers() {
    quiet_panics();
    let (_directory, path) = temporary();
    let database = Database::<Ledger>::open(&path).unwrap();
    assert_eq!(database.execute(Add { account: 1, amount: 5 }).unwrap(), 5);
    let refused = database.execute(Fail { account: 1, how: Failure::Reject }).unwrap_err();
    assert!(matches!(refused, ExecuteError::Rejected(Refused(1_000_005))), "{refused:?}");
    let panicked = database.execute(Fail { account: 1, how: Failure::Panic }).unwrap_err();
    assert!(
        matches!(&panicked, ExecuteError::Panicked { message } if message == "on purpose"),
        "{panicked:?}"
    );
    assert_eq!(database.execute(Add { account: 1, amount: 2 }).unwrap(), 7);
    assert_eq!(database.sequence(), 2);
    let stats = database.stats();
    assert_eq!((stats.accepted, stats.rejected, stats.panicked), (2, 1, 1));
    assert_eq!(stats.durable_sequence, 2);
    database.close().unwrap();
}

#[test]
fn a_view_stays_as_it_is() {
    let (_directory, path) = temporary();
    let database = Database::<Ledger>::open(&path).unwrap();
    database.execute(Add { account: 1, amount: 1 }).unwrap();
    let view = database.view();
    let before = view.bytes();
    database.execute(Add { account: 1, amount: 1 }).unwrap();
    assert_eq!((view.sequence(), view.bytes()), (1, before));
    assert_eq!(database.view().sequence(), 2);
    assert!(database.view().time() >= view.time());
}

struct Woken(mpsc::Sender<()>);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.send(()).ok();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let (woken, wakes) = mpsc::channel();
    let waker = Arc::new(Woken(woken)).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => wakes.recv().unwrap(),
        }
    }
}

#[test]
fn pending_is_waited_for_awaited_or_dropped() {
    let (_directory, path) = temporary();
    let database = Database::<Ledger>::open(&path).unwrap();
    let waited = database.submit(Add { account: 1, amount: 1 }).unwrap();
    let awaited = database.submit(Add { account: 1, amount: 1 }).unwrap();
    drop(database.submit(Add { account: 1, amount: 1 }).unwrap());
    let last = database.submit(Add { account: 1, amount: 1 }).unwrap();
    assert_eq!(block_on(awaited).unwrap(), 2);
    assert_eq!(waited.wait().unwrap(), 1);
    assert_eq!(last.wait().unwrap(), 4, "the dropped one was executed all the same");
}

#[test]
fn commands_of_one_thread_keep_their_order() {
    let (_directory, path) = temporary();
    let database = Database::<Ledger>::builder().max_batch_commands(7).open(&path).unwrap();
    let pending: Vec<_> =
        (0..1000).map(|_| database.submit(Add { account: 1, amount: 1 }).unwrap()).collect();
    for (index, pending) in pending.into_iter().enumerate() {
        assert_eq!(pending.wait().unwrap(), index as i64 + 1);
    }
    let stats = database.stats();
    assert!(stats.largest_batch <= 7, "{stats:?}");
    assert!(stats.batches >= 1000 / 7, "{stats:?}");
}

#[test]
fn a_full_queue_says_busy_and_makes_submit_wait() {
    use gate::{Gated, Pass};
    let (_directory, path) = temporary();
    let database =
        Database::<Gated>::builder().queue_capacity(2).max_batch_commands(1).open(&path).unwrap();
    let first = database.submit(Pass).unwrap();
    gate::wait_for_arrival();
    let queued: Vec<_> = (0..2).map(|_| database.try_submit(Pass).unwrap()).collect();
    assert_eq!(database.stats().queued_commands, 2);
    assert!(matches!(database.try_submit(Pass), Err(TrySubmitError::Busy(Pass))));
    // Readers never wait, whatever the writer is doing.
    assert_eq!(database.query(|gated| gated.0), 0);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| database.submit(Pass).unwrap().wait());
        gate::open();
        waiting.join().unwrap().unwrap();
    });
    first.wait().unwrap();
    for pending in queued {
        pending.wait().unwrap();
    }
    assert_eq!(database.query(|gated| gated.0), 4);
    assert_eq!(database.stats().queued_bytes, 0);
}

#[test]
fn bytes_in_the_queue_are_bounded_too() {
    let (_directory, path) = temporary();
    let database = Database::<Ledger>::builder()
        .queue_bytes(1000)
        .max_batch_commands(3)
        .linger(NEVER)
        .open(&path)
        .unwrap();
    // The batch waits for three commands; two of 600 bytes do not fit at once.
    let first = database.try_submit(Carry(vec![1; 600])).unwrap();
    assert!(matches!(
        database.try_submit(Carry(vec![2; 600])),
        Err(TrySubmitError::Busy(Carry(given_back))) if given_back == vec![2; 600]
    ));
    let rest: Vec<_> = (0..2).map(|_| database.try_submit(Carry(vec![3; 50])).unwrap()).collect();
    assert_eq!(first.wait().unwrap(), 600);
    for pending in rest {
        assert_eq!(pending.wait().unwrap(), 50);
    }
}

#[test]
fn oversized_commands_are_refused_before_the_journal() {
    let (_directory, path) = temporary();
    let database = Database::<Ledger>::builder()
        .max_command_bytes(1 << 20)
        .segment_bytes(64 << 10)
        .open(&path)
        .unwrap();
    let refused = database.execute(Carry(vec![0; 1 << 20])).unwrap_err();
    assert!(matches!(refused, ExecuteError::TooLarge { limit: 1_048_576, .. }), "{refused:?}");
    // Three bytes of length fit exactly; and it is larger than a whole segment.
    let fits = (1 << 20) - 5;
    assert_eq!(database.execute(Carry(vec![7; fits])).unwrap(), fits);
    assert_eq!(database.execute(Add { account: 1, amount: 1 }).unwrap(), 1);
    let expected = bytes(&database);
    database.close().unwrap();
    let database = Database::<Ledger>::open(&path).unwrap();
    assert_eq!(bytes(&database), expected);
    assert_eq!(database.recovery().commands_replayed, 2);
}

#[test]
fn waiting_for_a_sequence() {
    let (_directory, path) = temporary();
    let database = Database::<Ledger>::open(&path).unwrap();
    database.wait_for(0, Duration::ZERO).unwrap();
    let timed_out = database.wait_for(1, Duration::from_millis(1)).unwrap_err();
    assert!(matches!(timed_out, WaitError::TimedOut { wanted: 1, reached: 0 }));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| database.wait_for(2, NEVER));
        let endless = scope.spawn(|| database.wait_for(2, Duration::MAX));
        for _ in 0..2 {
            database.execute(Add { account: 1, amount: 1 }).unwrap();
        }
        waiting.join().unwrap().unwrap();
        endless.join().unwrap().unwrap();
        let stopped = scope.spawn(|| database.wait_for(3, NEVER));
        database.clone().close().unwrap();
        let stopped = stopped.join().unwrap().unwrap_err();
        assert!(matches!(stopped, WaitError::Stopped { wanted: 3, reached: 2 }));
    });
}

#[test]
fn closing_commits_what_is_queued_and_stops_every_handle() {
    let (_directory, path) = temporary();
    let database = Database::<Ledger>::builder().max_batch_commands(10).open(&path).unwrap();
    let other = database.clone();
    let pending: Vec<_> =
        (0..100).map(|_| database.submit(Add { account: 1, amount: 1 }).unwrap()).collect();
    database.close().unwrap();
    for pending in pending {
        pending.wait().unwrap();
    }
    assert!(matches!(other.health(), Health::Stopped));
    let refused = other.execute(Add { account: 1, amount: 1 }).unwrap_err();
    assert!(matches!(refused, ExecuteError::Stopped), "{refused:?}");
    assert_eq!(other.query(|ledger| ledger.changes), 100, "reads go on");
    let reopened = Database::<Ledger>::open(&path).unwrap();
    assert_eq!(bytes(&reopened), bytes(&other));
    assert!(reopened.recovery().clean);
    other.close().unwrap();
    drop(reopened);
    assert!(Database::<Ledger>::open(&path).unwrap().recovery().clean, "drop closes as well");
}

#[test]
fn every_caller_gets_an_answer_when_the_database_is_closed_under_it() {
    let (_directory, path) = temporary();
    let database = Database::<Ledger>::builder().queue_capacity(4).open(&path).unwrap();
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut accepted = 0;
                    loop {
                        match database.execute(Add { account: 1, amount: 1 }) {
                            Ok(_) => accepted += 1,
                            Err(ExecuteError::Stopped) => return accepted,
                            Err(other) => panic!("{other}"),
                        }
                    }
                })
            })
            .collect();
        database.wait_for(50, NEVER).unwrap();
        database.clone().close().unwrap();
        let accepted: u64 = callers.into_iter().map(|caller| caller.join().unwrap()).sum();
        assert_eq!(database.sequence(), accepted);
    });
}

#[test]
fn context_says_the_same_on_replay() {
    let (_directory, path) = temporary();
    let database = Database::<Ledger>::open(&path).unwrap();
    let began = SystemTime::now();
    let first = database.execute(Stamp).unwrap();
    assert_eq!((first.sequence, first.actor.as_str()), (1, ""));
    assert!(first.now >= began - Duration::from_secs(3600));
    let ann = Metadata { actor: "ann".to_owned(), ..Metadata::default() };
    let second = database.with_metadata(&ann).unwrap().execute(Stamp).unwrap();
    assert_eq!((second.sequence, second.actor.as_str()), (2, "ann"));
    assert!(second.now >= first.now);
    assert_ne!(second.random, first.random);
    assert_ne!(second.random.0, second.random.1);
    let expected = bytes(&database);
    database.close().unwrap();
    let database = Database::<Ledger>::open(&path).unwrap();
    assert_eq!(bytes(&database), expected);
    let long = Metadata { actor: "x".repeat(70_000), ..Metadata::default() };
    assert!(matches!(database.with_metadata(&long), Err(Error::InvalidOption { .. })));
}

/// The queue is full of commands when the last handle is dropped, on the writer's own thread.
#[test]
fn the_last_handle_may_be_dropped_by_a_command_while_the_queue_is_full() {
    use dropping::{Dropper, HANDLE, Last};
    let (_directory, path) = temporary();
    let database =
        Database::<Dropper>::builder().queue_capacity(2).max_batch_commands(1).open(&path).unwrap();
    let handle = HANDLE.lock().unwrap();
    let mut pending = vec![database.submit(Last).unwrap()];
    // The first waits for the handle on the writer's thread; two more fill the queue.
    while pending.len() < 4 {
        match database.try_submit(Last) {
            Ok(more) => pending.push(more),
            Err(TrySubmitError::Busy(Last)) if database.stats().queued_commands == 2 => break,
            Err(_) => std::thread::yield_now(),
        }
    }
    let mut handle = handle;
    *handle = Some(database);
    drop(handle);
    for pending in pending {
        pending.wait().unwrap();
    }
}

#[test]
fn a_command_that_executes_is_told_so_instead_of_waiting_for_itself() {
    let (_directory, path) = temporary();
    let database = Database::open(&path).unwrap();
    *reentrant::HANDLE.lock().unwrap() = Some(database.clone());
    let pending = database.submit(reentrant::Nest).unwrap();
    // The last handle may be the one that the command drops: that must not deadlock either.
    drop(database);
    assert!(pending.wait().unwrap());
}

/// One waker panics, and one calls a function that would wait for the engine.
#[test]
fn what_wakers_do_costs_nobody_else_an_answer() {
    struct Bad(Database<Ledger>, mpsc::Sender<bool>);
    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            let refused = matches!(self.0.sync(), Err(Error::Reentrant))
                && matches!(self.0.wait_for(1 << 40, NEVER), Err(WaitError::Reentrant))
                && matches!(self.0.execute(Stamp), Err(ExecuteError::Reentrant));
            self.1.send(refused).unwrap();
            panic!("on purpose");
        }
    }
    quiet_panics();
    let (_directory, path) = temporary();
    let database =
        Database::<Ledger>::builder().max_batch_commands(5).linger(NEVER).open(&path).unwrap();
    let (woken, wakes) = mpsc::channel();
    let waker = Arc::new(Bad(database.clone(), woken)).into();
    let mut pending: Vec<_> =
        (0..4).map(|_| database.submit(Add { account: 1, amount: 1 }).unwrap()).collect();
    for pending in pending.iter_mut().take(2) {
        let mut cx = TaskContext::from_waker(&waker);
        assert!(std::pin::Pin::new(pending).poll(&mut cx).is_pending());
    }
    assert_eq!(database.execute(Add { account: 1, amount: 1 }).unwrap(), 5);
    for (pending, expected) in pending.into_iter().zip(1..) {
        assert_eq!(pending.wait().unwrap(), expected);
    }
    assert!(wakes.recv().unwrap() && wakes.recv().unwrap());
    assert!(matches!(database.health(), Health::Running));
}

#[test]
fn options_that_cannot_work_are_refused_before_anything_is_made() {
    let (_directory, path) = temporary();
    let builder = Database::<Ledger>::builder;
    let attempts = [
        builder().max_batch_commands(0).open(&path),
        builder().max_batch_bytes(64 << 20).open(&path),
        builder().max_command_bytes(0).open(&path),
        builder().queue_capacity(0).open(&path),
        builder().queue_bytes(0).open(&path),
        builder().segment_bytes(1).open(&path),
        builder().compression_level(1000).open(&path),
        builder().durability(Durability::Interval(Duration::ZERO)).open(&path),
    ];
    for attempt in attempts {
        let error = attempt.unwrap_err();
        assert!(matches!(error, Error::InvalidOption { .. }), "{error}");
    }
    assert!(!path.exists());
}

#[test]
fn weaker_durabilities_lose_nothing_of_a_closed_database() {
    for durability in [Durability::Interval(Duration::from_millis(1)), Durability::Buffered] {
        let (_directory, path) = temporary();
        let database = Database::<Ledger>::builder()
            .durability(durability)
            .segment_bytes(64 << 10)
            .open(&path)
            .unwrap();
        for _ in 0..20 {
            let pending: Vec<_> = (0..200)
                .map(|account| database.submit(Add { account, amount: 1 }).unwrap())
                .collect();
            pending.into_iter().for_each(|pending| assert!(pending.wait().unwrap() > 0));
        }
        assert_eq!(database.sync().unwrap(), 4000);
        assert_eq!(database.stats().durable_sequence, 4000);
        let expected = bytes(&database);
        database.close().unwrap();
        let database = Database::<Ledger>::open(&path).unwrap();
        assert_eq!(bytes(&database), expected);
        assert!(database.recovery().segments > 1, "{:?}", database.recovery());
    }
}

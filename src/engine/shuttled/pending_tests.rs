//! Explores how an answer meets who waits for it: on a thread, as a task, or no more.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake};

use super::explore::explore;
use super::pending::{Pending, Slot, Ticket};
use super::sync::thread;
use crate::ExecuteError;
use crate::process::OpeningProcess;

type TestSlot = Slot<u32, ()>;
type Answer = Result<u32, ExecuteError<()>>;

/// Wakes a thread that polls.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn poll_to_the_end(mut pending: Pending<u32, ()>) -> Answer {
    loop {
        // A new waker each time: the newest is the one to be woken.
        let waker = Arc::new(Unpark(thread::current())).into();
        match Pin::new(&mut pending).poll(&mut TaskContext::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => thread::park(),
        }
    }
}

/// A slot whose answer another thread gives, or forgets to.
fn on_its_way(gives: bool) -> (Pending<u32, ()>, thread::JoinHandle<()>) {
    let slot = TestSlot::new();
    let pending = Pending::new(slot.clone(), OpeningProcess::this());
    let ticket = Ticket::new(slot.clone(), None);
    let engine = thread::spawn(move || {
        slot.put(3, Ok(7));
        if gives {
            ticket.release();
        }
    });
    (pending, engine)
}

fn check(answer: &Answer, given: bool) {
    match answer {
        Ok(7) => assert!(given, "an answer that was never released"),
        Err(ExecuteError::Stopped) => assert!(!given, "an answer was lost"),
        other => panic!("{other:?}"),
    }
}

fn every_way_of_waiting() {
    for given in [true, false] {
        let (pending, engine) = on_its_way(given);
        check(&pending.wait(), given);
        engine.join().unwrap();

        let (pending, engine) = on_its_way(given);
        check(&poll_to_the_end(pending), given);
        engine.join().unwrap();

        let (pending, engine) = on_its_way(given);
        drop(pending);
        engine.join().unwrap();

        // A task gives up and a thread takes over: the older waker must not swallow the wake-up.
        let (mut pending, engine) = on_its_way(given);
        let waker = Arc::new(Unpark(engine.thread().clone())).into();
        match Pin::new(&mut pending).poll(&mut TaskContext::from_waker(&waker)) {
            Poll::Ready(answer) => check(&answer, given),
            Poll::Pending => check(&pending.wait(), given),
        }
        engine.join().unwrap();
    }
}

/// Two ends try to answer: one answer stays, and it is whole.
fn two_answers() {
    let slot = TestSlot::new();
    let pending = Pending::new(slot.clone(), OpeningProcess::this());
    slot.put(3, Ok(7));
    let first = Ticket::new(slot.clone(), None);
    let second = thread::spawn(move || drop(Ticket::new(slot, None)));
    let waiting = thread::spawn(move || pending.wait());
    first.release();
    second.join().unwrap();
    assert!(matches!(waiting.join().unwrap(), Ok(7) | Err(ExecuteError::Stopped)));
}

#[test]
fn no_answer_is_lost() {
    explore(4000, every_way_of_waiting);
    explore(1000, two_answers);
}

#[test]
#[ignore = "minutes: a hundred times as many schedules"]
fn no_answer_is_lost_for_long() {
    explore(400_000, every_way_of_waiting);
    explore(200_000, two_answers);
}

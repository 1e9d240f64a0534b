//! Unit tests of pending results on real threads. `crate::engine::shuttled` explores their
//! interleavings.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use crate::ExecuteError;
use crate::engine::pending::{Failure, Pending, Slot, Ticket};
use crate::process::OpeningProcess;

type TestSlot = Slot<u32, ()>;

fn ticket() -> (Ticket, Arc<TestSlot>, Pending<u32, ()>) {
    let slot = TestSlot::new();
    (Ticket::new(slot.clone(), None), slot.clone(), Pending::new(slot, OpeningProcess::this()))
}

#[test]
fn an_answer_is_not_seen_before_it_is_released() {
    let (ticket, slot, pending) = ticket();
    slot.put(3, Ok(7));
    assert!(!pending.is_ready());
    ticket.release();
    assert!(pending.is_ready());
    assert_eq!(pending.wait().unwrap(), 7);
}

#[test]
fn a_lost_ticket_answers_stopped_even_over_a_put_answer() {
    let (ticket, slot, pending) = ticket();
    slot.put(3, Ok(7));
    drop(ticket);
    assert!(matches!(pending.wait(), Err(ExecuteError::Stopped)));
}

/// The `Drop` of what a failure replaces is a user's code.
#[test]
fn a_caller_is_answered_also_when_the_drop_of_its_output_panics() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
    }
    let slot = Slot::<Bomb, ()>::new();
    let ticket = Ticket::new(slot.clone(), None);
    let pending = Pending::new(slot.clone(), OpeningProcess::this());
    slot.put(3, Ok(Bomb));
    ticket.fail(Failure::NotWritten("full".into()));
    assert!(pending.is_ready());
    assert!(matches!(pending.wait(), Err(ExecuteError::NotWritten { .. })));
}

#[test]
fn a_waiting_thread_is_woken() {
    let (ticket, slot, pending) = ticket();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| pending.wait());
        while !slot.is_waited_for() {
            std::thread::yield_now();
        }
        slot.put(3, Ok(9));
        ticket.release();
        assert_eq!(waiting.join().unwrap().unwrap(), 9);
    });
}

/// A waker is its user's code: what it does when it is freed may need the same answer.
#[test]
fn a_waker_is_freed_without_the_lock_of_the_answer() {
    struct Looks(Arc<TestSlot>);
    impl std::task::Wake for Looks {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Looks {
        fn drop(&mut self) {
            self.0.is_waited_for();
        }
    }
    let (ticket, slot, mut pending) = ticket();
    for _ in 0..2 {
        // The future alone has it after this.
        let waker = Arc::new(Looks(slot.clone())).into();
        assert!(Pin::new(&mut pending).poll(&mut TaskContext::from_waker(&waker)).is_pending());
    }
    ticket.release();
}

#[test]
fn the_newest_waker_is_woken() {
    struct Count(std::sync::atomic::AtomicU32);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let wakers: Vec<_> = (0..2).map(|_| Arc::new(Count(0.into()))).collect();
    let (ticket, slot, mut pending) = ticket();
    for waker in &wakers {
        let waker = waker.clone().into();
        let mut cx = TaskContext::from_waker(&waker);
        assert!(Pin::new(&mut pending).poll(&mut cx).is_pending());
    }
    slot.put(3, Ok(1));
    ticket.release();
    let woken: Vec<_> =
        wakers.iter().map(|w| w.0.load(std::sync::atomic::Ordering::SeqCst)).collect();
    assert_eq!(woken, [0, 1]);
    let waker = wakers[0].clone().into();
    let ready = Pin::new(&mut pending).poll(&mut TaskContext::from_waker(&waker));
    assert!(matches!(ready, Poll::Ready(Ok(1))));
}

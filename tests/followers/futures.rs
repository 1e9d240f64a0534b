//! Streams and futures, without a runtime.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use futures_core::Stream;
use prevalence::{From, WaitError};

use crate::builder;
use crate::common::{Add, temporary};

/// Wakes a thread, and counts how often.
struct Bell(Thread, AtomicU64);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.unpark();
    }
}

fn bell() -> Arc<Bell> {
    Arc::new(Bell(std::thread::current(), AtomicU64::new(0)))
}

/// Runs a future on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker: Waker = bell().into();
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    block_on(std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)))
}

const ADD: Add = Add { account: 1, amount: 1 };

#[test]
fn a_stream_gives_what_was_stored_and_what_comes_and_then_ends() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    (0..10).for_each(|_| assert!(database.execute(ADD).is_ok()));
    let mut stream = database.subscribe(From::Beginning).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..500).for_each(|_| assert!(database.execute(ADD).is_ok())));
        for sequence in 1..=510 {
            let recorded = next(&mut stream).unwrap().unwrap();
            assert_eq!((recorded.sequence, recorded.events), (sequence, vec![sequence]));
        }
    });
    let closing = std::thread::spawn(move || database.close().unwrap());
    assert!(next(&mut stream).is_none());
    closing.join().unwrap();
}

#[test]
fn a_task_is_woken_once_and_a_dropped_one_is_not() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let [first, second] = [bell(), bell()];
    let poll = |stream: &mut prevalence::Subscription<_>, bell: &Arc<Bell>| {
        let waker: Waker = bell.clone().into();
        Pin::new(stream).poll_next(&mut Context::from_waker(&waker)).is_ready()
    };
    let mut kept = database.subscribe(From::Now).unwrap();
    let mut dropped = database.subscribe(From::Now).unwrap();
    assert!(!poll(&mut kept, &first) && !poll(&mut kept, &first) && !poll(&mut dropped, &second));
    drop(dropped);
    database.execute(ADD).unwrap();
    database.execute(ADD).unwrap();
    assert_eq!((first.1.load(Ordering::SeqCst), second.1.load(Ordering::SeqCst)), (1, 0));
    assert_eq!(Arc::strong_count(&second), 1, "its waker is gone");
    assert!(poll(&mut kept, &first) && poll(&mut kept, &first) && !poll(&mut kept, &first));
}

#[test]
fn a_future_waits_for_a_sequence() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    assert_eq!(block_on(database.reached(0)).unwrap(), 0);
    let (changed, reached, never) =
        (database.changed(), database.reached(3), database.reached(100));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| (block_on(changed).unwrap(), block_on(reached).unwrap()));
        (0..3).for_each(|_| assert!(database.execute(ADD).is_ok()));
        let (changed, reached) = waiting.join().unwrap();
        assert!((1..=3).contains(&changed) && reached == 3);
    });
    let closing = std::thread::spawn(move || database.close().unwrap());
    let stopped = block_on(never);
    assert!(matches!(stopped, Err(WaitError::Stopped { wanted: 100, reached: 3 })), "{stopped:?}");
    closing.join().unwrap();
}

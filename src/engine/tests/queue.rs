//! Unit tests of the queue on real threads. `crate::engine::shuttled` explores their interleavings.

use std::time::{Duration, Instant};

use crate::engine::pending::{Pending, Slot, Ticket};
use crate::engine::queue::{Applied, ApplyFn, Next, Patience, Refusal, Submission, queue};
use crate::engine::record_buffer::EncodedRecord;
use crate::model::Model;
use crate::process::OpeningProcess;

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Nothing;

impl Model for Nothing {
    type Event = ();
}

crate::commands! { Nothing {} }

type Answer = Pending<(), ()>;

fn submission(bytes: usize) -> (Submission<Nothing>, Answer) {
    let slot = Slot::<(), ()>::new();
    let ticket = Ticket::new(slot.clone(), None);
    let record = EncodedRecord::copy_of(&vec![0; bytes]);
    let apply: ApplyFn<Nothing> = |_, _, _, _| Applied::Accepted;
    (
        Submission { record, metadata_length: 0, apply, only_at: None, ticket },
        Pending::new(slot, OpeningProcess::this()),
    )
}

fn bytes_of(next: Next<Nothing>) -> Option<usize> {
    match next {
        Next::Command(submission) => Some(submission.record.len()),
        _ => None,
    }
}

#[test]
fn one_command_larger_than_the_budget_passes_alone() {
    let (sender, mut receiver) = queue(10, 10);
    assert_eq!(sender.try_send(submission(100).0), Ok(()));
    assert_eq!(sender.try_send(submission(1).0), Err(Refusal::Full));
    assert_eq!(bytes_of(receiver.next(Patience::None)), Some(100));
    // The command is in the batch that is being filled, so it still takes room.
    assert_eq!(sender.try_send(submission(1).0), Err(Refusal::Full));
    receiver.batch_done();
    for (bytes, sent) in [(6, Ok(())), (5, Err(Refusal::Full)), (4, Ok(()))] {
        assert_eq!(sender.try_send(submission(bytes).0), sent);
    }
    assert_eq!((sender.commands(), sender.bytes()), (2, 10));
}

#[test]
fn commands_that_were_drained_but_not_given_still_count() {
    let (sender, mut receiver) = queue(2, 1000);
    sender.try_send(submission(1).0).unwrap();
    sender.try_send(submission(2).0).unwrap();
    assert_eq!(bytes_of(receiver.next(Patience::None)), Some(1));
    sender.try_send(submission(3).0).unwrap();
    assert_eq!(sender.try_send(submission(4).0), Err(Refusal::Full));
    assert_eq!(bytes_of(receiver.next(Patience::None)), Some(2));
    assert!(!receiver.is_empty());
    assert_eq!(bytes_of(receiver.next(Patience::None)), Some(3));
    assert!(receiver.is_empty());
    assert!(matches!(receiver.next(Patience::None), Next::Nothing));
}

#[test]
fn waiting_ends_with_room_or_with_the_queue() {
    let (sender, mut receiver) = queue(1, 1000);
    sender.send(submission(1).0).unwrap();
    let blocked = || {
        while sender.callers_blocked() == 0 {
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| sender.send(submission(2).0));
        blocked();
        assert_eq!(bytes_of(receiver.next(Patience::Endless)), Some(1));
        assert_eq!(bytes_of(receiver.next(Patience::Endless)), Some(2));
        assert_eq!(waiting.join().unwrap(), Ok(()));
        sender.send(submission(3).0).unwrap();
        let waiting = scope.spawn(|| sender.send(submission(4).0));
        blocked();
        drop(receiver);
        assert_eq!(waiting.join().unwrap(), Err(Refusal::Stopped));
    });
    assert_eq!((sender.commands(), sender.bytes()), (0, 0));
}

#[test]
fn commands_sent_before_the_stop_are_still_given() {
    let (sender, mut receiver) = queue(10, 1000);
    let bell = receiver.bell();
    sender.send(submission(1).0).unwrap();
    bell.ring();
    sender.stop();
    assert_eq!(sender.send(submission(2).0), Err(Refusal::Stopped));
    assert_eq!(sender.try_send(submission(2).0), Err(Refusal::Stopped));
    assert_eq!(bytes_of(receiver.next(Patience::Endless)), Some(1));
    assert!(matches!(receiver.next(Patience::Endless), Next::Stop));
}

#[test]
fn the_bell_wakes_once_and_patience_ends() {
    let (sender, mut receiver) = queue::<Nothing>(10, 1000);
    let bell = receiver.bell();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            assert!(matches!(receiver.next(Patience::Endless), Next::Rung));
            let soon = Instant::now() + Duration::from_millis(1);
            assert!(matches!(receiver.next(Patience::Until(soon)), Next::Nothing));
        });
        while !sender.writer_sleeps() {
            std::thread::yield_now();
        }
        bell.ring();
        waiting.join().unwrap();
    });
}

#[test]
fn commands_in_the_queue_are_answered_when_the_writer_is_dropped() {
    let (sender, mut receiver) = queue(10, 1000);
    let (first, _) = submission(1);
    let (second, second_answer) = submission(2);
    let (third, third_answer) = submission(3);
    sender.send(first).unwrap();
    sender.send(second).unwrap();
    assert_eq!(bytes_of(receiver.next(Patience::None)), Some(1)); // the second is drained
    sender.send(third).unwrap();
    drop(receiver);
    for answer in [second_answer, third_answer] {
        assert!(matches!(answer.wait(), Err(crate::ExecuteError::Stopped)));
    }
    assert_eq!((sender.commands(), sender.bytes()), (0, 0));
}

//! Explores how callers, the writer, the bell and the end meet at the queue. A wake-up that is
//! lost leaves everybody asleep, which shuttle reports as a deadlock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Wake};
use std::time::Duration;

use super::explore::explore;
use super::pending::{Pending, Slot, Ticket};
use super::queue::{
    Applied, ApplyFn, Next, Patience, QueueReceiver, QueueSender, Refusal, Submission, queue,
};
use super::sync::{Instant, thread};
use crate::ExecuteError;
use crate::engine::record_buffer::EncodedRecord;
use crate::model::Model;
use crate::process::OpeningProcess;

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Nothing;

impl Model for Nothing {
    type Event = ();
}

crate::commands! { Nothing {} }

/// A caller and its how manieth command: all that a command has in it, besides its size.
type Name = (u8, u8);
type NameSlot = Slot<Name, ()>;

const CAPACITY: usize = 2;
const BYTES: usize = 8;

fn submission(name: Name, bytes: usize) -> (Submission<Nothing>, Pending<Name, ()>) {
    let slot = NameSlot::new();
    let ticket = Ticket::new(slot.clone(), None);
    let mut record = vec![0; bytes];
    (record[0], record[1]) = name;
    let record = EncodedRecord::copy_of(&record);
    let apply: ApplyFn<Nothing> = |_, _, _, _| Applied::Accepted;
    (
        Submission { record, metadata_length: 0, apply, only_at: None, ticket },
        Pending::new(slot, OpeningProcess::this()),
    )
}

/// What the writer took, by caller.
type Taken = BTreeMap<u8, Vec<u8>>;

fn answer(submission: Submission<Nothing>, taken: &mut Taken) {
    let name = (submission.record[0], submission.record[1]);
    let of_caller = taken.entry(name.0).or_default();
    assert!(of_caller.last() < Some(&name.1), "twice or out of order: {name:?}");
    of_caller.push(name.1);
    submission.ticket.slot().downcast_ref::<NameSlot>().unwrap().put(3, Ok(name));
    submission.ticket.release();
}

fn soon() -> Patience {
    Patience::Until(Instant::now() + Duration::from_millis(1))
}

/// A writer of every patience, until the queue ends.
fn write_to_the_end(mut receiver: QueueReceiver<Nothing>) -> Taken {
    let mut taken = Taken::new();
    for turn in 0.. {
        let patience = match turn % 4 {
            0 => Patience::None,
            1 => soon(),
            _ => Patience::Endless,
        };
        match (receiver.next(patience), patience) {
            (Next::Command(submission), _) => {
                receiver.batch_done(); // before the answers, as the writer does
                answer(submission, &mut taken);
            }
            (Next::Stop, _) => break,
            (Next::Nothing, Patience::Endless) => panic!("endless patience ended"),
            (Next::Nothing | Next::Rung, _) => {}
        }
    }
    assert!(receiver.is_empty());
    taken
}

/// Who waits for room.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    Nobody,
    Thread,
    /// A task, which sleeps until its waker was called.
    Task,
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn send_as_task(
    sender: &QueueSender<Nothing>,
    submission: Submission<Nothing>,
) -> Result<(), Refusal> {
    let waker = Arc::new(Unpark(thread::current())).into();
    let (mut submission, mut task) = (Some(submission), None);
    loop {
        match sender.poll_send(&mut submission, &mut task, &waker) {
            Poll::Ready(sent) => return sent,
            Poll::Pending => thread::park(),
        }
    }
}

/// Sends and gives what got in. Each answer must come, and must be its command's own, or say that
/// the queue has stopped.
fn call(sender: &QueueSender<Nothing>, caller: u8, sizes: &[usize], waits: Waits) -> Vec<u8> {
    let mut answers = Vec::new();
    let mut answered = Vec::new();
    for (number, &bytes) in (0..).zip(sizes) {
        let (submission, pending) = submission((caller, number), bytes);
        let sent = match waits {
            Waits::Nobody => sender.try_send(submission),
            Waits::Thread => sender.send(submission),
            Waits::Task => send_as_task(sender, submission),
        };
        match sent {
            Ok(()) => answers.push((number, pending)),
            Err(Refusal::Full) => {
                assert!(waits == Waits::Nobody, "a sender that waits for room found none")
            }
            Err(Refusal::Stopped) => {}
        }
    }
    for (number, pending) in answers {
        match pending.wait() {
            Ok(name) => {
                assert_eq!(name, (caller, number));
                answered.push(number);
            }
            Err(ExecuteError::Stopped) => {}
            other => panic!("{other:?}"),
        }
    }
    answered
}

fn spawn_callers(sender: &Arc<QueueSender<Nothing>>) -> [thread::JoinHandle<Vec<u8>>; 3] {
    let spawn = |caller, sizes: &'static [usize], waits| {
        let sender = sender.clone();
        thread::spawn(move || call(&sender, caller, sizes, waits))
    };
    // One command is larger than the whole byte budget.
    [
        spawn(0, &[2, 2, 2], Waits::Thread),
        spawn(1, &[5, 2 * BYTES], Waits::Task),
        spawn(2, &[2, 4, 2], Waits::Nobody),
    ]
}

fn counts(sender: &QueueSender<Nothing>) -> (usize, usize) {
    (sender.commands(), sender.bytes())
}

/// Everything that waits for room gets in, and everything that is in is answered.
fn callers_and_writer() {
    let (sender, receiver) = queue(CAPACITY, BYTES);
    let sender = Arc::new(sender);
    let bell = receiver.bell();
    let writer = thread::spawn(move || write_to_the_end(receiver));
    let callers = spawn_callers(&sender);
    let ringing = thread::spawn(move || bell.ring());
    let answered = callers.map(|caller| caller.join().unwrap());
    ringing.join().unwrap();
    assert_eq!((answered[0].len(), answered[1].len()), (3, 2));
    sender.stop();
    let taken = writer.join().unwrap();
    for (caller, answered) in (0..).zip(answered) {
        assert_eq!(taken.get(&caller).cloned().unwrap_or_default(), answered);
    }
    assert_eq!(counts(&sender), (0, 0));
}

/// The end comes at any time, by `stop` or because the last sender goes.
fn the_end_at_any_time(by_drop: bool) {
    let (sender, receiver) = queue(CAPACITY, BYTES);
    let sender = Arc::new(sender);
    let writer = thread::spawn(move || write_to_the_end(receiver));
    let callers = spawn_callers(&sender);
    if by_drop {
        drop(sender);
        callers.into_iter().for_each(|caller| drop(caller.join().unwrap()));
    } else {
        sender.stop();
        assert!(matches!(sender.try_send(submission((9, 0), 2).0), Err(Refusal::Stopped)));
        callers.into_iter().for_each(|caller| drop(caller.join().unwrap()));
        assert_eq!(counts(&sender), (0, 0));
    }
    writer.join().unwrap();
}

/// The writer goes in the middle: nobody waits for room or for an answer any longer.
fn the_writer_goes() {
    let (sender, mut receiver) = queue(CAPACITY, BYTES);
    let sender = Arc::new(sender);
    let callers = spawn_callers(&sender);
    let mut taken = Taken::new();
    for patience in [Patience::Endless, soon()] {
        if let Next::Command(submission) = receiver.next(patience) {
            answer(submission, &mut taken);
        }
    }
    drop(receiver);
    let answered = callers.map(|caller| caller.join().unwrap());
    let count: usize = taken.values().map(Vec::len).sum();
    assert!(answered.iter().map(Vec::len).sum::<usize>() <= count);
    assert_eq!(counts(&sender), (0, 0));
}

/// What was said before the bell is seen by who is woken by it, commands or not.
fn the_bell_is_heard() {
    let (sender, mut receiver) = queue(CAPACITY, BYTES);
    let sender = Arc::new(sender);
    let said = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let (bell, said) = (receiver.bell(), said.clone());
        thread::spawn(move || {
            said.fetch_add(1, Ordering::SeqCst);
            bell.ring();
        });
    }
    let caller = {
        let sender = sender.clone();
        thread::spawn(move || call(&sender, 0, &[2, 2, 2], Waits::Task))
    };
    let (mut taken, mut rung) = (Taken::new(), 0);
    let count = |taken: &Taken| taken.values().map(Vec::len).sum::<usize>();
    while rung == 0 || said.load(Ordering::SeqCst) < 2 || count(&taken) < 3 {
        match receiver.next(Patience::Endless) {
            Next::Command(submission) => {
                receiver.batch_done(); // before the answers, as the writer does
                answer(submission, &mut taken);
            }
            Next::Rung => rung += 1,
            Next::Stop | Next::Nothing => panic!("nobody ended it"),
        }
    }
    assert_eq!(caller.join().unwrap(), [0, 1, 2]);
    assert_eq!(counts(&sender), (0, 0));
}

fn explore_all(schedules: usize) {
    explore(schedules, callers_and_writer);
    explore(schedules / 2, || the_end_at_any_time(false));
    explore(schedules / 4, || the_end_at_any_time(true));
    explore(schedules / 2, the_writer_goes);
    explore(schedules, the_bell_is_heard);
}

#[test]
fn no_wake_up_and_no_command_is_lost() {
    explore_all(2000);
}

#[test]
#[ignore = "minutes: a hundred times as many schedules"]
fn no_wake_up_and_no_command_is_lost_for_long() {
    explore_all(200_000);
}

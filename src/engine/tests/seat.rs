//! Tests who applies a command: its caller if nothing else is on its way, else the writer's thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::journal::FrameBuffer;
use crate::storage::faulty::{Faulty, Operation};
use crate::test_support::small;
use crate::{Command, Context, Database, Model};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Counted(u64);

impl Model for Counted {
    type Event = ();
}

/// Which thread applied which command.
static APPLIED: Mutex<Vec<(u64, ThreadId)>> = Mutex::new(Vec::new());

/// Counts one more, and notes the thread under a number that no other command has.
#[derive(Serialize, Deserialize)]
struct Note(u64);

impl Command<Counted> for Note {
    type Output = u64;
    type Rejection = ();

    fn apply(self, counted: &mut Counted, _: &mut Context<'_, Counted>) -> Result<u64, ()> {
        counted.0 += 1;
        APPLIED.lock().unwrap().push((self.0, thread::current().id()));
        Ok(counted.0)
    }
}

crate::commands! { Counted { 1 => Note } }

fn applied_by(number: u64) -> ThreadId {
    let applied = APPLIED.lock().unwrap();
    applied.iter().find(|one| one.0 == number).unwrap().1
}

/// Opens a database whose syncs of commands wait, once `gate` is set, until they get a word. The
/// preparer's syncs pass: they come at any time.
fn open(
    directory: &tempfile::TempDir,
    gate: Arc<Mutex<Option<Receiver<()>>>>,
) -> Database<Counted> {
    let storage = Faulty::new(move |operation| {
        let prepares = thread::current().name() == Some("prevalence-preparer");
        if *operation == Operation::SyncData && !prepares {
            let closed = gate.lock().unwrap().take();
            closed.into_iter().for_each(|gate| gate.recv().unwrap());
        }
        None
    });
    let progress = &mut (Box::new(|_| {}) as _);
    Database::open_with(storage, directory.path(), small(), Counted::default, progress).unwrap()
}

/// Executes commands, numbered from `first` on, until this thread has applied one.
fn until_served(database: &Database<Counted>, first: u64) {
    let me = thread::current().id();
    for number in first.. {
        database.execute(Note(number)).unwrap();
        if applied_by(number) == me {
            return;
        }
    }
}

#[test]
fn a_lone_caller_applies_its_own_command() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory, Arc::default());
    until_served(&database, 1_000_000);
    database.submit(Note(0)).unwrap().wait().unwrap();
    assert_ne!(applied_by(0), thread::current().id(), "`submit` always uses the queue");
    until_served(&database, 2_000_000);
    let sequence = database.sequence();
    database.close().unwrap();
    let reopened = Database::<Counted>::open(directory.path()).unwrap();
    assert_eq!((reopened.sequence(), reopened.query(|counted| counted.0)), (sequence, sequence));
}

#[test]
fn who_comes_during_a_sync_uses_the_queue() {
    let directory = tempfile::tempdir().unwrap();
    let gate = Arc::default();
    let database = open(&directory, Arc::clone(&gate));
    until_served(&database, 3_000_000);
    let (open_gate, closed) = channel();
    *gate.lock().unwrap() = Some(closed);
    thread::scope(|scope| {
        let first = scope.spawn(|| database.execute(Note(4_000_000)).unwrap());
        // The gate is taken as soon as the first one's sync waits there.
        while gate.lock().unwrap().is_some() {
            thread::yield_now();
        }
        let second =
            scope.spawn(|| (thread::current().id(), database.execute(Note(4_000_001)).unwrap()));
        while database.stats().queued_commands == 0 {
            thread::yield_now();
        }
        open_gate.send(()).unwrap();
        let (thread, later) = second.join().unwrap();
        assert_eq!(later, first.join().unwrap() + 1);
        assert_ne!(applied_by(4_000_001), thread);
    });
    database.close().unwrap();
}

#[test]
fn a_caller_that_goes_on_does_not_keep_a_close_waiting() {
    // If the seat did not look at the stop, a single round could pass: the writer's thread may get
    // the lock first.
    (0..20).for_each(|round| close_beside_a_caller(10_000_000 + round * 100_000));
}

fn close_beside_a_caller(number: u64) {
    let directory = tempfile::tempdir().unwrap();
    let gate = Arc::default();
    let database = open(&directory, Arc::clone(&gate));
    until_served(&database, number);
    let (open_gate, closed) = channel();
    *gate.lock().unwrap() = Some(closed);
    thread::scope(|scope| {
        let caller = scope.spawn(|| {
            database.execute(Note(number + 50_000)).unwrap();
            // The writer's thread waits for the seat now, and the lock of the seat is not fair.
            (number + 50_001..number + 51_000).find(|&later| database.execute(Note(later)).is_err())
        });
        while gate.lock().unwrap().is_some() {
            thread::yield_now();
        }
        let closing = database.clone();
        let closer = scope.spawn(|| closing.close().unwrap());
        while !database.is_stopping() {
            thread::yield_now();
        }
        open_gate.send(()).unwrap();
        assert_eq!(caller.join().unwrap(), Some(number + 50_001));
        closer.join().unwrap();
    });
}

#[test]
#[ignore = "it depends on the time that other threads leave; run it alone"]
fn no_marker_comes_between_commands_whose_syncs_are_slow() {
    let directory = tempfile::tempdir().unwrap();
    let markers = Arc::new(AtomicU64::new(0));
    let counted = markers.clone();
    let marker_bytes = FrameBuffer::new().seal(1, 0, 0, 0, 0).0.len();
    let storage = Faulty::new(move |operation| {
        match operation {
            Operation::SyncData => thread::sleep(Duration::from_millis(2)),
            Operation::Write(_, bytes) if *bytes == marker_bytes => {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
        None
    });
    let progress = &mut (Box::new(|_| {}) as _);
    let database: Database<Counted> =
        Database::open_with(storage, directory.path(), small(), Counted::default, progress)
            .unwrap();
    until_served(&database, 7_000_000);
    let before = markers.load(Ordering::SeqCst);
    for number in 8_000_000..8_000_100 {
        database.execute(Note(number)).unwrap();
    }
    // A caller may be kept from the processor for as long as the wait for a marker.
    let written = markers.load(Ordering::SeqCst) - before;
    assert!(written <= 10, "{written} markers between 100 commands of a busy caller");
    database.close().unwrap();
}

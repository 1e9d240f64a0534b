//! How a database is opened: behind another one, with a clock that is given; and what it says of
//! itself.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use prevalence::{Database, Error, ExecuteError};

use crate::common::{Add, Ledger, quiet_panics, temporary};

const ADD: Add = Add { account: 1, amount: 1 };
const LONG: Duration = Duration::from_secs(120);

#[test]
fn an_open_waits_for_the_one_before_and_not_for_ever() {
    let (_directory, path) = temporary();
    let before = Database::<Ledger>::open(&path).unwrap();
    before.execute(ADD).unwrap();
    let impatient = Database::<Ledger>::builder().open_waiting(&path, Duration::from_millis(30));
    assert!(matches!(impatient, Err(Error::Locked { .. })));
    let (begins, has_begun) = channel();
    let opening = std::thread::spawn({
        let path = path.clone();
        move || {
            begins.send(()).unwrap();
            Database::<Ledger>::builder().open_waiting(&path, LONG)
        }
    });
    has_begun.recv().unwrap();
    assert!(!opening.is_finished());
    before.close().unwrap();
    let after = opening.join().unwrap().unwrap();
    assert_eq!((after.sequence(), after.recovery().clean), (1, true));
    // Nobody has to have it: then there is no wait.
    drop(after);
    drop(Database::<Ledger>::builder().open_waiting(&path, Duration::ZERO).unwrap());
}

/// Seconds since 1970 of a clock; `u64::MAX` lets it panic.
fn clock(seconds: &Arc<AtomicU64>) -> impl Fn() -> SystemTime + Send + Sync + 'static {
    let seconds = seconds.clone();
    move || {
        let seconds = seconds.load(Ordering::SeqCst);
        assert!(seconds < u64::MAX, "on purpose");
        at(seconds)
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn commands_have_the_time_of_the_clock_that_is_given() {
    quiet_panics();
    let (_directory, path) = temporary();
    let seconds = Arc::new(AtomicU64::new(100));
    let builder = || Database::<Ledger>::builder().clock(clock(&seconds));
    let database = builder().open(&path).unwrap();
    let mut expected = Vec::new();
    // It goes on, back, and panics; journaled time never goes back.
    for (now, journaled) in [(100, 100), (107, 107), (50, 107), (u64::MAX, 107), (108, 108)] {
        seconds.store(now, Ordering::SeqCst);
        database.execute(ADD).unwrap();
        expected.push(at(journaled));
    }
    assert_eq!(database.view().time(), at(108));
    let tried = database.what_if(|sandbox| sandbox.execute(ADD)).unwrap();
    assert_eq!(tried, 6);
    let times = |database: &Database<Ledger>| -> Vec<SystemTime> {
        let records = database.history().records(..).unwrap();
        records.map(|record| record.unwrap().time()).collect()
    };
    assert_eq!(times(&database), expected);
    drop(database);
    seconds.store(3, Ordering::SeqCst);
    let database = builder().open(&path).unwrap();
    database.execute(ADD).unwrap();
    expected.push(at(108));
    assert_eq!(times(&database), expected);
    let database = builder().open_in_memory().unwrap();
    database.execute(ADD).unwrap();
    assert_eq!(database.view().time(), at(3));
}

#[test]
fn a_database_says_where_it_is_and_its_reports_can_be_serialised() {
    let (_directory, path) = temporary();
    let database = Database::<Ledger>::open(&path).unwrap();
    assert_eq!(database.path(), path);
    database.execute(ADD).unwrap();
    let snapshot = database.snapshot().unwrap();
    let json = |json: Result<String, serde_json::Error>| -> serde_json::Value {
        serde_json::from_str(&json.unwrap()).unwrap()
    };
    let stats = json(serde_json::to_string(&database.stats()));
    assert_eq!((&stats["sequence"], &stats["accepted"]), (&1.into(), &1.into()));
    let recovery = json(serde_json::to_string(database.recovery()));
    assert_eq!((&recovery["created"], &recovery["torn_tail"]), (&true.into(), &().into()));
    let info = json(serde_json::to_string(&snapshot));
    assert_eq!(info["sequence"], 1);
    assert_eq!(info["path"], snapshot.path.to_str().unwrap());
    let in_memory = Database::<Ledger>::in_memory().unwrap();
    assert_eq!(in_memory.path().to_str(), Some("<in memory>"));
}

#[test]
fn an_open_ends_when_its_progress_callback_says_so() {
    let (_directory, path) = temporary();
    let database = Database::<Ledger>::open(&path).unwrap();
    for _ in 0..300 {
        database.execute(ADD).unwrap();
    }
    drop(database);
    let mut ended = 0;
    for allowed in 0.. {
        let steps = Arc::new(AtomicU64::new(0));
        let counted = steps.clone();
        let opened = Database::<Ledger>::builder()
            .on_progress(move |_| match counted.fetch_add(1, Ordering::SeqCst) < allowed {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            })
            .open(&path);
        match opened {
            Err(Error::Aborted) => ended += 1,
            Ok(database) => {
                // It was asked to end after the last step, or never.
                assert!(steps.load(Ordering::SeqCst) <= allowed + 1);
                assert_eq!(database.sequence(), 300);
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(ended >= 3, "{ended}");
}

/// The thread that asks for the time applies commands, so it cannot wait for one.
#[test]
fn a_clock_that_calls_the_database_is_refused_and_stops_nothing() {
    static HANDLE: Mutex<Option<Database<Ledger>>> = Mutex::new(None);
    static REFUSED: AtomicU64 = AtomicU64::new(0);
    let clock = || {
        let handle = HANDLE.lock().unwrap().clone();
        let refused = handle.map(|handle| handle.execute(ADD));
        let is_reentrant = matches!(refused, Some(Err(ExecuteError::Reentrant)));
        REFUSED.fetch_add(u64::from(is_reentrant), Ordering::SeqCst);
        at(5)
    };
    let database = Database::<Ledger>::builder().clock(clock).open_in_memory().unwrap();
    *HANDLE.lock().unwrap() = Some(database.clone());
    database.execute(ADD).unwrap();
    database.submit(ADD).unwrap().wait().unwrap();
    *HANDLE.lock().unwrap() = None;
    assert_eq!((REFUSED.load(Ordering::SeqCst), database.sequence()), (2, 2));
}

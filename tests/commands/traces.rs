//! Tests after which errors a command has left a trace (a change of the model, or a record in the
//! journal), and that the documentation of each error says so.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prevalence::{
    Command, Context, Database, ExecuteError, Metadata, Model, Pending, TrySubmitError,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const ERRORS: &str = include_str!("../../src/execute_error/mod.rs");

/// A model that counts how often it was changed.
#[derive(Clone, Default, Debug, PartialEq, Serialize, Deserialize)]
struct Count(u64);

impl Model for Count {
    type Event = ();
}

/// Whether `apply` of a command uses [`HANDLE`] and waits for [`EARLIER`]. In a replay it does not.
static LIVE: AtomicBool = AtomicBool::new(true);
static HANDLE: Mutex<Option<Database<Count>>> = Mutex::new(None);
static EARLIER: Mutex<Option<Pending<(), ()>>> = Mutex::new(None);

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Deed {
    Accept,
    Reject,
    Panic,
    /// Executes, submits and tries to submit another command, which must be refused.
    Nest,
    /// Waits for the command that was submitted after it, which must be refused.
    Await,
}

#[derive(Debug, Serialize, Deserialize)]
struct Do(Deed, Vec<u8>);

impl Command<Count> for Do {
    type Output = ();
    type Rejection = ();

    fn apply(self, count: &mut Count, _: &mut Context<'_, Count>) -> Result<(), ()> {
        count.0 += 1;
        match self.0 {
            Deed::Nest | Deed::Await if !LIVE.load(Ordering::SeqCst) => {}
            Deed::Accept => {}
            Deed::Reject => return Err(()),
            Deed::Panic => std::panic::resume_unwind(Box::new("on purpose")),
            Deed::Nest => {
                let handle = HANDLE.lock().unwrap().take().unwrap();
                let refused = [
                    handle.execute(accepted()).unwrap_err(),
                    handle.submit(accepted()).unwrap_err(),
                    match handle.try_submit(accepted()).unwrap_err() {
                        TrySubmitError::Refused(error) => error,
                        busy => panic!("{busy:?}"),
                    },
                ];
                assert!(refused.iter().all(|error| matches!(error, ExecuteError::Reentrant)));
            }
            Deed::Await => {
                let pending = loop {
                    if let Some(pending) = EARLIER.lock().unwrap().take() {
                        break pending;
                    }
                    std::thread::yield_now();
                };
                assert!(matches!(pending.wait(), Err(ExecuteError::Reentrant)));
            }
        }
        Ok(())
    }
}

/// A command whose `Serialize` does not write what `Deserialize` expects, or fails.
#[derive(Debug)]
struct Odd {
    encodes: bool,
}

impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.encodes {
            true => serializer.serialize_u8(7),
            false => Err(serde::ser::Error::custom("not this one")),
        }
    }
}

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u8::deserialize(deserializer)?;
        Err(serde::de::Error::custom("never"))
    }
}

impl Command<Count> for Odd {
    type Output = ();
    type Rejection = ();

    fn apply(self, count: &mut Count, _: &mut Context<'_, Count>) -> Result<(), ()> {
        count.0 += 1;
        Ok(())
    }
}

prevalence::commands! { Count { 1 => Do, 2 => Odd } }

fn accepted() -> Do {
    Do(Deed::Accept, Vec::new())
}

fn deed(deed: Deed) -> Do {
    Do(deed, Vec::new())
}

/// Checks the number of changes of the model and of records in the journal, now and after an open.
fn assert_traces(database: Database<Count>, path: &Path, expected: u64) {
    let traces = |database: &Database<Count>| {
        let records = database.history().records(..).unwrap().map(Result::unwrap).count();
        (database.query(Count::clone).0, database.sequence(), records as u64)
    };
    assert_eq!(traces(&database), (expected, expected, expected));
    database.close().unwrap();
    let database = Database::<Count>::open(path).unwrap();
    assert_eq!(traces(&database), (expected, expected, expected));
}

type Refusal = (&'static str, fn(&Database<Count>) -> ExecuteError<()>);

/// Refusals that leave no trace. Each comes after one accepted command with the request id "one".
const WITHOUT_TRACE: [Refusal; 10] = [
    ("Rejected", |database| database.execute(deed(Deed::Reject)).unwrap_err()),
    ("Panicked", |database| database.execute(deed(Deed::Panic)).unwrap_err()),
    ("TooLarge", |database| database.execute(Do(Deed::Accept, vec![0; 200])).unwrap_err()),
    ("TooLarge", |database| database.submit(Do(Deed::Accept, vec![0; 200])).unwrap_err()),
    ("Encode", |database| database.execute(Odd { encodes: false }).unwrap_err()),
    ("Undecodable", |database| database.execute(Odd { encodes: true }).unwrap_err()),
    ("Stale", |database| database.execute_if(0, accepted()).unwrap_err()),
    ("Duplicate", |database| requesting(database, "one").execute(accepted()).unwrap_err()),
    ("RequestsFull", |database| requesting(database, "two").execute(accepted()).unwrap_err()),
    ("Stopped", |database| {
        database.clone().close().unwrap();
        database.execute(accepted()).unwrap_err()
    }),
];

fn requesting(database: &Database<Count>, id: &str) -> Database<Count> {
    let metadata = Metadata { request_id: id.to_owned(), ..Metadata::default() };
    database.with_metadata(&metadata).unwrap()
}

#[test]
fn what_was_refused_has_left_none() {
    for (name, refuse) in WITHOUT_TRACE {
        let directory = tempfile::tempdir().unwrap();
        let options = Database::<Count>::builder().max_command_bytes(100).remembered_requests(1);
        let options = options.remember_requests_for(Duration::from_secs(600));
        let database = options.open(directory.path()).unwrap();
        requesting(&database, "one").execute(accepted()).unwrap();
        let error = refuse(&database);
        assert!(format!("{error:?}").starts_with(name), "{name}: {error:?}");
        assert_traces(database, directory.path(), 1);
    }
}

#[test]
fn what_is_called_inside_a_command_leaves_none_but_what_is_waited_for_there_does() {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::<Count>::open(directory.path()).unwrap();
    *HANDLE.lock().unwrap() = Some(database.clone());
    database.execute(deed(Deed::Nest)).unwrap();
    let waiting = database.submit(deed(Deed::Await)).unwrap();
    *EARLIER.lock().unwrap() = Some(database.submit(accepted()).unwrap());
    waiting.wait().unwrap();
    database.wait_for(3, std::time::Duration::MAX).unwrap();
    LIVE.store(false, Ordering::SeqCst);
    assert_traces(database, directory.path(), 3);
}

/// Returns the documentation of each variant of an error, by the variant's name.
fn variants(of: &str) -> Vec<(String, String)> {
    let (_, body) = ERRORS.split_once(&format!("pub enum {of}")).expect("it is in that file");
    let (body, _) = body.split_once("\n}").expect("it has an end");
    let (mut found, mut told) = (Vec::new(), String::new());
    for line in body.lines() {
        // Those inside a variant are its fields, and what is indented otherwise is a message.
        let Some(line) = line.strip_prefix("    ").filter(|line| !line.starts_with(' ')) else {
            continue;
        };
        if let Some(text) = line.strip_prefix("///") {
            told += text;
        } else if line.starts_with(char::is_uppercase) {
            let name = line.split(|letter: char| !letter.is_alphanumeric()).next().unwrap();
            found.push((name.to_owned(), std::mem::take(&mut told)));
        }
    }
    found
}

#[test]
fn each_error_says_whether_the_command_has_left_one() {
    let all = [variants("ExecuteError"), variants("TrySubmitError")].concat();
    assert!(all.len() > 10, "{all:?}");
    let says = ["left no trace", "may leave a trace", "may have left one"];
    for (name, told) in &all {
        assert!(says.iter().any(|says| told.contains(says)), "{name}:{told}");
    }
    let may = |told: &str| says.iter().skip(1).any(|says| told.contains(says));
    for (name, told) in &all {
        assert_eq!(may(told), ["Reentrant", "Poisoned"].contains(&&**name), "{name}:{told}");
    }
}

//! What all tests share: a till, and how its commands get into a sink.

#[path = "../../../../../tests/common/child.rs"]
pub mod child;

use std::path::Path;

use prevalence::{Command, Context, Database, DatabaseId, From, Model, Recorded, Sink, Source};
use prevalence_sinks::SinkError;
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Till(u64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paid(pub u64);

impl Model for Till {
    type Event = Paid;
}

/// Emits so many events; of each command others.
#[derive(Serialize, Deserialize)]
pub struct PayIn(pub u64);

impl Command<Till> for PayIn {
    type Output = ();
    type Rejection = std::convert::Infallible;

    fn apply(self, till: &mut Till, cx: &mut Context<'_, Till>) -> Result<(), Self::Rejection> {
        for _ in 0..self.0 {
            till.0 += 1;
            cx.emit(Paid(till.0));
        }
        Ok(())
    }
}

prevalence::commands! { Till { 1 => PayIn } }

pub fn open(directory: &Path) -> Database<Till> {
    Database::open(directory.join("till")).unwrap()
}

/// Executes so many commands, with no event, one and two.
pub fn pay(till: &Database<Till>, commands: u64) {
    for number in 0..commands {
        till.execute(PayIn(number % 3)).unwrap();
    }
}

pub fn source() -> Source {
    Source::new(DatabaseId::from_bytes([7; 16]), "payments")
}

/// Returns all commands behind this position.
pub fn behind(till: &Database<Till>, position: u64) -> Vec<Recorded<Till>> {
    let mut subscription = till.subscribe(From::After(position)).unwrap();
    std::iter::from_fn(|| subscription.try_next().unwrap()).collect()
}

pub type Boxed = Box<dyn Sink<Till, Error = SinkError>>;

/// What a closure does beside its work.
pub enum Manner {
    Good,
    /// At this command it fails.
    Fails(u64),
    /// At this command it panics.
    Panics(u64),
    /// At this command it runs this SQL, and fails if that does.
    Runs(u64, &'static str),
    /// At this command it runs this SQL, and goes on whatever comes of that.
    Swallows(u64, &'static str),
    /// At this command something happens outside.
    Meets(u64, Box<dyn FnMut() + Send>),
}

impl Manner {
    /// Returns the SQL to be run at this command, and whether its failure counts.
    pub fn at(&mut self, sequence: u64) -> Result<Option<(&'static str, bool)>, &'static str> {
        match self {
            Self::Fails(at) if *at == sequence => return Err("on purpose"),
            Self::Panics(at) => assert_ne!(*at, sequence, "on purpose"),
            Self::Runs(at, sql) if *at == sequence => return Ok(Some((sql, true))),
            Self::Swallows(at, sql) if *at == sequence => return Ok(Some((sql, false))),
            Self::Meets(at, what) if *at == sequence => what(),
            _ => {}
        }
        Ok(None)
    }
}

/// A row of `payments`: the name it was fed under, the command, the amount.
pub type Payment = (String, i64, i64);

/// Nothing forbids a row twice, so that a test sees one.
pub const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS payments (name TEXT, command BIGINT, cents BIGINT);
    CREATE TABLE IF NOT EXISTS kinds (kind BIGINT PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS notes (
        kind BIGINT REFERENCES kinds (kind) DEFERRABLE INITIALLY DEFERRED
    );
";

/// A database that is fed.
pub trait Other: Sync {
    /// Makes a sink whose closure writes all events to `payments`, under this name.
    fn sink_of(&self, tables: &str, name: &'static str, manner: Manner) -> Boxed;

    /// All rows of `payments`, as they are stored.
    fn payments(&self) -> Vec<Payment>;

    /// Runs SQL.
    fn run(&self, sql: &str);

    fn sink(&self, manner: Manner) -> Boxed {
        self.sink_of(TABLES, "payments", manner)
    }
}

/// What `payments` must hold when it is fed up to this command.
pub fn expected(till: &Database<Till>, up_to: u64) -> Vec<Payment> {
    let recorded = behind(till, 0);
    let wanted = recorded.iter().filter(|recorded| recorded.sequence <= up_to);
    let row = |sequence: u64, cents: u64| ("payments".to_owned(), sequence as i64, cents as i64);
    wanted
        .flat_map(|of| of.events.iter().map(move |Paid(cents)| row(of.sequence, *cents)))
        .collect()
}

/// Feeds all that is there, so many commands at a time. Returns the position.
pub fn feed(till: &Database<Till>, sink: &mut Boxed, commands: usize) -> u64 {
    let position = sink.position(&source()).unwrap();
    let waiting = behind(till, position);
    for batch in waiting.chunks(commands) {
        sink.apply_batch(batch).unwrap();
    }
    position + waiting.len() as u64
}

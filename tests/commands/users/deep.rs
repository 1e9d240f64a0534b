//! Tests of values that are nested deep: a value that is too deep is an error, never the end of the
//! process. An accepted value can be read back, in every way and on every thread.
//!
//! A stack overflow ends the whole process, so the scenarios run in child processes.

use std::path::Path;
use std::process::Command as Process;

use prevalence::{
    Command, Context, Database, Error, Events, ExecuteError, From, Health, Model, Retention,
    SnapshotPolicy,
};
use serde::{Deserialize, Serialize};

use super::names;
use crate::common::child::{alone, test_name};
use crate::common::temporary;

const SCENARIO: &str = "PREVALENCE_TEST_SCENARIO";
const DIRECTORY: &str = "PREVALENCE_TEST_DIRECTORY";

/// This is not a test of its own: it is what the other processes run.
#[test]
fn child() {
    let (Ok(scenario), Ok(path)) = (std::env::var(SCENARIO), std::env::var(DIRECTORY)) else {
        return;
    };
    let path = Path::new(&path);
    match scenario.as_str() {
        "model" => deep_model(path),
        "deepest model" => deepest_model(path),
        "command" => deep_commands(path),
        "small thread" => deep_command_of_a_small_thread(path),
        other => panic!("no scenario {other}"),
    }
    println!("said done");
}

/// Runs a scenario in a process of its own, which must finish.
fn run(scenario: &str) {
    let (_directory, path) = temporary();
    let output = Process::new(std::env::current_exe().unwrap())
        .args(alone(test_name!(child)))
        .env(SCENARIO, scenario)
        .env(DIRECTORY, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("said done"), "{said}{told}");
}

/// A list that small commands make longer, and that serde encodes as nested values.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Chain {
    first: Option<Box<Link>>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Link {
    value: u64,
    next: Option<Box<Link>>,
}

impl Model for Chain {
    type Event = ();
}

impl Chain {
    fn values(&self) -> Vec<u64> {
        let mut values = Vec::new();
        let mut link = &self.first;
        while let Some(Link { value, next }) = link.as_deref() {
            values.push(*value);
            link = next;
        }
        values
    }
}

#[derive(Serialize, Deserialize)]
struct Push(u64);

impl Command<Chain> for Push {
    type Output = ();
    type Rejection = ();

    fn apply(self, chain: &mut Chain, _: &mut Context<'_, Chain>) -> Result<(), ()> {
        let next = chain.first.take();
        chain.first = Some(Box::new(Link { value: self.0, next }));
        Ok(())
    }
}

prevalence::commands! { Chain { 1 => Push } }

fn open(path: &Path) -> Database<Chain> {
    Database::<Chain>::builder()
        .snapshots(SnapshotPolicy::manual())
        .retention(Retention::Archive)
        .recent_versions(prevalence::RecentVersions { count: 0, ..Default::default() })
        .open(path)
        .unwrap()
}

fn push(database: &Database<Chain>, count: u64) {
    let begin = database.sequence();
    let pending: Vec<_> =
        (begin..begin + count).map(|value| database.submit(Push(value)).unwrap()).collect();
    pending.into_iter().for_each(|pending| pending.wait().unwrap());
}

fn assert_reopens(path: &Path, length: u64) {
    let database = open(path);
    assert_eq!(database.sequence(), length);
    assert_eq!(database.query(Chain::values), (0..length).rev().collect::<Vec<_>>());
    database.close().unwrap();
}

fn is_too_deep(error: &Error) -> bool {
    let (Error::Encode { reason, .. } | Error::UnreadableModel { reason, .. }) = error else {
        return false;
    };
    reason.contains("nested too deep")
}

fn deep_model(path: &Path) {
    let mut length = 0;
    for (more, snapshot) in [(12_000, true), (20_000, true), (1, false)] {
        let database = open(path);
        push(&database, more);
        length += more;
        if snapshot && let Err(error) = database.snapshot() {
            assert!(is_too_deep(&error), "{error}");
            assert!(matches!(database.health(), Health::SnapshotsFailing(_)));
        }
        let target = path.with_extension(format!("{length}"));
        match database.backup(&target) {
            Ok(_) => assert_reopens(&target, length),
            Err(error) => {
                assert!(is_too_deep(&error), "{error}");
                assert!(!target.exists());
            }
        }
        database.close().unwrap();
        assert_reopens(path, length);
    }
    let copies = names(path.parent().unwrap());
    assert!(copies.iter().all(|name| !name.ends_with(".tmp")), "{copies:?}");
}

/// Checks that the deepest model of which a snapshot can be taken can be loaded again everywhere.
fn deepest_model(path: &Path) {
    let database = open(path);
    let mut length = 0;
    let error = loop {
        push(&database, 200);
        length += 200;
        if let Err(error) = database.snapshot() {
            break error;
        }
        assert!(length < 100_000, "there must be an end");
    };
    assert!(is_too_deep(&error), "{error}");
    let deepest = database.stats().snapshot_sequence;
    assert!(deepest >= 1000, "{deepest} levels are nothing");
    let history = database.history();
    assert_eq!(history.at(deepest).unwrap().values().len() as u64, deepest);
    assert_eq!(history.at(deepest - 1).unwrap().values().len() as u64, deepest - 1);
    database.close().unwrap();
    assert_reopens(path, length);
    let report = prevalence::verify_history::<Chain>(path).unwrap();
    assert!(report.divergence.is_none() && report.snapshots_compared > 0, "{report:?}");
    let restored = path.with_extension("restored");
    let error = Database::<Chain>::restore(path, &restored).unwrap_err();
    assert!(is_too_deep(&error), "{error}");
}

/// A command that is itself nested.
#[derive(Clone, Serialize, Deserialize)]
struct Nest(Option<Box<Nest>>);

impl Nest {
    fn of(levels: usize) -> Self {
        let mut nest = Self(None);
        for _ in 1..levels {
            nest = Self(Some(Box::new(nest)));
        }
        nest
    }

    fn levels(&self) -> u64 {
        let (mut nest, mut levels) = (self, 1);
        while let Some(inner) = &nest.0 {
            (nest, levels) = (inner, levels + 1);
        }
        levels
    }
}

impl Drop for Nest {
    fn drop(&mut self) {
        let mut next = self.0.take();
        while let Some(mut nest) = next {
            next = nest.0.take();
        }
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Levels(imbl::Vector<u64>);

impl Model for Levels {
    type Event = ();
}

impl Command<Levels> for Nest {
    type Output = u64;
    type Rejection = ();

    fn apply(self, levels: &mut Levels, _: &mut Context<'_, Levels>) -> Result<u64, ()> {
        levels.0.push_back(self.levels());
        Ok(self.levels())
    }
}

prevalence::commands! { Levels { 1 => Nest } }

/// Returns whether the database accepts it. Any error except "too deep" is wrong.
fn takes(database: &Database<Levels>, levels: usize) -> bool {
    match database.execute(Nest::of(levels)) {
        Ok(applied) => {
            assert_eq!(applied, levels as u64);
            true
        }
        Err(ExecuteError::Encode { reason }) if reason.contains("nested too deep") => false,
        Err(error) => panic!("{levels} levels: {error:?}"),
    }
}

/// Returns the depth of the deepest command that is accepted, which it executes last.
fn deepest(database: &Database<Levels>) -> usize {
    let (mut taken, mut refused) = (1, 1 << 20);
    assert!(!takes(database, refused));
    while refused - taken > 1 {
        let middle = taken.midpoint(refused);
        if takes(database, middle) { taken = middle } else { refused = middle }
    }
    assert!(takes(database, taken));
    taken
}

fn deep_commands(path: &Path) {
    let builder = || Database::<Levels>::builder().retention(Retention::Archive);
    let open = || builder().events(Events::Derived).open(path).unwrap();
    let database = open();
    let levels = deepest(&database);
    assert!(levels >= 200, "{levels} levels are nothing");
    let expected = database.query(|levels| levels.0.clone());
    // Also where the thread is not the database's own.
    let tried = database.what_if(|sandbox| sandbox.execute(Nest::of(levels)));
    assert_eq!(tried.unwrap(), levels as u64);
    let newest = database.sequence();
    let record = database.history().records(newest..=newest).unwrap().next().unwrap().unwrap();
    // JSON has a bound of its own, in levels.
    let json = record.command_json();
    assert!(matches!(&json, Ok(_) | Err(prevalence::Error::Encode { .. })), "{json:?}");
    // As a whole value it may be too deep for this thread, but that is an error.
    drop(record.command::<Nest>().unwrap());
    database.close().unwrap();
    let database = open();
    assert_eq!(database.query(|levels| levels.0.clone()), expected);
    assert_eq!(database.recovery().commands_replayed, newest);
    assert_eq!(database.history().at(newest - 1).unwrap().0.len() as u64, newest - 1);
    let replayed = database.history().replay_as_from(Levels::default()).unwrap();
    assert_eq!(replayed.0, expected);
    // Who follows replays the commands on a thread of its own, which may be smaller.
    let followed = database.subscribe(From::Beginning).unwrap().take(expected.len());
    assert_eq!(followed.last().unwrap().unwrap().sequence, newest);
    database.close().unwrap();
    let report = prevalence::verify_history::<Levels>(path).unwrap();
    assert_eq!((report.commands_replayed, report.divergence.is_none()), (newest, true));
    let same = |old: &Levels, new: &Levels| old.0 == new.0;
    let report = prevalence::verify_against::<Levels, Levels>(path, same).unwrap();
    assert_eq!((report.commands_replayed, report.divergence.is_none()), (newest, true));
    let mut last = 0;
    let purged = prevalence::purge::<Levels>(path, |record| {
        last = record.sequence();
        if record.sequence() == 1 {
            prevalence::PurgeAction::Redact
        } else {
            prevalence::PurgeAction::Keep
        }
    });
    assert_eq!((purged.unwrap().redacted, last), (1, newest));
    let restored = path.with_extension("restored");
    Database::<Levels>::restore(path, &restored).unwrap();
    let database = Database::<Levels>::open(&restored).unwrap();
    assert_eq!(database.query(|levels| levels.0.clone()), expected.skip(1));
}

/// Checks that the depth that a thread can encode does not depend on the size of its stack.
fn deep_command_of_a_small_thread(path: &Path) {
    let database = Database::<Levels>::open(path).unwrap();
    let refused = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(512 << 10);
        let thread = thread.spawn_scoped(scope, || !takes(&database, 1 << 20)).unwrap();
        thread.join().unwrap()
    });
    assert!(refused);
}

#[test]
fn a_model_that_small_commands_made_deep_is_opened_again() {
    run("model");
}

#[test]
fn the_deepest_snapshot_is_loaded_everywhere() {
    run("deepest model");
}

#[test]
fn a_deep_command_is_refused_or_replayed() {
    run("command");
}

#[test]
fn a_small_thread_gets_an_error_too() {
    run("small thread");
}

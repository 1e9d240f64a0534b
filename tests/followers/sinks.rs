//! Sinks: another database gets each command exactly once, whatever happens to it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use prevalence::{
    Database, Error, FollowerKind, FollowerOptions, FollowerState, Recorded, Sink, Source,
};

use crate::builder;
use crate::common::{Ledger, temporary};
use crate::tally::{LONG, fill};

/// What the other database holds, and how it fails next.
#[derive(Default)]
struct Other {
    rows: Vec<u64>,
    position: u64,
    asked: u64,
    fails: Vec<Fails>,
    source: Option<Source>,
}

#[derive(Clone, Copy, PartialEq)]
enum Fails {
    ToAnswer,
    BeforeTheCommit,
    /// The answer of the commit is lost.
    AfterTheCommit,
    ByPanicking,
}

#[derive(Clone, Default)]
struct Table(Arc<Mutex<Other>>);

impl Sink<Ledger> for Table {
    type Error = String;

    fn position(&mut self, source: &Source) -> Result<u64, String> {
        let mut other = self.0.lock().unwrap();
        other.asked += 1;
        other.source = Some(source.clone());
        if other.fails.last() == Some(&Fails::ToAnswer) {
            other.fails.pop();
            return Err("no connection".to_owned());
        }
        Ok(other.position)
    }

    fn apply_batch(&mut self, batch: &[Recorded<Ledger>]) -> Result<(), String> {
        let mut other = self.0.lock().unwrap();
        assert_eq!(batch[0].sequence, other.position + 1, "it begins behind the position");
        let fails = other.fails.pop();
        match fails {
            Some(Fails::ByPanicking) => {
                drop(other); // so that the lock is not poisoned
                panic!("on purpose");
            }
            Some(Fails::BeforeTheCommit) => return Err("refused".to_owned()),
            Some(Fails::ToAnswer) => other.fails.push(Fails::ToAnswer),
            _ => {}
        }
        other.rows.extend(batch.iter().map(|recorded| recorded.sequence));
        other.position = batch.last().unwrap().sequence;
        match fails {
            Some(Fails::AfterTheCommit | Fails::ToAnswer) => Err("connection lost".to_owned()),
            _ => Ok(()),
        }
    }
}

fn options() -> FollowerOptions {
    FollowerOptions::new().pauses(Duration::from_micros(10), Duration::from_micros(100))
}

fn check(table: &Table, last: u64) {
    let other = table.0.lock().unwrap();
    assert!(other.rows.iter().copied().eq(1..=last), "each once, in order, up to {last}");
}

fn start(database: &Database<Ledger>, table: &Table) -> prevalence::FollowerHandle<Ledger> {
    database.sink("table", table.clone(), options()).unwrap()
}

#[test]
fn each_command_comes_once_whatever_fails() {
    let (_directory, path) = temporary();
    let table = Table::default();
    let mut last = 0;
    for round in 0..6 {
        let database = builder().open(&path).unwrap();
        let sink = start(&database, &table);
        for fails in [
            Fails::BeforeTheCommit,
            Fails::AfterTheCommit,
            Fails::ByPanicking,
            Fails::ToAnswer,
            Fails::BeforeTheCommit,
        ] {
            table.0.lock().unwrap().fails.push(fails);
            last = fill(&database, 300);
            sink.wait_for(last, LONG).unwrap();
            check(&table, last);
        }
        assert!(table.0.lock().unwrap().fails.len() < 5, "it has failed");
        let source = table.0.lock().unwrap().source.clone().unwrap();
        assert_eq!(source.name, "table");
        match round % 3 {
            0 => drop((sink, database)),
            1 => database.close().unwrap(),
            _ => sink.close().unwrap(),
        }
    }
    check(&table, last);
}

#[test]
fn it_stops_after_its_attempts_and_goes_on_when_told() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let table = Table::default();
    table.0.lock().unwrap().fails = vec![Fails::BeforeTheCommit; 3];
    let sink = database.sink("table", table.clone(), options().attempts(3)).unwrap();
    let last = fill(&database, 50);
    sink.wait_for(last, LONG).unwrap_err();
    let FollowerState::Stopped { sequence, reason } = sink.status().unwrap().state else {
        panic!("{:?}", sink.status())
    };
    assert_eq!((sequence, &*reason), (1, "refused"));
    assert!(matches!(sink.skip(), Err(Error::FollowerRefuses { .. })));
    sink.retry().unwrap();
    sink.wait_for(last, LONG).unwrap();
    check(&table, last);
    assert_eq!(sink.lag().unwrap(), 0);
    sink.checkpoint().unwrap();
    let listed = database.followers().unwrap();
    assert_eq!((listed[0].kind, listed[0].position), (FollowerKind::Sink, last));
}

#[test]
fn the_other_database_says_where_it_stands() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    let table = Table::default();
    let last = fill(&database, 100);
    let sink = start(&database, &table);
    sink.wait_for(last, LONG).unwrap();
    sink.close().unwrap();
    // Its backup of an hour ago was restored.
    {
        let mut other = table.0.lock().unwrap();
        other.rows.truncate(40);
        other.position = 40;
    }
    std::fs::write(path.join("sinks/table/STANDING"), "damaged").unwrap();
    let sink = start(&database, &table);
    assert!(sink.status().unwrap().damage.is_some());
    sink.wait_for(last, LONG).unwrap();
    check(&table, last);
    sink.close().unwrap();
    // It has been fed from a later copy.
    table.0.lock().unwrap().position = last + 7;
    let sink = start(&database, &table);
    let waited = sink.wait_for(last + 8, LONG).unwrap_err();
    assert!(waited.to_string().contains("only up to"), "{waited}");
    assert_eq!(table.0.lock().unwrap().rows.len() as u64, last);
}

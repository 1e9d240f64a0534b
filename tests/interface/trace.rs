//! What the engine tells `tracing`: opens, recoveries, snapshots, new segments, failures.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use crate::common::*;
use prevalence::{Durability, SnapshotPolicy};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Keeps every span and event as one line of text.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "prevalence"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = Line(format!("span {} {}", span.metadata().level(), span.metadata().name()));
        span.record(&mut line);
        self.0.lock().unwrap().push(line.0);
        Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("event {}", event.metadata().level()));
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Lines {
    /// Asserts that one line has all of these words.
    fn assert_told(&self, words: &[&str]) {
        let lines = self.0.lock().unwrap();
        let told = lines.iter().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(told, "{words:?} is not in {lines:#?}");
    }
}

fn fill(database: &prevalence::Database<Ledger>, commands: u32) {
    for account in 0..commands {
        database.execute(Add { account, amount: 1 }).unwrap();
    }
}

#[test]
fn the_engine_tells_what_it_does() {
    let lines = Lines::default();
    // For all threads: most of this happens on threads of the engine. Other tests of this program
    // are told of as well, so each line must have the name of this database.
    tracing::subscriber::set_global_default(lines.clone()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("told.db");
    let builder = || {
        prevalence::Database::<Ledger>::builder()
            .segment_bytes(64 << 10)
            .durability(Durability::Sync)
            .snapshots(SnapshotPolicy::manual())
    };
    let database = builder().open(&path).unwrap();
    lines.assert_told(&["span INFO open", "told.db"]);
    lines.assert_told(&["span INFO recovery", "told.db"]);
    lines.assert_told(&["event INFO", "recovered", "told.db", "created=true", "sequence=0"]);
    fill(&database, 2_000);
    lines.assert_told(&[
        "event DEBUG",
        "the first segment of this run",
        "told.db",
        "first_sequence=1 ",
    ]);
    lines.assert_told(&["event DEBUG", "the journal goes on in a new segment", "told.db"]);
    let snapshot = database.snapshot().unwrap();
    lines.assert_told(&["span INFO snapshot"]);
    lines.assert_told(&[
        "event INFO",
        "a snapshot is listed",
        "told.db",
        &format!("sequence={}", snapshot.sequence),
    ]);
    // A directory stands where the next snapshot goes.
    fill(&database, 10);
    let name = format!("snapshots/{:020}.snapshot", database.sequence());
    std::fs::create_dir(path.join(&name)).unwrap();
    database.snapshot().unwrap_err();
    lines.assert_told(&["event WARN", "background work failed", "told.db", "retry_in_ms="]);
    std::fs::remove_dir(path.join(&name)).unwrap();
    // The directory moves away under the open database.
    std::fs::rename(&path, directory.path().join("elsewhere.db")).unwrap();
    database.snapshot().unwrap_err();
    lines.assert_told(&["event ERROR", "the database has failed", "told.db", "was moved"]);
    database.close().unwrap_err();
    lines.assert_told(&["event ERROR", "closed, and not cleanly", "told.db"]);
    let database = builder().open(directory.path().join("elsewhere.db")).unwrap();
    database.close().unwrap();
    lines.assert_told(&["event INFO", "closed", "elsewhere.db"]);
}

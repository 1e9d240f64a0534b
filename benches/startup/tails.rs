//! Measures loading a snapshot and replaying a tail of commands after it, each alternating with its
//! floor.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use prevalence::{Database, RecoveryReport, SnapshotPolicy};

use crate::ledger::{Ledger, encoded, put, random_key};
use crate::open;
use crate::support::comparison::verdict;
use crate::support::directory;
use crate::support::run::median;

const ROUNDS: usize = 7;
const LOAD_AT_MOST: f64 = 1.15;
const REPLAY_AT_LEAST: f64 = 0.9;

/// The times of one open and of its floors.
struct Round {
    report: RecoveryReport,
    decoding: Duration,
    applying: Duration,
}

pub fn measure(entries: u64, tails: [u64; 3]) {
    println!("\n== tails: {entries} entries in the snapshot, medians of {ROUNDS}");
    println!(
        "{:>9} {:>10} {:>10} {:>10} {:>8} {:>10} {:>10} {:>8}",
        "commands", "open", "load", "decoding", "ratio", "replay", "applying", "ratio"
    );
    let directory = directory();
    let ledger = Ledger::of(entries);
    let bytes = encoded(&ledger);
    let builder = Database::<Ledger>::builder().snapshots(SnapshotPolicy::manual());
    builder.initial(ledger).open(directory.path()).expect("open").close().expect("close");
    let mut verdicts = Vec::new();
    let mut reached = 0;
    for tail in tails {
        let database = open(directory.path(), SnapshotPolicy::manual());
        put(&database, reached..tail, entries);
        reached = tail;
        let expected = encoded(&database.view());
        database.close().expect("close");
        let rounds = (0..ROUNDS).map(|_| round(directory.path(), &bytes, &expected, tail, entries));
        verdicts.extend(print(tail, &rounds.collect::<Vec<_>>()));
    }
    verdicts.iter().for_each(|line| println!("{line}"));
}

fn round(path: &Path, bytes: &[u8], expected: &[u8], tail: u64, entries: u64) -> Round {
    let database = open(path, SnapshotPolicy::manual());
    let report = database.recovery().clone();
    assert_eq!((report.commands_replayed, report.snapshot_sequence), (tail, 0));
    assert!(encoded(&database.view()) == expected, "the model that was closed");
    database.close().expect("close");

    let began = Instant::now();
    let config = bincode::config::standard();
    let (mut bare, _): (Ledger, usize) =
        bincode::serde::decode_from_slice(black_box(bytes), config).expect("decodes");
    let decoding = began.elapsed();
    let began = Instant::now();
    (0..tail).for_each(|index| bare.add(random_key(index, entries), 1));
    let applying = began.elapsed();
    assert!(encoded(&bare) == expected, "the same commands");
    Round { report, decoding, applying }
}

/// Returns the lines that say which targets were reached.
fn print(tail: u64, rounds: &[Round]) -> Vec<String> {
    let middle = |of: fn(&Round) -> f64| median(rounds.iter().map(of));
    let time = |of: fn(&Round) -> f64| format!("{:.1?}", Duration::from_secs_f64(middle(of)));
    let load = middle(|r| r.report.snapshot_time.as_secs_f64() / r.decoding.as_secs_f64());
    let replay = middle(|r| r.applying.as_secs_f64() / r.report.replay_time.as_secs_f64());
    println!(
        "{tail:>9} {:>10} {:>10} {:>10} {load:>8.2} {:>10} {:>10} {:>8}",
        time(|r| r.report.total.as_secs_f64()),
        time(|r| r.report.snapshot_time.as_secs_f64()),
        time(|r| r.decoding.as_secs_f64()),
        time(|r| r.report.replay_time.as_secs_f64()),
        time(|r| r.applying.as_secs_f64()),
        if tail == 0 { String::new() } else { format!("{replay:.2}") },
    );
    let mut lines = vec![format!(
        "ratio  a tail of {tail}: load takes {load:.3} x decoding the same bytes from memory, \
         target at most {LOAD_AT_MOST}: {}",
        verdict(load <= LOAD_AT_MOST)
    )];
    if tail > 0 {
        lines.push(format!(
            "ratio  a tail of {tail}: replay at {replay:.3} x the rate of applying in memory, \
             target at least {REPLAY_AT_LEAST}: {}",
            verdict(replay >= REPLAY_AT_LEAST)
        ));
    }
    lines
}

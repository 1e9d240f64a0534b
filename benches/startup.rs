//! How long an open takes: from a snapshot, from the journal alone, and beside its floors; and how
//! well `startup_within` keeps its budget. Prints figures of its own;
//! `cargo bench --bench startup -- --test` runs it small.

mod ledger;

use std::path::Path;
use std::time::{Duration, Instant};

use ledger::{Add, Ledger, random_key};
use prevalence::{Database, SnapshotPolicy};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory is writable")
}

fn open(path: &Path, policy: SnapshotPolicy) -> Database<Ledger> {
    Database::<Ledger>::builder().snapshots(policy).open(path).expect("open")
}

fn run(database: &Database<Ledger>, from: u64, commands: u64, entries: u64) {
    let mut pending = std::collections::VecDeque::new();
    for index in from..from + commands {
        if pending.len() == 4096 {
            let oldest: prevalence::Pending<_, _> = pending.pop_front().expect("not empty");
            oldest.wait().expect("accepted");
        }
        pending.push_back(database.submit(Add(random_key(index, entries), 1)).expect("queued"));
    }
    pending.into_iter().for_each(|pending| pending.wait().expect("accepted"));
}

fn encoded(ledger: &Ledger) -> Vec<u8> {
    bincode::serde::encode_to_vec(ledger, bincode::config::standard()).expect("encodes")
}

fn snapshot_against_journal(entries: u64, per_entry: u64) {
    let commands = entries * per_entry;
    println!("\n== {entries} entries, {per_entry} commands for each");
    let directory = directory();
    let database = open(directory.path(), SnapshotPolicy::manual());
    run(&database, 0, commands, entries);
    let expected = encoded(&database.view());
    database.close().expect("close");
    let database = open(directory.path(), SnapshotPolicy::manual());
    let journal_alone = database.recovery().total;
    assert!(encoded(&database.view()) == expected, "same bytes");
    database.snapshot().expect("snapshot");
    database.close().expect("close");
    let database = open(directory.path(), SnapshotPolicy::manual());
    let report = database.recovery().clone();
    assert!(encoded(&database.view()) == expected, "same bytes");
    assert_eq!(report.commands_replayed, 0);

    let mut bare = Ledger::default();
    let began = Instant::now();
    for index in 0..commands {
        *bare.0.entry(random_key(index, entries)).or_default() += 1;
    }
    let applying = began.elapsed();
    assert!(encoded(&bare) == expected, "same bytes");
    let began = Instant::now();
    let decoded: (Ledger, usize) =
        bincode::serde::decode_from_slice(&expected, bincode::config::standard()).expect("decodes");
    let decoding = began.elapsed();
    drop(decoded);
    println!(
        "journal alone   {journal_alone:>10.1?}   floor, applying in memory {applying:>10.1?}"
    );
    println!(
        "from a snapshot {:>10.1?}   floor, decoding from memory {decoding:>8.1?}",
        report.total
    );
    println!(
        "snapshot is {:.1} times as fast; load {:.2} x its floor; replay rate {:.2} x in memory",
        journal_alone.as_secs_f64() / report.total.as_secs_f64(),
        report.snapshot_time.as_secs_f64() / decoding.as_secs_f64(),
        applying.as_secs_f64() / journal_alone.as_secs_f64(),
    );
}

/// A growing database under `startup_within`: what it predicted when it was closed, and what the
/// next open took.
fn budget(budget: Duration, rounds: u64, commands: u64) {
    println!("\n== startup_within({budget:?}) over a growing database");
    println!("   entries   commands   snapshots   predicted      actual   actual/predicted");
    let directory = directory();
    let mut predicted = None;
    let mut taken = 0;
    for round in 0..=rounds {
        let database = open(directory.path(), SnapshotPolicy::startup_within(budget));
        let actual = database.recovery().total;
        if let Some(predicted) = predicted {
            let predicted: Duration = predicted;
            println!(
                "{:>10} {:>10} {taken:>11} {predicted:>11.1?} {actual:>11.1?} {:>18.2}",
                database.query(|ledger| ledger.0.len()),
                database.sequence(),
                actual.as_secs_f64() / predicted.as_secs_f64(),
            );
        }
        let entries = commands * (round + 1) / 4;
        run(&database, round * commands, commands, entries);
        let stats = database.stats();
        (predicted, taken) = (Some(stats.predicted_startup), stats.snapshots_taken);
        database.close().expect("close");
    }
}

fn main() {
    let small = std::env::args().any(|argument| argument == "--test");
    snapshot_against_journal(if small { 10_000 } else { 1_000_000 }, 20);
    if small {
        budget(Duration::from_millis(50), 2, 20_000);
    } else {
        budget(Duration::from_millis(500), 8, 500_000);
    }
}

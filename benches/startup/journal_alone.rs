//! Measures what a snapshot saves: an open of the same state from the journal alone and from a
//! snapshot.

use std::hint::black_box;
use std::time::Instant;

use prevalence::SnapshotPolicy;

use crate::ledger::{Ledger, encoded, put, random_key};
use crate::open;
use crate::support::directory;

pub fn measure(entries: u64, per_entry: u64) {
    let commands = entries * per_entry;
    println!("\n== journal alone: {entries} entries, {per_entry} commands for each");
    let directory = directory();
    let database = open(directory.path(), SnapshotPolicy::manual());
    put(&database, 0..commands, entries);
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
    (0..commands).for_each(|index| bare.add(random_key(index, entries), 1));
    let applying = began.elapsed();
    assert!(encoded(&bare) == expected, "same bytes");
    let began = Instant::now();
    let config = bincode::config::standard();
    let decoded: (Ledger, usize) =
        bincode::serde::decode_from_slice(black_box(&expected), config).expect("decodes");
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

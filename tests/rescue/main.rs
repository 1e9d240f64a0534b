//! New databases from the files of others: repairs and restores, against what the program did.

#[path = "../common/mod.rs"]
mod common;

mod backup;
mod compact;
mod found;
mod repair;
mod restore;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use prevalence::inspect::{Inspection, StoredRecord};
use prevalence::{Database, Metadata, Retention, SnapshotPolicy};

use common::{Add, Carry, Ledger, Mix, bytes, content, is_content, keeping_history, segments};

/// What a program did: the state after each command, and each command's time and actor.
struct Oracle {
    /// The encoded model, by sequence.
    states: Vec<Vec<u8>>,
    /// Time and actor, by sequence; none for the initial model.
    asked: Vec<(SystemTime, String)>,
}

impl Oracle {
    fn newest(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    fn state(&self, sequence: u64) -> &[u8] {
        &self.states[sequence as usize]
    }

    fn time(&self, sequence: u64) -> SystemTime {
        self.asked[sequence as usize].0
    }

    fn actor(&self, sequence: u64) -> &str {
        &self.asked[sequence as usize].1
    }
}

/// Bytes that cannot be compressed, so that an archive has several chunks.
fn random_bytes(state: &mut u64, length: usize) -> Vec<u8> {
    let mut next = || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (*state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Makes a closed database: 150 commands in batches of one to four, snapshots behind some of them,
/// archives if it keeps them, and a tail in two segments.
fn filled(path: &Path, retention: Retention) -> Oracle {
    let builder = || {
        let builder = keeping_history::<Ledger>().retention(retention).segment_bytes(128 << 10);
        builder.linger(Duration::from_millis(3)) // so that batches have several commands
    };
    let mut model = Ledger::default();
    let mut oracle = Oracle {
        states: vec![model.bytes()],
        asked: vec![(SystemTime::UNIX_EPOCH, String::new())],
    };
    let mut seed = 7;
    let mut database = builder().open(path).unwrap();
    for batch in 0..60_u64 {
        let actor = format!("actor {}", batch % 3);
        let asked = Metadata { actor: actor.clone(), ..Metadata::default() };
        for number in 0..=batch % 4 {
            let database = database.with_metadata(&asked).unwrap();
            match (batch + number) % 3 {
                0 => {
                    let (account, amount) = (number as u32, batch as i64);
                    model.add(account, amount);
                    drop(database.submit(Add { account, amount }).unwrap());
                }
                1 => {
                    model.mix(batch);
                    drop(database.submit(Mix(batch)).unwrap());
                }
                _ => {
                    model.changes += 1;
                    let carried = Carry(random_bytes(&mut seed, 12 << 10));
                    drop(database.submit(carried).unwrap());
                }
            }
            oracle.states.push(model.bytes());
            oracle.asked.push((SystemTime::UNIX_EPOCH, actor.clone()));
        }
        let newest = oracle.states.len() as u64 - 1;
        database.wait_for(newest, Duration::from_secs(600)).unwrap();
        if batch % 13 == 12 {
            database.snapshot().unwrap();
        }
        if batch == 55 {
            database.close().unwrap();
            database = builder().open(path).unwrap();
        }
    }
    assert_eq!(bytes(&database), oracle.states.last().unwrap()[..]);
    database.close().unwrap();
    let (_, batches) = newest_batches(path);
    assert!(batches.iter().any(|(_, count)| *count > 1), "no batch to cut");
    for record in records(path, 1) {
        oracle.asked[record.sequence as usize].0 = record.time;
    }
    oracle
}

/// Returns the batches with commands of a segment: where each begins, and how many there are.
fn batches(segment: &[u8]) -> Vec<(usize, u32)> {
    let number = |at: usize| u32::from_le_bytes(segment[at..at + 4].try_into().unwrap());
    let (mut at, mut found) = (4096, Vec::new());
    while segment.get(at..at + 4) == Some(b"PVFR") {
        if number(at + 24) > 0 {
            found.push((at, number(at + 24)));
        }
        at += (36 + number(at + 4) as usize).next_multiple_of(8);
    }
    found
}

/// Returns the newest segment with commands, and its batches.
fn newest_batches(path: &Path) -> (PathBuf, Vec<(usize, u32)>) {
    let all = segments(path).into_iter().rev().map(|path| {
        let found = batches(&std::fs::read(&path).unwrap());
        (path, found)
    });
    all.into_iter().find(|(_, batches)| !batches.is_empty()).unwrap()
}

/// Reads the stored commands from one on.
fn records(path: &Path, from: u64) -> Vec<StoredRecord> {
    let look = Inspection::open(path).unwrap();
    let oldest = look.oldest_sequence().unwrap_or(from);
    look.records(from.max(oldest)..).unwrap().map(Result::unwrap).collect()
}

/// Checks that a database opens with the state at a sequence, goes on from there, and opens again.
fn check_opens(path: &Path, oracle: &Oracle, sequence: u64) {
    let open =
        || Database::<Ledger>::builder().snapshots(SnapshotPolicy::manual()).open(path).unwrap();
    let database = open();
    assert_eq!(database.sequence(), sequence);
    assert!(bytes(&database) == oracle.state(sequence), "not the state at {sequence}");
    assert_eq!(database.recovery().commands_rewritten, 0);
    database.execute(Mix(1)).unwrap();
    database.snapshot().unwrap();
    let state = bytes(&database);
    database.close().unwrap();
    assert!(bytes(&open()) == state);
}

/// Calls `work`, and checks that it has changed nothing in the directory.
fn unchanged<R>(path: &Path, work: impl FnOnce() -> R) -> R {
    let read = || {
        let mut content = content(path);
        content.retain(|name, _| is_content(name));
        content
    };
    let before = read();
    let result = work();
    assert!(read() == before, "{} was changed", path.display());
    result
}

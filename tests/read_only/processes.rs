//! Readers beside a writer in another process, which begins new runs, takes snapshots, and is
//! killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use prevalence::{Database, SnapshotPolicy};

use crate::common::child::{alone, test_name};
use crate::common::{Carry, Ledger, Mix, temporary};
use crate::{LONG, read, shown};

const PATH: &str = "PREVALENCE_TEST_READ_ONLY";

/// What the command with this sequence does: every sixth one carries bytes.
fn is_carry(sequence: u64) -> bool {
    sequence.is_multiple_of(6)
}

fn value(sequence: u64) -> u64 {
    sequence * 31 + 7
}

/// The encoded model after the first `sequence` commands.
fn bytes_at(sequence: u64) -> Vec<u8> {
    let mut model = Ledger::default();
    for sequence in 1..=sequence {
        match is_carry(sequence) {
            true => model.changes += 1,
            false => model.mix(value(sequence)),
        }
    }
    model.bytes()
}

/// Writes until it is killed. Each command depends on its sequence alone.
#[test]
#[ignore = "a process that another test starts"]
fn writer() {
    let path = std::env::var_os(PATH).expect("only the parent starts this");
    loop {
        let database = Database::<Ledger>::builder()
            .segment_bytes(64 << 10)
            .keep_snapshots(1)
            .snapshots(SnapshotPolicy::every_commands(200))
            .open(&path)
            .expect("nobody else locks it");
        for _ in 0..150 {
            let first = database.sequence() + 1;
            let pending: Vec<_> = (first..)
                .take_while(|sequence| !is_carry(*sequence))
                .map(|sequence| database.submit(Mix(value(sequence))).unwrap())
                .collect();
            pending.into_iter().for_each(|it| assert!(it.wait().unwrap() > 0));
            database.execute(Carry(vec![3; 2_000])).unwrap();
            println!("said {}", database.sequence());
        }
        database.close().unwrap();
    }
}

fn start(path: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(alone(test_name!(writer)))
        .env(PATH, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (child, lines)
}

/// Returns the next sequence that the child says; `None` when it has ended.
fn said(lines: &mut impl BufRead) -> Option<u64> {
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        if let Some((_, said)) = line.split_once("said ") {
            return Some(said.trim().parse().unwrap());
        }
    }
}

#[test]
fn readers_follow_a_process_that_is_killed_and_started_again() {
    let (_directory, path) = temporary();
    let mut follower = None;
    let mut before = 0;
    for round in 0..3 {
        let (mut child, mut lines) = start(&path);
        let mut acknowledged = said(&mut lines).unwrap();
        let follower = follower.get_or_insert_with(|| read(&path));
        follower.follow(std::time::Duration::from_millis(2)).unwrap();
        while acknowledged < 3_000 * (round + 1) {
            acknowledged = said(&mut lines).unwrap();
            // It was acknowledged, so it becomes visible, whatever the writer does meanwhile.
            follower.wait_for(acknowledged, LONG).unwrap();
            if acknowledged % 1_200 == 0 {
                let (sequence, bytes) = shown(follower);
                assert!(bytes == bytes_at(sequence));
                let fresh = read(&path);
                assert!(fresh.sequence() >= acknowledged);
                let (sequence, bytes) = shown(&fresh);
                assert!(bytes == bytes_at(sequence));
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        while said(&mut lines).is_some() {}
        // Nothing goes back, and what was shown is there after the next open.
        follower.refresh().unwrap();
        let (sequence, bytes) = shown(follower);
        assert!(sequence >= before && bytes == bytes_at(sequence));
        before = sequence;
        let writer = Database::<Ledger>::open(&path).unwrap();
        assert!(writer.sequence() >= sequence);
        follower.wait_for(writer.sequence(), LONG).unwrap();
        assert_eq!(shown(follower), crate::written(&writer));
        writer.close().unwrap();
    }
}

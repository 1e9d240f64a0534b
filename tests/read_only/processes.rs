//! Readers beside a writer in another process, which begins new runs, takes snapshots, and is
//! killed; and a reader in the child of a fork.

#![allow(unsafe_code)] // a fork

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use prevalence::{Database, Error, SnapshotPolicy, WaitError};

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

/// Forks, in a process of its own: no other test's thread may hold a lock at that moment.
#[test]
#[ignore = "a process that another test starts"]
fn forks() {
    let path = std::env::var_os(PATH).expect("only the parent starts this");
    let writer = crate::write(Path::new(&path));
    let reader = read(Path::new(&path));
    writer.execute(Mix(value(1))).unwrap();
    reader.follow(std::time::Duration::from_millis(1)).unwrap();
    reader.wait_for(1, LONG).unwrap();
    // SAFETY: the child calls only what is tested, and ends by `_exit`.
    let forked = unsafe { libc::fork() };
    if forked == 0 {
        let child = || {
            assert!(matches!(reader.refresh(), Err(Error::Forked)));
            assert!(matches!(reader.stop_following(), Err(Error::Forked)));
            assert!(matches!(reader.wait_for(2, LONG), Err(WaitError::Forked)));
            assert_eq!(shown(&reader), (1, bytes_at(1)));
            drop(reader);
            let own = read(Path::new(&path));
            assert_eq!(shown(&own), (1, bytes_at(1)));
            assert_eq!(own.refresh().unwrap(), 1);
        };
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
        // SAFETY: ends the process.
        unsafe { libc::_exit(if told.is_ok() { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for the child above.
    assert_eq!(unsafe { libc::waitpid(forked, &raw mut status, 0) }, forked);
    assert_eq!(status, 0, "the child panicked");
    writer.execute(Mix(value(2))).unwrap();
    reader.wait_for(2, LONG).unwrap();
    assert_eq!(shown(&reader), (2, bytes_at(2)));
    println!("said 2");
}

#[test]
fn a_child_of_a_fork_reads_and_no_more() {
    let (_directory, path) = temporary();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(alone(test_name!(forks)))
        .env(PATH, &path)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("said 2"), "{told}");
}

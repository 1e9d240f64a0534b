//! Tests with more than one process: the lock, and processes that are killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use prevalence::{Database, Error, Retention, SnapshotPolicy};

use crate::common::child::{alone, test_name};
use crate::common::{self, Add, Ledger, bytes, temporary};

const ROLE: &str = "PREVALENCE_TEST_ROLE";
const DIRECTORY: &str = "PREVALENCE_TEST_DIRECTORY";

/// Runs this test binary again, as another process with a role.
fn spawn(role: &str, path: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(alone(test_name!(child)))
        .env(ROLE, role)
        .env(DIRECTORY, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

/// Returns the lines that a child prints for its parent, without those of the test harness.
fn said(output: BufReader<ChildStdout>) -> impl Iterator<Item = String> {
    output
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.split_once("said ").map(|(_, said)| said.to_owned()))
}

/// This is not a test of its own: it is what the other processes run.
#[test]
fn child() {
    let (Ok(role), Ok(path)) = (std::env::var(ROLE), std::env::var(DIRECTORY)) else { return };
    match role.as_str() {
        "hold" => {
            let _database = Database::<Ledger>::open(path).unwrap();
            println!("said open");
            std::io::stdin().lines().next();
            std::thread::park(); // until killed
        }
        "answer" => {
            let database = Database::<Ledger>::open(path).unwrap();
            for number in 1..=100 {
                database.execute(add(number)).unwrap();
                println!("said {number}");
            }
            let pending: Vec<_> =
                (101..=1500).map(|number| database.submit(add(number)).unwrap()).collect();
            for (pending, number) in pending.into_iter().zip(101..) {
                pending.wait().unwrap();
                println!("said {number}");
            }
        }
        "pipeline" | "snapshots" => {
            let mut builder = Database::<Ledger>::builder().segment_bytes(64 << 10);
            if role == "snapshots" {
                // One after the other, so that any kill falls into one.
                builder = builder
                    .snapshots(SnapshotPolicy::every_commands(1))
                    .retention(Retention::Archive)
                    .max_batch_commands(20);
            }
            let database = builder.open(path).unwrap();
            let mut pending = std::collections::VecDeque::new();
            for number in database.sequence() + 1.. {
                pending.push_back(database.submit(add(number)).unwrap());
                if pending.len() == 200 {
                    pending.pop_front().unwrap().wait().unwrap();
                    println!("said {}", number + 1 - 200);
                }
            }
        }
        other => panic!("no role {other}"),
    }
}

/// Returns the command at a sequence, so that the model after any prefix is known.
fn add(sequence: u64) -> Add {
    Add { account: (sequence % 17) as u32, amount: sequence as i64 }
}

fn after(sequence: u64) -> Vec<u8> {
    let mut ledger = Ledger::default();
    for sequence in 1..=sequence {
        let Add { account, amount } = add(sequence);
        ledger.add(account, amount);
    }
    ledger.bytes()
}

#[test]
fn a_second_opener_is_refused_at_once_in_this_process() {
    let (_directory, path) = temporary();
    let first = Database::<Ledger>::open(&path).unwrap();
    let before = common::content(&path);
    assert!(matches!(Database::<Ledger>::open(&path), Err(Error::Locked { .. })));
    assert_eq!(common::content(&path), before);
    first.execute(Add { account: 1, amount: 1 }).unwrap();
    first.close().unwrap();
    Database::<Ledger>::open(&path).unwrap();
}

#[test]
fn a_second_opener_is_refused_at_once_in_another_process() {
    let (_directory, path) = temporary();
    let (mut child, output) = spawn("hold", &path);
    assert_eq!(said(output).next().as_deref(), Some("open"));
    assert!(matches!(Database::<Ledger>::open(&path), Err(Error::Locked { .. })));
    child.kill().unwrap();
    child.wait().unwrap();
    Database::<Ledger>::open(&path).unwrap();
}

#[test]
fn killed_processes_lose_nothing_that_was_acknowledged() {
    kill_again_and_again("pipeline", 12);
}

#[test]
fn killed_amid_snapshots_they_lose_nothing_either_and_leave_no_temporary() {
    kill_again_and_again("snapshots", 25);
}

fn kill_again_and_again(role: &str, rounds: u32) {
    let (_directory, path) = temporary();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut before = 0;
    for round in 0..rounds {
        let (mut child, output) = spawn(role, &path);
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let lines = (random % 3000) as usize;
        let mut lines_said = said(output);
        let acknowledged = lines_said.by_ref().take(lines + 1).last();
        child.kill().unwrap();
        let rest = lines_said.last();
        child.wait().unwrap();
        let acknowledged: u64 = rest.or(acknowledged).unwrap().parse().unwrap();
        let database = Database::<Ledger>::open(&path).unwrap();
        let recovered = database.sequence();
        assert!(recovered >= acknowledged, "{recovered} < {acknowledged} in round {round}");
        assert!(acknowledged > before);
        assert_eq!(bytes(&database), after(recovered), "round {round}");
        assert!(!database.recovery().clean);
        assert!(database.recovery().damaged_snapshots.is_empty(), "{:?}", database.recovery());
        before = recovered;
        database.close().unwrap();
        let left = common::content(&path).into_keys();
        let left: Vec<_> = left.filter(|file| file.to_string_lossy().contains("tmp")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// The calls of one traced process, in order.
#[derive(Default)]
struct Trace {
    /// The newest sequence whose frame was written.
    written: u64,
    /// The newest sequence that a finished sync covers.
    durable: u64,
    /// Syncs that are running, by thread, with the sequence that was written when they began.
    syncing: std::collections::HashMap<String, u64>,
    syncs: u64,
    answers: u64,
}

impl Trace {
    /// Reads one line of `strace -f -xx -o`.
    fn take(&mut self, line: &str) {
        let (thread, call) = line.trim_start().split_once(' ').unwrap_or((line, ""));
        let call = call.trim_start();
        if let Some(bytes) = call.strip_prefix("pwrite64(").map(bytes_of) {
            if bytes.starts_with(b"PVFR") {
                let first = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
                let count = u32::from_le_bytes(bytes[24..28].try_into().unwrap());
                self.written = self.written.max(first + u64::from(count) - 1);
            }
        } else if call.starts_with("fdatasync(") {
            self.syncing.insert(thread.to_owned(), self.written);
        } else if let Some(bytes) = call.strip_prefix("write(1,").map(bytes_of) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Ok(sequence) = text.trim_end().rsplit("said ").next().unwrap().parse::<u64>() {
                assert!(sequence <= self.durable, "{sequence} was answered at {}", self.durable);
                self.answers += 1;
            }
        }
        if call.contains("fdatasync") && call.trim_end().ends_with("= 0") {
            self.durable = self.durable.max(self.syncing.remove(thread).unwrap());
            self.syncs += 1;
        }
    }
}

/// Returns the bytes in the first string of a call, which strace writes as `"\x50\x56…"`.
fn bytes_of(arguments: &str) -> Vec<u8> {
    let string = arguments.split('"').nth(1).unwrap_or("");
    let hex = string.split("\\x").skip(1);
    hex.filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}

/// This tests promise 1 from outside: `strace` shows no answer before the sync that covers it.
#[test]
fn strace_shows_no_answer_before_its_sync() {
    let (directory, path) = temporary();
    let log = directory.path().join("strace.log");
    let traced = Command::new("strace")
        .args(["-f", "-xx", "-s", "64", "-e", "trace=pwrite64,fdatasync,write", "-o"])
        .arg(&log)
        .arg(std::env::current_exe().unwrap())
        .args(alone(test_name!(child)))
        .env(ROLE, "answer")
        .env(DIRECTORY, &path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !traced.is_ok_and(|status| status.success()) {
        println!("skipped: strace is not installed here, or may not trace");
        return;
    }
    let mut trace = Trace::default();
    std::fs::read_to_string(&log).unwrap().lines().for_each(|line| trace.take(line));
    println!("{} answers after {} syncs", trace.answers, trace.syncs);
    assert_eq!((trace.answers, trace.durable), (1500, 1500));
    assert!((100..1500).contains(&trace.syncs), "one a lone command, few for the pipelined");
}

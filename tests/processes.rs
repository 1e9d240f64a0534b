//! More than one process: the lock, and processes that are killed.

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use common::{Add, Ledger, bytes, temporary};
use prevalence::{Database, Error};

const ROLE: &str = "PREVALENCE_TEST_ROLE";
const DIRECTORY: &str = "PREVALENCE_TEST_DIRECTORY";

/// Runs this test binary again, as another process with a role.
fn spawn(role: &str, path: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads", "1"])
        .env(ROLE, role)
        .env(DIRECTORY, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

/// The lines that a child says to its parent, without those of the test harness.
fn said(output: BufReader<ChildStdout>) -> impl Iterator<Item = String> {
    output
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.split_once("said ").map(|(_, said)| said.to_owned()))
}

/// Not a test of its own: what the other processes do.
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
        "pipeline" => {
            let database =
                Database::<Ledger>::builder().segment_bytes(64 << 10).open(path).unwrap();
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

/// The command at a sequence; so the model after any prefix is known.
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
    let (_directory, path) = temporary();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut before = 0;
    for round in 0..12 {
        let (mut child, output) = spawn("pipeline", &path);
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
        before = recovered;
    }
}

//! A process that feeds SQLite is killed again and again, at every place. The next one goes on, and
//! in the end each command is there exactly once.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::File;
use crate::common::child::{alone, test_name};
use crate::common::{Manner, Other, behind, expected, open, pay, source};

const DIRECTORY: &str = "PREVALENCE_SINKS_KILLED_IN";
const STOP: &str = "PREVALENCE_SINKS_STOPS_AT";

/// This many commands are fed.
const COMMANDS: u64 = 150;

fn say(line: &str) {
    println!("\n{line}");
    std::io::stdout().flush().unwrap();
}

/// Waits for its end.
fn stop() -> ! {
    say("stopped");
    loop {
        std::thread::park();
    }
}

/// This is not a test of its own: it is what the other processes run. It feeds small batches. It
/// stops in the closure of a command ("amid 7") or behind the batch with it ("behind 7").
#[test]
#[ignore = "what the child processes run"]
fn feeds() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let stops = std::env::var(STOP).unwrap();
    let (how, at) = stops.split_once(' ').unwrap();
    let at: u64 = at.parse().unwrap();
    let manner = match how {
        "amid" => Manner::Meets(at, Box::new(|| stop())),
        _ => Manner::Good,
    };
    let till = open(&directory);
    let mut sink = File::at(&directory.join("payments.sqlite")).sink(manner);
    let position = sink.position(&source()).unwrap();
    for batch in behind(&till, position).chunks(3) {
        sink.apply_batch(batch).unwrap();
        let last = batch.last().unwrap().sequence;
        say(&format!("stored {last}"));
        if how == "behind" && last >= at {
            stop();
        }
    }
    say("done");
}

fn start(directory: &Path, stops: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(alone(test_name!(feeds)))
        .env(DIRECTORY, directory)
        .env(STOP, stops)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs a child, and kills it when it stops, or when it has said so often that something is stored:
/// then it is anywhere before its stop. Returns up to where it said that it had stored, and whether
/// it was done.
fn run(directory: &Path, stops: &str, lines: usize) -> (u64, bool) {
    let mut child = start(directory, stops);
    let (mut stored, mut heard, mut done) = (0, 0, false);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(last) = line.strip_prefix("stored ") {
            stored = last.parse().unwrap();
            heard += 1;
        }
        done |= line == "done";
        if line == "stopped" || heard == lines {
            break;
        }
    }
    child.kill().unwrap(); // SIGKILL, or nothing if it has ended
    child.wait().unwrap();
    (stored, done)
}

#[test]
fn killed_at_every_place_and_each_command_is_there_once() {
    let directory = tempfile::tempdir().unwrap();
    let till = open(directory.path());
    pay(&till, COMMANDS);
    let wanted = expected(&till, COMMANDS);
    till.close().unwrap();
    let file = File::at(&directory.path().join("payments.sqlite"));
    let (mut kills, mut said) = (0, 0);
    for round in 0.. {
        // A child goes a few commands further than the one before, or is killed where it is.
        let (stops, lines) = match round % 3 {
            0 => (format!("amid {}", said + 2 + round % 4), usize::MAX),
            1 => (format!("behind {}", said + 1), usize::MAX),
            _ => (format!("behind {}", said + 12), 2),
        };
        let (stored, done) = run(directory.path(), &stops, lines);
        said = stored.max(said);
        let found = file.sink(Manner::Good).position(&source()).unwrap();
        assert!(found >= said, "{stops}: {said} was stored, and the position is {found}");
        let there: Vec<_> = wanted.iter().filter(|row| row.1 <= found as i64).cloned().collect();
        assert_eq!(file.payments(), there, "{stops}");
        said = found;
        if done {
            break;
        }
        kills += 1;
        assert!(kills < 200, "it does not get further than {found}");
    }
    assert_eq!(file.payments(), wanted);
    println!("  killed {kills} times");
    assert!(kills > 12, "{kills}");
}

//! Another process that works on a database where ours was.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use prevalence::Retention;

use super::diary::{Diary, Enter, builder};
use super::scene::{FIRST_OF_OTHERS, LARGE_BYTES};
use crate::common::child::{alone, test_name};

/// How many commands the neighbor enters at once, and later.
const FIRST_COMMANDS: u64 = 3;
const COMMANDS: u64 = 15;

/// The neighbor process, as our process sees it.
pub struct Neighbor {
    process: Child,
    says: BufReader<ChildStdout>,
}

impl Neighbor {
    /// Starts the process, and waits until it works.
    pub fn start(path: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(alone(test_name!(child)))
            .env(super::NEIGHBOR, path)
            .env_remove(prevalence::laboratory::VARIABLE)
            .env_remove("LD_PRELOAD")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let says = BufReader::new(process.stdout.take().unwrap());
        let mut started = Self { process, says };
        started.wait_for("said working");
        started
    }

    fn wait_for(&mut self, what: &str) {
        let mut line = String::new();
        while !line.contains(what) {
            line.clear();
            assert_ne!(self.says.read_line(&mut line).unwrap(), 0, "the neighbor died");
        }
    }

    /// Lets the process enter more, close its database, and end.
    pub fn end(mut self) {
        let mut stdin = self.process.stdin.take().unwrap();
        stdin.write_all(b"go on\n").unwrap();
        self.wait_for("said closed");
        assert!(self.process.wait().unwrap().success(), "the neighbor failed");
    }
}

/// Returns the numbers that the neighbor has entered when it ends.
pub fn entries() -> Vec<u64> {
    (FIRST_OF_OTHERS..FIRST_OF_OTHERS + FIRST_COMMANDS + COMMANDS).collect()
}

/// Not a test of its own: what the process does.
#[test]
#[ignore = "what another process runs"]
fn child() {
    if let Ok(path) = std::env::var(super::NEIGHBOR) {
        live(Path::new(&path));
    }
}

fn live(path: &Path) {
    let database = builder(Retention::Archive).open(path).unwrap();
    assert!(database.query(Diary::entries).is_empty());
    let enter = |number: u64| {
        let padding = vec![9; if number.is_multiple_of(2) { LARGE_BYTES } else { 10 }];
        database.execute(Enter { number, padding }).unwrap();
    };
    let numbers = entries();
    let (first, later) = numbers.split_at(FIRST_COMMANDS as usize);
    first.iter().copied().for_each(enter);
    println!("said working");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    later.iter().copied().for_each(enter);
    database.snapshot().unwrap();
    database.close().unwrap();
    println!("said closed");
}

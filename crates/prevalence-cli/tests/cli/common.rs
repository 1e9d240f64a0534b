//! The model of the tests, and how the tool is run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use prevalence::{Context, Database, Metadata, Model, SnapshotPolicy};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Bank {
    cents: i64,
}

impl Bank {
    pub fn cents(&self) -> i64 {
        self.cents
    }
}

impl Model for Bank {
    type Event = ();
}

macro_rules! command {
    ($command:ident, $content:ty, $self:ident => $cents:expr) => {
        #[derive(Serialize, Deserialize)]
        pub struct $command(pub $content);

        impl prevalence::Command<Bank> for $command {
            type Output = i64;
            type Rejection = std::convert::Infallible;

            fn apply(
                $self,
                bank: &mut Bank,
                _: &mut Context<'_, Bank>,
            ) -> Result<i64, Self::Rejection> {
                bank.cents += $cents;
                Ok(bank.cents)
            }
        }
    };
}

command!(Deposit, u32, self => i64::from(self.0));
command!(Note, String, self => { drop(self.0); 0 });

prevalence::commands! { Bank { 1 => Deposit, 2 => Note } }

pub fn open(path: &Path) -> Database<Bank> {
    let builder = Database::<Bank>::builder().segment_bytes(64 << 10);
    builder.snapshots(SnapshotPolicy::manual()).open(path).unwrap()
}

/// Makes a closed database: 6 deposits of ann, 3 notes of "bob, the \"other\"", a snapshot behind
/// the deposits.
pub fn filled(path: &Path) {
    let bank = open(path);
    let ask = |actor: &str, id: String| {
        let asked = Metadata { actor: actor.to_owned(), request_id: id, ..Metadata::default() };
        bank.with_metadata(&asked).unwrap()
    };
    for cents in 1..=6 {
        ask("ann", format!("d{cents}")).execute(Deposit(cents)).unwrap();
    }
    bank.snapshot().unwrap();
    for number in 0..3 {
        let text = format!("note {number}, {}", "x".repeat(100));
        ask("bob, the \"other\"", format!("n{number}")).execute(Note(text)).unwrap();
    }
    bank.close().unwrap();
}

pub fn temporary() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bank.db");
    (directory, path)
}

/// Runs the tool in a process of its own, and checks that it has changed nothing in the directory.
pub fn tool(wanted: &str, path: &Path, more: &[&str]) -> Output {
    let before = content(path);
    let output = Command::new(env!("CARGO_BIN_EXE_prevalence"))
        .arg(wanted)
        .arg(path)
        .args(more)
        .output()
        .unwrap();
    assert_eq!(content(path), before, "{wanted} has changed {}", path.display());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!told.contains("panicked"), "{told}");
    output
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Reads a directory: names of directories, and files with their content.
pub fn content(path: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut open = vec![path.to_path_buf()];
    while let Some(next) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&next) else { continue };
        for entry in entries.map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
                found.insert(entry.path(), None);
            } else {
                found.insert(entry.path(), std::fs::read(entry.path()).ok());
            }
        }
    }
    found
}

//! The model that the tests share: accounts, and commands that fail in every possible way.

#![allow(dead_code)] // every test file uses a part of it

pub mod child;
pub mod faults;

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

use prevalence::collections::Map;
use prevalence::{Builder, Command, Context, Database, Model, Retention, SnapshotPolicy};
use serde::{Deserialize, Serialize};

/// Accounts, and how often each was changed.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Ledger {
    pub accounts: Map<u32, i64>,
    pub changes: u64,
    /// A value that depends on the order of all `Mix` commands.
    pub mixed: u64,
    /// What the context told the last `Stamp`.
    pub stamp: Option<Stamped>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    pub sequence: u64,
    pub now: std::time::SystemTime,
    pub random: (u64, u64),
    pub actor: String,
}

impl Model for Ledger {
    type Event = u64;
}

impl Ledger {
    /// Changes one account. The commands and the sequential oracle both use this.
    pub fn add(&mut self, account: u32, amount: i64) -> i64 {
        let balance = self.accounts.get(&account).copied().unwrap_or(0).wrapping_add(amount);
        self.accounts.insert(account, balance);
        self.changes += 1;
        balance
    }

    /// Makes a change that does not commute with itself.
    pub fn mix(&mut self, value: u64) {
        self.mixed = self.mixed.wrapping_mul(0x0100_0000_01b3) ^ value;
        self.changes += 1;
    }

    pub fn bytes(&self) -> Vec<u8> {
        bincode::serde::encode_to_vec(self, bincode::config::standard()).unwrap()
    }
}

/// A command that adds to an account.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Add {
    pub account: u32,
    pub amount: i64,
}

impl Command<Ledger> for Add {
    type Output = i64;
    type Rejection = std::convert::Infallible;

    fn apply(
        self,
        model: &mut Ledger,
        cx: &mut Context<'_, Ledger>,
    ) -> Result<i64, Self::Rejection> {
        cx.emit(cx.sequence());
        Ok(model.add(self.account, self.amount))
    }
}

/// A command that changes the model in a way that depends on the order. It returns its place in the
/// order.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Mix(pub u64);

impl Command<Ledger> for Mix {
    type Output = u64;
    type Rejection = std::convert::Infallible;

    fn apply(
        self,
        model: &mut Ledger,
        cx: &mut Context<'_, Ledger>,
    ) -> Result<u64, Self::Rejection> {
        model.mix(self.0);
        Ok(cx.sequence())
    }
}

/// The ways in which a command fails after it has changed the model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Failure {
    Reject,
    Panic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub i64);

/// A command that changes an account and then fails.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Fail {
    pub account: u32,
    pub how: Failure,
}

impl Command<Ledger> for Fail {
    type Output = ();
    type Rejection = Refused;

    fn apply(self, model: &mut Ledger, cx: &mut Context<'_, Ledger>) -> Result<(), Refused> {
        cx.emit(0);
        let balance = model.add(self.account, 1_000_000);
        match self.how {
            Failure::Reject => Err(Refused(balance)),
            Failure::Panic => panic!("on purpose"),
        }
    }
}

/// A command that stores what the context tells.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Stamp;

impl Command<Ledger> for Stamp {
    type Output = Stamped;
    type Rejection = std::convert::Infallible;

    fn apply(
        self,
        model: &mut Ledger,
        cx: &mut Context<'_, Ledger>,
    ) -> Result<Stamped, Self::Rejection> {
        let stamped = Stamped {
            sequence: cx.sequence(),
            now: cx.now(),
            random: (cx.random(), cx.random()),
            actor: cx.metadata().actor,
        };
        model.stamp = Some(stamped.clone());
        Ok(stamped)
    }
}

/// A command that carries bytes and changes only the count of changes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Carry(pub Vec<u8>);

impl Command<Ledger> for Carry {
    type Output = usize;
    type Rejection = std::convert::Infallible;

    fn apply(
        self,
        model: &mut Ledger,
        _: &mut Context<'_, Ledger>,
    ) -> Result<usize, Self::Rejection> {
        model.changes += 1;
        Ok(self.0.len())
    }
}

prevalence::commands! {
    Ledger {
        1 => Add,
        2 => Fail,
        3 => Stamp,
        4 => Carry,
        5 => Mix,
    }
}

/// All history is kept, in small segments; and snapshots are taken only where a test asks for them.
pub fn keeping_history<M: Model + Default>() -> Builder<M> {
    Database::builder()
        .segment_bytes(64 << 10)
        .keep_snapshots(1)
        .snapshots(SnapshotPolicy::manual())
        .retention(Retention::Archive)
}

/// Keeps the panics that tests cause on purpose out of the output.
pub fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() != Some(&"on purpose") {
                usual(info);
            }
        }));
    });
}

/// Waits until another thread has done something.
pub fn until(done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(600), "it never comes");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn temporary() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    (directory, path)
}

/// Returns the encoded model of an open database.
pub fn bytes(database: &Database<Ledger>) -> Vec<u8> {
    database.query(Ledger::bytes)
}

/// Copies a directory as it is now, which is what a process kill at this moment would leave.
pub fn copy_directory(from: &Path, to: &Path) {
    let before = if to.exists() { stable_content(to) } else { Default::default() };
    for _ in 0..1000 {
        copy_once(from, to);
        // The engine's threads may be working. If the source is the same afterwards, the files had
        // this content at one moment.
        let (source, mut copied) = (stable_content(from), stable_content(to));
        copied.retain(|name, _| source.contains_key(name) || !before.contains_key(name));
        if source == copied {
            return;
        }
        for name in copied.keys().filter(|name| !before.contains_key(*name)) {
            std::fs::remove_file(to.join(name)).unwrap();
        }
    }
    panic!("{} never comes to rest", from.display());
}

fn copy_once(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            copy_once(&entry.path(), &target);
        } else {
            // One that goes meanwhile is noticed by the comparison.
            std::fs::copy(entry.path(), target).ok();
        }
    }
}

/// Reads as [`content`], without temporary files, which come and go.
fn stable_content(directory: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut files = content(directory);
    files.retain(|name, _| !name.to_string_lossy().ends_with(".tmp"));
    files
}

/// Reads the files in a directory, by path relative to it. It leaves out a file that is removed at
/// this moment.
pub fn content(directory: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut files = std::collections::BTreeMap::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let relative = path.strip_prefix(directory).unwrap().to_path_buf();
                match std::fs::read(&path) {
                    Ok(content) => drop(files.insert(relative, content)),
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
                }
            }
        }
    }
    files
}

/// Returns whether a file holds content of the database. The lock and the reserve do not.
pub fn is_content(name: &Path) -> bool {
    ![Path::new("LOCK"), Path::new("RESERVE")].contains(&name)
}

/// Returns whether no open can do without a file. The schemas are for tools, and are made again.
pub fn is_needed(name: &Path) -> bool {
    is_content(name) && !name.starts_with("schemas")
}

/// Lists the journal segments of a database directory, oldest first.
pub fn segments(database: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(database.join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "journal"))
        .collect();
    paths.sort();
    paths
}

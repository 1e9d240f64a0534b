//! Owns what unit tests of several folders share: a model that counts, and a copy of what a killed
//! process leaves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::files::{DatabaseId, FileHeader};
use crate::options::Options;
use crate::storage::{Storage, is_temporary};
use crate::{Command, Context, Database, Error, Model, Retention, SnapshotPolicy};

#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Count(pub(crate) u64);

impl Model for Count {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Add(pub(crate) Vec<u8>);

impl Command<Count> for Add {
    type Output = u64;
    type Rejection = ();

    fn apply(self, count: &mut Count, _: &mut Context<'_, Count>) -> Result<u64, ()> {
        count.0 += 1;
        if self.0.is_empty() { Err(()) } else { Ok(count.0) }
    }
}

static APPLIED: AtomicU64 = AtomicU64::new(0);

/// A command that does something else each time it is applied.
#[derive(Serialize, Deserialize)]
pub(crate) struct Moody;

impl Command<Count> for Moody {
    type Output = ();
    type Rejection = ();

    fn apply(self, _: &mut Count, _: &mut Context<'_, Count>) -> Result<(), ()> {
        if APPLIED.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) { Ok(()) } else { Err(()) }
    }
}

crate::commands! { Count { 1 => Add, 2 => Moody } }

/// The header of a file that a test makes by hand.
pub(crate) fn header(magic: [u8; 8]) -> FileHeader {
    FileHeader {
        magic,
        database: DatabaseId([7; 16]),
        packing: 0,
        model_version: 1,
        sequence: 1,
        time_ns: 0,
        salt: 5,
        file_bytes: 0,
        chain: 9,
        model_name: "Bank".to_owned(),
        commands: Vec::new(),
        appendix_bytes: 0,
        base_sequence: 1,
        shape: String::new(),
        schemas: Default::default(),
        events: 0,
    }
}

pub(crate) fn open(
    storage: Arc<dyn Storage>,
    path: &Path,
    options: Options,
) -> Result<Database<Count>, Error> {
    Database::open_with(storage, path, options, Count::default, &mut (Box::new(|_| {}) as _))
}

/// Copies what a process would leave if it were killed now.
pub(crate) fn killed(root: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let files = (0..1000)
        .find_map(|_| {
            // The threads may be working. If two readings are equal, the files had this content at
            // one moment.
            let once = content(root)?;
            (content(root)? == once).then_some(once)
        })
        .expect("the threads become idle");
    for inner in ["journal", "snapshots", "archive"] {
        if root.join(inner).is_dir() {
            std::fs::create_dir_all(copy.path().join(inner)).unwrap();
        }
    }
    for (name, content) in files {
        std::fs::write(copy.path().join(name), content).unwrap();
    }
    copy
}

/// Reads every file except temporary ones; `None` when one is removed meanwhile.
fn content(root: &Path) -> Option<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for inner in ["", "journal", "snapshots", "archive"] {
        let Ok(entries) = std::fs::read_dir(root.join(inner)) else { continue };
        for entry in entries {
            let entry = entry.unwrap();
            let name = entry.file_name();
            if entry.file_type().ok()?.is_file() && !is_temporary(&name.to_string_lossy()) {
                let content = std::fs::read(entry.path()).ok()?;
                files.insert(Path::new(inner).join(name), content);
            }
        }
    }
    Some(files)
}

pub(crate) fn small() -> Options {
    Options { segment_bytes: 64 << 10, ..Options::default() }
}

pub(crate) fn ends(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

pub(crate) fn options() -> Options {
    let snapshots = SnapshotPolicy::manual();
    Options {
        snapshots,
        retention: Retention::Archive,
        keep_snapshots: 1,
        segment_bytes: 4 << 20,
        ..small()
    }
}

pub(crate) fn fill(database: &Database<Count>) {
    for _ in 0..5 {
        database.execute(Add(vec![1; 600_000])).unwrap();
    }
}

/// Waits until only the writer writes. Another thread makes the reserve once.
pub(crate) fn settle(database: &Database<Count>) {
    while database.stats().reserve_bytes == 0 {
        std::thread::yield_now();
    }
}

/// Asserts that a test of this binary fails in a process that has a planted fault.
pub(crate) fn assert_caught(test: &str, (fault, what): (&str, &str)) {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(crate::laboratory::VARIABLE, fault)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("running 1 test"), "{told}");
    assert!(!output.status.success(), "not caught: {fault}: {what}");
}

//! Models whose entries are loaded after the open: they are what an open at once gives, and damage
//! that is found late ends the run and costs the next open only time.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use prevalence::collections::{Map, Set, Vector};
use prevalence::{
    Command, Context, Database, ExecuteError, Health, LoadModel, Model, SnapshotPolicy,
};
use serde::{Deserialize, Serialize};

use crate::common::{quiet_panics, temporary, until};

const ENTRIES: u64 = 40_000;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Library {
    name: String,
    titles: Map<u64, String>,
    copies: Map<u32, u32>,
    shelves: Set<String>,
    loans: Vector<(u64, u32)>,
    few: Map<u8, u8>,
}

impl Model for Library {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
enum Change {
    /// Changes an entry in each collection.
    Lend(u64),
    /// Leaves nothing.
    Close,
}

impl Command<Library> for Change {
    type Output = ();
    type Rejection = std::convert::Infallible;

    fn apply(
        self,
        library: &mut Library,
        _: &mut Context<'_, Library>,
    ) -> Result<(), Self::Rejection> {
        match self {
            Self::Lend(number) => {
                let low = u32::try_from(number).unwrap();
                *library.copies.entry(low).or_default() += 1;
                library.titles.put(number, format!("lent {number}"));
                library.shelves.remove(&shelf(number));
                library.loans.insert(usize::try_from(number / 2).unwrap(), (number, low));
                library.loans.pop_front();
            }
            Self::Close => *library = Library::default(),
        }
        Ok(())
    }
}

prevalence::commands! { Library { 1 => Change } }

fn shelf(number: u64) -> String {
    format!("shelf {number:07}")
}

fn library() -> Library {
    let low = |number: u64| u32::try_from(number).unwrap();
    Library {
        name: "corner".to_owned(),
        titles: (0..ENTRIES).map(|it| (it * 3, format!("a good book {it}"))).collect(),
        copies: (0..ENTRIES).map(|it| (low(it * 2), low(it))).collect(),
        shelves: (0..ENTRIES).map(shelf).collect(),
        loans: (0..ENTRIES).map(|it| (it, low(it))).collect(),
        few: (0..9).map(|it| (it, it)).collect(),
    }
}

fn open(path: &Path, when: LoadModel) -> Database<Library> {
    let builder = Database::builder().initial(library()).load_model(when);
    builder.snapshots(SnapshotPolicy::manual()).open(path).unwrap()
}

fn bytes(library: &Library) -> Vec<u8> {
    bincode::serde::encode_to_vec(library, bincode::config::standard()).unwrap()
}

fn state(database: &Database<Library>) -> Vec<u8> {
    database.query(bytes)
}

fn lend(database: &Database<Library>, numbers: std::ops::Range<u64>) {
    for number in numbers {
        database.execute(Change::Lend(number * 997 % ENTRIES)).unwrap();
    }
}

fn file(path: &Path, sequence: u64) -> PathBuf {
    path.join(format!("snapshots/{sequence:020}.snapshot"))
}

#[test]
fn what_is_loaded_later_is_what_an_open_loads_at_once() {
    for when in [LoadModel::OnDemand, LoadModel::InBackground] {
        let (_directory, path) = temporary();
        let mut expected = library();
        let mut sequence = 0;
        // Each round rests on the one before: a chain of snapshots is read on demand, too.
        for round in 0..5_u64 {
            let database = open(&path, when);
            assert_eq!(database.recovery().snapshot_sequence, sequence);
            let view = database.view();
            lend(&database, round * 40..round * 40 + 40);
            sequence = database.sequence();
            let info = database.snapshot().unwrap();
            assert_eq!(info.shared_bytes > 0, round > 0, "it rests on what was loaded");
            assert!(bytes(&view) == bytes(&expected), "{when:?}, round {round}");
            expected = database.query(Clone::clone);
            database.close().unwrap();
            let at_once = open(&path, LoadModel::AtOpen);
            assert!(state(&at_once) == bytes(&expected), "{when:?}, round {round}");
            at_once.close().unwrap();
        }
        let database = open(&path, when);
        database.query(|library| {
            assert_eq!(library.titles.get(&(3 * 20_001)), expected.titles.get(&(3 * 20_001)));
            assert!(library.shelves.contains(&shelf(39_999)));
            assert_eq!(library.loans.get(20_000), expected.loans.get(20_000));
            let range = |it: &Library| it.titles.range(700..900).count();
            assert_eq!(range(library), range(&expected));
        });
        assert!(state(&database) == bytes(&expected));
        // What has been loaded needs no file, so that its room is free once it is removed.
        if cfg!(target_os = "linux") {
            until(|| open_files(&path).is_empty());
        }
    }
}

/// Returns the snapshots that this process has open.
fn open_files(path: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir("/proc/self/fd").unwrap();
    let files = files.filter_map(|file| fs::read_link(file.unwrap().path()).ok());
    files
        .filter(|file| file.starts_with(path.join("snapshots")) && file.extension().is_some())
        .collect()
}

/// Flips a bit among the titles in a snapshot file.
fn damage(file: &Path) {
    let mut content = fs::read(file).unwrap();
    let place = content.len() / 4;
    content[place] ^= 1;
    fs::write(file, content).unwrap();
}

/// A database with two snapshots that do not rest on each other, and so many commands behind them.
/// Returns its state, and the sequence of the newer one.
fn with_two_snapshots(path: &Path, behind: u64) -> (Vec<u8>, u64) {
    let database = Database::builder().initial(library()).share_snapshots(false);
    let database = database.snapshots(SnapshotPolicy::manual()).open(path).unwrap();
    lend(&database, 0..10);
    let sequence = database.snapshot().unwrap().sequence;
    lend(&database, 10..10 + behind);
    let state = state(&database);
    database.close().unwrap();
    (state, sequence)
}

/// Touches everything. Returns the message of the panic.
fn touch(database: &Database<Library>) -> String {
    let touched = catch_unwind(AssertUnwindSafe(|| state(database).len()));
    touched.expect_err("the damage is told").downcast_ref::<String>().unwrap().clone()
}

#[test]
fn damage_that_is_found_late_ends_the_run_and_the_next_open_uses_an_older_snapshot() {
    quiet_panics();
    let (_directory, path) = temporary();
    let (expected, sequence) = with_two_snapshots(&path, 0);
    damage(&file(&path, sequence));
    let database = open(&path, LoadModel::OnDemand);
    assert_eq!(database.recovery().snapshot_sequence, sequence);
    // What is not damaged can be read, and changed.
    assert_eq!(database.query(|library| library.copies[&2]), 1);
    lend(&database, 12..13);
    assert!(matches!(database.health(), Health::Running));
    let told = touch(&database);
    let name = file(&path, sequence).display().to_string();
    assert!(told.contains(&name) && told.contains("checksum"), "{told}");
    let Health::Poisoned(poisoned) = database.health() else { panic!("it goes on") };
    let reason = poisoned.to_string();
    assert!(reason.contains(&name) && reason.contains("loads and verifies all"), "{reason}");
    let refused = database.execute(Change::Lend(1));
    assert!(matches!(refused, Err(ExecuteError::Poisoned(_))), "{refused:?}");
    assert_eq!(database.query(|library| library.copies[&2]), 1);
    assert!(database.close().is_err());
    // Whatever the option says, all is verified now.
    let database = open(&path, LoadModel::OnDemand);
    let report = database.recovery();
    assert_eq!(report.damaged_snapshots.len(), 1);
    assert_eq!(report.snapshot_sequence, 0);
    let changed = state(&database);
    assert!(changed != expected, "one command came after");
    database.close().unwrap();
    let database = open(&path, LoadModel::AtOpen);
    assert!(state(&database) == changed);
}

#[test]
fn damage_that_the_replay_meets_costs_only_time() {
    quiet_panics();
    let (_directory, path) = temporary();
    let (expected, sequence) = with_two_snapshots(&path, 20);
    let mut content = fs::read(file(&path, sequence)).unwrap();
    // So much that the commands behind the snapshot meet it.
    let (begin, end) = (content.len() / 20, content.len() - content.len() / 10);
    content[begin..end].iter_mut().step_by(64).for_each(|byte| *byte ^= 1);
    fs::write(file(&path, sequence), content).unwrap();
    let database = open(&path, LoadModel::OnDemand);
    assert_eq!(database.recovery().damaged_snapshots.len(), 1);
    assert!(state(&database) == expected);
    assert!(matches!(database.health(), Health::Running));
}

#[test]
fn damage_is_found_in_the_background() {
    quiet_panics();
    let (_directory, path) = temporary();
    let (expected, sequence) = with_two_snapshots(&path, 0);
    damage(&file(&path, sequence));
    let database = open(&path, LoadModel::InBackground);
    until(|| matches!(database.health(), Health::Poisoned(_)));
    assert!(database.close().is_err());
    let database = open(&path, LoadModel::InBackground);
    assert_eq!(database.recovery().damaged_snapshots.len(), 1);
    assert!(state(&database) == expected);
}

/// A file is removed while an old view has not read all of it.
#[test]
fn a_view_reads_a_snapshot_that_is_no_longer_needed() {
    let (_directory, path) = temporary();
    let database = open(&path, LoadModel::OnDemand);
    database.close().unwrap();
    let builder = Database::builder().initial(library()).load_model(LoadModel::OnDemand);
    let builder = builder.snapshots(SnapshotPolicy::manual()).keep_snapshots(1);
    let database = builder.share_snapshots(false).open(&path).unwrap();
    let view = database.view();
    database.execute(Change::Close).unwrap();
    let info = database.snapshot().unwrap();
    assert_eq!((info.sequence, info.shared_bytes), (1, 0));
    assert!(!file(&path, 0).exists());
    assert!(bytes(&view) == bytes(&library()));
    drop(view);
    assert!(state(&database) == bytes(&Library::default()));
    database.close().unwrap();
    assert!(state(&open(&path, LoadModel::OnDemand)) == bytes(&Library::default()));
}

/// The file is read by its handle: what stands under its name later is another file.
#[test]
fn a_file_that_was_replaced_is_not_read() {
    let (_directory, path) = temporary();
    let database = open(&path, LoadModel::AtOpen);
    lend(&database, 0..10);
    let sequence = database.snapshot().unwrap().sequence;
    let expected = state(&database);
    database.close().unwrap();
    let database = open(&path, LoadModel::OnDemand);
    let other = file(&path, 0);
    fs::copy(&other, path.join("copy")).unwrap();
    fs::rename(path.join("copy"), file(&path, sequence)).unwrap();
    assert!(state(&database) == expected);
}

/// Another whole snapshot is written over the file in place: none of it is taken for what was there.
#[test]
fn a_file_that_was_overwritten_is_not_believed() {
    quiet_panics();
    let (_directory, path) = temporary();
    let plain = || {
        let builder = Database::builder().initial(library()).compression_level(0);
        builder.share_snapshots(false).snapshots(SnapshotPolicy::manual())
    };
    let database = plain().open(&path).unwrap();
    database.execute(Change::Lend(5_001)).unwrap();
    database.snapshot().unwrap();
    database.close().unwrap();
    let database = plain().load_model(LoadModel::OnDemand).open(&path).unwrap();
    let mut content = fs::read(file(&path, 1)).unwrap();
    // A title becomes another one.
    let title = b"a good book 9999";
    let at = content.windows(title.len()).position(|it| it == title).unwrap();
    content[at + 12] = b'8';
    fs::write(file(&path, 1), content).unwrap();
    let told = touch(&database);
    assert!(told.contains("checksum"), "{told}");
    assert!(matches!(database.health(), Health::Poisoned(_)));
}

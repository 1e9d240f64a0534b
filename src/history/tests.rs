//! Tests a history while the clock is set back, and while files are removed when they are opened.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::model::Metadata;
use crate::options::Options;
use crate::storage::Disk;
use crate::storage::faulty::{Faulty, Operation};
use crate::test_support::{ends, fill, killed, open, options};
use crate::{Command, Context, Database, Error, Model, Retention, verify_history};

/// Stores everything that the contexts of its commands give.
#[derive(Clone, Default, Debug, PartialEq, Serialize, Deserialize)]
struct Witness(Vec<Said>);

type Said = (u64, std::time::SystemTime, (u64, u64), (u128, u128), String);

impl Model for Witness {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
struct Note;

impl Command<Witness> for Note {
    type Output = ();
    type Rejection = ();

    fn apply(self, witness: &mut Witness, cx: &mut Context<'_, Witness>) -> Result<(), ()> {
        let random = (cx.random(), cx.random());
        let ids = (cx.unique_id(), cx.unique_id());
        let actor = cx.metadata().actor;
        witness.0.push((cx.sequence(), cx.now(), random, ids, actor));
        Ok(())
    }
}

crate::commands! { Witness { 1 => Note } }

/// Opens the database in a process whose clock is that many seconds behind.
fn witness(path: &Path, clock_behind_s: u64) -> Database<Witness> {
    let storage = Faulty::new(|_| None);
    storage.clock_behind_s.store(clock_behind_s, Ordering::SeqCst);
    let options = Options { retention: Retention::Archive, keep_snapshots: 1, ..options() };
    let initial = Witness::default;
    Database::open_with(storage, path, options, initial, &mut (Box::new(|_| {}) as _)).unwrap()
}

#[test]
fn a_context_says_the_same_on_every_thread_and_by_every_clock() {
    let directory = tempfile::tempdir().unwrap();
    let mut states = vec![Witness::default()];
    for (clock_behind_s, actor) in [(1000, "ann"), (0, "bob"), (5000, "cy")] {
        let database = witness(directory.path(), clock_behind_s);
        let metadata = Metadata { actor: actor.to_owned(), ..Metadata::default() };
        let caller = database.with_metadata(&metadata).unwrap();
        for number in 0..5 {
            caller.execute(Note).unwrap();
            states.push(caller.query(Witness::clone));
            if number == 2 {
                database.snapshot().unwrap();
            }
        }
        let times: Vec<_> = caller.query(|witness| witness.0.iter().map(|note| note.1).collect());
        assert!(times.is_sorted(), "journaled time does not go back");
    }
    let database = witness(directory.path(), 1_000_000);
    let history = database.history();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (sequence, state) in states.iter().enumerate() {
                assert_eq!(*history.at(sequence as u64).unwrap(), *state);
            }
            assert_eq!(*history.replay_as::<Witness>().unwrap(), states[15]);
        });
    });
    drop((history, database));
    let report = verify_history::<Witness>(directory.path()).unwrap();
    assert_eq!((report.divergence, report.snapshots_compared), (None, 3));
}

/// Removes the first segment of `root` as the snapshot thread does, and puts a copy of `archive` in
/// its place, if given.
fn archive_first(root: &Path, archive: Option<&Path>) {
    let segment = root.join("journal/00000000000000000001.journal");
    if let Some(archive) = archive {
        std::fs::create_dir_all(root.join("archive")).unwrap();
        std::fs::copy(archive, root.join("archive/00000000000000000001.archive")).unwrap();
    }
    std::fs::remove_file(segment).unwrap();
}

#[test]
fn a_segment_that_is_removed_between_the_list_and_the_read_is_looked_for_again() {
    for is_archived in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_path_buf();
        let writer = open(Arc::new(Disk), &root, options()).unwrap();
        fill(&writer);
        writer.close().unwrap();
        // Archive the same segment in a copy.
        let copy = killed(&root);
        let elsewhere = open(Arc::new(Disk), copy.path(), options()).unwrap();
        elsewhere.snapshot().unwrap();
        let archive = copy.path().join("archive/00000000000000000001.archive");

        let armed = Arc::new(AtomicBool::new(false));
        let (seen, at) = (armed.clone(), root.clone());
        let storage = Faulty::new(move |operation| {
            let opens = matches!(operation, Operation::OpenToRead(path) if ends(path, "journal"));
            if opens && seen.swap(false, Ordering::SeqCst) {
                archive_first(&at, is_archived.then_some(&*archive));
            }
            None
        });
        let database = open(storage, &root, options()).unwrap();
        armed.store(true, Ordering::SeqCst);
        let read = database.history().records(..).and_then(|records| {
            records.map(|record| Ok(record?.sequence())).collect::<Result<Vec<_>, Error>>()
        });
        assert!(!armed.load(Ordering::SeqCst), "it was opened");
        match read {
            Ok(sequences) => assert!(is_archived && sequences == [1, 2, 3, 4, 5]),
            Err(error) => {
                let truncated = matches!(error, Error::HistoryTruncated { wanted: 1, .. });
                assert!(truncated && !is_archived, "{error}");
            }
        }
    }
}

#[test]
fn a_snapshot_that_moves_between_the_list_and_the_read_is_found_in_the_archive() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_path_buf();
    let armed = Arc::new(AtomicBool::new(false));
    let (seen, at) = (armed.clone(), root.clone());
    let storage = Faulty::new(move |operation| {
        let opens = matches!(operation, Operation::OpenToRead(path) if ends(path, "snapshot"));
        if opens && seen.swap(false, Ordering::SeqCst) {
            let name = "00000000000000000000.snapshot";
            std::fs::create_dir_all(at.join("archive")).unwrap();
            std::fs::rename(at.join("snapshots").join(name), at.join("archive").join(name))
                .unwrap();
        }
        None
    });
    let database = open(storage, &root, options()).unwrap();
    fill(&database);
    armed.store(true, Ordering::SeqCst);
    assert_eq!(database.history().at(3).unwrap().0, 3);
    assert!(!armed.load(Ordering::SeqCst), "it was opened");
    assert!(database.history().damaged_snapshots().is_empty());
}

//! Tests that a look does not mix two states of a database that changes meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Inspection, Opener};
use crate::storage::Disk;
use crate::storage::faulty::{Faulty, Operation};
use crate::test_support::{Add, ends, fill, open, options};

#[test]
fn a_look_is_repeated_when_the_database_has_changed_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_path_buf();
    let database = open(Arc::new(Disk), &root, options()).unwrap();
    fill(&database);
    let (writer, armed) = (database.clone(), AtomicBool::new(true));
    let storage = Faulty::new(move |operation| {
        let opens = matches!(operation, Operation::OpenToRead(path) if ends(path, "snapshot"));
        if opens && armed.swap(false, Ordering::SeqCst) {
            // The MANIFEST and the journal's end were read, and nothing of them is right any more.
            for _ in 0..4 {
                writer.execute(Add(vec![1])).unwrap();
                writer.snapshot().unwrap();
            }
        }
        None
    });
    let look = Inspection::open_with(storage, &root, |_| Opener::NobodySeen).unwrap();
    let problems: Vec<_> = look.snapshots().iter().filter_map(|it| it.problem.as_deref()).collect();
    assert_eq!(problems, [""; 0]);
    assert_eq!(look.newest_sequence(), database.sequence());
    assert_eq!(look.open_plan().snapshot, Some(database.sequence()));
    assert_eq!(look.open_plan().commands, 0);
}

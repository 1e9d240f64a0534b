//! The place of an open database is held: whatever becomes of its path, of the working directory,
//! of LOCK or of a segment, nothing acknowledged is lost and no other database is touched.

mod processes;

use std::path::Path;

use prevalence::{Builder, Database, Error, ExecuteError, SnapshotPolicy};

use crate::common::{Add, Carry, Ledger, bytes, content, copy_directory, segments, temporary};

fn builder() -> Builder<Ledger> {
    Database::<Ledger>::builder().segment_bytes(64 << 10).snapshots(SnapshotPolicy::manual())
}

fn add(number: u64) -> Add {
    Add { account: (number % 5) as u32, amount: number as i64 }
}

/// Returns the encoded model after that many commands of [`work`].
fn after(commands: u64) -> Vec<u8> {
    let mut ledger = Ledger::default();
    for number in 1..=commands {
        if number % 10 == 0 {
            ledger.changes += 1;
        } else {
            let Add { account, amount } = add(number);
            ledger.add(account, amount);
        }
    }
    ledger.bytes()
}

/// Executes commands until there are `goal`, or until one fails. Every tenth is large, so that
/// segments change.
fn work(database: &Database<Ledger>, goal: u64) -> Result<(), String> {
    for number in database.sequence() + 1..=goal {
        let executed = if number % 10 == 0 {
            database.execute(Carry(vec![1; 20_000])).map(drop).map_err(|error| error.to_string())
        } else {
            database.execute(add(number)).map(drop).map_err(|error| error.to_string())
        };
        executed?;
    }
    Ok(())
}

/// An action of a running database that must notice that its directory was moved.
type Notice = fn(&Database<Ledger>) -> Result<(), String>;

/// A user runs `mv app.db app.db.old` under a running database, and another database takes the
/// name.
#[test]
fn a_moved_directory_stops_its_database_and_leaves_the_other_alone() {
    let noticed_by: [(&str, Notice); 3] = [
        ("a new segment", |database| work(database, 1000)),
        ("a snapshot", |database| database.snapshot().map(drop).map_err(|e| e.to_string())),
        ("a close", |database| database.clone().close().map_err(|e| e.to_string())),
    ];
    for (what, notice) in noticed_by {
        let (_directory, path) = temporary();
        let old = path.with_extension("old");
        let database = builder().open(&path).unwrap();
        work(&database, 15).unwrap();
        std::fs::rename(&path, &old).unwrap();
        let other = builder().open(&path).unwrap();
        work(&other, 3).unwrap();
        let error = notice(&database).unwrap_err();
        assert!(error.contains("was moved") && error.contains("ledger.old"), "{what}: {error}");
        let acknowledged = database.sequence();
        assert_eq!(bytes(&database), after(acknowledged), "{what}");
        let refused = database.execute(add(1));
        let stopped = matches!(refused, Err(ExecuteError::Poisoned(_) | ExecuteError::Stopped));
        assert!(stopped, "{what}: {refused:?}");
        drop(database);
        work(&other, 40).unwrap();
        other.snapshot().unwrap();
        other.close().unwrap();
        // The remedy that the error names.
        for (path, sequence) in [(&old, acknowledged), (&path, 40)] {
            let database = builder().open(path).unwrap();
            assert_eq!(database.sequence(), sequence, "{what}: {}", path.display());
            assert_eq!(bytes(&database), after(sequence), "{what}");
        }
    }
}

#[test]
fn a_directory_that_comes_back_was_never_away() {
    let (_directory, path) = temporary();
    let away = path.with_extension("away");
    let database = builder().open(&path).unwrap();
    work(&database, 5).unwrap();
    std::fs::rename(&path, &away).unwrap();
    // What needs no name goes on in the directory that is held.
    work(&database, 8).unwrap();
    std::fs::rename(&away, &path).unwrap();
    work(&database, 50).unwrap();
    database.close().unwrap();
    let database = builder().open(&path).unwrap();
    assert_eq!((database.sequence(), bytes(&database)), (50, after(50)));
}

#[test]
fn a_removed_lock_file_lets_nobody_in() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    work(&database, 5).unwrap();
    for replaced in [false, true] {
        std::fs::remove_file(path.join("LOCK")).ok();
        if replaced {
            std::fs::write(path.join("LOCK"), "").unwrap();
        }
        assert!(matches!(builder().open(&path), Err(Error::Locked { .. })), "{replaced}");
        std::fs::remove_file(path.join("LOCK")).ok();
        let restored = Database::<Ledger>::restore(&path, path.with_extension("copy"));
        assert!(matches!(restored, Err(Error::Locked { .. })), "{restored:?}");
    }
    std::fs::remove_file(path.join("LOCK")).ok();
    let error = work(&database, 100).unwrap_err();
    assert!(error.contains("LOCK was removed"), "{error}");
    let acknowledged = database.sequence();
    drop(database);
    let database = builder().open(&path).unwrap();
    assert_eq!((database.sequence(), bytes(&database)), (acknowledged, after(acknowledged)));
}

/// A copy may take its place.
fn remove_newest_segment(path: &Path, replaced: bool) {
    let segment = segments(path).pop().unwrap();
    let content = std::fs::read(&segment).unwrap();
    std::fs::remove_file(&segment).unwrap();
    if replaced {
        std::fs::write(&segment, content).unwrap();
    }
}

/// No command is acknowledged when its file can no longer be found.
#[test]
fn a_removed_segment_is_noticed_before_the_next_answer() {
    for replaced in [false, true] {
        let (_directory, path) = temporary();
        let database = builder().open(&path).unwrap();
        work(&database, 5).unwrap();
        remove_newest_segment(&path, replaced);
        let error = database.execute(add(6)).unwrap_err();
        assert!(matches!(error, ExecuteError::Poisoned(_)), "{error:?}");
        assert!(error.to_string().contains("backup"), "{error}");
        assert_eq!((database.sequence(), bytes(&database)), (5, after(5)));
        // The remedy.
        let copy = path.with_extension("copy");
        database.backup(&copy).unwrap();
        assert!(matches!(database.close(), Err(Error::Poisoned(_))));
        let database = builder().open(&copy).unwrap();
        assert_eq!((database.sequence(), bytes(&database)), (5, after(5)));
        work(&database, 9).unwrap();
    }
}

#[test]
fn a_removed_directory_is_noticed_and_can_be_rescued() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    work(&database, 25).unwrap();
    std::fs::remove_dir_all(&path).unwrap();
    assert!(work(&database, 26).is_err());
    assert_eq!((database.sequence(), bytes(&database)), (25, after(25)));
    database.backup(&path).unwrap();
    drop(database);
    let database = builder().open(&path).unwrap();
    assert_eq!((database.sequence(), bytes(&database)), (25, after(25)));
}

/// Many short runs leave few segments, and the start stays as fast as before.
#[test]
fn a_thousand_short_runs_take_little_room() {
    let (_directory, path) = temporary();
    let runs: u64 = if cfg!(debug_assertions) { 200 } else { 1000 };
    for number in 1..=runs {
        let database = Database::<Ledger>::open(&path).unwrap();
        database.execute(add(number * 10 + 1)).unwrap();
        database.close().unwrap();
    }
    let database = Database::<Ledger>::open(&path).unwrap();
    assert_eq!(database.sequence(), runs);
    assert_eq!(database.recovery().segments, 1);
    let taken: usize = content(&path).values().map(Vec::len).sum();
    assert!(taken < 600 << 10, "{taken} bytes");
}

/// Once a run was closed, the MANIFEST states that what an earlier killed run left is durable. This
/// holds even if the later run only read. Found by the crash laboratory (seed 76): a sector that
/// held the last batch and its mark.
#[test]
fn a_close_states_that_what_a_killed_run_left_is_durable() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    work(&database, 5).unwrap();
    let image = path.with_extension("image");
    copy_directory(&path, &image);
    builder().open(&image).unwrap().close().unwrap();
    let segment = segments(&image).pop().unwrap();
    let mut content = std::fs::read(&segment).unwrap();
    // The last batch, and whatever stands behind it.
    let last = (4096..content.len() - 8)
        .step_by(8)
        .filter(|&at| content[at..].starts_with(b"PVFR") && content[at + 24] == 1)
        .max()
        .unwrap();
    content[last..].fill(0);
    std::fs::write(&segment, content).unwrap();
    assert!(matches!(builder().open(&image), Err(Error::Corrupt { .. })));
}

/// A run that opens, reads and closes changes nothing.
#[test]
fn a_run_that_only_reads_writes_nothing() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    work(&database, 25).unwrap();
    database.close().unwrap();
    let image = path.with_extension("image");
    copy_directory(&path, &image);
    // Nor does it make what only a run that writes needs.
    std::fs::remove_file(image.join("RESERVE")).unwrap();
    let before = content(&image);
    let database = builder().open(&image).unwrap();
    assert_eq!(bytes(&database), after(25));
    database.close().unwrap();
    assert_eq!(content(&image), before);
}

/// No command was acknowledged since, so no sync has checked the file: the close must check it.
#[test]
fn a_segment_removed_after_the_last_answer_is_noticed_by_the_close() {
    for replaced in [false, true] {
        let (_directory, path) = temporary();
        let database = builder().open(&path).unwrap();
        work(&database, 5).unwrap();
        remove_newest_segment(&path, replaced);
        let error = database.clone().close().unwrap_err();
        assert!(matches!(error, Error::Poisoned(_)), "{error:?}");
        assert!(error.to_string().contains("backup"), "{error}");
        // The remedy, even now.
        let copy = path.with_extension("copy");
        database.backup(&copy).unwrap();
        let database = builder().open(&copy).unwrap();
        assert_eq!((database.sequence(), bytes(&database)), (5, after(5)));
    }
}

/// The journal checks a segment once more when it leaves it, because nothing checks it later.
#[test]
fn a_segment_removed_before_the_next_one_begins_is_noticed() {
    let (_directory, path) = temporary();
    let database = builder().open(&path).unwrap();
    // Three of these fill a segment, and each is synced.
    let large = || database.execute(Carry(vec![1; 20_000]));
    while segments(&path).len() < 2 {
        large().unwrap();
    }
    large().unwrap();
    large().unwrap();
    let acknowledged = database.sequence();
    std::fs::remove_file(segments(&path).pop().unwrap()).unwrap();
    let error = large().unwrap_err();
    assert!(matches!(error, ExecuteError::Poisoned(_)), "{error:?}");
    assert_eq!(database.sequence(), acknowledged);
    database.backup(path.with_extension("copy")).unwrap();
    assert!(database.close().is_err());
    let copy = builder().open(path.with_extension("copy")).unwrap();
    assert_eq!(copy.sequence(), acknowledged);
}

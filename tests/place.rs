//! Tests that an open database holds its place: whatever happens to its path, to the working
//! directory, to LOCK or to a segment, no acknowledged command is lost, and no other database is
//! changed.
//!
//! A test that changes the whole process (its directory, its limits, a fork) runs in a process of
//! its own.

#![allow(unsafe_code)] // fork and limits

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Add, Carry, Ledger, bytes, content, copy_directory, segments, temporary};
use prevalence::{Builder, Database, Error, ExecuteError, Health, SnapshotPolicy, WaitError};

const ROLE: &str = "PREVALENCE_PLACE_ROLE";
const DIRECTORY: &str = "PREVALENCE_PLACE_DIRECTORY";

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

/// Runs this test binary as another process with a role. Returns what it printed, once it has
/// ended.
fn run(role: &str, directory: &Path, before: &[&str]) -> String {
    let this = std::env::current_exe().unwrap();
    let (program, arguments) =
        before.split_first().map_or((this.as_os_str(), &[][..]), |(p, a)| (p.as_ref(), a));
    let mut command = Command::new(program);
    command.args(arguments);
    if !before.is_empty() {
        command.arg(&this);
    }
    let output = command
        .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads", "1"])
        .env(ROLE, role)
        .env(DIRECTORY, directory)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{role}: {said}\n{errors}");
    said
}

#[test]
#[ignore = "what the child processes run"]
fn child() {
    let (Ok(role), Some(directory)) = (std::env::var(ROLE), std::env::var_os(DIRECTORY)) else {
        return;
    };
    let directory = PathBuf::from(directory);
    match role.as_str() {
        "chdir" => changes_its_directory(&directory),
        "fork" => forks(&directory),
        "descriptors" => runs_out_of_descriptors(&directory),
        "restore" => {
            let target = directory.join("target.db");
            Database::<Ledger>::restore(directory.join("source/backup.db"), &target).unwrap();
            prevalence::verify_history::<Ledger>(directory.join("source/backup.db")).unwrap();
            println!("restored");
        }
        other => panic!("no role {other}"),
    }
}

fn changes_its_directory(directory: &Path) {
    std::env::set_current_dir(directory.join("ours")).unwrap();
    let database = builder().open("app.db").unwrap();
    work(&database, 25).unwrap();
    database.snapshot().unwrap();
    std::env::set_current_dir(directory.join("theirs")).unwrap();
    work(&database, 85).unwrap();
    database.snapshot().unwrap();
    work(&database, 100).unwrap();
    // A target is named by its path as it is when the call begins.
    database.backup("copy.db").unwrap();
    database.close().unwrap();
}

#[test]
fn a_change_of_directory_leads_into_no_other_database() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["ours", "theirs"] {
        std::fs::create_dir(directory.path().join(name)).unwrap();
    }
    let (ours, theirs) =
        (directory.path().join("ours/app.db"), directory.path().join("theirs/app.db"));
    let other = builder().open(&theirs).unwrap();
    work(&other, 17).unwrap();
    other.close().unwrap();
    let before = content(&theirs);
    run("chdir", directory.path(), &[]);
    assert_eq!(content(&theirs), before, "another database was touched");
    for path in [ours, directory.path().join("theirs/copy.db")] {
        let database = builder().open(path).unwrap();
        assert_eq!((database.sequence(), bytes(&database)), (100, after(100)));
    }
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

/// No command is acknowledged when its file can no longer be found.
#[test]
fn a_removed_segment_is_noticed_before_the_next_answer() {
    for replaced in [false, true] {
        let (_directory, path) = temporary();
        let database = builder().open(&path).unwrap();
        work(&database, 5).unwrap();
        let segment = segments(&path).pop().unwrap();
        let content = std::fs::read(&segment).unwrap();
        std::fs::remove_file(&segment).unwrap();
        if replaced {
            std::fs::write(&segment, content).unwrap();
        }
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

fn forks(directory: &Path) {
    let path = directory.join("app.db");
    let database = builder().open(&path).unwrap();
    work(&database, 5).unwrap();
    let pending = database.submit(add(6)).unwrap();
    let history = database.history();
    // SAFETY: the child calls only what is tested, and ends by `_exit`.
    let forked = unsafe { libc::fork() };
    if forked == 0 {
        let child = || in_the_child(&path, database, pending, &history);
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
        // SAFETY: ends the process.
        unsafe { libc::_exit(if told.is_ok() { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for the child above.
    assert_eq!(unsafe { libc::waitpid(forked, &raw mut status, 0) }, forked);
    assert_eq!(status, 0, "the child panicked");
    pending.wait().unwrap();
    assert!(matches!(builder().open(&path), Err(Error::Locked { .. })), "it was unlocked");
    work(&database, 60).unwrap();
    database.snapshot().unwrap();
    database.close().unwrap();
    let database = builder().open(&path).unwrap();
    assert_eq!((database.sequence(), bytes(&database)), (60, after(60)));
}

fn in_the_child(
    path: &Path,
    database: Database<Ledger>,
    pending: prevalence::Pending<i64, std::convert::Infallible>,
    history: &prevalence::History<Ledger>,
) {
    // SAFETY: a bound on a hang.
    unsafe { libc::alarm(20) };
    let forked = |executed| matches!(executed, Err(ExecuteError::Forked));
    assert!(forked(database.execute(add(6)).map(drop)));
    assert!(forked(database.submit(add(6)).map(drop)));
    assert!(forked(pending.wait().map(drop)));
    let waited = database.wait_for(1000, Duration::from_secs(600));
    assert!(matches!(waited, Err(WaitError::Forked)));
    for result in [
        database.sync().map(drop),
        database.snapshot().map(drop),
        database.backup(path.with_extension("copy")).map(drop),
        database.clone().close(),
        history.at(1).map(drop),
    ] {
        assert!(matches!(result, Err(Error::Forked)));
    }
    assert!(matches!(database.health(), Health::Forked));
    assert!(matches!(database.at(1), Err(prevalence::AtError::Forked)));
    let _ = database.stats();
    // What was readable can be read.
    assert!(bytes(&database) == after(5) || bytes(&database) == after(6));
    drop(database.view());
    drop(database);
    assert!(matches!(builder().open(path), Err(Error::Locked { .. })));
    // The child has databases of its own.
    let own = builder().open(path.with_extension("own")).unwrap();
    work(&own, 12).unwrap();
    own.close().unwrap();
}

#[test]
fn a_fork_is_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    run("fork", directory.path(), &[]);
    let own = builder().open(directory.path().join("app.own")).unwrap();
    assert_eq!((own.sequence(), bytes(&own)), (12, after(12)));
}

fn limit_descriptors(limit: u64) {
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: 1024 };
    // SAFETY: the pointer is that of a whole `rlimit`.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

/// Tests a moment without free descriptors, at every stage of the engine.
fn runs_out_of_descriptors(directory: &Path) {
    let path = directory.join("app.db");
    let database = builder().open(&path).unwrap();
    let mut refused = 0;
    for round in 1..=20 {
        limit_descriptors(3);
        let goal = round * 15;
        if let Err(error) = work(&database, goal) {
            assert!(error.contains("Too many open files"), "{error}");
            assert!(matches!(database.health(), Health::Refusing(_)), "{:?}", database.health());
            refused += 1;
        }
        let snapshot = database.snapshot();
        assert!(snapshot.is_err(), "{snapshot:?}");
        assert!(database.backup(directory.join("copy.db")).is_err());
        assert_eq!(bytes(&database), after(database.sequence()));
        limit_descriptors(1024);
        work(&database, goal).unwrap();
        assert!(!matches!(database.health(), Health::Refusing(_) | Health::Poisoned(_)));
        if round % 4 == 0 {
            database.snapshot().unwrap();
        }
    }
    assert!(refused > 5, "{refused}");
    assert!(database.stats().not_written >= refused);
    limit_descriptors(3);
    let closed = database.close();
    limit_descriptors(1024);
    let database = builder().open(&path).unwrap();
    assert_eq!((database.sequence(), bytes(&database)), (300, after(300)), "{closed:?}");
}

#[test]
fn a_moment_without_descriptors_refuses_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    run("descriptors", directory.path(), &[]);
}

/// Makes a backup, whose rights and mount a child then changes.
fn a_backup() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    std::fs::create_dir(&source).unwrap();
    let database = builder().open(directory.path().join("app.db")).unwrap();
    work(&database, 25).unwrap();
    database.backup(source.join("backup.db")).unwrap();
    database.close().unwrap();
    (directory, source)
}

fn is_root() -> bool {
    // SAFETY: asks, and changes nothing.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        println!("skipped: only root may mount, or become somebody else");
    }
    root
}

fn restores(directory: &Path, source: &Path, before: &[&str]) {
    let stood = content(source);
    assert!(run("restore", directory, before).contains("restored"));
    assert_eq!(content(source), stood);
    let database = builder().open(directory.join("target.db")).unwrap();
    assert_eq!((database.sequence(), bytes(&database)), (25, after(25)));
}

#[test]
fn a_backup_on_a_read_only_mount_can_be_restored_and_verified() {
    if !is_root() {
        return;
    }
    let (directory, source) = a_backup();
    let mount = "mount --bind \"$PREVALENCE_PLACE_DIRECTORY/source\" \
                 \"$PREVALENCE_PLACE_DIRECTORY/source\" && \
                 mount -o remount,ro,bind \"$PREVALENCE_PLACE_DIRECTORY/source\" && \
                 exec \"$0\" \"$@\"";
    restores(directory.path(), &source, &["unshare", "-m", "sh", "-c", mount]);
}

#[test]
fn a_backup_of_another_owner_can_be_restored_and_verified() {
    if !is_root() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let (directory, source) = a_backup();
    // Only to read it, and to write beside it.
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    restores(directory.path(), &source, &nobody);
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

/// After a close, the MANIFEST states that what a killed run left is durable, even if the closed
/// run only read. The crash laboratory found this (seed 76): one sector held the last batch and its
/// commit marker.
#[test]
fn a_close_vouches_for_what_a_killed_run_left() {
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

/// A run that only opens, reads and closes changes nothing.
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
        let segment = segments(&path).pop().unwrap();
        let content = std::fs::read(&segment).unwrap();
        std::fs::remove_file(&segment).unwrap();
        if replaced {
            std::fs::write(&segment, content).unwrap();
        }
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

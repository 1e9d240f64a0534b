//! What changes the whole process (its directory, its limits, a fork) runs in a process of its own.

#![allow(unsafe_code)] // fork and limits

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use prevalence::{Health, WaitError};

use super::*;
use crate::common::child::{alone, assert_ran, test_name};

const ROLE: &str = "PREVALENCE_PLACE_ROLE";
const DIRECTORY: &str = "PREVALENCE_PLACE_DIRECTORY";

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
        .args(alone(test_name!(child)))
        .env(ROLE, role)
        .env(DIRECTORY, directory)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{role}: {said}\n{errors}");
    assert_ran(&said);
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
        "fork in apply" => forks_in_apply(&directory),
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

fn forks(directory: &Path) {
    let path = directory.join("app.db");
    let database = builder().open(&path).unwrap();
    work(&database, 5).unwrap();
    let pending = database.submit(add(6)).unwrap();
    let history = database.history();
    let counted = database.projection("counted", Counted::default(), <_>::default()).unwrap();
    counted.wait_for(5, Duration::from_secs(60)).unwrap();
    // SAFETY: the child calls only what is tested, and ends by `_exit`.
    let forked = unsafe { libc::fork() };
    if forked == 0 {
        let child = || {
            with_a_follower_in_the_child(&database, counted);
            in_the_child(&path, database, pending, &history);
        };
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
    counted.wait_for(60, Duration::from_secs(60)).unwrap();
    assert_eq!(counted.query(|counted| counted.0), 60, "its thread is the parent's");
    counted.close().unwrap();
    database.close().unwrap();
    let database = builder().open(&path).unwrap();
    assert_eq!((database.sequence(), bytes(&database)), (60, after(60)));
}

/// How many commands there were.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Counted(u64);

impl prevalence::Projection<Ledger> for Counted {
    fn apply(&mut self, _: &prevalence::Recorded<Ledger>) -> Result<(), prevalence::FollowerError> {
        self.0 += 1;
        Ok(())
    }
}

/// The child has no thread of a follower, so nothing may wait for one.
fn with_a_follower_in_the_child(
    database: &Database<Ledger>,
    counted: prevalence::ProjectionHandle<Ledger, Counted>,
) {
    // SAFETY: a bound on a hang.
    unsafe { libc::alarm(20) };
    assert!(counted.query(|counted| counted.0) >= 5, "what was published can be read");
    assert!(matches!(counted.status(), Err(Error::Forked)));
    let waited = counted.wait_for(1000, Duration::from_secs(600));
    assert!(matches!(waited, Err(WaitError::Forked)));
    for told in [counted.checkpoint(), counted.retry(), counted.skip(), counted.rebuild()] {
        assert!(matches!(told, Err(Error::Forked)));
    }
    assert!(matches!(database.followers(), Err(Error::Forked)));
    assert!(matches!(counted.close(), Err(Error::Forked)));
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
    let mut copy: Ledger = (*database.view()).clone();
    copy.add(1, 1);
    assert_ne!(copy.bytes(), bytes(&database));
    drop(database.view());
    drop(database);
    drop(copy);
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

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Forked(Vec<u64>);

impl prevalence::Model for Forked {
    type Event = ();
}

/// Adds a number. It forks with 0: the parent refuses, and the child accepts once its parent has
/// accepted other commands at this place of the journal.
#[derive(serde::Serialize, serde::Deserialize)]
struct Push(u64);

/// The child of the fork, and the pipe by which it is told to go on.
static CHILD: AtomicI32 = AtomicI32::new(-1);
static GO_ON: AtomicI32 = AtomicI32::new(-1);

impl prevalence::Command<Forked> for Push {
    type Output = ();
    type Rejection = ();

    fn apply(self, model: &mut Forked, _: &mut prevalence::Context<'_, Forked>) -> Result<(), ()> {
        model.0.push(self.0);
        if self.0 > 0 {
            return Ok(());
        }
        let mut pipe = [0; 2];
        // SAFETY: the pointer is that of two numbers; the child reads one byte into its own memory.
        unsafe {
            assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
            let child = libc::fork();
            if child > 0 {
                CHILD.store(child, Ordering::SeqCst);
                GO_ON.store(pipe[1], Ordering::SeqCst);
                return Err(());
            }
            libc::alarm(20);
            let mut byte = 0_u8;
            libc::read(pipe[0], (&raw mut byte).cast(), 1);
        }
        Ok(())
    }
}

prevalence::commands! { Forked { 1 => Push } }

fn forks_in_apply(directory: &Path) {
    let path = directory.join("app.db");
    let database = Database::<Forked>::open(&path).unwrap();
    database.execute(Push(1)).unwrap();
    let answer = database.execute(Push(0));
    if CHILD.load(Ordering::SeqCst) < 0 {
        let is_told = matches!(answer, Err(ExecuteError::Forked));
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(!is_told)) };
    }
    assert!(matches!(answer, Err(ExecuteError::Rejected(()))));
    (2..40).for_each(|number| database.execute(Push(number)).unwrap());
    let (child, mut status) = (CHILD.load(Ordering::SeqCst), 0);
    // SAFETY: one byte of this memory is written, and the child above is waited for.
    unsafe {
        assert_eq!(libc::write(GO_ON.load(Ordering::SeqCst), [1_u8].as_ptr().cast(), 1), 1);
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
    }
    // A signal ends it if the writer's thread forked: then nobody has the child's answer.
    assert!(libc::WIFSIGNALED(status) || status == 0, "the child got another answer");
    database.execute(Push(40)).unwrap();
    // Not closed: a snapshot would hide what stands in the journal.
    std::mem::forget(database);
}

#[test]
fn a_fork_inside_a_command_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    run("fork in apply", directory.path(), &[]);
    let database = Database::<Forked>::open(directory.path().join("app.db")).unwrap();
    let numbers: Vec<u64> = (1..=40).collect();
    assert_eq!(database.query(|model| model.0.clone()), numbers);
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
    let (mut refused, mut newest) = (0, 0);
    for round in 1..=20 {
        limit_descriptors(3);
        let goal = round * 15;
        if let Err(error) = work(&database, goal) {
            assert!(error.contains("Too many open files"), "{error}");
            assert!(matches!(database.health(), Health::Refusing(_)), "{:?}", database.health());
            refused += 1;
        }
        // If every command of the round was refused, the newest snapshot is as new as the model.
        match database.snapshot() {
            Err(_) => {}
            Ok(info) => assert_eq!((info.sequence, database.sequence()), (newest, newest)),
        }
        assert!(database.backup(directory.join("copy.db")).is_err());
        assert_eq!(bytes(&database), after(database.sequence()));
        limit_descriptors(1024);
        work(&database, goal).unwrap();
        assert!(!matches!(database.health(), Health::Refusing(_) | Health::Poisoned(_)));
        if round % 4 == 0 {
            newest = database.snapshot().unwrap().sequence;
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

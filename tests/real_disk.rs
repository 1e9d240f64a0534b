//! Promises 1, 4, 5, 6, 7 and 8 on real files: child processes are killed at, and meet failures
//! of, every call that changes a file. What they leave behind opens to exactly a prefix of the
//! accepted commands that contains every acknowledged one, no temporary file stays, and it goes on.
//!
//! Faults come from a preloaded library (`tests/common/faults/shim.c`, built with `cc`) and, for a
//! second opinion that does not rely on which calls go through libc, from `strace`. Where one is
//! missing, the test says so and is skipped. `cargo test` takes a sample of the calls; every single
//! one is
//!
//! ```text
//! cargo test --release --test real_disk -- --ignored --nocapture
//! ```

mod common;

use std::path::{Path, PathBuf};

use common::child::test_name;
use common::faults::{self, DIRECTORY, Fault, Outcome, ROLE, has_shim, has_strace, judge, work};
use common::{copy_directory, temporary};

/// Every call that changes the disk, with the names of the shim. (The rename that publishes a file
/// does not go through libc. It lies between two syncs, so the kills after the first and before the
/// second enclose it. `strace` also meets it.)
const CHANGES: &str = ",pwrite,fsync,fdatasync,unlink,rename,mkdir,";

/// The most calls of one kind. No child makes more, so a sweep that reaches this does not end.
const MOST_CALLS: u64 = 2_000;

/// This is not a test of its own: it is what the other processes run.
#[test]
#[ignore = "what the child processes run"]
fn child() {
    let (Ok(role), Ok(path)) = (std::env::var(ROLE), std::env::var(DIRECTORY)) else { return };
    match role.as_str() {
        "work" => work(Path::new(&path)),
        other => panic!("no role {other}"),
    }
}

fn run(role: &str, path: &Path, fault: &Fault<'_>) -> Outcome {
    faults::run(test_name!(child), role, path, fault)
}

/// Lets `meet` put a fault at every `step`-th place, until a child ends without a fault. Returns
/// the number of places that were hit, and of calls.
fn sweep(step: u64, mut meet: impl FnMut(u64) -> bool) -> u64 {
    for (met, at) in (0..).zip((1..MOST_CALLS).step_by(step as usize)) {
        if !meet(at) {
            println!("  {met} faults met, every {step} of fewer than {at} calls");
            return met;
        }
    }
    panic!("{MOST_CALLS} calls and no end");
}

/// Kills a child at one place, and judges what it leaves. Returns `false` if the child did not get
/// there.
fn killed_at(path: &Path, fault: &Fault<'_>, what: &str) -> bool {
    let outcome = run("work", path, fault);
    let acknowledged = outcome.acknowledged();
    assert!(outcome.has("closed") == outcome.ended, "{what}: {outcome:?}");
    assert!(!outcome.noticed() && !outcome.has("wrong"), "{what}: {outcome:?}");
    judge(path, acknowledged, what);
    !outcome.ended
}

fn kill_everywhere(step: u64) {
    if !has_shim() {
        return;
    }
    for act in ["before", "behind"] {
        let met = sweep(step, |at| {
            let (_directory, path) = temporary();
            let fault = Fault::Shim { calls: CHANGES, at, act };
            killed_at(&path, &fault, &format!("killed {act} call {at}"))
        });
        assert!(met > 5, "{met}");
    }
    sweep(step.div_ceil(2), |at| {
        let (_directory, path) = temporary();
        let fault = Fault::Shim { calls: ",pwrite,", at, act: "amid" };
        killed_at(&path, &fault, &format!("killed amid write {at}"))
    });
}

#[test]
fn killed_at_some_calls() {
    kill_everywhere(13);
}

#[test]
#[ignore = "every call: under half a minute; see the top of this file"]
fn killed_at_every_call() {
    kill_everywhere(1);
}

/// Kills a run in the middle of a frame behind its first commands. Zeros are written page by page,
/// so nobody knows which write that is.
fn killed_amid_a_frame() -> (tempfile::TempDir, PathBuf, Outcome) {
    for at in (25..2_500).step_by(25) {
        let (directory, path) = temporary();
        let first = run("work", &path, &Fault::Shim { calls: ",pwrite,", at, act: "amid" });
        assert!(!first.ended, "the run ended before it acknowledged anything: {first:?}");
        if first.acknowledged() > 0 {
            return (directory, path, first);
        }
    }
    panic!("no command was acknowledged before the 2,500th write");
}

/// Kills the second run in the recovery with which it begins.
fn kill_recovery(step: u64) {
    if !has_shim() {
        return;
    }
    let (directory, path, first) = killed_amid_a_frame();
    for act in ["before", "behind"] {
        sweep(step, |at| {
            let image = directory.path().join(format!("{act}-{at}"));
            copy_directory(&path, &image);
            let what = format!("killed {act} call {at} of the second run");
            let outcome = run("work", &image, &Fault::Shim { calls: CHANGES, at, act });
            judge(&image, outcome.acknowledged().max(first.acknowledged()), &what);
            std::fs::remove_dir_all(&image).unwrap();
            !outcome.ended
        });
    }
}

#[test]
fn killed_in_a_recovery() {
    kill_recovery(17);
}

#[test]
#[ignore = "every call: under half a minute; see the top of this file"]
fn killed_at_every_call_of_a_recovery() {
    kill_recovery(1);
}

/// A process on the same directory is killed again and again, each time a little later, without a
/// repair in between.
#[test]
fn killed_again_and_again_in_recoveries() {
    if !has_shim() {
        return;
    }
    let (_directory, path) = temporary();
    let mut acknowledged = 0;
    for at in 1..60 {
        let fault = Fault::Shim { calls: CHANGES, at, act: "before" };
        let outcome = run("work", &path, &fault);
        assert!(!outcome.ended && !outcome.noticed(), "at call {at}: {outcome:?}");
        acknowledged = outcome.acknowledged().max(acknowledged);
    }
    assert!(acknowledged > 20, "{acknowledged}");
    judge(&path, acknowledged, "killed 59 times");
}

/// What must follow from a failed call.
#[derive(Clone, Copy, PartialEq)]
enum Expect {
    /// The child must notice the failure, or must not be harmed because it could do something else.
    Anything,
    /// The child must not notice the failure.
    Nothing,
}

fn failed_at(fault: &Fault<'_>, expect: Expect, what: &str) -> Outcome {
    let (_directory, path) = temporary();
    let outcome = run("work", &path, fault);
    assert!(outcome.succeeded, "{what}: {outcome:?}");
    assert!(!outcome.has("wrong") && !outcome.has("a snapshot of"), "{what}: {outcome:?}");
    assert!(!outcome.has("retried"), "{what}: a failed sync was tried again: {outcome:?}");
    // Nothing is acknowledged behind a failure that leaves anything in doubt. One that comes before
    // anything was written refuses its commands and leaves no trace; then the database goes on.
    let failed = |line: &&String| line.starts_with("failed");
    let poisoned = outcome.said.iter().position(|line| failed(&line) && line.contains("Poisoned"));
    let later = &outcome.said[poisoned.unwrap_or(outcome.said.len())..];
    assert!(later.iter().all(|line| line.parse::<u64>().is_err()), "{what}: {outcome:?}");
    let refused = |line: &&String| failed(line) && line.contains("NotWritten");
    let named = |line: &String| !failed(&line) || refused(&line) || line.contains("Poisoned");
    assert!(outcome.said.iter().all(named), "{what}: {outcome:?}");
    // A file that has its name already is in use: what failed there is in doubt.
    let met = outcome.said.iter().find_map(|line| line.strip_prefix("fault "));
    let in_use = met.is_some_and(|file| file.ends_with(".journal"));
    assert!(!(in_use && outcome.said.iter().any(|line| refused(&line))), "{what}: {outcome:?}");
    if expect == Expect::Nothing {
        assert!(!outcome.noticed() && outcome.has("closed"), "{what}: {outcome:?}");
    }
    judge(&path, outcome.acknowledged(), what);
    outcome
}

fn fail_everywhere(step: u64) {
    if !has_shim() {
        return;
    }
    // Renames and removals of an open database do not go through libc: `strace` meets those.
    const ERRORS: [(&str, i32, Expect); 9] = [
        (",fdatasync,", 5, Expect::Anything),  // EIO
        (",fsync,", 5, Expect::Anything),      // EIO
        (",fdatasync,", 28, Expect::Anything), // ENOSPC, first told at the sync
        (",pwrite,", 28, Expect::Anything),    // ENOSPC
        (",pwrite,", 5, Expect::Anything),     // EIO
        (",pwrite,", 122, Expect::Anything),   // EDQUOT
        (",pwrite,", 27, Expect::Anything),    // EFBIG
        (",pwrite,", 4, Expect::Nothing),      // EINTR
        (",mkdir,", 28, Expect::Anything),     // ENOSPC
    ];
    for (calls, number, expect) in ERRORS {
        println!("{calls} fails with errno {number}:");
        let act = number.to_string();
        let (mut unnoticed, mut poisoned) = (Vec::new(), 0);
        let met = sweep(step, |at| {
            let fault = Fault::Shim { calls, at, act: &act };
            let outcome = failed_at(&fault, expect, &format!("{calls} {at} fails with {number}"));
            poisoned += u32::from(outcome.has("failed"));
            let met = outcome.said.iter().find_map(|line| line.strip_prefix("fault "));
            if let Some(file) = met.filter(|_| !outcome.noticed()) {
                // A segment being prepared is made anew; one that is in use must not be.
                let in_use = file.ends_with(".journal") && expect == Expect::Anything;
                assert!(!in_use, "{calls} {at} fails with {number}: {outcome:?}");
                unnoticed.push(at);
            }
            met.is_some()
        });
        assert!(met > 0, "{calls}: no fault was met");
        println!("  poisoned {poisoned}; made good: {unnoticed:?}");
    }
    println!("half a write, and told so:");
    sweep(step, |at| {
        let fault = Fault::Shim { calls: ",pwrite,", at, act: "short" };
        failed_at(&fault, Expect::Nothing, &format!("write {at} is short")).has("short")
    });
}

#[test]
fn some_calls_fail() {
    fail_everywhere(19);
}

#[test]
#[ignore = "every call, every error: under half a minute; see the top of this file"]
fn every_call_fails() {
    fail_everywhere(1);
}

/// Does the same with `strace`, which meets every call, whether it goes through libc or not. It
/// counts for each thread separately, so the fault hits the first thread that reaches the number.
fn strace_everywhere(step: u64) {
    if !has_strace() {
        return;
    }
    for calls in ["rename,renameat,renameat2", "pwrite64", "fsync,fdatasync", "unlink,unlinkat"] {
        println!("killed at {calls}:");
        sweep(step, |at| {
            let (_directory, path) = temporary();
            let fault = Fault::Strace(format!("inject={calls}:signal=KILL:when={at}"));
            killed_at(&path, &fault, &format!("killed at {calls} {at}"))
        });
    }
    let failing = [
        ("fdatasync", "EIO"),
        ("rename,renameat,renameat2", "EIO"),
        ("pwrite64", "ENOSPC"),
        ("unlink,unlinkat", "EIO"),
    ];
    // Only files larger than those of this scene are cut before they are removed, so no call of
    // `ftruncate` is met. A cut that fails is tested on a faulty disk
    // (`snapshot/tests/failure.rs`).
    for (calls, error) in failing {
        println!("{calls} fails with {error}:");
        let mut noticed = 0;
        for at in (1..24).step_by(step as usize) {
            let fault = Fault::Strace(format!("inject={calls}:error={error}:when={at}"));
            let what = format!("{calls} {at} fails with {error}");
            noticed += u32::from(failed_at(&fault, Expect::Anything, &what).noticed());
        }
        println!("  noticed {noticed}");
        assert!(noticed > 0, "{calls}: the faults were not met");
    }
}

#[test]
fn strace_finds_the_same_for_some_calls() {
    strace_everywhere(9);
}

#[test]
#[ignore = "every call of each thread: under half a minute; see the top of this file"]
fn strace_finds_the_same_for_every_call() {
    strace_everywhere(1);
}

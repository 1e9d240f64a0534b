//! Promises 4, 5, 6 and 8 where the machine is not as it should be: the disk is full, files may not
//! grow, the directory is read-only, the clock is wrong, many want to open at once.
//!
//! A test that needs a tool or a right that is missing here says so and is skipped.

use std::path::Path;
use std::time::{Duration, SystemTime};

use prevalence::{Error, Health};

use crate::common::child::test_name;
use crate::common::faults::scene::{closed, picture};
use crate::common::faults::{
    self, DIRECTORY, Fault, Outcome, ROLE, after, builder, execute, give_up, has_shim, judge,
    may_mount, start,
};
use crate::common::{self, Carry, Ledger, Stamp, bytes, temporary};

/// This is not a test of its own: it is what the other processes run.
#[test]
#[ignore = "what the child processes run"]
fn child() {
    let (Ok(role), Ok(path)) = (std::env::var(ROLE), std::env::var(DIRECTORY)) else { return };
    let path = Path::new(&path);
    match role.as_str() {
        "work" => faults::work(path),
        "fill" => fill(path),
        "grow" => grow(path),
        "open" => match builder().open(path) {
            Ok(database) => println!("said opened at {}", database.sequence()),
            Err(error) => println!("said refused: {error:?}"),
        },
        "stamp" => {
            let database = builder().open(path).unwrap();
            let now = database.execute(Stamp).unwrap().now;
            println!("said {}", now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos());
            database.close().unwrap();
        }
        "race" => race(path),
        other => panic!("no role {other}"),
    }
}

fn run(role: &str, path: &Path, fault: &Fault<'_>) -> Outcome {
    faults::run(test_name!(child), role, path, fault)
}

/// A shell command that runs what follows it in a mount namespace of its own, in which
/// `$PREVALENCE_FAULTS_DIRECTORY` is a file system of 1 MiB.
const SMALL_DISK: &str = "mount -t tmpfs -o size=1m none \"$PREVALENCE_FAULTS_DIRECTORY\" && \
                          exec \"$0\" \"$@\"";
const READ_ONLY: &str = "mount --bind \"$PREVALENCE_FAULTS_DIRECTORY\" \
                         \"$PREVALENCE_FAULTS_DIRECTORY\" && \
                         mount -o remount,ro,bind \"$PREVALENCE_FAULTS_DIRECTORY\" && \
                         exec \"$0\" \"$@\"";

#[test]
fn a_full_disk_loses_nothing_and_once_there_is_room_it_goes_on() {
    if !may_mount() {
        return;
    }
    let (_directory, path) = temporary();
    std::fs::create_dir(&path).unwrap();
    let outcome = run("fill", &path, &Fault::Program(&["unshare", "-m", "sh", "-c", SMALL_DISK]));
    assert!(outcome.succeeded && outcome.has("done"), "{outcome:?}");
    let stopped = |start| outcome.said.iter().filter(|line| line.starts_with(start)).count();
    println!("failed {}, could not open {}", stopped("failed"), stopped("cannot open"));
    assert!(stopped("failed") > 5 && stopped("cannot open") > 0, "{outcome:?}");
}

/// Runs in the child on the small disk. Each time, it leaves another number of bytes free.
fn fill(disk: &Path) {
    let step = if cfg!(debug_assertions) { 96 } else { 16 };
    for free in (4..900).step_by(step) {
        let (path, ballast) = (disk.join("full.db"), disk.join("ballast"));
        let what = format!("{free} KiB were free");
        std::fs::write(&ballast, vec![1; (1 << 20) - (free << 10)]).unwrap();
        let mut acknowledged = 0;
        match builder().open(&path) {
            Err(error) => println!("said cannot open: {error}"),
            Ok(database) => {
                // Large ones, so that the disk fills up; the snapshots need room too.
                let error = loop {
                    if let Err(error) = execute(&database, acknowledged + 1) {
                        break error;
                    }
                    acknowledged += 1;
                    if acknowledged % 7 == 0 {
                        database.snapshot().ok();
                    }
                };
                assert!(error.contains("NotWritten"), "{what}: {error}");
                assert!(error.contains("No space left"), "{what}: {error}");
                assert!(matches!(database.health(), Health::Refusing(_)), "{what}");
                println!("said failed: {error}");
                if free % 2 == 0 {
                    // Whatever is free now is taken as well: then the same database goes on.
                    fill_up(&ballast);
                    assert_eq!(bytes(&database), after(acknowledged), "{what}");
                    std::fs::remove_file(&ballast).unwrap();
                    acknowledged += 1;
                    execute(&database, acknowledged).unwrap();
                    let health = database.health();
                    assert!(!matches!(health, Health::Refusing(_)), "{what}: {health:?}");
                }
            }
        }
        if acknowledged > 0 {
            opens_without_a_free_byte(&path, &ballast, acknowledged, &what);
        }
        std::fs::remove_file(&ballast).unwrap();
        judge(&path, acknowledged, &what);
        std::fs::remove_dir_all(&path).unwrap();
    }
    println!("said done");
}

/// Fills every free byte.
fn fill_up(ballast: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::options().create(true).append(true).open(ballast).unwrap();
    for piece in [64 << 10, 4 << 10, 1] {
        while file.write_all(&vec![1; piece]).is_ok() {}
    }
}

fn opens_without_a_free_byte(path: &Path, ballast: &Path, acknowledged: u64, what: &str) {
    fill_up(ballast);
    let database = builder().open(path).unwrap();
    assert_eq!(database.sequence(), acknowledged, "{what}");
    assert_eq!(bytes(&database), after(acknowledged), "{what}");
    drop(database);
}

#[test]
fn a_file_that_may_not_grow() {
    for (trap, limit) in [("trap '' XFSZ", 100_000), ("true", 100_000), ("trap '' XFSZ", 30_000)] {
        let (_directory, path) = temporary();
        let script = format!("{trap}; exec prlimit --fsize={limit} \"$0\" \"$@\"");
        let outcome = run("grow", &path, &Fault::Program(&["sh", "-c", &script]));
        if outcome.said.is_empty() {
            println!("skipped: there is no prlimit here");
            return;
        }
        let what = format!("{trap}, {limit}: {outcome:?}");
        if trap == "true" {
            // SIGXFSZ ends the process where nobody ignores it.
            assert!(!outcome.ended && outcome.acknowledged() == 3, "{what}");
        } else {
            // Before anything was written, so that smaller ones go on.
            let least = if limit < 65_536 { 3 } else { 6 };
            assert!(outcome.has("failed: NotWritten"), "{what}");
            assert!(outcome.acknowledged() >= least, "{what}");
        }
        assert!(!outcome.has("wrong"), "{what}");
        assert_eq!(judge(&path, outcome.acknowledged(), &what), outcome.acknowledged(), "{what}");
    }
}

/// Executes a command that makes its segment longer than a file may be.
fn grow(path: &Path) {
    println!("said begin");
    let database = match builder().open(path) {
        Ok(database) => database,
        Err(error) => return println!("said cannot open: {error}"),
    };
    for sequence in 1..=3 {
        execute(&database, sequence).unwrap();
        println!("said {sequence}");
    }
    match database.execute(Carry(vec![7; 120_000])) {
        Ok(_) => println!("said wrong: it grew"),
        Err(error) => give_up(&database, 4, &format!("{error:?}")),
    }
}

#[test]
fn a_read_only_directory_is_refused_and_unchanged() {
    if !may_mount() {
        return;
    }
    let (directory, path) = temporary();
    closed(&path);
    let before = picture(directory.path());
    let read_only = Fault::Program(&["unshare", "-m", "sh", "-c", READ_ONLY]);
    let outcome = run("open", &path, &read_only);
    assert!(outcome.has("refused: Io") && outcome.succeeded, "{outcome:?}");
    let empty = directory.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let outcome = run("open", &empty, &read_only);
    assert!(outcome.has("refused: Io") && outcome.succeeded, "{outcome:?}");
    std::fs::remove_dir(&empty).unwrap();
    assert_eq!(picture(directory.path()), before);
}

#[test]
fn time_never_goes_back_however_wrong_the_clock_is() {
    if !has_shim() {
        return;
    }
    const YEAR: i64 = 365 * 24 * 3600;
    let (_directory, path) = temporary();
    let mut last: u128 = 0;
    for offset in [0, 3 * YEAR, -10 * YEAR, 0, -100 * YEAR, 4 * YEAR] {
        let outcome = run("stamp", &path, &Fault::Clock(offset));
        assert!(outcome.succeeded, "{offset}: {outcome:?}");
        let now: u128 = outcome.said[0].parse().unwrap();
        let moved = offset > 0;
        assert!(if moved { now > last } else { now >= last }, "{offset}: {now} after {last}");
        last = now;
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    assert!(last > now + 3 * YEAR as u128 * 1_000_000_000, "the clock was not wrong at all");
    let database = builder().open(&path).unwrap();
    let stamp = database.query(|ledger: &Ledger| ledger.stamp.clone()).unwrap();
    assert_eq!(stamp.now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos(), last);
}

#[test]
fn the_times_of_files_do_not_matter() {
    let (_directory, path) = temporary();
    let sequence = closed(&path);
    for (index, name) in common::content(&path).into_keys().enumerate() {
        let file = std::fs::File::options().write(true).open(path.join(name)).unwrap();
        let year = Duration::from_secs(365 * 24 * 3600);
        let times = [SystemTime::UNIX_EPOCH, SystemTime::now() + 50 * year];
        file.set_modified(times[index % 2]).unwrap();
    }
    assert_eq!(judge(&path, sequence, "file times"), sequence);
}

/// Several processes open, execute, and close the same directory, from before it exists.
#[test]
fn many_openers_take_turns() {
    const OPENERS: usize = 4;
    let (_directory, path) = temporary();
    let running: Vec<_> = (0..OPENERS)
        .map(|_| start(test_name!(child), "race", &path, &Fault::None).spawn().unwrap())
        .collect();
    let mut said = Vec::new();
    for child in running {
        let outcome = Outcome::of(&child.wait_with_output().unwrap());
        assert!(outcome.succeeded, "{outcome:?}");
        said.extend(outcome.said.iter().map(|line| line.parse::<u64>().unwrap()));
    }
    said.sort_unstable();
    let expected: Vec<u64> = (1..=5 * OPENERS as u64).collect();
    assert_eq!(said, expected, "each sequence was given to one of them");
    judge(&path, expected.len() as u64, "raced for");
}

fn race(path: &Path) {
    for _ in 0..5 {
        let database = loop {
            match builder().open(path) {
                Ok(database) => break database,
                Err(Error::Locked { .. }) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        let sequence = database.sequence() + 1;
        execute(&database, sequence).unwrap();
        database.close().unwrap();
        println!("said {sequence}");
    }
}

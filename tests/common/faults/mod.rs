//! What the real-disk tests share: child processes that work on a database and print what was
//! acknowledged, faults that hit them, and the judgement of what they leave.

#![allow(dead_code)] // every test file uses a part of it

pub mod scene;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use prevalence::{Builder, Database, Health, Pending, Retention, SnapshotPolicy};

use crate::common::child::{alone, assert_ran};
use crate::common::{Add, Carry, Ledger, bytes, content};

pub const ROLE: &str = "PREVALENCE_FAULTS_ROLE";
pub const DIRECTORY: &str = "PREVALENCE_FAULTS_DIRECTORY";

/// How many commands one `work` process executes one after the other, and then in one batch.
const ALONE: u64 = 24;
const TOGETHER: u64 = 5;
/// After how many commands there is a large one, so that segments fill, and a snapshot.
const LARGE_EVERY: u64 = 4;
const SNAPSHOT_EVERY: u64 = 6;

pub fn builder() -> Builder<Ledger> {
    Database::<Ledger>::builder()
        .segment_bytes(64 << 10)
        .snapshots(SnapshotPolicy::manual())
        .retention(Retention::Archive)
}

fn is_large(sequence: u64) -> bool {
    sequence.is_multiple_of(LARGE_EVERY)
}

fn add(sequence: u64) -> Add {
    Add { account: (sequence % 7) as u32, amount: sequence as i64 }
}

/// Returns the encoded model after the command of `sequence`.
pub fn after(sequence: u64) -> Vec<u8> {
    let mut ledger = Ledger::default();
    for sequence in 1..=sequence {
        if is_large(sequence) {
            ledger.changes += 1;
        } else {
            ledger.add(add(sequence).account, add(sequence).amount);
        }
    }
    ledger.bytes()
}

/// Submits the command of a sequence. The error says why it was not acknowledged.
pub fn submit(
    database: &Database<Ledger>,
    sequence: u64,
) -> Box<dyn FnOnce() -> Result<(), String>> {
    if is_large(sequence) {
        let pending = database.submit(Carry(vec![sequence as u8; 20_000]));
        Box::new(|| {
            pending.and_then(Pending::wait).map(|_| ()).map_err(|error| format!("{error:?}"))
        })
    } else {
        let pending = database.submit(add(sequence));
        Box::new(|| {
            pending.and_then(Pending::wait).map(|_| ()).map_err(|error| format!("{error:?}"))
        })
    }
}

pub fn execute(database: &Database<Ledger>, sequence: u64) -> Result<(), String> {
    submit(database, sequence)()
}

/// Runs as the child that a fault hits.
pub fn work(path: &Path) {
    let database = match builder().open(path) {
        Ok(database) => database,
        Err(error) => return println!("said cannot open: {error}"),
    };
    let begin = database.sequence() + 1;
    for sequence in begin..begin + ALONE {
        if let Err(error) = execute(&database, sequence) {
            return give_up(&database, sequence, &error);
        }
        println!("said {sequence}");
        if sequence.is_multiple_of(SNAPSHOT_EVERY)
            && let Err(error) = database.snapshot()
        {
            println!("said no snapshot: {error}");
        }
    }
    let together = begin + ALONE..begin + ALONE + TOGETHER;
    let submitted: Vec<_> =
        together.map(|sequence| (sequence, submit(&database, sequence))).collect();
    for (sequence, answer) in submitted {
        match answer() {
            Ok(()) => println!("said {sequence}"),
            Err(error) => return give_up(&database, sequence, &error),
        }
    }
    if !matches!(database.health(), Health::Running) {
        println!("said unwell: {:?}", database.health());
    }
    match database.close() {
        Ok(()) => println!("said closed"),
        Err(error) => println!("said not closed: {error}"),
    }
}

/// Checks the state after a failure: no call acknowledges a command any more, and reads still work.
pub fn give_up(database: &Database<Ledger>, sequence: u64, error: &str) {
    println!("said failed: {error}");
    if error.contains("NotWritten") {
        return go_on(database, sequence);
    }
    for _ in 0..3 {
        if execute(database, sequence).is_ok() {
            println!("said {sequence}");
        }
    }
    if database.snapshot().is_ok_and(|taken| taken.sequence >= sequence) {
        println!("said a snapshot of what failed");
    }
    let readable = database.sequence();
    if bytes(database) != after(readable) || readable >= sequence {
        println!("said wrong: readable at {readable}");
    }
    if database.clone().close().is_ok() {
        println!("said wrong: closed in spite of it");
    }
}

/// Checks the state after a failure that leaves nothing in doubt: it is exactly what was
/// acknowledged, and commands may be accepted again.
pub fn go_on(database: &Database<Ledger>, mut sequence: u64) {
    for _ in 0..3 {
        if bytes(database) != after(sequence - 1) {
            println!("said wrong: the state is not that of {}", sequence - 1);
        }
        if execute(database, sequence).is_ok() {
            println!("said {sequence}");
            sequence += 1;
        }
    }
}

/// Where and how a fault hits a child.
pub enum Fault<'a> {
    None,
    /// A fault by the preloaded shim: which calls count, which of them it hits, and what it does.
    Shim {
        calls: &'a str,
        at: u64,
        act: &'a str,
    },
    /// A fault by `strace`, with this expression for `-e`.
    Strace(String),
    /// The wall clock is wrong by this number of seconds.
    Clock(i64),
    /// Another program that runs the child. The child's command line follows its arguments.
    Program(&'a [&'a str]),
}

/// The result of a child.
#[derive(Debug)]
pub struct Outcome {
    pub said: Vec<String>,
    /// Whether it ended by itself, without a kill or a panic.
    pub ended: bool,
    pub succeeded: bool,
}

impl Outcome {
    pub fn of(output: &Output) -> Self {
        let text = String::from_utf8_lossy(&output.stdout);
        assert_ran(&text);
        let said = text.lines().filter_map(|line| line.split_once("said "));
        let said = said.map(|(_, said)| said.to_owned()).collect();
        // Killed by a signal, or strace or a shell says so in its way.
        let ended = output.status.code().is_some_and(|code| code < 128);
        Self { said, ended, succeeded: output.status.success() }
    }

    pub fn acknowledged(&self) -> u64 {
        self.said.iter().filter_map(|line| line.parse().ok()).max().unwrap_or(0)
    }

    pub fn has(&self, start: &str) -> bool {
        self.said.iter().any(|line| line.starts_with(start))
    }

    /// Returns whether the child noticed that something went wrong.
    pub fn noticed(&self) -> bool {
        ["failed", "cannot open", "no snapshot", "unwell", "not closed"]
            .iter()
            .any(|start| self.has(start))
    }
}

/// Runs one test of this binary as another process with a role and a fault, until it ends.
pub fn run(child: &str, role: &str, path: &Path, fault: &Fault<'_>) -> Outcome {
    Outcome::of(&start(child, role, path, fault).output().unwrap())
}

pub fn start(child: &str, role: &str, path: &Path, fault: &Fault<'_>) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut command = match fault {
        Fault::Strace(inject) => {
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qq", "-o", "/dev/null", "-e", inject]).arg(this);
            strace
        }
        Fault::Program([program, arguments @ ..]) => {
            let mut other = Command::new(program);
            other.args(arguments).arg(this);
            other
        }
        _ => Command::new(this),
    };
    match fault {
        Fault::Shim { calls, at, act } => {
            command.env("LD_PRELOAD", shim().unwrap()).env("SHIM_CALLS", calls);
            command.env("SHIM_AT", at.to_string()).env("SHIM_DO", act);
        }
        Fault::Clock(seconds) => {
            command.env("LD_PRELOAD", shim().unwrap()).env("SHIM_CLOCK", seconds.to_string());
        }
        _ => {}
    }
    command
        .args(alone(child))
        .env(ROLE, role)
        .env(DIRECTORY, path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// Returns the compiled shim; `None` without a C compiler, or if the shim cannot be preloaded.
pub fn shim() -> Option<&'static Path> {
    static SHIM: OnceLock<Option<PathBuf>> = OnceLock::new();
    SHIM.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/faults/shim.c");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // Built under a name of its own, so that nobody ever loads half of it.
        let library = target.join("shim.so");
        let fresh = target.join(format!("shim-{}.so", std::process::id()));
        let built = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .arg(&fresh)
            .arg(source)
            .status();
        let built = built.is_ok_and(|status| status.success());
        (built && std::fs::rename(&fresh, &library).is_ok()).then_some(library)
    })
    .as_deref()
}

pub fn has_shim() -> bool {
    let there = shim().is_some();
    if !there {
        println!("skipped: there is no C compiler `cc` here");
    }
    there
}

pub fn has_strace() -> bool {
    let tried = Command::new("strace").args(["-f", "-qq", "-o", "/dev/null", "true"]).status();
    let there = tried.is_ok_and(|status| status.success());
    if !there {
        println!("skipped: strace is not installed here, or may not trace");
    }
    there
}

/// Returns whether this process may make mounts of its own.
pub fn may_mount() -> bool {
    let tried = Command::new("unshare")
        .args(["-m", "sh", "-c", "mount -t tmpfs none /tmp"])
        .stderr(Stdio::null())
        .status();
    let may = tried.is_ok_and(|status| status.success());
    if !may {
        println!("skipped: there is no unshare here, or it may not mount");
    }
    may
}

pub fn temporaries(path: &Path) -> Vec<PathBuf> {
    let is_temporary = |name: &PathBuf| name.to_string_lossy().contains(".prevalence-");
    content(path).into_keys().filter(is_temporary).collect()
}

/// Opens what a child left. Checks that it is a prefix that contains every acknowledged command,
/// that no temporary file is left, and that commands continue from there. Returns the recovered
/// sequence.
pub fn judge(path: &Path, acknowledged: u64, what: &str) -> u64 {
    let database = builder().open(path).unwrap_or_else(|error| panic!("{what}: {error}"));
    let recovered = database.sequence();
    assert!(recovered >= acknowledged, "{what}: {recovered} < {acknowledged}");
    assert_eq!(bytes(&database), after(recovered), "{what}");
    let damaged = &database.recovery().damaged_snapshots;
    assert!(damaged.is_empty(), "{what}: {damaged:?}");
    execute(&database, recovered + 1).unwrap_or_else(|error| panic!("{what}: {error}"));
    database.close().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(temporaries(path), Vec::<PathBuf>::new(), "{what}");
    let again = builder().open(path).unwrap_or_else(|error| panic!("{what}, again: {error}"));
    assert!(again.recovery().clean, "{what}");
    assert_eq!(bytes(&again), after(recovered + 1), "{what}, again");
    again.close().unwrap();
    recovered
}

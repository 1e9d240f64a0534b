//! Measures resident memory after a long pipelined run without a snapshot, beside that of the bare
//! model after the same updates. Each figure is measured in its own process, because freed memory
//! stays with its process. Prints its own figures; `-- --test` runs a small form. Entries:
//! `PREVALENCE_BENCH_ENTRIES` (default 2^20).

mod ledger;
mod support;

use std::path::Path;
use std::process::Command;

use ledger::{Ledger, put, random_key};
use prevalence::{Database, SnapshotPolicy};
use support::comparison::verdict;
use support::run::median;
use support::{directory, is_short, resident_bytes, setting};

/// The environment variables of a child: its subject, and the place of its database.
const SUBJECT: &str = "PREVALENCE_BENCH_SUBJECT";
const DATABASE: &str = "PREVALENCE_BENCH_DATABASE";
const AT_MOST: f64 = 1.1;
/// The default of `max_batch_commands`.
const COMMANDS_PER_CLONE: u64 = 1024;
const UPDATES_PER_ENTRY: u64 = 5;
const ROUNDS: usize = 3;

/// What a child process does before its memory is measured.
struct Subject {
    name: &'static str,
    measure: fn(u64) -> u64,
    /// Whether the child uses only one arena of glibc. By default each thread allocates from its
    /// own arena, and no other thread can use the free memory of that arena.
    one_arena: bool,
}

const SUBJECTS: [Subject; 5] = [
    Subject { name: "bare model", measure: bare, one_arena: false },
    Subject { name: "bare model, a clone per 1,024", measure: cloned, one_arena: false },
    Subject { name: "engine, just opened", measure: opened, one_arena: false },
    Subject { name: "engine", measure: engine, one_arena: false },
    Subject { name: "engine, MALLOC_ARENA_MAX=1", measure: engine, one_arena: true },
];

fn bare(entries: u64) -> u64 {
    let before = resident_bytes();
    let mut ledger = Ledger::of(entries);
    (0..entries * UPDATES_PER_ENTRY).for_each(|index| ledger.add(random_key(index, entries), 1));
    since(before, ledger)
}

fn cloned(entries: u64) -> u64 {
    let before = resident_bytes();
    let mut ledger = Ledger::of(entries);
    let mut version = ledger.clone();
    for index in 0..entries * UPDATES_PER_ENTRY {
        ledger.add(random_key(index, entries), 1);
        if index.is_multiple_of(COMMANDS_PER_CLONE) {
            version = ledger.clone();
        }
    }
    since(before, (ledger, version))
}

fn opened(_: u64) -> u64 {
    let before = resident_bytes();
    since(before, open())
}

fn engine(entries: u64) -> u64 {
    let before = resident_bytes();
    let database = open();
    put(&database, 0..entries * UPDATES_PER_ENTRY, entries);
    since(before, database)
}

fn open() -> Database<Ledger> {
    let path = std::env::var_os(DATABASE).expect("the parent made one");
    let builder = Database::<Ledger>::builder().snapshots(SnapshotPolicy::manual());
    builder.open(path).expect("open")
}

/// Returns the memory beyond `before`, while `held` exists.
fn since<T>(before: u64, held: T) -> u64 {
    let now = resident_bytes();
    drop(held);
    now.saturating_sub(before)
}

/// Makes a closed database with that many entries.
fn make_database(path: &Path, entries: u64) {
    let builder = Database::<Ledger>::builder().initial(Ledger::of(entries));
    builder.open(path).expect("open").close().expect("close");
}

fn measured(subject: &Subject, entries: u64) -> f64 {
    let directory = directory();
    make_database(directory.path(), entries);
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    child.args(std::env::args().skip(1));
    child.env(SUBJECT, subject.name).env(DATABASE, directory.path());
    if subject.one_arena {
        child.env("MALLOC_ARENA_MAX", "1");
    }
    let output = child.output().expect("a child");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("bytes")
}

fn main() {
    let entries = setting("PREVALENCE_BENCH_ENTRIES", if is_short() { 1 << 14 } else { 1 << 20 });
    if let Ok(name) = std::env::var(SUBJECT) {
        let subject = SUBJECTS.iter().find(|subject| subject.name == name).expect("a subject");
        println!("{}", (subject.measure)(entries));
        return;
    }
    println!(
        "\n== memory after {} updates of {entries} entries, medians of {ROUNDS}",
        entries * UPDATES_PER_ENTRY
    );
    let mut rounds = [const { Vec::new() }; SUBJECTS.len()];
    for _ in 0..ROUNDS {
        for (subject, bytes) in SUBJECTS.iter().zip(&mut rounds) {
            bytes.push(measured(subject, entries));
        }
    }
    let [bare, .., engine, _] = rounds.each_ref().map(|bytes| median(bytes.iter().copied()));
    for (subject, bytes) in SUBJECTS.iter().zip(rounds) {
        let bytes = median(bytes);
        let (mib, ratio) = (bytes / (1 << 20) as f64, bytes / bare);
        println!("{:<32} {mib:>8.1} MiB  {ratio:>5.2} x the bare model", subject.name);
    }
    let ratio = engine / bare;
    println!(
        "ratio  memory of the engine {ratio:.2} x the bare model, target at most {AT_MOST}: {}",
        verdict(ratio <= AT_MOST)
    );
}

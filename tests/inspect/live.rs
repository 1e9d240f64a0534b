//! Looks beside a program that writes, in another process: they disturb nobody, and what they tell
//! was true.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use prevalence::inspect::{Depth, Inspection, verify};
use prevalence::{Database, Retention, SnapshotPolicy};

use crate::common::child::{alone, test_name};
use crate::common::{Carry, Ledger, Mix, temporary};

/// Says to the child where its database is, and whether it archives.
const PATH: &str = "PREVALENCE_TEST_LIVE";
const ARCHIVES: &str = "PREVALENCE_TEST_LIVE_ARCHIVES";

/// Executes commands, snapshots and new runs until the parent closes the child's input.
#[test]
#[ignore = "a process that another test starts"]
fn writer() {
    let path = std::env::var_os(PATH).expect("only the parent starts this");
    let archives = std::env::var_os(ARCHIVES).is_some();
    let retention = if archives { Retention::Archive } else { Retention::Truncate };
    let open = || {
        Database::<Ledger>::builder()
            .segment_bytes(64 << 10)
            .snapshots(SnapshotPolicy::every_commands(40))
            .retention(retention)
            .open(&path)
            .expect("nobody else locks it")
    };
    let (ended, is_ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        ended.send(()).ok();
    });
    let mut sequence = 0;
    loop {
        let database = open();
        println!("open {}", database.sequence());
        for round in 0..300 {
            let pending: Vec<_> =
                (0..5).map(|value| database.submit(Mix(value)).unwrap()).collect();
            pending.into_iter().for_each(|it| assert!(it.wait().unwrap() > 0));
            database.execute(Carry(vec![3; 3_000])).unwrap();
            sequence += 6;
            if round % 10 == 9 && is_ended.try_recv().is_ok() {
                database.close().unwrap();
                println!("done {sequence}");
                return;
            }
        }
        database.close().unwrap();
    }
}

fn start(path: &Path, archives: bool) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(alone(test_name!(writer))).env(PATH, path);
    if archives {
        command.env(ARCHIVES, "1");
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    wait_for_line(&mut lines, "open ");
    (child, lines)
}

/// Returns the number behind the line that begins like this.
fn wait_for_line(lines: &mut impl BufRead, begin: &str) -> u64 {
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the child has ended");
        if let Some(at) = line.find(begin) {
            return line[at + begin.len()..].trim().parse().unwrap();
        }
    }
}

fn end(mut child: Child, mut lines: BufReader<std::process::ChildStdout>) -> u64 {
    drop(child.stdin.take());
    let sequence = wait_for_line(&mut lines, "done ");
    std::io::copy(&mut lines, &mut std::io::sink()).unwrap();
    assert!(child.wait().unwrap().success(), "a look has disturbed the writer");
    sequence
}

#[test]
fn looks_beside_a_writer_disturb_nobody_and_are_right() {
    let (_directory, path) = temporary();
    let (child, lines) = start(&path, false);
    let mut before = 0;
    for _ in 0..40 {
        let look = Inspection::open(&path).unwrap();
        assert!(look.newest_sequence() >= before);
        before = look.newest_sequence();
        assert_eq!(look.open_plan().problem, None, "{look:?}");
        let problems = look.segments().iter().filter_map(|it| it.problem.clone());
        let problems: Vec<_> =
            problems.chain(look.snapshots().iter().filter_map(|it| it.problem.clone())).collect();
        assert!(problems.is_empty(), "{problems:?}");
        for depth in [Depth::Quick, Depth::Deep] {
            let verified = verify(&path, depth, |_| {}).unwrap();
            assert!(verified.is_sound(), "{:#?}", verified.findings);
        }
    }
    let done = end(child, lines);
    let look = crate::look(&path);
    assert_eq!(look.newest_sequence(), done);
    assert!(done > before);
}

#[test]
#[cfg(target_os = "linux")]
fn a_look_tells_which_process_has_it_open() {
    use prevalence::inspect::Opener;
    let (_directory, path) = temporary();
    let (child, lines) = start(&path, false);
    // The child may be between two runs at the moment.
    let mut found = Inspection::open(&path).unwrap().opener().clone();
    for _ in 0..1000 {
        if found != Opener::NobodySeen {
            break;
        }
        found = Inspection::open(&path).unwrap().opener().clone();
    }
    assert_eq!(found, Opener::Writer { process: Some(child.id()) });
    end(child, lines);
    assert_eq!(crate::look(&path).opener(), &Opener::NobodySeen);
}

#[test]
fn all_commands_are_read_while_they_are_written_and_archived() {
    let (_directory, path) = temporary();
    let (child, lines) = start(&path, true);
    let mut records = Inspection::open(&path).unwrap().records(1..).unwrap();
    let mut next = 1;
    let mut read = |records: &mut prevalence::inspect::StoredRecords| {
        for record in records {
            let record = record.unwrap();
            assert_eq!(record.sequence, next);
            let expected = if next % 6 == 0 { "Carry" } else { "Mix" };
            assert_eq!(&*record.command_name, expected);
            next += 1;
        }
        next
    };
    while read(&mut records) < 4_000 {
        records.go_on().unwrap();
    }
    let done = end(child, lines);
    records.go_on().unwrap();
    assert_eq!(read(&mut records), done + 1);
    let look = crate::look(&path);
    assert!(!look.archives().is_empty());
    assert_eq!(look.records(..).unwrap().count() as u64, done);
    let verified = crate::deep(&path);
    assert!(verified.is_sound(), "{:#?}", verified.findings);
    assert_eq!(verified.commands, done);
    std::io::stdout().flush().unwrap();
}

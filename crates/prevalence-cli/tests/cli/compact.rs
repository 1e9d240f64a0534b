//! Compactions of an archive with the tool: what it tells, and what it refuses.

use std::process::{Command, Output};

use prevalence::{Database, Retention, SnapshotPolicy};
use serde_json::Value;

use crate::common::{Bank, Deposit, Note, code, json, temporary, text, told, tool};

/// Makes a database with several archives, and leaves it open.
fn bank(path: &std::path::Path) -> Database<Bank> {
    let open = || {
        let builder = Database::<Bank>::builder().segment_bytes(64 << 10);
        let builder = builder.snapshots(SnapshotPolicy::manual()).retention(Retention::Archive);
        builder.open(path).unwrap()
    };
    for round in 0..6_u8 {
        let bank = open();
        for number in 0..20 {
            bank.execute(Deposit(number)).unwrap();
            bank.execute(Note(char::from(b'a' + round).to_string().repeat(6 << 10))).unwrap();
        }
        bank.snapshot().unwrap();
        bank.close().unwrap();
    }
    open()
}

/// Runs the command, which may change the directory.
fn compact(path: &std::path::Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prevalence"));
    command.arg("compact-archive").arg(path).args(more).output().unwrap()
}

/// The log without the paths of files.
fn log(path: &std::path::Path) -> Vec<Value> {
    let output = tool("log", path, &["--json"]);
    assert_eq!(code(&output), 0, "{}", told(&output));
    text(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_archive_is_compacted_and_the_log_stays_as_it_was() {
    let (_directory, path) = temporary();
    let bank = bank(&path);
    let output = compact(&path, &[]);
    assert_eq!(code(&output), 3);
    assert!(told(&output).contains("open"), "{}", told(&output));
    bank.close().unwrap();

    let all = log(&path);
    let output = compact(&path, &["--json"]);
    assert_eq!(code(&output), 0, "{}", told(&output));
    let figures = json(&output);
    let many = figures["archives_before"].as_u64().unwrap();
    assert!(many > 2, "{figures}");
    assert_eq!((&figures["archives"], &figures["written"]), (&1.into(), &1.into()));
    let archive = std::fs::metadata(path.join("archive/00000000000000000001.archive")).unwrap();
    assert_eq!(figures["bytes"], archive.len());
    assert!(figures["bytes_before"].as_u64().unwrap() > archive.len(), "{figures}");
    assert_eq!(log(&path), all);
    let info = json(&tool("info", &path, &["--json"]));
    assert_eq!(info["archives"].as_array().unwrap().len(), 1);

    let output = compact(&path, &[]);
    assert_eq!(code(&output), 0);
    assert!(text(&output).starts_with("1 archive, "), "{}", text(&output));
    assert!(text(&output).contains("nothing can be merged"), "{}", text(&output));
    for wrong in [["--content", "0"], ["--level", "99"]] {
        let output = compact(&path, &wrong);
        assert_ne!(code(&output), 0);
        assert!(!told(&output).contains("panicked"));
    }
    let bank = Database::<Bank>::open(&path).unwrap();
    assert_eq!(bank.sequence(), all.len() as u64);
}

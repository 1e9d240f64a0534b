//! The night shift: a bit of the archive is flipped, and the newest segment is cut. Each figure that
//! the tool tells of the loss is compared with what the program did.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use prevalence::{Database, Metadata, Retention, SnapshotPolicy};
use serde_json::Value;

use crate::common::{Bank, Deposit, Note, code, content, filled, json, temporary, text, told};

/// Runs the tool without a terminal, and checks that it has changed nothing in the directory.
fn tool(arguments: &[&str], unchanged: &Path) -> Output {
    let before = content(unchanged);
    let output = Command::new(env!("CARGO_BIN_EXE_prevalence"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(content(unchanged) == before, "{arguments:?} has changed {}", unchanged.display());
    assert!(!told(&output).contains("panicked"), "{}", told(&output));
    output
}

fn open(path: &Path) -> Database<Bank> {
    Database::<Bank>::builder()
        .segment_bytes(64 << 10)
        .snapshots(SnapshotPolicy::manual())
        .retention(Retention::Archive)
        .open(path)
        .unwrap()
}

/// Makes a closed database: deposits of 1 cent and long notes of three actors in turn, one batch
/// each, with archives, and 30 commands behind the last snapshot.
fn bank(path: &Path) -> u64 {
    let mut bank = open(path);
    for number in 0..150_u64 {
        let actor = ["ann", "bob", "eve"][number as usize % 3].to_owned();
        let asked = Metadata { actor, ..Metadata::default() };
        if number % 2 == 0 {
            bank.with_metadata(&asked).unwrap().execute(Deposit(1)).unwrap();
        } else {
            let long = (0..6 << 10).map(|it| char::from(b'a' + (it * number % 26) as u8));
            bank.with_metadata(&asked).unwrap().execute(Note(long.collect())).unwrap();
        }
        if number % 40 == 39 {
            bank.snapshot().unwrap();
            bank.close().unwrap();
            bank = open(path);
        }
    }
    bank.close().unwrap();
    150
}

/// Lists the files of one of the directories, in order.
fn files(path: &Path, directory: &str, suffix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path.join(directory)).unwrap();
    let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|it| it == suffix));
    found.sort();
    found
}

fn first_of(path: &Path) -> u64 {
    path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

#[test]
fn the_night_shift_is_told_what_is_lost_and_opens_the_database_again() {
    let (directory, path) = temporary();
    let newest = bank(&path);
    // The oracle: which commands the damaged bytes held.
    let archives = files(&path, "archive", "archive");
    let segment = files(&path, "journal", "journal").pop().unwrap();
    let mut damaged = std::fs::read(&archives[1]).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 4;
    std::fs::write(&archives[1], damaged).unwrap();
    let lost_history = first_of(&archives[1])..=first_of(&archives[2]) - 1;
    let cut = std::fs::read(&segment).unwrap();
    let (mut at, mut kept) = (4096, first_of(&segment) - 1);
    let number = |at: usize| u32::from_le_bytes(cut[at..at + 4].try_into().unwrap());
    while kept < newest - 5 {
        kept += u64::from(number(at + 24));
        at += (36 + number(at + 4) as usize).next_multiple_of(8);
    }
    std::fs::write(&segment, &cut[..at + 20]).unwrap();
    assert_eq!(kept, newest - 5, "each command is a batch");

    let name = path.to_str().unwrap();
    let verified = json(&tool(&["verify", name, "--deep", "--json"], &path));
    assert_eq!(verified["is_sound"], false);
    let damages: Vec<&str> = verified["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["path"].as_str().unwrap())
        .collect();
    assert!(damages.contains(&archives[1].to_str().unwrap()), "{damages:?}");
    assert!(damages.contains(&segment.to_str().unwrap()), "{damages:?}");

    // Without an answer nothing is written.
    let output = tool(&["repair", name, "--json"], &path);
    assert_eq!(code(&output), 1);
    assert_eq!(json(&output)["done"], Value::Null);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);

    let repaired = format!("{name}.repaired");
    let output = tool(&["repair", name, "--yes", "--json"], &path);
    assert_eq!(code(&output), 0, "{}", told(&output));
    let told = json(&output);
    let plan = &told["plan"];
    assert_eq!(
        (plan["sequence"].as_u64(), plan["newest_known"].as_u64()),
        (Some(kept), Some(newest))
    );
    assert_eq!(plan["is_newest_exact"], true);
    let losses = plan["losses"].as_array().unwrap();
    let ranges: Vec<_> = losses
        .iter()
        .map(|it| {
            (
                it["kind"].as_str().unwrap(),
                it["first"].as_u64().unwrap(),
                it["last"].as_u64().unwrap(),
            )
        })
        .collect();
    let history = ("history", *lost_history.start(), *lost_history.end());
    assert_eq!(ranges, [history, ("state", kept + 1, newest)]);
    assert_eq!(told["done"]["path"], repaired.as_str());

    let info = json(&tool(&["info", &repaired, "--json"], Path::new(&repaired)));
    assert_eq!(info["newest_sequence"].as_u64(), Some(kept), "{info}");
    let bank = open(Path::new(&repaired));
    let deposits = |upto: u64| upto.div_ceil(2) as i64;
    assert_eq!(bank.query(|bank| bank.cents()), deposits(kept));
    bank.close().unwrap();

    // Back to before the cut, from the damaged directory itself.
    let restored = directory.path().join("restored");
    let to = (newest - 20).to_string();
    let output = tool(&["restore", name, restored.to_str().unwrap(), "--to", &to], &path);
    // The flipped bit is in the history of the copy, too.
    assert_eq!(code(&output), 1, "{}", text(&output));
    let (first, last) = (lost_history.start(), lost_history.end());
    let gap = format!("its history lacks {first} to {last}, which cannot be read");
    assert!(text(&output).contains(&gap), "{}", text(&output));
    assert_eq!(open(&restored).query(|bank| bank.cents()), deposits(newest - 20));
}

#[test]
fn the_repaired_database_takes_the_place_of_the_damaged_one() {
    let (directory, path) = temporary();
    filled(&path);
    let name = path.to_str().unwrap();
    assert_eq!(code(&tool(&["repair", name], &path)), 0, "nothing is damaged");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    std::fs::remove_file(path.join("MANIFEST")).unwrap();
    let damaged = content(&path);
    let output = Command::new(env!("CARGO_BIN_EXE_prevalence"))
        .args(["repair", name, "--yes", "--replace"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", told(&output));
    assert!(text(&output).contains("is the new database now"), "{}", text(&output));
    assert_eq!(open(&path).query(|bank| bank.cents()), 21);
    let old = directory.path().join("bank.db.replaced");
    let kept = content(&old);
    for (path, bytes) in damaged {
        let path = old.join(path.strip_prefix(directory.path().join("bank.db")).unwrap());
        assert_eq!(kept.get(&path), Some(&bytes), "{}", path.display());
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn a_backup_is_copied_once_and_then_what_is_new() {
    let (directory, path) = temporary();
    let newest = bank(&path);
    let (name, target) = (path.to_str().unwrap(), directory.path().join("backup"));
    let arguments = ["backup", name, target.to_str().unwrap(), "--history", "--json"];
    let first = json(&tool(&arguments, &path));
    assert_eq!((first["sequence"].as_u64(), first["oldest"].as_u64()), (Some(newest), Some(1)));
    let bank = open(&path);
    bank.execute(Deposit(1)).unwrap();
    bank.close().unwrap();
    let second = json(&tool(&arguments, &path));
    assert_eq!(
        (second["sequence"].as_u64(), second["copied_commands"].as_u64()),
        (Some(newest + 1), Some(1))
    );
    assert_eq!(second["copied_files"].as_u64(), Some(1));
    let log = tool(&["log", target.to_str().unwrap(), "--json"], &target);
    assert_eq!(text(&log).lines().count() as u64, newest + 1);
    assert_eq!(open(&target).query(|bank| bank.cents()), 76);
}

#[test]
fn neither_works_on_what_is_no_database_and_nothing_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let target = directory.path().join("target");
    let target = target.to_str().unwrap();
    for path in [&empty, &file, &directory.path().join("nothing")] {
        let name = path.to_str().unwrap();
        for arguments in
            [&["repair", name, "--yes"][..], &["restore", name, target], &["backup", name, target]]
        {
            let output = tool(arguments, directory.path());
            assert_eq!(code(&output), 3, "{arguments:?}");
            assert!(told(&output).starts_with("error: "), "{}", told(&output));
        }
    }
    let open = directory.path().join("open.db");
    let bank = crate::common::open(&open);
    let output = Command::new(env!("CARGO_BIN_EXE_prevalence"))
        .args(["repair", open.to_str().unwrap(), "--yes"])
        .output()
        .unwrap();
    assert_eq!(code(&output), 3);
    assert!(told(&output).contains("is already open"), "{}", told(&output));
    drop(bank);
}

//! `log`: which commands, in which form, and who reads them.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::{Deposit, Note, code, filled, json, open, temporary, text, told, tool};

fn sequences(path: &std::path::Path, more: &[&str]) -> Vec<u64> {
    let output = tool("log", path, &[&["--json"], more].concat());
    let lines = text(&output);
    let found: Vec<u64> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["sequence"].as_u64().unwrap())
        .collect();
    assert_eq!(code(&output), i32::from(found.is_empty()), "{}", told(&output));
    found
}

#[test]
fn filters_choose_commands() {
    let (_directory, path) = temporary();
    filled(&path);
    let of = |more: &[&str]| sequences(&path, more);
    assert_eq!(of(&[]), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(of(&["--from", "3", "--to", "5"]), [3, 4, 5]);
    assert_eq!(of(&["--actor", "ann", "--from", "5"]), [5, 6]);
    assert_eq!(of(&["--actor", "bob, the \"other\""]), [7, 8, 9]);
    assert_eq!(of(&["--command", "Note"]), [7, 8, 9]);
    assert_eq!(of(&["--command", "Note", "--command", "Deposit"]).len(), 9);
    assert_eq!(of(&["--request-id", "d4"]), [4]);
    assert_eq!(of(&["--limit", "2"]), [1, 2]);
    assert_eq!(of(&["--limit", "0"]), [0; 0]);
    assert_eq!(of(&["--actor", "nobody"]), [0; 0]);
    assert_eq!(of(&["--from", "10"]), [0; 0]);
    assert_eq!(of(&["--since", "1h"]).len(), 9);
    assert_eq!(of(&["--since", "2099-01-01"]), [0; 0]);
    assert_eq!(of(&["--until", "2001-01-01"]), [0; 0]);
    // The time of a command divides the commands into those before and those from there on.
    let fifth = json(&tool("log", &path, &["--json", "--from", "5", "--to", "5"]));
    let time = fifth["time"].as_str().unwrap();
    let (before, since) = (of(&["--until", time]), of(&["--since", time]));
    assert_eq!([before.clone(), since].concat(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert!(before.len() <= 4);
}

#[test]
fn each_format_holds_the_same() {
    let (_directory, path) = temporary();
    filled(&path);
    let lines = text(&tool("log", &path, &["--format", "ndjson"]));
    let records: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records[0]["command"], "Deposit");
    assert_eq!(records[0]["fields"], 1);
    assert_eq!(records[0]["events"], Value::Null);
    assert_eq!((&records[7]["request_id"], &records[7]["tag"]), (&"n1".into(), &2.into()));
    let csv = text(&tool("log", &path, &["--format", "csv"]));
    let mut rows = csv.lines();
    let names = "sequence,time,actor,request_id,attributes,tag,command,fields,events";
    assert_eq!(rows.next(), Some(names));
    let row = rows.nth(7).unwrap();
    assert!(row.starts_with("8,20"), "{row}");
    assert!(row.contains(",\"bob, the \"\"other\"\"\",n1,,2,Note,\"\"\"note 1, xxx"), "{row}");
    let told = text(&tool("log", &path, &[]));
    let line = told.lines().nth(8).unwrap();
    assert!(line.starts_with("9 20") && line.contains(" Note actor=\"bob, the \\\"other\\\"\""));
    assert!(line.contains(" \"note 2, xxx"), "{line}");
    assert!(told.lines().next().unwrap().ends_with(" Deposit actor=ann request=d1 1"));
}

#[test]
fn a_reader_that_ends_early_is_no_error() {
    let (_directory, path) = temporary();
    let bank = open(&path);
    let pending: Vec<_> = (0..3000).map(|_| bank.submit(Note("x".repeat(200))).unwrap()).collect();
    pending.into_iter().for_each(|it| assert_eq!(it.wait().unwrap(), 0));
    bank.close().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_prevalence"))
        .args(["log", "--json"])
        .arg(&path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(line.starts_with('{'));
    drop(lines);
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    let status = child.wait().unwrap();
    assert_eq!((status.code(), &*told), (Some(0), ""));
}

#[test]
fn a_journal_that_cannot_be_read_to_its_end_is_an_error_behind_what_can_be() {
    let (_directory, path) = temporary();
    filled(&path);
    let segment = path.join("journal/00000000000000000001.journal");
    let mut bytes = std::fs::read(&segment).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[used - 100] ^= 1; // in the last batch: behind it, the end of the run is noted
    std::fs::write(&segment, bytes).unwrap();
    let output = tool("log", &path, &["--json"]);
    assert_eq!((code(&output), text(&output).lines().count()), (3, 8));
    assert!(told(&output).contains("cannot be read to its end"), "{}", told(&output));
    let gap = "missing: the command with sequence 9 cannot be read";
    assert!(told(&output).contains(gap), "{}", told(&output));
    assert_eq!(sequences(&path, &["--to", "8"]).len(), 8);
    assert_eq!(sequences(&path, &["--limit", "3"]).len(), 3);
}

/// Makes a database with several segments, and returns the paths of these.
fn with_segments(path: &std::path::Path) -> Vec<std::path::PathBuf> {
    for run in 0..4 {
        let bank = open(path);
        for number in 0..5 {
            bank.execute(Note(format!("{run} {number} {}", "z".repeat(9000)))).unwrap();
        }
        bank.close().unwrap();
    }
    let entries = std::fs::read_dir(path.join("journal")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|it| it == "journal"));
    assert!(paths.len() > 3, "{paths:?}");
    paths
}

fn first_of(segment: &std::path::Path) -> u64 {
    segment.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

#[test]
fn commands_behind_damage_and_behind_a_missing_file_are_printed() {
    let (_directory, path) = temporary();
    let segments = with_segments(&path);
    let all = sequences(&path, &[]);
    assert_eq!(all, (1..=20).collect::<Vec<_>>());
    let (gone, behind) = (first_of(&segments[1]), first_of(&segments[2]));
    std::fs::remove_file(&segments[1]).unwrap();
    // One batch in the third segment is damaged.
    let mut bytes = std::fs::read(&segments[2]).unwrap();
    let batch = bytes.windows(4).position(|it| it == b"PVFR").unwrap();
    bytes[batch + 40] ^= 1;
    std::fs::write(&segments[2], bytes).unwrap();
    let output = tool("log", &path, &["--json"]);
    let found: Vec<u64> = text(&output)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["sequence"].as_u64().unwrap())
        .collect();
    let first_found = *found.iter().find(|&&it| it >= behind).unwrap();
    let expected: Vec<u64> = (1..gone).chain(first_found..=20).collect();
    assert_eq!(found, expected);
    assert!(first_found > behind && first_found < 20);
    let told = told(&output);
    assert_eq!(code(&output), 3);
    let gap = format!("missing: commands {gone} to {} cannot be read", first_found - 1);
    assert!(told.contains(&gap) && told.contains("prevalence repair"), "{told}");
    assert!(told.contains(&segments[2].display().to_string()), "{told}");
    // What is asked for before the damage is whole, and so is what is behind it.
    assert_eq!(sequences(&path, &["--to", "2"]), [1, 2]);
    assert_eq!(sequences(&path, &["--from", "20"]), [20]);
    // The same from inside of the gap.
    let output = tool("log", &path, &["--json", "--from", &gone.to_string()]);
    assert_eq!(text(&output).lines().count(), expected.iter().filter(|&&it| it > gone).count());
    assert_eq!(code(&output), 3);
}

#[test]
fn following_prints_what_comes() {
    let (_directory, path) = temporary();
    filled(&path);
    let bank = open(&path);
    let mut child = Command::new(env!("CARGO_BIN_EXE_prevalence"))
        .args(["log", "--json", "--follow", "--from", "9", "--limit", "4"])
        .arg(&path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    let mut lines = lines.lines().map(|line| {
        serde_json::from_str::<Value>(&line.unwrap()).unwrap()["sequence"].as_u64().unwrap()
    });
    assert_eq!(lines.next(), Some(9));
    for sequence in 10..=12 {
        bank.execute(Deposit(1)).unwrap();
        assert_eq!(lines.next(), Some(sequence));
    }
    assert_eq!(lines.next(), None, "it ends with its limit");
    assert!(child.wait().unwrap().success());
    bank.close().unwrap();
}

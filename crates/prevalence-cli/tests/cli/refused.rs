//! Wrong calls, and places that are no whole database: an error that says what to do, never a
//! panic.

use std::process::Command;

use crate::common::{code, filled, temporary, told, tool};

const ALL: [(&str, &[&str]); 4] =
    [("info", &[]), ("du", &["--json"]), ("log", &[]), ("verify", &["--deep"])];

#[test]
fn what_is_no_database_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let nothing = directory.path().join("nothing");
    for (wanted, more) in ALL {
        for path in [&empty, &file, &nothing] {
            let output = tool(wanted, path, more);
            assert_eq!(code(&output), 3, "{wanted} {}", path.display());
            assert!(told(&output).starts_with("error: "), "{}", told(&output));
            assert!(output.stdout.is_empty());
        }
    }
}

#[test]
fn a_database_of_a_newer_format_cannot_be_read() {
    let (_directory, path) = temporary();
    filled(&path);
    let manifest = path.join("MANIFEST");
    let mut bytes = std::fs::read(&manifest).unwrap();
    bytes[8] = 2;
    std::fs::write(&manifest, bytes).unwrap();
    for (wanted, more) in ALL {
        let output = tool(wanted, &path, more);
        assert_eq!(code(&output), 3);
        assert!(told(&output).contains("format version 2"), "{}", told(&output));
    }
}

#[test]
fn a_half_copied_database_is_verified_nevertheless() {
    let (_directory, path) = temporary();
    filled(&path);
    std::fs::remove_file(path.join("MANIFEST")).unwrap();
    assert_eq!(code(&tool("info", &path, &[])), 3);
    assert_eq!(code(&tool("verify", &path, &[])), 1);
}

#[test]
fn wrong_arguments_end_with_2() {
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_prevalence")).args(arguments).output().unwrap()
    };
    for wrong in [
        &["frobnicate"][..],
        &["log"],
        &["log", "x", "--since", "yesterday"],
        &["log", "x", "--json", "--format", "csv"],
        &["log", "x", "--from", "9", "--to", "8"],
        &[],
    ] {
        let output = run(wrong);
        assert_eq!(code(&output), 2, "{wrong:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{wrong:?}");
    }
    let help = run(&["--help"]);
    assert_eq!(code(&help), 0);
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("Exit codes:") && help.contains("verify"), "{help}");
}

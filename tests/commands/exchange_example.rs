//! Tests the exchange example as a user runs it: when it is killed and continued, the last line is
//! the same.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Builds the example (a plain `cargo test` has already built it) and returns its path.
pub fn example() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--example", "exchange"]);
    let deps = std::env::current_exe().unwrap();
    let profile = deps.parent().unwrap().parent().unwrap();
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    cargo.env("CARGO_TARGET_DIR", profile.parent().unwrap());
    assert!(cargo.status().unwrap().success());
    profile.join("examples").join("exchange")
}

fn last_line(example: &Path, arguments: &[&str]) -> String {
    let output = Command::new(example).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = String::from_utf8(output.stdout).unwrap();
    assert!(output.ends_with('\n'));
    output.lines().last().unwrap().to_owned()
}

#[test]
fn killed_anywhere_and_continued_it_ends_with_the_same_line() {
    check(&[]);
}

#[test]
fn snapshots_and_archive_do_not_change_the_line_by_a_character() {
    check(&["--snapshot-every", "3000", "--archive"]);
}

fn check(extra: &[&str]) {
    let example = example();
    let directory = tempfile::tempdir().unwrap();
    let whole = directory.path().join("whole").display().to_string();
    let expected = last_line(&example, &["--data", &whole]);
    assert!(expected.starts_with("accepted="), "{expected}");
    assert_eq!(last_line(&example, &["--data", &whole]), expected, "from its journal alone");

    let killed = directory.path().join("killed").display().to_string();
    let arguments = [&["--data", &killed], extra].concat();
    let mut early = 0;
    for _ in 0..10 {
        let before = newest_segment(&killed);
        let mut child = Command::new(&example)
            .args(&arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // A segment is named by its first sequence; with 5,000 more a run is well under way.
        while newest_segment(&killed) < before + 5000 && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        early += u32::from(!child.wait().unwrap().success());
    }
    println!("{early} of 10 runs were killed before their end");
    assert!(early > 0);
    assert_eq!(last_line(&example, &arguments), expected);
}

fn newest_segment(database: &str) -> u64 {
    let sequence = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.ok()?.path().file_stem()?.to_str()?.parse::<u64>().ok()
    };
    std::fs::read_dir(Path::new(database).join("journal"))
        .map_or(0, |journal| journal.filter_map(sequence).max().unwrap_or(0))
}

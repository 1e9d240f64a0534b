//! The parts that the benches share: the directory in which they run, the result of one run, and
//! the comparison with its floor.

// Each bench uses only a part of this module.
#![allow(dead_code)]

pub mod comparison;
pub mod run;
pub mod value;

use std::path::Path;

/// Returns whether everything should be small and quick: `-- --test`, or `cargo test --benches`.
pub fn is_short() -> bool {
    let has = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    has("--test") || !has("--bench")
}

/// Returns whether the part of a bench with this name should run. All parts run if no words are
/// given.
pub fn is_wanted(name: &str) -> bool {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-')).peekable();
    words.peek().is_none() || words.any(|word| name.contains(&word))
}

/// Makes a directory on the disk of the target directory, because /tmp may be in memory.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory is writable")
}

/// Returns a number that looks random (SplitMix64).
pub fn mix(index: u64) -> u64 {
    let mut mixed = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Reads a number from the environment.
pub fn setting(name: &str, otherwise: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return otherwise };
    text.replace('_', "").parse().unwrap_or_else(|_| panic!("{name}={text} is no number"))
}

/// Returns the resident memory of this process in bytes, as Linux reports it.
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it is always there");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
}

/// Returns the bytes of all files below `directory`. A segment that is being prepared has no name
/// yet, so it is not counted. A file that is removed meanwhile is not counted either.
pub fn disk_bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).expect("a directory");
    entries
        .map(|entry| entry.expect("an entry"))
        .map(|entry| match entry.file_type().expect("a type").is_dir() {
            true => disk_bytes(&entry.path()),
            false => entry.metadata().map_or(0, |metadata| metadata.len()),
        })
        .sum()
}

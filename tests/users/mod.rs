//! What the tests of users' code share.

mod deep;
mod fragile;
mod mirror;
mod panics;

use std::path::Path;

/// Returns the names in a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

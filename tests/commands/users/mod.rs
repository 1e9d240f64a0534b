//! Users' code that does not do what it must: types that do not mirror themselves, values nested
//! without end, panics in `Clone`, `Drop`, `Serialize` and `Deserialize`. Nothing acknowledged is
//! lost, everybody hears why, and no process ends.
//!
//! - `mirror`, `large_mirror`: models that encode but do not decode
//! - `deep`: models and commands that are nested deep
//! - `panics`: panics where nobody expects them; `fragile` is the model that panics

mod deep;
mod fragile;
mod large_mirror;
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

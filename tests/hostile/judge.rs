//! The verdict on one cell.

use std::path::Path;

use prevalence::Retention;

use super::diary::{Diary, builder};
use crate::common::content;

/// Opens our database, which must hold one of `states`. The error says what is wrong.
pub fn judge(path: &Path, states: &[Vec<u64>], retention: Retention) -> Result<(), String> {
    let database =
        builder(retention).open(path).map_err(|error| format!("it does not open: {error}"))?;
    let held = database.query(Diary::entries);
    if !states.contains(&held) {
        return Err(format!("it holds {held:?} and not {states:?}"));
    }
    let damaged = &database.recovery().damaged_snapshots;
    if !damaged.is_empty() {
        return Err(format!("snapshots are damaged: {damaged:?}"));
    }
    let next = super::diary::Enter { number: 999_999, padding: Vec::new() };
    database.execute(next).map_err(|error| format!("it does not go on: {error}"))?;
    database.snapshot().map_err(|error| format!("it takes no snapshot: {error}"))?;
    database.close().map_err(|error| format!("it does not close: {error}"))?;
    let again = builder(retention).open(path).map_err(|error| format!("once only: {error}"))?;
    let expected = [&*held, &[999_999]].concat();
    if again.query(Diary::entries) != expected {
        return Err("it does not stay as it is".to_owned());
    }
    again.close().map_err(|error| format!("it does not close again: {error}"))
}

/// Lists temporary files and directories of ours, anywhere below a directory.
pub fn temporaries(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(".prevalence-") || name.contains(".purging") {
                found.push(path.display().to_string());
            }
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    found
}

/// Returns whether another database is unchanged, byte for byte.
pub fn is_untouched(path: &Path, template: &Path) -> bool {
    content(path) == content(template)
}

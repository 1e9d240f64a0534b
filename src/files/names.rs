//! Owns the names of numbered files: a number in twenty digits, and a suffix for the kind. Knows
//! nothing of what the files hold.

use std::path::{Path, PathBuf};

use super::{StoreError, exists};
use crate::storage::Storage;

pub(crate) const SEGMENT_SUFFIX: &str = ".journal";
pub(crate) const SNAPSHOT_SUFFIX: &str = ".snapshot";
pub(crate) const ARCHIVE_SUFFIX: &str = ".archive";
pub(crate) const PURGE_SUFFIX: &str = ".purge";
pub(crate) const CHECKPOINT_SUFFIX: &str = ".checkpoint";

/// The number of digits. Every `u64` fits, so that all names have one length and sort as their
/// numbers do.
const DIGITS: usize = 20;

pub(crate) fn segment_path(journal_directory: &Path, first_sequence: u64) -> PathBuf {
    numbered_path(journal_directory, first_sequence, SEGMENT_SUFFIX)
}

pub(crate) fn snapshot_path(snapshot_directory: &Path, sequence: u64) -> PathBuf {
    numbered_path(snapshot_directory, sequence, SNAPSHOT_SUFFIX)
}

pub(crate) fn archive_path(archive_directory: &Path, first_sequence: u64) -> PathBuf {
    numbered_path(archive_directory, first_sequence, ARCHIVE_SUFFIX)
}

pub(crate) fn numbered_path(directory: &Path, number: u64, suffix: &str) -> PathBuf {
    directory.join(format!("{number:0DIGITS$}{suffix}"))
}

/// Lists the first sequences of the segments in a directory, oldest first. Files with other names
/// do not belong to this crate.
pub(crate) fn list_segments(
    storage: &dyn Storage,
    journal_directory: &Path,
) -> Result<Vec<u64>, StoreError> {
    list_numbered(storage, journal_directory, SEGMENT_SUFFIX)
}

/// Lists the sequences of the snapshots in a directory, oldest first.
pub(crate) fn list_snapshots(
    storage: &dyn Storage,
    snapshot_directory: &Path,
) -> Result<Vec<u64>, StoreError> {
    list_numbered(storage, snapshot_directory, SNAPSHOT_SUFFIX)
}

/// Lists the first sequences of the archives in a directory, oldest first; none when the directory
/// does not exist.
pub(crate) fn list_archives(
    storage: &dyn Storage,
    archive_directory: &Path,
) -> Result<Vec<u64>, StoreError> {
    list_if_there(storage, archive_directory, ARCHIVE_SUFFIX)
}

/// Lists the numbers of the files with that suffix, in order; none when the directory does not
/// exist.
pub(crate) fn list_if_there(
    storage: &dyn Storage,
    directory: &Path,
    suffix: &str,
) -> Result<Vec<u64>, StoreError> {
    if exists(storage, directory)? {
        list_numbered(storage, directory, suffix)
    } else {
        Ok(Vec::new())
    }
}

fn list_numbered(
    storage: &dyn Storage,
    directory: &Path,
    suffix: &str,
) -> Result<Vec<u64>, StoreError> {
    let names = storage.list(directory).map_err(StoreError::io("list", directory))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| parse(name, suffix)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn parse(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    let only_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    if digits.len() == DIGITS && only_digits { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_are_segments() {
        let path = segment_path(Path::new("journal"), 42);
        assert_eq!(path, Path::new("journal/00000000000000000042.journal"));
        assert_eq!(parse("00000000000000000042.journal", SEGMENT_SUFFIX), Some(42));
        for name in [
            "42.journal",
            "+0000000000000000042.journal",
            "notes.txt",
            ".journal",
            "00000000000000000042.journal~",
            "99999999999999999999.journal",
        ] {
            assert_eq!(parse(name, SEGMENT_SUFFIX), None, "{name}");
        }
    }
}

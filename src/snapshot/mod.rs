//! Owns snapshots: the compressed encoding of one version of the model in a checksummed file.
//! Knows the model only as something that serde can write and read.
//!
//! - `format`: chunks and footer
//! - `write`: stream a model into a new file, publish it, read it back
//! - `read`: verify a file, then decode it

mod format;
mod read;
mod write;

pub(crate) use read::SnapshotFile;
pub(crate) use write::{SnapshotOptions, write_snapshot};

use std::path::{Path, PathBuf};

const SNAPSHOT_SUFFIX: &str = ".snapshot";
const SEQUENCE_DIGITS: usize = 20;

pub(crate) fn snapshot_path(snapshot_directory: &Path, sequence: u64) -> PathBuf {
    snapshot_directory.join(format!("{sequence:0SEQUENCE_DIGITS$}{SNAPSHOT_SUFFIX}"))
}

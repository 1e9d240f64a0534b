//! New databases from the files of others, without the program's types: repairing a damaged one,
//! and going back to an earlier command or time. Whatever is done here, the old directory stays as
//! it is. The new one stands beside it, and gets its name only when all of it was verified. Only
//! [`compact_archive`] changes a directory in its place.
//!
//! ```
//! # use prevalence::{Command, Context, Database, Model};
//! # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
//! # struct Counter(u64);
//! # impl Model for Counter { type Event = (); }
//! # #[derive(serde::Serialize, serde::Deserialize)]
//! # struct Add(u64);
//! # impl Command<Counter> for Add {
//! #     type Output = u64;
//! #     type Rejection = std::convert::Infallible;
//! #     fn apply(self, counter: &mut Counter, _: &mut Context<'_, Counter>)
//! #         -> Result<u64, Self::Rejection> { counter.0 += self.0; Ok(counter.0) }
//! # }
//! # prevalence::commands! { Counter { 1 => Add } }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("counter.db");
//! # let before = directory.path().join("before.db");
//! let counter = Database::<Counter>::open(&path)?;
//! for number in [5, 6, 700] {
//!     counter.execute(Add(number))?;
//! }
//! counter.close()?;
//!
//! use prevalence::rescue::{Point, restore_to};
//! let restored = restore_to(&path, &before, Point::Sequence(2), |_| {})?; // the third was wrong
//! assert_eq!(restored.sequence, 2);
//! assert_eq!(Database::<Counter>::open(&before)?.query(|counter| counter.0), 11);
//! # Ok(())
//! # }
//! ```
//!
//! # Which part owns what
//!
//! - `held_files`: keeps files open that a program may remove meanwhile
//! - `pieces`: which batches of one file can be read
//! - `stock`: what of a directory can be read
//! - `places`: whether a copy stands beside the original
//! - `course`: the choice of a snapshot and the commands behind it
//! - `loss`: what is told of commands that are lost
//! - `copying`: copies files, and cuts batches
//! - `assembly`: writes a new directory
//! - `proof`: verifies it before it gets its name
//! - `repair`, `restore`: what a user asks for
//! - `salvage`: the commands that can be read, one by one
//! - `mirror`: the directory of a backup
//! - `mirrored_archive`: its archive, which may be merged as that of the original is not
//! - `way`: where its journal goes on
//! - `backup`: copies what is new into it
//! - `replace`: exchanges a database for a new one
//! - `compact`: merges archives
//! - `simulated`: the same on a disk in memory, for tests

mod assembly;
mod backup;
mod compact;
mod copying;
mod course;
mod held_files;
mod loss;
mod mirror;
mod mirrored_archive;
mod pieces;
mod places;
mod proof;
mod repair;
mod replace;
mod restore;
mod salvage;
#[cfg(any(test, fuzzing))]
pub(crate) mod simulated;
mod stock;
#[cfg(test)]
mod tests;
mod way;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

pub use backup::{BackupHistory, BackupReport, backup};
pub use compact::{Compaction, CompactionReport, compact_archive};
pub use loss::{Loss, LossKind};
pub use pieces::Unreadable;
pub use repair::{RepairPlan, plan_repair};
pub use replace::replace;
pub use restore::{Point, restore_to};
pub use salvage::{Salvage, Salvaged, salvage};

use crate::error::Error;
use crate::inspect::VerifyProgress;
use crate::storage::{EntryKind, Storage};

/// How far reading or copying is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The bytes that were read.
    pub done_bytes: u64,
    /// The bytes of all files, about.
    pub total_bytes: u64,
}

/// A new database.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// Its directory.
    pub path: PathBuf,
    /// The sequence of its newest command.
    pub sequence: u64,
    /// The commands that are missing in its history. The model has what they did.
    pub missing_history: Vec<RangeInclusive<u64>>,
}

/// Whether an error is about a file of the directory `root`, so that its program may have caused it
/// by changing files meanwhile.
fn is_about(error: &Error, root: &Path) -> bool {
    match error {
        Error::Io { path, .. }
        | Error::Corrupt { path, .. }
        | Error::Missing { path, .. }
        | Error::HistoryTruncated { path, .. } => path.starts_with(root),
        _ => false,
    }
}

/// Makes the error that a directory cannot be opened, of the problem that a look at it tells.
fn cannot_be_opened(root: &Path, expected: impl Into<String>, problem: &str) -> Error {
    // The problem is the text of another error, with advice that this one gives, too.
    let found = problem.split(". Nothing was changed").next().unwrap_or(problem);
    Error::corrupt(root, 0, expected, found)
}

/// Counts what was read, and tells it.
struct Steps<'a> {
    progress: &'a mut dyn FnMut(Progress),
    seen: Progress,
    /// How much of the copy its proof has read; `None` before it has begun.
    proved_bytes: Option<u64>,
}

impl<'a> Steps<'a> {
    fn of(
        storage: &dyn Storage,
        root: &Path,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Result<Self, Error> {
        let mut total_bytes = 0;
        for place in ["snapshots", "archive", "journal"] {
            let path = root.join(place);
            if !matches!(storage.kind(&path), Ok(Some(EntryKind::Directory))) {
                continue;
            }
            let entries = storage.entries(&path).map_err(Error::io("list", &path))?;
            total_bytes += entries.iter().map(|it| it.bytes).sum::<u64>();
        }
        let seen = Progress { done_bytes: 0, total_bytes };
        Ok(Self { progress, seen, proved_bytes: None })
    }

    /// Says that as much is read so many times: first the original, then what is copied of it, and
    /// then the copy.
    fn times(mut self, times: u64) -> Self {
        self.seen.total_bytes = self.seen.total_bytes.saturating_mul(times);
        self
    }

    /// Counts what the proof of a copy has read. How much that will be is known when it begins.
    fn proved(&mut self, proof: VerifyProgress) {
        let total = proof.total_bytes.max(proof.done_bytes).saturating_sub(proof.done_bytes);
        let bytes = proof.done_bytes.saturating_sub(self.proved_bytes.unwrap_or(0));
        self.proved_bytes = Some(proof.done_bytes);
        let done = self.seen.done_bytes.saturating_add(bytes);
        self.seen.total_bytes = done.saturating_add(total);
        self.step(bytes);
    }

    /// Tells that all was read.
    fn end(&mut self) {
        self.seen.total_bytes = self.seen.done_bytes;
        (self.progress)(self.seen);
    }

    fn step(&mut self, bytes: u64) {
        self.seen.done_bytes = self.seen.done_bytes.saturating_add(bytes);
        (self.progress)(self.seen);
    }
}

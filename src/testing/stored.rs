//! Owns the checks of a stored history that an application's tests make. Knows nothing of how a
//! history is read.

use std::fs;
use std::io;
use std::path::Path;

use tempfile::TempDir;

use crate::error::Error;
use crate::history::{HistoryReport, replay_twice, verify_history};
use crate::model::Model;

/// All that a database's directory holds, besides its files.
const DIRECTORIES: [&str; 3] = ["journal", "snapshots", "archive"];

/// That today's code makes of the history in the directory `path` what was made of it once:
/// [`verify_history`] on a copy, so that the directory may be a fixture under version control. The
/// report says how much was replayed and compared; a test may insist on some of it.
///
/// ```no_run
/// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)] struct Bank;
/// # impl prevalence::Model for Bank { type Event = (); }
/// # prevalence::commands! { Bank {} }
/// #[test]
/// fn the_ledger_of_2023_means_what_it_meant() {
///     prevalence::testing::assert_history::<Bank>("tests/fixtures/ledger-2023.db");
/// }
/// ```
///
/// Nobody may have the directory open: the copy could be taken while it changes.
///
/// # Panics
/// When replay comes to another model than a stored snapshot, or a command is not accepted any
/// more, with the whole [`Divergence`](crate::Divergence) as text; when the directory cannot be
/// copied or read.
#[track_caller]
pub fn assert_history<M: Model>(path: impl AsRef<Path>) -> HistoryReport {
    on_a_copy(path.as_ref(), |copy| verify_history::<M>(copy))
}

/// That today's code makes the same of the history in the directory `path` each time: it is
/// replayed twice side by side, on a copy of the directory, and the encodings of both models are
/// compared at every stored snapshot, at up to 256 further places and at the end. Where they part,
/// the command is searched for by halves.
///
/// At each of these places one of the two models is encoded and decoded, as by a snapshot and a
/// start: so a command that depends on the order of a `HashMap` or on a field that is not stored is
/// noticed as well as one that reads a clock or a static. Not noticed is what differs in between and
/// is equal again at the next such place, nor what is the same in one process and another in the
/// next.
///
/// A model whose equal values are encoded differently, such as one that holds a `HashMap`, fails.
/// [`verify_against`](crate::verify_against)`::<Bank, Bank>` replays one program twice, too, and
/// compares as it is told.
///
/// # Panics
/// When the two come to different models, or a command is not accepted any more, with the whole
/// [`Divergence`](crate::Divergence) as text; when the directory cannot be copied or read.
#[track_caller]
pub fn assert_deterministic<M: Model>(path: impl AsRef<Path>) -> HistoryReport {
    on_a_copy(path.as_ref(), |copy| replay_twice::<M>(copy))
}

#[track_caller]
fn on_a_copy(
    path: &Path,
    check: impl FnOnce(&Path) -> Result<HistoryReport, Error>,
) -> HistoryReport {
    let shown = path.display();
    let copy = match copy_of(path) {
        Ok(copy) => copy,
        Err(error) => panic!("the history in {shown} cannot be copied: {error}"),
    };
    let report = match check(copy.path()) {
        Ok(report) => report,
        Err(error) => panic!("the history in {shown} cannot be read: {error}"),
    };
    if let Some(divergence) = &report.divergence {
        panic!("the history in {shown} does not mean any more what it meant: {divergence}");
    }
    report
}

/// A copy of a database's directory that goes away with what is given.
fn copy_of(path: &Path) -> io::Result<TempDir> {
    let copy = TempDir::new()?;
    copy_files(path, copy.path())?;
    for name in DIRECTORIES {
        let (from, to) = (path.join(name), copy.path().join(name));
        if from.is_dir() {
            fs::create_dir(&to)?;
            copy_files(&from, &to)?;
        }
    }
    Ok(copy)
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

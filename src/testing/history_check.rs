//! Checks a stored history in an application's tests. Knows nothing of how a history is read.

use std::fs;
use std::io;
use std::path::Path;

use tempfile::TempDir;

use crate::error::Error;
use crate::history::{HistoryReport, replay_twice, verify_history};
use crate::model::Model;

/// The directories inside a database's directory.
const DIRECTORIES: [&str; 3] = ["journal", "snapshots", "archive"];

/// Asserts that replay with today's code reproduces the stored snapshots of the history in the
/// directory `path`. It runs [`verify_history`] on a copy, so the directory may be a fixture under
/// version control. The report says how much was replayed and compared; a test may check that too.
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
/// The database must not be open: otherwise the directory could change while it is copied.
///
/// # Panics
/// If replay makes another model than a stored snapshot holds, or a command is no longer accepted;
/// the text is the whole [`Divergence`](crate::Divergence). If the directory cannot be copied or
/// read.
#[track_caller]
pub fn assert_history<M: Model>(path: impl AsRef<Path>) -> HistoryReport {
    on_a_copy(path.as_ref(), |copy| verify_history::<M>(copy))
}

/// Asserts that two replays of the history in the directory `path` make the same model. They run
/// side by side on a copy of the directory. The encodings of both models are compared at every
/// stored snapshot, at up to 256 further places, and at the end. If they differ, the command is
/// searched for by halving.
///
/// At each of these places one of the two models is encoded and decoded, as it is by a snapshot and
/// a start. So the check notices a command that reads a clock or a static, and also one that
/// depends on the order of a `HashMap` or on a field that is not stored. It does not notice a
/// difference that is gone again at the next of these places, nor one between two processes.
///
/// A model whose equal values have different encodings fails, for example one that holds a
/// `HashMap`. For such a model use [`verify_against`](crate::verify_against)`::<Bank, Bank>`, which
/// also replays one program twice, and compares with a function that you give.
///
/// # Panics
/// If the two replays make different models, or a command is no longer accepted; the text is the
/// whole [`Divergence`](crate::Divergence). If the directory cannot be copied or read.
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
        panic!("the history in {shown} no longer means the same: {divergence}");
    }
    report
}

/// Copies a database's directory. The copy is removed when the result is dropped.
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

//! Owns the retention options: what happens to commands older than the oldest snapshot, and to
//! superseded snapshots. Knows nothing of how they are kept.

/// What happens to the part of the journal that is older than the oldest kept snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retention {
    /// The default, system prevalence: whole segments are removed. If `archive/` exists from an
    /// earlier open with [`Archive`](Self::Archive), segments are still archived. Move that
    /// directory away to end the history.
    #[default]
    Truncate,
    /// Command sourcing: whole segments are compressed into `archive/`, so that every accepted
    /// command is kept. Superseded snapshots move there, as set by
    /// [`Builder::archive_snapshots`](crate::Builder::archive_snapshots).
    /// [`Database::history`](crate::Database::history) reads the archive.
    Archive,
}

/// Which superseded snapshots are kept in `archive/` under [`Retention::Archive`].
/// [`History::at`](crate::History::at) starts from one of them and replays at most up to the next.
/// So more snapshots take more disk space and make `at` faster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArchivedSnapshots {
    /// The default: all of them.
    #[default]
    All,
    /// The first, and each one that comes at least this many commands after the last one kept.
    EveryCommands(u64),
    /// Only the first. It holds the initial model, if the archive reaches back to that.
    FirstOnly,
}

impl ArchivedSnapshots {
    /// Returns whether the snapshot with this sequence is kept. `before` is the sequence of the
    /// last one that was kept.
    pub(crate) fn keeps(self, sequence: u64, before: Option<u64>) -> bool {
        match (self, before) {
            (_, None) | (Self::All, _) => true,
            (Self::EveryCommands(commands), Some(before)) => {
                sequence.saturating_sub(before) >= commands
            }
            (Self::FirstOnly, Some(_)) => false,
        }
    }
}

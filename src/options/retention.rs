//! Owns what a user may choose of what is kept: commands behind the oldest snapshot, and snapshots that
//! newer ones supersede. Knows nothing of how it is kept.

/// What becomes of the journal behind the oldest snapshot that is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retention {
    /// System prevalence: whole segments are removed. The default. Where `archive/` exists, from an
    /// earlier open with [`Archive`](Self::Archive), segments are archived all the same; move that
    /// directory away to end the history.
    #[default]
    Truncate,
    /// Command sourcing: whole segments are compressed into `archive/`, so that every command ever
    /// accepted is kept, and superseded snapshots move there, as
    /// [`Builder::archive_snapshots`](crate::Builder::archive_snapshots) says.
    /// [`Database::history`](crate::Database::history) reads it.
    Archive,
}

/// Which of the snapshots that newer ones supersede are kept in `archive/`, under
/// [`Retention::Archive`]. From each, [`History::at`](crate::History::at) replays at most to the
/// next, so this trades room on the disk against its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArchivedSnapshots {
    /// All of them. The default.
    #[default]
    All,
    /// The first, and each that is at least so many commands behind the last one kept.
    EveryCommands(u64),
    /// The first alone: that of the initial model, if the archive goes back to it.
    FirstOnly,
}

impl ArchivedSnapshots {
    /// `before`: the last one that was kept.
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

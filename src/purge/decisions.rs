//! Owns the decision for each command. All decisions are made before anything is written, so that
//! the header of a new file can name its commands. Knows nothing of how files are written.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::action::{PurgeAction, Replacement};
use crate::error::Error;
use crate::history::{HistoryFiles, HistoryRecord, HistoryRecords};
use crate::journal::Record;
use crate::model::{CommandTable, Model, REDACTED_NAME, REDACTED_TAG};

/// All commands that change, and how many do not.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    changes: BTreeMap<u64, Change>,
    pub(super) kept: u64,
}

#[derive(Debug)]
struct Change {
    /// The tag and the bytes of the replacement; `None` if the command stays.
    command: Option<(u16, Vec<u8>)>,
    metadata_dropped: bool,
}

impl Decisions {
    /// Calls `decide` for every command from sequence 1 on.
    pub(super) fn of<M: Model>(
        files: &Arc<HistoryFiles>,
        mut decide: impl FnMut(&HistoryRecord<M>) -> PurgeAction<M>,
    ) -> Result<Self, Error> {
        let mut decisions = Self::default();
        for record in HistoryRecords::<M>::new(files, &(1..))? {
            let record = record?;
            let action = decide(&record);
            match Change::of(&record, action)? {
                Some(change) => drop(decisions.changes.insert(record.sequence(), change)),
                None => decisions.kept += 1,
            }
        }
        Ok(decisions)
    }

    /// Returns the sequence of the first command that changes.
    pub(super) fn first(&self) -> Option<u64> {
        self.changes.keys().next().copied()
    }

    pub(super) fn replaced(&self) -> Vec<u64> {
        self.sequences(|change| change.replaces())
    }

    pub(super) fn redacted(&self) -> Vec<u64> {
        self.sequences(|change| change.redacts())
    }

    /// Returns the sequences of the commands that lose their metadata and are not erased.
    pub(super) fn metadata_dropped(&self) -> Vec<u64> {
        self.sequences(|change| change.metadata_dropped && !change.redacts())
    }

    fn sequences(&self, wanted: impl Fn(&Change) -> bool) -> Vec<u64> {
        let wanted = self.changes.iter().filter(|(_, change)| wanted(change));
        wanted.map(|(&sequence, _)| sequence).collect()
    }

    /// Returns the new form of a record.
    pub(super) fn rewritten<'a>(&'a self, sequence: u64, record: &Record<'a>) -> Record<'a> {
        let mut record = *record;
        let Some(change) = self.changes.get(&sequence) else { return record };
        if let Some((tag, bytes)) = &change.command {
            (record.tag, record.command) = (*tag, bytes);
        }
        if change.metadata_dropped {
            record.metadata = &[];
        }
        record
    }

    /// Returns whether another command takes the place of this one.
    pub(super) fn replaces(&self, sequence: u64) -> bool {
        self.changes.get(&sequence).is_some_and(|change| change.command.is_some())
    }

    /// A file's table of names, with those of all commands that take other commands' places in it,
    /// or behind it.
    pub(super) fn named<M: Model>(
        &self,
        mut table: Vec<(u16, String)>,
        first_sequence: u64,
    ) -> Vec<(u16, String)> {
        for change in self.changes.range(first_sequence..).map(|(_, change)| change) {
            if let Some((tag, _)) = change.command
                && table.iter().all(|(known, _)| *known != tag)
            {
                table.push((tag, name::<M>(tag).to_owned()));
            }
        }
        table
    }
}

impl Change {
    /// Makes a change from an action. `None` if the command does not change.
    fn of<M: Model>(
        record: &HistoryRecord<M>,
        action: PurgeAction<M>,
    ) -> Result<Option<Self>, Error> {
        let has_metadata = record.has_metadata();
        Ok(match action {
            PurgeAction::DropMetadata if has_metadata => {
                Some(Self { command: None, metadata_dropped: true })
            }
            PurgeAction::Redact if !record.is_redacted() => {
                let command = Some((REDACTED_TAG, Vec::new()));
                Some(Self { command, metadata_dropped: has_metadata })
            }
            PurgeAction::Keep | PurgeAction::DropMetadata | PurgeAction::Redact => None,
            PurgeAction::Replace(Replacement { tag, command, without_metadata, .. }) => {
                let bytes = command.map_err(|reason| Error::PurgeRefused {
                    sequence: record.sequence(),
                    command: name::<M>(tag).to_owned(),
                    reason: format!("its replacement cannot be encoded: {reason}"),
                })?;
                let metadata_dropped = without_metadata && has_metadata;
                Some(Self { command: Some((tag, bytes)), metadata_dropped })
            }
        })
    }

    fn redacts(&self) -> bool {
        matches!(self.command, Some((REDACTED_TAG, _)))
    }

    fn replaces(&self) -> bool {
        self.command.is_some() && !self.redacts()
    }
}

/// Returns the command's name in this program.
pub(super) fn name<M: Model>(tag: u16) -> &'static str {
    CommandTable::<M>::new().get(tag).map_or(REDACTED_NAME, |entry| entry.name())
}

//! Owns where the journal of a backup goes on: behind what it has, or anew. Knows nothing of how
//! anything is copied.

use std::sync::Arc;

use super::backup::Copying;
use super::copying::End;
use super::mirror::{Mirror, Reached};
use crate::error::Error;
use crate::files::{FileHeader, SNAPSHOT_MAGIC};
use crate::history::HistoryFiles;
use crate::recovery::KnownChain;

/// How the commands come into the journal of the copy.
pub(super) struct Way {
    /// Whether they are added to those that are there. Otherwise the journal is made anew.
    pub(super) is_append: bool,
    /// The first command that is copied.
    pub(super) from: u64,
    /// What is before it; `None` if the batch itself must say it.
    pub(super) before: Option<(End, KnownChain)>,
}

impl Copying<'_> {
    /// Returns the first command that the journal of the copy must have.
    pub(super) fn first_wanted(&self, snapshot: u64, has_history: bool) -> u64 {
        let behind_snapshot = snapshot.saturating_add(1);
        let first = match (has_history, self.look.archives().last()) {
            (false, _) => behind_snapshot,
            (true, Some(archive)) => {
                archive.last_sequence.map_or(archive.first_sequence, |last| last.saturating_add(1))
            }
            (true, None) => self.look.oldest_sequence().unwrap_or(behind_snapshot),
        };
        first.min(behind_snapshot)
    }

    /// Finds out where the commands of the copy go on.
    pub(super) fn way(
        &self,
        mirror: &Mirror<'_>,
        files: &Arc<HistoryFiles>,
        snapshot: u64,
        (first, has_history): (u64, bool),
    ) -> Result<Way, Error> {
        if let Some(Reached { oldest, end, path }) = mirror.reached()? {
            let root = || mirror.directory.root.clone();
            if end.sequence > self.end {
                let reason =
                    format!("it goes on to {}, and the original to {}", end.sequence, self.end);
                return Err(Error::OtherHistory { path: root(), reason });
            }
            let from = end.sequence.saturating_add(1);
            let (sequence, chain) = (end.sequence, end.chain);
            let known = KnownChain { sequence, chain, source: path.clone() };
            match files.prove(known.clone()) {
                // Nothing tells any more whether the copy is of this history. Its state is replaced,
                // but archives of two histories must not be mixed.
                Err(Error::HistoryTruncated { oldest, .. }) if mirror.has_archive()? => {
                    let reason = format!(
                        "it ends with sequence {sequence}, and the original has only commands \
                         from {oldest} on, so nothing tells whether they belong together"
                    );
                    return Err(Error::OtherHistory { path: root(), reason });
                }
                Err(Error::HistoryTruncated { .. }) => {}
                Err(Error::Corrupt { path: of, expected, found, .. }) if of == path => {
                    let reason = format!("expected {expected}, found {found}");
                    return Err(Error::OtherHistory { path: root(), reason });
                }
                proved => proved?,
            }
            let has_archives = has_history && !self.look.archives().is_empty();
            let begins = if has_archives { oldest == first } else { oldest <= first };
            if begins && first <= from {
                return Ok(Way { is_append: true, from, before: Some((end, known)) });
            }
        }
        let before = match first <= snapshot {
            true => None,
            false => Some(self.before_snapshot(snapshot)?),
        };
        Ok(Way { is_append: false, from: first, before })
    }

    /// Returns what the snapshot states of the commands up to it.
    fn before_snapshot(&self, snapshot: u64) -> Result<(End, KnownChain), Error> {
        let path = self.look.open_plan().snapshot_paths.first().cloned().unwrap_or_default();
        let file = self.source.open_to_read(&path).map_err(Error::io("read", &path))?;
        let (header, _) = FileHeader::read(&path, SNAPSHOT_MAGIC, &*file)?;
        let end = End { sequence: snapshot, chain: header.chain, time_ns: header.time_ns };
        let known = KnownChain { sequence: snapshot, chain: header.chain, source: path };
        Ok((end, known))
    }
}

//! Owns how snapshots rest on each other: one may hold only what has changed since another, its
//! base. Knows nothing of what a snapshot holds.

use std::path::Path;
use std::sync::Arc;

use super::file::{Written, check};
use crate::codec::KnownCollections;
use crate::error::Error;
use crate::files::{FooterDigest, PackedFile, SNAPSHOT_MAGIC, StoreError, kind, snapshot_path};
use crate::storage::Storage;

/// How many snapshots may rest on each other. The writer stops long before.
const LONGEST_CHAIN: usize = 256;

/// The least size of a whole snapshot on which others rest, before packing. A smaller one is
/// written as fast as its changes.
fn least_raw_bytes() -> u64 {
    size!(256 << 10, small: 0)
}

/// How many snapshots of changes rest on a whole one at most. Each of them takes a start some time.
fn most_changes() -> u32 {
    size!(20, small: 3)
}

/// A whole snapshot follows when this part of the last one has changed. An entry that was changed
/// takes a start four times as long as another one.
const MOST_CHANGED: u64 = 8;

/// The journal may grow by so much before a whole snapshot is taken, even if the last one was
/// small.
const LEAST_JOURNAL_BYTES: u64 = 64 << 20;
/// The memory that a base may keep alive in any case.
const LEAST_MEMORY_BYTES: u64 = 16 << 20;

/// A whole snapshot, and those that rest on it. It ends when the next whole one is taken.
pub(crate) struct Chain {
    newest: Base,
    /// The size of the whole snapshot's encoding, and of its file.
    raw_bytes: u64,
    file_bytes: u64,
    /// How many snapshots of changes there are, and the size of their encodings and their files.
    changes: u32,
    changes_raw_bytes: u64,
    changes_file_bytes: u64,
    /// The journal bytes that this run had written when the whole snapshot was taken, and the newest.
    journal_then: u64,
    newest_journal_then: u64,
    /// The memory of the collections when the newest snapshot was taken.
    memory_then: u64,
}

impl Chain {
    /// Begins with a snapshot that is whole, or goes on with one that rests on the last one. `None`
    /// if the next snapshot cannot be one of changes.
    pub(crate) fn after(last: Option<Self>, written: Written, journal_then: u64) -> Option<Self> {
        let Written { file, known } = written;
        let (raw_bytes, file_bytes) = (file.footer.raw_bytes, file.file_bytes());
        let sequence = file.header.sequence;
        let footer_digest = file.footer_digest().filter(|_| !known.is_empty())?;
        let memory_then = known.memory_bytes();
        let newest = Base { sequence, footer_digest, known: Arc::new(known) };
        if file.header.is_change() {
            let last = last?;
            return Some(Self {
                newest,
                changes: last.changes + 1,
                changes_raw_bytes: last.changes_raw_bytes + raw_bytes,
                changes_file_bytes: last.changes_file_bytes + file_bytes,
                newest_journal_then: journal_then,
                memory_then,
                ..last
            });
        }
        (raw_bytes >= least_raw_bytes()).then_some(Self {
            newest,
            raw_bytes,
            file_bytes,
            changes: 0,
            changes_raw_bytes: 0,
            changes_file_bytes: 0,
            journal_then,
            newest_journal_then: journal_then,
            memory_then,
        })
    }

    /// Goes on with a snapshot that was loaded, whose collections are still known. `tail_bytes` are
    /// in the journal behind it. `None` if the next snapshot cannot be one of changes.
    pub(crate) fn of_loaded(
        file: &PackedFile,
        known: Arc<KnownCollections>,
        tail_bytes: u64,
        is_late: bool,
    ) -> Option<Self> {
        let whole = file.chain().last()?;
        let changes: Vec<_> = file.chain().filter(|file| file.header.is_change()).collect();
        let sum = |bytes: fn(&PackedFile) -> u64| changes.iter().copied().map(bytes).sum();
        let footer_digest = file.footer_digest().filter(|_| !known.is_empty())?;
        // What is loaded after the open takes memory, and is nothing that the base keeps alive.
        let memory_then = if is_late { u64::MAX / 4 } else { known.memory_bytes() };
        let sequence = file.header.sequence;
        let chain = Self {
            newest: Base { sequence, footer_digest, known },
            raw_bytes: whole.footer.raw_bytes,
            file_bytes: whole.file_bytes(),
            changes: u32::try_from(changes.len()).ok()?,
            changes_raw_bytes: sum(|file| file.footer.raw_bytes),
            changes_file_bytes: sum(PackedFile::file_bytes),
            journal_then: 0,
            newest_journal_then: 0,
            memory_then,
        };
        let goes_on =
            whole.footer.raw_bytes >= least_raw_bytes() && tail_bytes <= chain.most_journal_bytes();
        goes_on.then_some(chain)
    }

    /// Returns the base of the next snapshot; `None` if it is to be a whole one. The changes must
    /// outweigh the whole one neither in a start's time nor in room. And if older snapshots are
    /// kept, the journal must reach back to one that does not rest on the same: that takes room,
    /// too.
    pub(crate) fn base(&self, journal_bytes: u64) -> Option<&Base> {
        let journal = journal_bytes.saturating_sub(self.journal_then);
        let goes_on = self.changes < most_changes()
            && self.changes_raw_bytes <= size!(self.raw_bytes / MOST_CHANGED, small: u64::MAX)
            && self.changes_file_bytes <= size!(self.file_bytes, small: u64::MAX)
            && journal <= self.most_journal_bytes();
        goes_on.then_some(&self.newest)
    }

    fn most_journal_bytes(&self) -> u64 {
        self.raw_bytes.max(LEAST_JOURNAL_BYTES)
    }

    /// Returns whether so much has changed since the newest snapshot that its version should not be
    /// kept in memory any longer. What keys and values own elsewhere is not counted, but it came
    /// through the journal.
    pub(crate) fn is_too_old(&self, journal_bytes: u64) -> bool {
        let most = self.memory_then + (self.memory_then / 2).max(LEAST_MEMORY_BYTES);
        let journal = journal_bytes.saturating_sub(self.newest_journal_then);
        self.newest.known.memory_bytes() > most || journal > self.most_journal_bytes()
    }
}

/// A snapshot of which the next one may hold the changes.
pub(crate) struct Base {
    pub(crate) sequence: u64,
    pub(crate) footer_digest: FooterDigest,
    pub(crate) known: Arc<KnownCollections>,
}

/// Opens the snapshots that `file` rests on. `find` opens the one with this sequence.
pub(crate) fn with_bases(
    file: PackedFile,
    mut find: impl FnMut(&PackedFile, u64) -> Result<PackedFile, Error>,
) -> Result<PackedFile, Error> {
    let mut chain = vec![file];
    while let Some(last) = chain.last().filter(|file| file.header.is_change()) {
        if chain.len() == LONGEST_CHAIN {
            let found = format!("a chain of more than {LONGEST_CHAIN}");
            return Err(Error::corrupt(
                &last.path,
                0,
                "a snapshot that rests on few others",
                found,
            ));
        }
        let sequence = last.header.base_sequence;
        let base = check(find(last, sequence)?, sequence)?;
        chain.push(base);
    }
    let mut chain = chain.into_iter().rev();
    let whole = chain.next().expect("the chain began with the file");
    chain.try_fold(whole, |base, file| Ok(file.with_base(base)?))
}

/// How a snapshot file is opened.
pub(crate) type OpenFile = fn(&dyn Storage, &Path, [u8; 8]) -> Result<PackedFile, StoreError>;

/// Does the same with snapshots of one directory.
pub(crate) fn with_bases_in(
    storage: &dyn Storage,
    snapshot_directory: &Path,
    file: PackedFile,
    open: OpenFile,
) -> Result<PackedFile, Error> {
    with_bases(file, |change, sequence| {
        let path = snapshot_path(snapshot_directory, sequence);
        if kind(storage, &path)?.is_none() {
            return Err(missing_base(change, &path));
        }
        Ok(open(storage, &path, SNAPSHOT_MAGIC)?)
    })
}

/// Makes the error for a base that is not there.
pub(crate) fn missing_base(change: &PackedFile, path: &Path) -> Error {
    let reason = format!("{} holds only what has changed since", change.path.display());
    Error::Missing { path: path.to_path_buf(), reason }
}

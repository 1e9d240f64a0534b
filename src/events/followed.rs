//! Owns what a follower needs of an open database. Knows nothing of what it is followed for.

use std::sync::Arc;

use crate::engine::{Shared, View};
use crate::files::Directory;
use crate::history::{History, HistoryFiles};
use crate::journal::{SegmentIdentity, SegmentStart, StreamedFile};
use crate::model::Model;
use crate::options::Durability;
use crate::process::{FreedDeep, OpeningProcess};
use crate::storage::Storage;

/// What a follower needs of an open database.
pub(crate) struct Followed<M: Model> {
    /// This is not a handle: a database may be closed while it is followed.
    pub(crate) shared: FreedDeep<Shared<M>>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) directory: Directory,
    pub(crate) identity: SegmentIdentity,
    pub(crate) durability: Durability,
    pub(crate) process: OpeningProcess,
}

impl<M: Model> Clone for Followed<M> {
    fn clone(&self) -> Self {
        Self {
            shared: FreedDeep::new((*self.shared).clone()),
            storage: self.storage.clone(),
            directory: self.directory.clone(),
            identity: self.identity.clone(),
            durability: self.durability,
            process: self.process,
        }
    }
}

impl<M: Model> Followed<M> {
    /// Returns the sequence up to which commands are both readable and durable.
    pub(crate) fn reached(&self) -> u64 {
        let readable = self.shared.published.sequence();
        match self.durability {
            Durability::Sync => readable,
            _ if fault!(NotYetDurableGiven) => readable,
            _ => readable.min(self.shared.counters.durable_sequence.get()),
        }
    }

    /// Returns whether nothing more will be reached.
    pub(super) fn is_over(&self) -> bool {
        self.shared.status.is_stopped() || self.shared.status.poisoned().is_some()
    }

    /// Returns what a record belongs to that this program has written.
    pub(crate) fn live_file(&self) -> StreamedFile {
        let start = SegmentStart { first_sequence: 1, chain: 0, time_ns: 0 };
        let header = self.identity.file_header(start, 0, 0);
        StreamedFile { path: self.directory.journal.clone(), header, end: None }
    }

    /// Returns the files up to the newest version.
    pub(super) fn files(&self) -> Arc<HistoryFiles> {
        Arc::new(self.files_up_to(&self.shared.published.view()))
    }

    /// Returns the history up to the newest version.
    pub(super) fn history(&self) -> History<M> {
        let newest = self.shared.published.view();
        // What it reads is still there after a close, so it keeps nothing open.
        History::new(self.files_up_to(&newest), newest, self.process, Arc::new(()))
    }

    fn files_up_to(&self, newest: &View<M>) -> HistoryFiles {
        HistoryFiles {
            storage: self.storage.clone(),
            directory: self.directory.clone(),
            database: self.identity.database,
            model_name: self.identity.model_name.clone(),
            newest: newest.sequence(),
            newest_chain: newest.chain(),
        }
    }
}

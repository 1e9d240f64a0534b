//! Owns syncing a segment: one sync at a time, none after a failed sync, none after the journal has
//! left the segment, and only while the file can still be found. Knows nothing of frames.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::files::StoreError;
use crate::mutex::lock;
use crate::storage::StoredFile;

/// Allows one sync of a segment at a time, and remembers a failure. The operating system reports a
/// failed write-back only once: if two threads synced one file, the second sync would succeed
/// although data was lost.
#[derive(Default)]
pub(super) struct SyncGate {
    state: Mutex<State>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum State {
    #[default]
    Open,
    Failed,
    /// The journal continues in another segment. All of this one is durable, and it may be removed
    /// once a snapshot exists. A late caller has nothing left to sync.
    Left,
}

impl SyncGate {
    pub(super) fn sync(&self, file: &dyn StoredFile, path: &Path) -> Result<(), StoreError> {
        let mut state = lock(&self.state);
        let result = match *state {
            State::Left => return Ok(()),
            State::Failed => Err(std::io::Error::other(
                "an earlier sync of this file failed, and a second one would prove nothing; close \
                 the database and open it again",
            )),
            State::Open => file.sync_data().or_else(|error| {
                if fault!(RetryFailedSync) { file.sync_data() } else { Err(error) }
            }),
        };
        // Durable data in a file without a name is lost, too.
        let result = result.and_then(|()| file.stands_where_published());
        *state = if result.is_err() { State::Failed } else { State::Open };
        result.map_err(StoreError::io("sync", path))
    }

    /// Notes that the segment was synced to its end, and that nothing more is written to it.
    pub(super) fn leave(&self) {
        let mut state = lock(&self.state);
        if *state == State::Open {
            *state = State::Left;
        }
    }
}

/// What a sync needs that may run while frames are appended.
pub(crate) struct SyncTarget {
    pub(super) file: Arc<dyn StoredFile>,
    pub(super) path: PathBuf,
    pub(super) gate: Arc<SyncGate>,
    pub(super) sequence: u64,
}

impl SyncTarget {
    /// Syncs, and returns the sequence that is durable now.
    pub(crate) fn sync(self) -> Result<u64, StoreError> {
        self.gate.sync(&*self.file, &self.path)?;
        Ok(self.sequence)
    }
}

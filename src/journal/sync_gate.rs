//! Owns syncing a segment: one sync at a time, never again after one failed, none where it was left,
//! and only where the file can still be found. Knows nothing of frames.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::files::StoreError;
use crate::mutex::lock;
use crate::storage::StoredFile;

/// Lets one sync of a segment run at a time and remembers a failure. The operating system tells
/// of a failed write-back once: were two threads to sync one file, the second would succeed, and
/// vouch for what was lost.
#[derive(Default)]
pub(super) struct SyncGate {
    state: Mutex<State>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum State {
    #[default]
    Open,
    Failed,
    /// The journal went on in another segment: all of this one is durable, and it may be removed
    /// as soon as a snapshot is there. Who comes late finds nothing left to do.
    Left,
}

impl SyncGate {
    pub(super) fn sync(&self, file: &dyn StoredFile, path: &Path) -> Result<(), StoreError> {
        let mut state = lock(&self.state);
        let result = match *state {
            State::Left => return Ok(()),
            State::Failed => {
                Err(std::io::Error::other("an earlier sync failed, and a second proves nothing"))
            }
            State::Open => file.sync_data().or_else(|error| {
                if planted!(RetryFailedSync) { file.sync_data() } else { Err(error) }
            }),
        };
        // What is durable in a file without a name is lost all the same.
        let result = result.and_then(|()| file.stands_where_published());
        *state = if result.is_err() { State::Failed } else { State::Open };
        result.map_err(StoreError::io("sync", path))
    }

    /// The segment was synced to its end, and nothing more is written to it.
    pub(super) fn leave(&self) {
        let mut state = lock(&self.state);
        if *state == State::Open {
            *state = State::Left;
        }
    }
}

/// A sync that may run while frames are appended.
pub(crate) struct SyncTarget {
    pub(super) file: Arc<dyn StoredFile>,
    pub(super) path: PathBuf,
    pub(super) gate: Arc<SyncGate>,
    pub(super) sequence: u64,
}

impl SyncTarget {
    /// Gives the sequence that is durable now.
    pub(crate) fn sync(self) -> Result<u64, StoreError> {
        self.gate.sync(&*self.file, &self.path)?;
        Ok(self.sequence)
    }
}

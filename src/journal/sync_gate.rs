//! Owns syncing the journal's file: one sync at a time, never again after one failed, and only where
//! the file can still be found. Knows nothing of frames.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Error;
use crate::storage::StoredFile;

/// Lets one sync of the journal run at a time and remembers a failure. The operating system tells
/// of a failed write-back once: were two threads to sync one file, the second would succeed, and
/// vouch for what was lost.
#[derive(Default)]
pub(super) struct SyncGate {
    failed: Mutex<bool>,
}

impl SyncGate {
    pub(super) fn sync(&self, file: &dyn StoredFile, path: &Path) -> Result<(), Error> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let result = if *failed {
            Err(std::io::Error::other("an earlier sync failed, and a second proves nothing"))
        } else {
            file.sync_data().or_else(|error| {
                if planted!(RetryFailedSync) { file.sync_data() } else { Err(error) }
            })
        };
        // What is durable in a file without a name is lost all the same.
        let result = result.and_then(|()| file.stands_where_published());
        *failed = result.is_err();
        result.map_err(Error::io("sync", path))
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
    pub(crate) fn sync(self) -> Result<u64, Error> {
        self.gate.sync(&*self.file, &self.path)?;
        Ok(self.sequence)
    }
}

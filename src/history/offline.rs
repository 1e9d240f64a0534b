//! Owns the history of a directory that nobody has open: it takes the lock and finds the end of the
//! journal. Changes only the lock file. Knows nothing of models.

use std::path::Path;
use std::sync::Arc;

use super::source::HistoryFiles;
use crate::error::Error;
use crate::files::{
    Directory, ManifestFile, State, absolute, exists, list_segments, segment_path, snapshot_path,
};
use crate::journal::{Segment, SegmentScan};
use crate::recovery::{Access, LockedDatabase, check_archive_end};
use crate::storage::Storage;

/// A locked directory and its files.
pub(crate) struct OfflineHistory {
    pub(crate) files: Arc<HistoryFiles>,
    pub(crate) locked: LockedDatabase,
}

impl OfflineHistory {
    /// Locks the directory `path`, which must hold a database of the model `model_name`, and finds
    /// the end of the journal as an open does.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        path: &Path,
        model_name: &str,
    ) -> Result<Self, Error> {
        let offline = Self::locked(storage, path, model_name, Access::Read)?;
        offline.check_snapshots()?;
        Ok(offline)
    }

    /// Checks that every snapshot that the MANIFEST lists exists. An open uses an older snapshot if
    /// one is missing, but a verification must report it.
    fn check_snapshots(&self) -> Result<(), Error> {
        let HistoryFiles { storage, directory, .. } = &*self.files;
        for &sequence in &self.locked.manifest.current().snapshots {
            let path = snapshot_path(&directory.snapshots, sequence);
            if !exists(&**storage, &path)? {
                let reason = "the MANIFEST lists this snapshot".to_owned();
                return Err(Error::Missing { path, reason });
            }
        }
        Ok(())
    }

    /// Does the same as [`open`](Self::open) for a caller that changes the history. If a crash
    /// interrupted an exchange of directories, it is finished first. The snapshots are not checked.
    pub(crate) fn open_to_change(
        storage: Arc<dyn Storage>,
        path: &Path,
        model_name: &str,
    ) -> Result<Self, Error> {
        Self::locked(storage, path, model_name, Access::Change)
    }

    fn locked(
        storage: Arc<dyn Storage>,
        path: &Path,
        model_name: &str,
        access: Access,
    ) -> Result<Self, Error> {
        let locked = LockedDatabase::take(&storage, &absolute(path)?, access)?;
        let directory = locked.directory.clone();
        let (newest, newest_chain) = journal_end(&*storage, &directory, &locked.manifest)?;
        let database = locked.manifest.current().database;
        check_archive_end(&*storage, &directory, database)?;
        let model_name = model_name.to_owned();
        let files = HistoryFiles { storage, directory, database, model_name, newest, newest_chain };
        Ok(Self { files: Arc::new(files), locked })
    }

    pub(crate) fn close(self) -> Result<(), Error> {
        self.locked.unlock()
    }
}

/// Reads the journal's newest segment, and returns the sequence and the chain value at its end.
fn journal_end(
    storage: &dyn Storage,
    directory: &Directory,
    manifest: &ManifestFile,
) -> Result<(u64, u32), Error> {
    let stated = manifest.current();
    let listed = list_segments(storage, &directory.journal)?;
    let newest = listed.last().filter(|_| listed.contains(&stated.newest_segment));
    let &newest = newest.ok_or_else(|| Error::Missing {
        path: segment_path(&directory.journal, stated.newest_segment),
        reason: "the MANIFEST names it as the newest segment".to_owned(),
    })?;
    let segment = Segment::open(storage, &directory.journal, newest)?;
    // This is checked first: otherwise the MANIFEST would be blamed for a foreign segment.
    let (expected, found) = (stated.database, segment.header.database);
    if found != expected {
        let path = segment_path(&directory.journal, newest);
        return Err(Error::ForeignFile { path, expected, found });
    }
    let mut frames = SegmentScan::new(&segment, None, stated.sequence);
    while frames.next_frame()?.is_ok() {}
    let reached = frames.next_sequence() - 1;
    if stated.state == State::Clean && (stated.sequence, stated.chain) != (reached, frames.chain())
    {
        let expected = format!(
            "sequence {reached}, chain {:08x}, with which the journal ends",
            frames.chain()
        );
        let found = format!("{}, {:08x}", stated.sequence, stated.chain);
        return Err(Error::corrupt(manifest.path(), 40, expected, found));
    }
    Ok((reached, frames.chain()))
}

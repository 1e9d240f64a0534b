//! Owns reading what changes while a program has the database open: the MANIFEST, and the end of
//! the journal. Knows nothing of the other files.

use std::sync::Arc;

use super::journal_end::{self, Tail};
use crate::error::Error;
use crate::files::{
    DatabaseId, Directory, MANIFEST_NAME, Manifest, StoreError, list_segments, segment_path,
};
use crate::history::HistoryFiles;
use crate::recovery::settled_manifest;
use crate::storage::Storage;

/// How often the newest segment is looked for again.
const MOST_LOOKS: u32 = 16;

/// What is known of a database at one moment, as far as reading its commands needs it.
pub(super) struct Known {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) directory: Directory,
    pub(super) database: DatabaseId,
    pub(super) model_name: String,
    pub(super) tail: Option<Tail>,
}

impl Known {
    /// Returns the files as the history reads them.
    pub(super) fn history_files(&self) -> Arc<HistoryFiles> {
        Arc::new(HistoryFiles {
            storage: self.storage.clone(),
            directory: self.directory.clone(),
            database: self.database,
            model_name: self.model_name.clone(),
            newest: self.tail.as_ref().map_or(0, |tail| tail.end.sequence),
            newest_chain: self.tail.as_ref().map_or(0, |tail| tail.chain),
        })
    }

    /// Looks at the end of the journal again.
    pub(super) fn again(&self) -> Result<Self, Error> {
        let root = &self.directory.root;
        let manifest = settled_manifest(&self.storage, root)?;
        if manifest.database != self.database {
            return Err(Error::ForeignFile {
                path: root.join(MANIFEST_NAME),
                expected: self.database,
                found: manifest.database,
            });
        }
        let tail = read_tail(&*self.storage, &self.directory, &manifest, self.tail.as_ref())?;
        Ok(Self {
            storage: self.storage.clone(),
            directory: self.directory.clone(),
            database: self.database,
            model_name: self.model_name.clone(),
            tail: tail.or_else(|| self.tail.clone()),
        })
    }
}

/// Reads the end of the newest segment; `None` if there is no segment, or none that can be opened.
pub(super) fn read_tail(
    storage: &dyn Storage,
    directory: &Directory,
    manifest: &Manifest,
    known: Option<&Tail>,
) -> Result<Option<Tail>, Error> {
    let mut looks = 0;
    loop {
        let listed = match list_segments(storage, &directory.journal) {
            Ok(listed) => listed,
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let Some(&newest) = listed.last() else { return Ok(None) };
        match journal_end::read(storage, directory, manifest, newest, known) {
            Ok(tail) => return Ok(Some(tail)),
            Err(_) => {
                // A new segment may have taken the place of one without frames.
                let path = segment_path(&directory.journal, newest);
                looks += 1;
                if looks > MOST_LOOKS || matches!(storage.kind(&path), Ok(Some(_))) {
                    return Ok(None); // the survey tells what is wrong with it
                }
            }
        }
    }
}

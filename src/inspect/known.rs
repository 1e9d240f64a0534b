//! Owns reading what changes while a program has the database open: the MANIFEST, and the end of
//! the journal. Knows nothing of the other files.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::journal_end::{self, Tail};
use crate::error::Error;
use crate::files::{
    DatabaseId, Directory, MANIFEST_NAME, Manifest, ManifestFile, State, StoreError, list_segments,
    segment_path,
};
use crate::history::HistoryFiles;
use crate::storage::{EntryKind, Storage};

/// How often the newest segment is looked for again.
const MOST_LOOKS: u32 = 16;
/// How often the MANIFEST is read again while a database is being created or purged.
const MOST_WAITS: u32 = 50;
/// The pause before that.
const PAUSE: Duration = Duration::from_millis(10);

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
        let manifest = read_manifest(&self.storage, root)?;
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

/// Reads the MANIFEST of a database. Waits, with a bound, while it is being created or purged.
pub(crate) fn read_manifest(storage: &Arc<dyn Storage>, root: &Path) -> Result<Manifest, Error> {
    match storage.kind(root).map_err(Error::io("examine", root))? {
        Some(EntryKind::Directory) => {}
        Some(_) => return Err(Error::NotADirectory { path: root.to_path_buf() }),
        None => return Err(no_database(root, "nothing stands at this path")),
    }
    let mut waits = 0;
    loop {
        let manifest = ManifestFile::read(storage, root)?.map(|file| file.current().clone());
        let state = manifest.as_ref().map(|manifest| manifest.state);
        let is_passing = matches!(state, Some(State::Creating | State::Swapping));
        if is_passing && waits < MOST_WAITS {
            waits += 1;
            std::thread::sleep(PAUSE);
            continue;
        }
        return match (state, manifest) {
            (Some(State::Swapping), _) => Err(Error::PurgeUnfinished { path: root.to_path_buf() }),
            (Some(State::Creating), _) => Err(no_database(
                root,
                "the creation of the database was not finished, and no command was accepted; the \
                 next open begins again",
            )),
            (_, Some(manifest)) => Ok(manifest),
            (_, None) => Err(no_database(root, why_missing(&**storage, root)?)),
        };
    }
}

fn no_database(root: &Path, reason: &str) -> Error {
    Error::Missing { path: root.join(MANIFEST_NAME), reason: reason.to_owned() }
}

fn why_missing(storage: &dyn Storage, root: &Path) -> Result<&'static str, Error> {
    let directory = Directory::at(root);
    if directory.is_unfinished_backup(storage)? {
        return Ok(
            "a backup into this directory was interrupted. Repeat it: it goes on where it was",
        );
    }
    Ok(match directory.holds_files_of_ours(storage)? {
        true => {
            "there are journal segments or snapshots, and this file states which of them must \
             exist. The directory may be a half-finished copy: copy it again"
        }
        false => "there is no database in this directory",
    })
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

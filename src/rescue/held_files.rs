//! Owns a view of a database in which no file vanishes while it is read. Changes nothing. Knows
//! nothing of what the files hold.
//!
//! A program that has the database open archives and removes segments and snapshots. So their
//! files are opened when they are listed, and stay open: whoever finds one later reads what it
//! held. Files in the archive stay where they are.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::files::{Directory, SEGMENT_SUFFIX, SNAPSHOT_SUFFIX};
use crate::storage::{Entry, EntryKind, FileBytes, Lock, ReadableFile, Storage, TemporaryFile};

/// The most files that are kept open. A process may open about a thousand.
const MOST_HELD: usize = 256;

/// How often a directory is listed again because a file vanished before it was opened.
const MOST_LISTINGS: u32 = 64;

type Files = BTreeMap<PathBuf, Arc<dyn ReadableFile>>;

/// The storage of a reader, with the files that are kept open.
pub(super) struct HeldFiles {
    inner: Arc<dyn Storage>,
    directory: Directory,
    files: Mutex<Files>,
}

impl HeldFiles {
    /// Opens the segments and the snapshots of the database at `root`, as far as they are there.
    pub(super) fn of(inner: &Arc<dyn Storage>, root: &Path) -> Arc<dyn Storage> {
        let held =
            Self { inner: inner.clone(), directory: Directory::at(root), files: Mutex::default() };
        // The segments come first: they reach back to each snapshot that is there afterwards. What
        // cannot be listed now is an error for whoever needs it.
        for directory in [&held.directory.journal, &held.directory.snapshots] {
            held.list(directory).ok();
        }
        Arc::new(held)
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self, path: &Path) -> Option<Arc<dyn ReadableFile>> {
        self.files().get(path).cloned()
    }

    /// Returns how the files are called that vanish from a directory.
    fn suffix(&self, directory: &Path) -> Option<&'static str> {
        let Directory { journal, snapshots, .. } = &self.directory;
        match directory {
            it if it == journal => Some(SEGMENT_SUFFIX),
            it if it == snapshots => Some(SNAPSHOT_SUFFIX),
            _ => None,
        }
    }

    /// Opens the files of a list. Returns `false` if one has vanished.
    fn hold(&self, directory: &Path, names: &[String], suffix: &str) -> bool {
        for name in names.iter().filter(|name| name.ends_with(suffix)) {
            let path = directory.join(name);
            let is_wanted = {
                let files = self.files();
                files.len() < MOST_HELD && !files.contains_key(&path)
            };
            if !is_wanted {
                continue;
            }
            match self.inner.open_to_read(&path) {
                Ok(file) => drop(self.files().insert(path, file.into())),
                Err(error) if error.kind() == ErrorKind::NotFound => return false,
                Err(_) => {} // whoever reads it gets the error
            }
        }
        true
    }
}

/// One of the owners of an open file.
struct Held(Arc<dyn ReadableFile>);

impl ReadableFile for Held {
    fn length(&self) -> u64 {
        self.0.length()
    }

    fn read_at(&self, target: &mut [u8], position: u64) -> io::Result<usize> {
        self.0.read_at(target, position)
    }

    fn bytes(&self) -> Option<&[u8]> {
        self.0.bytes()
    }
}

impl Storage for HeldFiles {
    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        match self.held(path) {
            Some(_) => Ok(Some(EntryKind::File)),
            None => self.inner.kind(path),
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let Some(suffix) = self.suffix(directory) else { return self.inner.list(directory) };
        let mut names = self.inner.list(directory)?;
        for _ in 0..MOST_LISTINGS {
            if self.hold(directory, &names, suffix) {
                break;
            }
            names = self.inner.list(directory)?;
        }
        let files = self.files();
        let held = files.keys().filter(|path| path.parent() == Some(directory));
        names.extend(held.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())));
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn entries(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        self.inner.entries(directory)
    }

    fn read(&self, path: &Path) -> io::Result<FileBytes> {
        self.inner.read(path)
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn ReadableFile>> {
        match self.held(path) {
            Some(file) => Ok(Box::new(Held(file))),
            None => self.inner.open_to_read(path),
        }
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.inner.create_directory(path)
    }

    fn create_temporary(&self, directory: &Path) -> io::Result<Box<dyn TemporaryFile>> {
        self.inner.create_temporary(directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn shorten(&self, path: &Path, length: u64) -> io::Result<()> {
        self.inner.shorten(path, length)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_directory(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.inner.sync_directory(directory)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.inner.lock(path)
    }

    fn now(&self) -> SystemTime {
        self.inner.now()
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        self.inner.random()
    }

    fn for_copies(self: Arc<Self>) -> Arc<dyn Storage> {
        self
    }
}

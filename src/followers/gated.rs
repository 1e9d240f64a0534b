//! Owns the storage of followers: it changes nothing any more once the database was closed, because
//! another process may have the directory then. Knows nothing of what is stored.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLockReadGuard};
use std::time::SystemTime;

use crate::engine::FollowerBoard;
use crate::storage::{
    EntryKind, FileBytes, Lock, ReadableFile, Storage, StoredFile, TemporaryFile,
};

pub(super) struct Gated {
    pub(super) inner: Arc<dyn Storage>,
    pub(super) board: Arc<FollowerBoard>,
}

fn open(board: &FollowerBoard) -> io::Result<RwLockReadGuard<'_, bool>> {
    board.files().ok_or_else(|| {
        io::Error::other("the database was closed while a follower was at work; open it again")
    })
}

impl Storage for Gated {
    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        self.inner.kind(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let _open = open(&self.board)?;
        self.inner.create_directory(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.inner.list(directory)
    }

    fn read(&self, path: &Path) -> io::Result<FileBytes> {
        self.inner.read(path)
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn ReadableFile>> {
        self.inner.open_to_read(path)
    }

    fn create_temporary(&self, directory: &Path) -> io::Result<Box<dyn TemporaryFile>> {
        let _open = open(&self.board)?;
        let inner = self.inner.create_temporary(directory)?;
        Ok(Box::new(GatedFile { inner: Some(inner), board: self.board.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _open = open(&self.board)?;
        self.inner.rename(from, to)
    }

    fn shorten(&self, path: &Path, length: u64) -> io::Result<()> {
        let _open = open(&self.board)?;
        self.inner.shorten(path, length)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let _open = open(&self.board)?;
        self.inner.remove(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let _open = open(&self.board)?;
        self.inner.remove_directory(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.inner.sync_directory(directory)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.inner.lock(path)
    }

    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        self.inner.free_bytes(directory)
    }

    fn entry_that_is_no_file(&self, directory: &Path) -> io::Result<Option<PathBuf>> {
        self.inner.entry_that_is_no_file(directory)
    }

    fn now(&self) -> SystemTime {
        self.inner.now()
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        self.inner.random()
    }

    fn for_copies(self: Arc<Self>) -> Arc<dyn Storage> {
        self.inner.clone().for_copies()
    }
}

/// A file that gets no name once the database was closed. What is written into it before that is
/// nobody's.
struct GatedFile {
    inner: Option<Box<dyn TemporaryFile>>,
    board: Arc<FollowerBoard>,
}

impl TemporaryFile for GatedFile {
    fn file(&self) -> Arc<dyn StoredFile> {
        self.inner.as_ref().expect("taken only when it is published or dropped").file()
    }

    fn publish(mut self: Box<Self>, target: &Path) -> io::Result<()> {
        let board = self.board.clone();
        let _open = open(&board)?;
        self.inner.take().expect("taken only when it is published or dropped").publish(target)
    }
}

impl Drop for GatedFile {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        match self.board.files() {
            Some(_open) => drop(inner), // it removes itself
            // Nothing is removed in a directory that may be another process's now. The next start of
            // this follower removes temporary files.
            None => std::mem::forget(inner),
        }
    }
}

//! Owns a disk for tests that fails on demand and tells the order of its operations.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::{
    EntryKind, FileBytes, HeldDisk, Lock, ReadableFile, Storage, StoredFile, TemporaryFile,
};

/// An operation, with what it did or would have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    CreateDirectory(PathBuf),
    Write(u64, usize),
    SyncData,
    SyncAll,
    Publish(PathBuf),
    SyncDirectory(PathBuf),
    Rename(PathBuf),
    Shorten(u64),
    Remove(PathBuf),
    OpenToRead(PathBuf),
    CreateTemporary(PathBuf),
}

type Decide = Box<dyn FnMut(&Operation) -> Option<io::Error> + Send>;

/// The real disk, but a closure sees every operation first and may make it fail.
pub(crate) struct Faulty {
    inner: Arc<dyn Storage>,
    decide: Arc<Mutex<Decide>>,
    /// The number of seconds by which the clock is set back, for tests of time.
    pub(crate) clock_behind_s: Arc<AtomicU64>,
}

impl Faulty {
    pub(crate) fn new(
        decide: impl FnMut(&Operation) -> Option<io::Error> + Send + 'static,
    ) -> Arc<Self> {
        let decide = Arc::new(Mutex::new(Box::new(decide) as Decide));
        let inner = Arc::new(HeldDisk::default());
        Arc::new(Self { inner, decide, clock_behind_s: Arc::default() })
    }

    /// One that never fails, and what happens on it.
    pub(crate) fn watched() -> (Arc<Self>, Arc<Mutex<Vec<Operation>>>) {
        let log: Arc<Mutex<Vec<_>>> = Arc::default();
        let seen = log.clone();
        let storage = Self::new(move |operation| {
            seen.lock().unwrap().push(operation.clone());
            None
        });
        (storage, log)
    }

    fn check(&self, operation: &Operation) -> io::Result<()> {
        check(&self.decide, operation)
    }
}

fn check(decide: &Mutex<Decide>, operation: &Operation) -> io::Result<()> {
    let decided = decide.lock().unwrap()(operation);
    let Some(error) = decided else { return Ok(()) };
    if error.kind() == io::ErrorKind::TimedOut {
        // The failure has happened, but this thread reports it late, so that other threads can fail
        // meanwhile.
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(error)
}

impl Storage for Faulty {
    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        self.inner.kind(path)
    }
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.check(&Operation::CreateDirectory(path.to_path_buf()))?;
        self.inner.create_directory(path)
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.inner.list(directory)
    }
    fn read(&self, path: &Path) -> io::Result<FileBytes> {
        self.inner.read(path)
    }
    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn ReadableFile>> {
        self.check(&Operation::OpenToRead(path.to_path_buf()))?;
        self.inner.open_to_read(path)
    }
    fn create_temporary(&self, directory: &Path) -> io::Result<Box<dyn TemporaryFile>> {
        self.check(&Operation::CreateTemporary(directory.to_path_buf()))?;
        let inner = self.inner.create_temporary(directory)?;
        Ok(Box::new(FaultyTemporary { inner, decide: self.decide.clone() }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(&Operation::Rename(from.to_path_buf()))?;
        self.inner.rename(from, to)
    }
    fn shorten(&self, path: &Path, length: u64) -> io::Result<()> {
        self.check(&Operation::Shorten(length))?;
        self.inner.shorten(path, length)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.check(&Operation::Remove(path.to_path_buf()))?;
        self.inner.remove(path)
    }
    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_directory(path)
    }
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.check(&Operation::SyncDirectory(directory.to_path_buf()))?;
        self.inner.sync_directory(directory)
    }
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.inner.lock(path)
    }
    fn lock_to_read(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.inner.lock_to_read(path)
    }
    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        self.inner.free_bytes(directory)
    }
    fn create_directory_like(&self, path: &Path, model: &Path) -> io::Result<()> {
        self.check(&Operation::CreateDirectory(path.to_path_buf()))?;
        self.inner.create_directory_like(path, model)
    }
    fn is_mount_point(&self, path: &Path) -> io::Result<bool> {
        self.inner.is_mount_point(path)
    }
    fn entry_that_is_no_file(&self, directory: &Path) -> io::Result<Option<PathBuf>> {
        self.inner.entry_that_is_no_file(directory)
    }
    fn now(&self) -> SystemTime {
        self.inner.now() - Duration::from_secs(self.clock_behind_s.load(Ordering::SeqCst))
    }
    fn random(&self) -> io::Result<[u8; 16]> {
        self.inner.random()
    }
    fn for_copies(self: Arc<Self>) -> Arc<dyn Storage> {
        // As that of an open database does: a copy has locks of its own.
        let inner = self.inner.clone().for_copies();
        let (decide, clock_behind_s) = (self.decide.clone(), self.clock_behind_s.clone());
        Arc::new(Self { inner, decide, clock_behind_s })
    }
}

struct FaultyTemporary {
    inner: Box<dyn TemporaryFile>,
    decide: Arc<Mutex<Decide>>,
}

impl TemporaryFile for FaultyTemporary {
    fn file(&self) -> Arc<dyn StoredFile> {
        Arc::new(FaultyFile { inner: self.inner.file(), decide: self.decide.clone() })
    }
    fn publish(self: Box<Self>, target: &Path) -> io::Result<()> {
        check(&self.decide, &Operation::Publish(target.to_path_buf()))?;
        self.inner.publish(target)
    }
}

struct FaultyFile {
    inner: Arc<dyn StoredFile>,
    decide: Arc<Mutex<Decide>>,
}

impl StoredFile for FaultyFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        check(&self.decide, &Operation::Write(position, bytes.len()))?;
        self.inner.write_at(bytes, position)
    }
    fn sync_data(&self) -> io::Result<()> {
        check(&self.decide, &Operation::SyncData)?;
        self.inner.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        check(&self.decide, &Operation::SyncAll)?;
        self.inner.sync_all()
    }
    fn stands_where_published(&self) -> io::Result<()> {
        self.inner.stands_where_published()
    }
}

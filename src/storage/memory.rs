//! Owns the storage of a database that is only in memory: its files disappear with the last handle
//! to the database. Knows nothing of what the bytes mean.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use super::{
    Clock, Disk, EntryKind, FileBytes, Lock, Storage, StoredFile, TEMPORARY_PREFIX,
    TEMPORARY_SUFFIX, TemporaryFile,
};
use crate::mutex::lock;

/// Files in memory. Nothing needs a sync: either all of it is lost at once, or nothing is.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    entries: Arc<Mutex<Entries>>,
    clock: Clock,
}

#[derive(Default)]
struct Entries {
    by_path: BTreeMap<PathBuf, Entry>,
    locked: BTreeSet<PathBuf>,
    temporaries: u64,
}

enum Entry {
    Directory,
    File(MemoryFile),
}

impl Memory {
    pub(crate) fn with_clock(clock: Clock) -> Self {
        Self { clock, ..Self::default() }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        lock(&self.entries)
    }
}

impl Entries {
    fn kind(&self, path: &Path) -> Option<EntryKind> {
        match self.by_path.get(path) {
            Some(Entry::Directory) => Some(EntryKind::Directory),
            Some(Entry::File(_)) => Some(EntryKind::File),
            // These begin every path, and exist from the start.
            None => [Path::new(""), Path::new("."), Path::new("/")]
                .contains(&path)
                .then_some(EntryKind::Directory),
        }
    }

    fn file(&self, path: &Path) -> io::Result<&MemoryFile> {
        match self.by_path.get(path) {
            Some(Entry::File(file)) => Ok(file),
            Some(Entry::Directory) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn remove(&mut self, path: &Path) -> io::Result<MemoryFile> {
        let file = self.file(path)?.clone();
        self.by_path.remove(path);
        Ok(file)
    }

    /// Returns the paths in a directory.
    fn inside<'a>(&'a self, path: &'a Path) -> io::Result<impl Iterator<Item = &'a PathBuf>> {
        if self.kind(path) != Some(EntryKind::Directory) {
            return Err(ErrorKind::NotFound.into());
        }
        Ok(self.by_path.keys().filter(move |inside| inside.parent() == Some(path)))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if self.kind(to) == Some(EntryKind::Directory) {
            return Err(ErrorKind::IsADirectory.into());
        }
        let file = self.remove(from)?;
        self.by_path.insert(to.to_path_buf(), Entry::File(file));
        Ok(())
    }
}

impl Storage for Memory {
    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        Ok(self.entries().kind(path))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut entries = self.entries();
        if entries.kind(path).is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        entries.by_path.insert(path.to_path_buf(), Entry::Directory);
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
        Ok(self.entries().inside(directory)?.filter_map(name).collect())
    }

    fn read(&self, path: &Path) -> io::Result<FileBytes> {
        Ok(FileBytes::Shared(self.entries().file(path)?.bytes().clone()))
    }

    fn create_temporary(&self, directory: &Path) -> io::Result<Box<dyn TemporaryFile>> {
        self.sync_directory(directory)?; // an error when the directory does not exist
        let mut entries = self.entries();
        entries.temporaries += 1;
        let number = entries.temporaries;
        let path = directory.join(format!("{TEMPORARY_PREFIX}{number:08}{TEMPORARY_SUFFIX}"));
        let file = MemoryFile::default();
        entries.by_path.insert(path.clone(), Entry::File(file.clone()));
        Ok(Box::new(MemoryTemporary { memory: self.clone(), file, path }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.entries().rename(from, to)
    }

    fn shorten(&self, path: &Path, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let file = self.entries().file(path)?.clone();
        Arc::make_mut(&mut file.bytes()).truncate(length);
        file.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.entries().remove(path).map(drop)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let mut entries = self.entries();
        if entries.inside(path)?.next().is_some() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        entries.by_path.remove(path);
        Ok(())
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.entries().inside(directory).map(drop)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let (memory, path) = (self.clone(), path.to_path_buf());
        let mut entries = self.entries();
        if !entries.locked.insert(path.clone()) {
            return Ok(None);
        }
        let file = || Entry::File(MemoryFile::default());
        entries.by_path.entry(path.clone()).or_insert_with(file);
        Ok(Some(Box::new(MemoryLock { memory, path })))
    }

    /// Returns 0, so that no reserve file is made: it would only take memory.
    fn free_bytes(&self, _directory: &Path) -> io::Result<u64> {
        Ok(0)
    }

    fn now(&self) -> SystemTime {
        self.clock.now()
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        Disk.random()
    }

    fn for_copies(self: Arc<Self>) -> Arc<dyn Storage> {
        Arc::new(Disk)
    }
}

/// A file in memory. It shares its bytes with its readers; a write meanwhile copies them first.
#[derive(Clone, Default)]
struct MemoryFile(Arc<Mutex<Arc<Vec<u8>>>>);

impl MemoryFile {
    fn bytes(&self) -> MutexGuard<'_, Arc<Vec<u8>>> {
        lock(&self.0)
    }
}

impl StoredFile for MemoryFile {
    fn write_at(&self, written: &[u8], position: u64) -> io::Result<usize> {
        let begin = usize::try_from(position).map_err(io::Error::other)?;
        let end = begin.checked_add(written.len()).ok_or(ErrorKind::FileTooLarge)?;
        let mut bytes = self.bytes();
        let bytes = Arc::make_mut(&mut bytes);
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes.get_mut(begin..end).ok_or(ErrorKind::InvalidInput)?.copy_from_slice(written);
        Ok(written.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    /// Releases the memory beyond the file's length. It is called when a file is complete.
    fn sync_all(&self) -> io::Result<()> {
        Arc::make_mut(&mut self.bytes()).shrink_to_fit();
        Ok(())
    }
}

struct MemoryTemporary {
    memory: Memory,
    file: MemoryFile,
    path: PathBuf,
}

impl TemporaryFile for MemoryTemporary {
    fn file(&self) -> Arc<dyn StoredFile> {
        Arc::new(self.file.clone())
    }

    fn publish(self: Box<Self>, target: &Path) -> io::Result<()> {
        self.memory.entries().rename(&self.path, target)
    }
}

impl Drop for MemoryTemporary {
    fn drop(&mut self) {
        // Once the file was published, it no longer stands there.
        self.memory.entries().remove(&self.path).ok();
    }
}

struct MemoryLock {
    memory: Memory,
    path: PathBuf,
}

impl Lock for MemoryLock {
    fn unlock(self: Box<Self>) -> io::Result<()> {
        Ok(()) // the drop unlocks
    }
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.memory.entries().locked.remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Database;
    use crate::options::Options;
    use crate::test_support::{Add, Count};

    #[test]
    fn one_owner_at_a_time_and_nothing_left_behind() {
        let memory = Arc::new(Memory::default());
        let open = || {
            let (path, options) = (Path::new("x"), Options::default());
            let initial = Count::default;
            let progress = &mut (Box::new(|_| {}) as _);
            Database::<Count>::open_with(memory.clone(), path, options, initial, progress)
        };
        let database = open().unwrap();
        assert!(matches!(open(), Err(crate::Error::Locked { .. })));
        database.execute(Add(vec![1])).unwrap();
        database.close().unwrap();
        let names = |path: &str| memory.list(Path::new(path)).unwrap().len();
        assert_eq!((names("x"), names("x/journal"), names("x/snapshots")), (5, 1, 1));
        assert_eq!(names("x/schemas"), 1);
        // The same files open again, as on a disk, and no thread keeps them afterwards.
        let database = open().unwrap();
        assert_eq!(database.query(|count| count.0), 1);
        drop(database);
        assert_eq!(Arc::strong_count(&memory), 1);
    }

    #[test]
    fn what_was_read_stays_as_it_was_while_the_file_changes() {
        let memory = Memory::default();
        let temporary = memory.create_temporary(Path::new("")).unwrap();
        let (file, path) = (temporary.file(), Path::new("a"));
        file.write_at(b"zero", 2).unwrap();
        temporary.publish(path).unwrap();
        let read = memory.read(path).unwrap();
        file.write_at(b"Z", 2).unwrap();
        memory.shorten(path, 4).unwrap();
        assert_eq!(
            (&read[..], &memory.read(path).unwrap()[..]),
            (&b"\0\0zero"[..], &b"\0\0Ze"[..])
        );
        drop(memory.create_temporary(Path::new("")).unwrap());
        assert_eq!(memory.list(Path::new("")).unwrap(), ["a"]);
        assert!(memory.create_temporary(path).is_err() && memory.list(Path::new("b")).is_err());
    }
}

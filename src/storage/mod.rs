//! Owns every fallible operation on the outside world (files, the clock, randomness) behind one
//! private trait, so that a simulated disk can stand in for the real one. Knows nothing of
//! journals, snapshots or models.

mod clock;
mod disk;
#[cfg(test)]
pub(crate) mod faulty;
mod full_disk;
mod held;
mod memory;
mod mmap;
mod place;
mod read_only;
#[cfg(any(test, fuzzing, feature = "laboratory"))]
pub(crate) mod simulated;
mod throttle;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

pub(crate) use clock::Clock;
pub(crate) use disk::{Disk, exchange_names};
pub(crate) use full_disk::Room;
pub(crate) use held::HeldDisk;
pub(crate) use memory::Memory;
pub(crate) use mmap::{FileBytes, ForkMark};
pub(crate) use place::{APART, PlaceLost};
pub(crate) use read_only::ReadOnlyDisk;
use throttle::PIECE_BYTES;
pub(crate) use throttle::Pace;

/// How often an interrupted call is repeated before the interruption counts as a failure.
const INTERRUPTED_RETRIES: u32 = 1_000;

/// The most bytes that one step frees when a file is removed.
const REMOVED_AT_ONCE_BYTES: u64 = 1 << 20;

/// Temporary files are named `PREFIX…SUFFIX`, so that a later open can tell its own stale ones.
pub(crate) const TEMPORARY_PREFIX: &str = ".prevalence-";
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";

/// Returns whether a file or a half-made copy has a temporary name.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY_PREFIX) && name.ends_with(TEMPORARY_SUFFIX)
}

/// Returns whether an operation failed because the disk, or a quota, is full.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Directory,
    Other,
}

/// What a directory holds under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: OsString,
    /// A symbolic link counts as what it leads to.
    pub(crate) kind: EntryKind,
    /// The length of a file; 0 for everything else.
    pub(crate) bytes: u64,
}

/// The outside world, as the engine uses it.
pub(crate) trait Storage: Send + Sync + 'static {
    /// Returns what stands at `path`, and follows symbolic links; `None` when nothing stands there.
    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>>;
    /// Creates one directory. Its parent must exist, and is not synced.
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// Creates one directory with the permissions of the directory `_model`.
    fn create_directory_like(&self, path: &Path, _model: &Path) -> io::Result<()> {
        self.create_directory(path)
    }
    /// Returns whether another volume is mounted at `path`, so that this directory cannot be
    /// renamed. A symbolic link can be renamed.
    fn is_mount_point(&self, _path: &Path) -> io::Result<bool> {
        Ok(false)
    }
    /// Returns one entry of `directory` that [`list`](Self::list) leaves out, or that is not a
    /// file. Here, a symbolic link is not a file.
    fn entry_that_is_no_file(&self, directory: &Path) -> io::Result<Option<PathBuf>> {
        for name in self.list(directory)? {
            let path = directory.join(name);
            if self.kind(&path)? != Some(EntryKind::File) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }
    /// Returns the names in a directory, in no particular order. It leaves out names that are not
    /// UTF-8, because this crate makes none.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// Returns everything in a directory, in no particular order, also under names that are not
    /// UTF-8. It leaves out what is removed at this moment.
    fn entries(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for name in self.list(directory)? {
            let path = directory.join(&name);
            let Some(kind) = self.kind(&path)? else { continue };
            let bytes = match kind {
                EntryKind::File => self.open_to_read(&path)?.length(),
                EntryKind::Directory | EntryKind::Other => 0,
            };
            entries.push(Entry { name: name.into(), kind, bytes });
        }
        Ok(entries)
    }
    /// Returns the whole content of a regular file.
    fn read(&self, path: &Path) -> io::Result<FileBytes>;
    /// Opens a regular file to read it by position. Others may append to it, cut it or remove it
    /// meanwhile.
    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn ReadableFile>> {
        Ok(Box::new(self.read(path)?))
    }
    /// Creates an empty file with a unique name in `directory`. It is removed unless it is
    /// published.
    fn create_temporary(&self, directory: &Path) -> io::Result<Box<dyn TemporaryFile>>;
    /// Renames a file. The new name is durable once the directory is synced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Cuts a file to `length` bytes, durably.
    fn shorten(&self, path: &Path, length: u64) -> io::Result<()>;
    /// Removes a file. The removal is durable once the directory is synced.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory, or a symbolic link to one.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in `directory` durable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
    /// Takes the exclusive lock on the file at `path`, and creates the file if it is missing.
    /// Returns `None` when somebody else holds the lock.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;
    /// Takes a lock for a caller that changes nothing: others may read at the same time, and the
    /// caller needs no right to write. Otherwise as [`lock`](Self::lock).
    fn lock_to_read(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.lock(path)
    }
    /// Returns how many bytes this user may still write into `directory`'s file system; `u64::MAX`
    /// when that is unknown.
    fn free_bytes(&self, _directory: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
    /// Returns the time of the wall clock.
    fn now(&self) -> SystemTime;
    /// Returns random bytes that nobody can guess.
    fn random(&self) -> io::Result<[u8; 16]>;
    /// Returns the storage for a copy of this database, so that the copy outlives the database.
    fn for_copies(self: Arc<Self>) -> Arc<dyn Storage>;
}

/// An open file that is read by position. A reader may or may not see what others append. If others
/// cut the file, it ends there.
pub(crate) trait ReadableFile: Send + Sync {
    /// Returns the length in bytes that the file had when it was opened.
    fn length(&self) -> u64;
    /// Reads into a prefix of `target` from `position` on and returns the length of that prefix; 0
    /// at the end of the file.
    fn read_at(&self, target: &mut [u8], position: u64) -> io::Result<usize>;
    /// Returns all bytes, if they are in memory or mapped.
    fn bytes(&self) -> Option<&[u8]> {
        None
    }
}

/// Reads from `position` on until `target` is full or the file ends. Returns how many bytes it
/// read.
pub(crate) fn read_up_to(
    file: &dyn ReadableFile,
    target: &mut [u8],
    position: u64,
) -> io::Result<usize> {
    let (mut done, mut retries) = (0, 0);
    while let Some(rest) = target.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, position.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(read) => (done, retries) = (done + read, 0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                retries += 1;
                if retries > INTERRUPTED_RETRIES {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// An open file that is written by position.
pub(crate) trait StoredFile: Send + Sync {
    /// Writes a prefix of `bytes` at `position` and returns the length of that prefix.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize>;
    /// Does the same with `zeros`, which later writes will replace piece by piece. It asks the
    /// system to write `call_bytes` at once.
    fn write_zeros_at(&self, zeros: &[u8], position: u64, _call_bytes: usize) -> io::Result<usize> {
        self.write_at(zeros, position)
    }
    /// Makes the data, and the length needed to read it, durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes data and metadata durable. It is used before a file is published.
    fn sync_all(&self) -> io::Result<()>;
    /// Returns an error when the file was published but is no longer found under its name. Nobody
    /// would find what is written into such a file.
    fn stands_where_published(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is not published yet.
pub(crate) trait TemporaryFile: Send {
    fn file(&self) -> Arc<dyn StoredFile>;
    /// Renames the file to `target` and replaces what stands there. Syncs nothing.
    fn publish(self: Box<Self>, target: &Path) -> io::Result<()>;
}

/// The lock on a directory. It is held while this process has the directory open.
pub(crate) trait Lock: Send {
    /// Releases the lock. Dropping the lock does the same, but cannot report a failure.
    fn unlock(self: Box<Self>) -> io::Result<()>;
}

/// Writes all of `bytes`. It continues after short and interrupted writes.
pub(crate) fn write_all_at(file: &dyn StoredFile, bytes: &[u8], position: u64) -> io::Result<()> {
    write_all(bytes, position, |bytes, position| file.write_at(bytes, position))
}

/// Does the same with [`StoredFile::write_zeros_at`].
pub(crate) fn write_all_zeros_at(
    file: &dyn StoredFile,
    zeros: &[u8],
    position: u64,
    call_bytes: usize,
) -> io::Result<()> {
    let write = |zeros: &[u8], position| file.write_zeros_at(zeros, position, call_bytes);
    write_all(zeros, position, write)
}

fn write_all(
    mut bytes: &[u8],
    mut position: u64,
    write: impl Fn(&[u8], u64) -> io::Result<usize>,
) -> io::Result<()> {
    let mut retries = 0;
    while !bytes.is_empty() {
        match write(bytes, position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = bytes.get(written..).ok_or(io::ErrorKind::InvalidData)?;
                position += written as u64;
                retries = 0;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                retries += 1;
                if retries > INTERRUPTED_RETRIES {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes a file of any size in small steps, under a temporary name. If this does not finish, a
/// later open removes the rest. A file system may free many blocks inside its next commit, and
/// every sync then waits for that: measured, 3 to 5 ms for 11 MB on ext4 with `discard`, against
/// 0.8 ms in steps.
pub(crate) fn remove_gently(
    storage: &dyn Storage,
    path: &Path,
    length: u64,
    pace: &Pace<'_>,
) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    // The temporary name is no longer than the name of a segment: if that name just fits into a
    // path, this one must fit, too. If two temporary names are equal, the earlier file was to be
    // removed as well.
    let tag = xxhash_rust::xxh3::xxh3_64(name.as_encoded_bytes()) >> 16;
    let doomed = directory.join(format!("{TEMPORARY_PREFIX}{tag:012x}{TEMPORARY_SUFFIX}"));
    storage.rename(path, &doomed)?;
    storage.sync_directory(directory)?;
    let (mut left, mut rests) = (length, true);
    while left > REMOVED_AT_ONCE_BYTES {
        left -= REMOVED_AT_ONCE_BYTES;
        storage.shorten(&doomed, left)?;
        if (length - left).is_multiple_of(PIECE_BYTES) {
            // When the work must end, for a close or for room, the rest is removed at once.
            rests = rests && pace.rest().is_ok();
        }
    }
    storage.remove(&doomed)
}

/// Replaces the file at `target` by one that holds `bytes`. After a crash at any point, one of the
/// two stands there whole. The steps are: temporary file, write, sync, rename, sync of the
/// directory.
pub(crate) fn replace_file(storage: &dyn Storage, target: &Path, bytes: &[u8]) -> io::Result<()> {
    publish_file(storage, target, stage_file(storage, target, bytes)?)?;
    sync_published(storage, target)
}

/// Does the first part of [`replace_file`]: writes and syncs a temporary file.
pub(crate) fn stage_file(
    storage: &dyn Storage,
    target: &Path,
    bytes: &[u8],
) -> io::Result<Box<dyn TemporaryFile>> {
    let directory = target.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = storage.create_temporary(directory)?;
    let file = temporary.file();
    write_all_at(&*file, bytes, 0)?;
    if !fault!(ManifestNotSynced) {
        file.sync_all()?;
    }
    Ok(temporary)
}

/// Does the second part of [`replace_file`]: the rename, which the third part makes durable.
pub(crate) fn publish_file(
    storage: &dyn Storage,
    target: &Path,
    staged: Box<dyn TemporaryFile>,
) -> io::Result<()> {
    if fault!(ManifestRemovedFirst) {
        storage.remove(target).ok();
    }
    staged.publish(target)
}

/// Does the third part of [`replace_file`]: syncs the directory.
pub(crate) fn sync_published(storage: &dyn Storage, target: &Path) -> io::Result<()> {
    let directory = target.parent().ok_or(io::ErrorKind::InvalidInput)?;
    if fault!(NoDirectorySyncAfterManifest) {
        return Ok(());
    }
    storage.sync_directory(directory)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A file that takes at most three bytes a call and is interrupted before each call.
    #[derive(Default)]
    struct Stingy {
        content: Mutex<Vec<u8>>,
        interrupted: Mutex<bool>,
    }

    impl StoredFile for Stingy {
        fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
            let mut interrupted = self.interrupted.lock().unwrap();
            *interrupted = !*interrupted;
            if *interrupted {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let mut content = self.content.lock().unwrap();
            assert_eq!(position, content.len() as u64);
            let taken = bytes.len().min(3);
            content.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }
        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }
        fn sync_all(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn short_and_interrupted_writes_are_completed() {
        let file = Stingy::default();
        write_all_at(&file, b"group commit", 0).unwrap();
        assert_eq!(*file.content.lock().unwrap(), b"group commit");
    }

    #[test]
    fn replaced_file_is_whole_and_leaves_no_temporary() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("MANIFEST");
        replace_file(&Disk, &target, b"one").unwrap();
        replace_file(&Disk, &target, b"two").unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"two");
        assert_eq!(Disk.list(directory.path()).unwrap(), ["MANIFEST"]);
    }
}

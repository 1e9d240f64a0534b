//! Owns every fallible operation on the outside world (files, the clock, randomness) behind one
//! private trait, so that a simulated disk can stand in for the real one. Knows nothing of
//! journals, snapshots or models.

mod disk;
#[cfg(test)]
pub(crate) mod faulty;
mod held;
mod memory;
mod mmap;
mod place;
#[cfg(any(test, fuzzing, feature = "laboratory"))]
pub(crate) mod simulated;
mod space;
mod throttle;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

pub(crate) use disk::Disk;
pub(crate) use held::HeldDisk;
pub(crate) use memory::Memory;
pub(crate) use mmap::{FileBytes, ForkMark};
pub(crate) use place::PlaceLost;
pub(crate) use space::Room;
pub(crate) use throttle::Pace;

/// How often one interrupted call is tried again before the interruption counts as a failure.
const INTERRUPTED_RETRIES: u32 = 1_000;

/// What is freed at once when a file is removed.
const REMOVED_AT_ONCE_BYTES: u64 = 1 << 20;

/// Temporary files are named `PREFIX…SUFFIX`, so that a later open can tell its own stale ones.
pub(crate) const TEMPORARY_PREFIX: &str = ".prevalence-";
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";

/// Whether a file, or a half-made copy, is named so.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY_PREFIX) && name.ends_with(TEMPORARY_SUFFIX)
}

/// Whether an operation failed because the disk, or a quota, is full.
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

/// The outside world as the engine sees it.
pub(crate) trait Storage: Send + Sync + 'static {
    /// What stands at `path`, following symbolic links; `None` when nothing does.
    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>>;
    /// Creates one directory; its parent must exist and is not synced.
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// The same with the permissions of another directory.
    fn create_directory_like(&self, path: &Path, _model: &Path) -> io::Result<()> {
        self.create_directory(path)
    }
    /// Whether the directory at `path` is where another volume is mounted, so that it cannot be
    /// renamed. A symbolic link can.
    fn is_mount_point(&self, _path: &Path) -> io::Result<bool> {
        Ok(false)
    }
    /// Something in `directory` that [`list`](Self::list) leaves out, or that is not a file: a
    /// symbolic link is none here.
    fn entry_that_is_no_file(&self, directory: &Path) -> io::Result<Option<PathBuf>> {
        for name in self.list(directory)? {
            let path = directory.join(name);
            if self.kind(&path)? != Some(EntryKind::File) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }
    /// The names in a directory, in no particular order; names that are not UTF-8 are not ours
    /// and are left out.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// The whole content of a regular file.
    fn read(&self, path: &Path) -> io::Result<FileBytes>;
    /// A regular file, to be read by position while others may append to it, cut it or remove it.
    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn ReadableFile>> {
        Ok(Box::new(self.read(path)?))
    }
    /// A new, empty, uniquely named file in `directory` that is removed unless it is published.
    fn create_temporary(&self, directory: &Path) -> io::Result<Box<dyn TemporaryFile>>;
    /// Gives a file another name; not durable before the directory is synced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Cuts a file off behind `length` bytes, durably.
    fn shorten(&self, path: &Path, length: u64) -> io::Result<()>;
    /// Removes a file; not durable before the directory is synced.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory, or a symbolic link to one.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in `directory` durable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
    /// Takes the exclusive lock on the file at `path`, creating it if need be. `None`: it is held
    /// by somebody else.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;
    /// As [`lock`](Self::lock), for who changes nothing: others may read at the same time, and no
    /// right to write is needed.
    fn lock_to_read(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.lock(path)
    }
    /// How many bytes this user may still write into `directory`'s file system; as many as there
    /// are where nobody knows.
    fn free_bytes(&self, _directory: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
    /// The wall clock.
    fn now(&self) -> SystemTime;
    /// Random bytes that nobody can guess.
    fn random(&self) -> io::Result<[u8; 16]>;
    /// Where a copy of a database is written, so that it outlives this one.
    fn for_copies(self: Arc<Self>) -> Arc<dyn Storage>;
}

/// An open file that is read by position. What others append is seen or not; where they cut it
/// off, it ends.
pub(crate) trait ReadableFile: Send + Sync {
    /// Its length in bytes when it was opened.
    fn length(&self) -> u64;
    /// Reads into a prefix of `target` from `position` on and says how long that prefix is; 0 at
    /// the file's end.
    fn read_at(&self, target: &mut [u8], position: u64) -> io::Result<usize>;
}

/// Reads from `position` on until `target` is full or the file ends; says how much that was.
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
    /// Writes a prefix of `bytes` at `position` and says how long that prefix was.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize>;
    /// Makes the data, and the length needed to read it, durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes data and metadata durable; used before a file is published.
    fn sync_all(&self) -> io::Result<()>;
    /// An error when the file was published and does not stand under its name any more: then
    /// nobody will find what is written into it.
    fn stands_where_published(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A file nobody else can see yet.
pub(crate) trait TemporaryFile: Send {
    fn file(&self) -> Arc<dyn StoredFile>;
    /// Renames the file to `target`, replacing what stands there. Syncs nothing.
    fn publish(self: Box<Self>, target: &Path) -> io::Result<()>;
}

/// Held for as long as the directory is ours.
pub(crate) trait Lock: Send {
    /// Gives the lock back; dropping it does the same but cannot report a failure.
    fn unlock(self: Box<Self>) -> io::Result<()>;
}

/// Writes all of `bytes`, going on after short and interrupted writes.
pub(crate) fn write_all_at(
    file: &dyn StoredFile,
    mut bytes: &[u8],
    mut position: u64,
) -> io::Result<()> {
    let mut retries = 0;
    while !bytes.is_empty() {
        match file.write_at(bytes, position) {
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

/// Removes a file of any size in small steps, under a temporary name, which a later open clears
/// away should this not come to its end. To free many blocks at once is work that a file system may
/// do inside its next commit, and whoever syncs anything then waits for it: measured, 3 to 5 ms for
/// 11 MB on ext4 with `discard`, against 0.8 ms in steps.
pub(crate) fn remove_gently(storage: &dyn Storage, path: &Path, length: u64) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    // No longer than the name of a segment: where that just fits into a path, this must, too.
    // Should two be the same, the one before was to be removed as well.
    let tag = xxhash_rust::xxh3::xxh3_64(name.as_encoded_bytes()) >> 16;
    let doomed = directory.join(format!("{TEMPORARY_PREFIX}{tag:012x}{TEMPORARY_SUFFIX}"));
    storage.rename(path, &doomed)?;
    storage.sync_directory(directory)?;
    let mut left = length;
    while left > REMOVED_AT_ONCE_BYTES {
        left -= REMOVED_AT_ONCE_BYTES;
        storage.shorten(&doomed, left)?;
    }
    storage.remove(&doomed)
}

/// Replaces the file at `target` by one holding `bytes`, so that after a crash at any point one of
/// the two stands there whole: temporary file, write, sync, rename, sync of the directory.
pub(crate) fn replace_file(storage: &dyn Storage, target: &Path, bytes: &[u8]) -> io::Result<()> {
    publish_file(storage, target, stage_file(storage, target, bytes)?)?;
    sync_published(storage, target)
}

/// The first part of [`replace_file`], which nobody sees.
pub(crate) fn stage_file(
    storage: &dyn Storage,
    target: &Path,
    bytes: &[u8],
) -> io::Result<Box<dyn TemporaryFile>> {
    let directory = target.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = storage.create_temporary(directory)?;
    let file = temporary.file();
    write_all_at(&*file, bytes, 0)?;
    if !planted!(ManifestNotSynced) {
        file.sync_all()?;
    }
    Ok(temporary)
}

/// The second part of [`replace_file`], not durable before the third.
pub(crate) fn publish_file(
    storage: &dyn Storage,
    target: &Path,
    staged: Box<dyn TemporaryFile>,
) -> io::Result<()> {
    if planted!(ManifestRemovedFirst) {
        storage.remove(target).ok();
    }
    staged.publish(target)
}

/// The third part of [`replace_file`].
pub(crate) fn sync_published(storage: &dyn Storage, target: &Path) -> io::Result<()> {
    let directory = target.parent().ok_or(io::ErrorKind::InvalidInput)?;
    if planted!(NoDirectorySyncAfterManifest) {
        return Ok(());
    }
    storage.sync_directory(directory)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Takes at most three bytes a call and is interrupted before each.
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

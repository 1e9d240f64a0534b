//! Owns the disk space that a database keeps in reserve for a full disk: a file of zeros. When the
//! disk is full, the file is removed, so that a few more commands or a snapshot can be written.
//! Knows nothing of what uses the space then.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::mutex::lock;
use crate::storage::{Storage, write_all_at};

/// The file's name in the database directory.
pub(crate) const RESERVE_NAME: &str = "RESERVE";

/// The file's largest length: enough for a segment of a few hundred commands, a MANIFEST and a
/// small snapshot.
pub(crate) const LARGEST_RESERVE_BYTES: u64 = 256 << 10;

/// How many bytes must be free for each byte of the file before it is made. On a disk that is
/// nearly full, the file would take the space that was just made free.
const FREE_FOR_EACH_BYTE: u64 = 4;

/// The zeros of one write.
const ZEROS: &[u8] = &[0; 64 << 10];

/// The reserve of one database, which may have no file at the moment.
pub(crate) struct Reserve {
    storage: Arc<dyn Storage>,
    root: PathBuf,
    path: PathBuf,
    /// The length of a file that is made from now on.
    bytes: u64,
    /// The length of the file that exists now; `None` without one. Whoever changes the file holds
    /// the lock meanwhile.
    stands: Mutex<Option<u64>>,
    /// The same length, and 0 without a file, for those who must not wait for the disk.
    shown_bytes: AtomicU64,
}

impl Reserve {
    /// Looks for the file in the directory `root`. A file that is made later has `bytes`.
    pub(crate) fn find(storage: Arc<dyn Storage>, root: &Path, bytes: u64) -> Self {
        let path = root.join(RESERVE_NAME);
        // A file that cannot be read, or that is longer than this crate makes it, does not count.
        let length = storage.open_to_read(&path).map(|file| file.length()).ok();
        let length = length.filter(|length| *length <= LARGEST_RESERVE_BYTES);
        let shown_bytes = AtomicU64::new(length.unwrap_or(0));
        let bytes = bytes.min(LARGEST_RESERVE_BYTES);
        let stands = Mutex::new(length);
        Self { storage, root: root.to_path_buf(), path, bytes, stands, shown_bytes }
    }

    fn stands(&self) -> MutexGuard<'_, Option<u64>> {
        lock(&self.stands)
    }

    /// Returns how many bytes are in reserve now. Never waits for the disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.shown_bytes.load(Ordering::Relaxed)
    }

    /// Removes the file to free its space. Returns `false` when there was no file, or it could not
    /// be removed.
    pub(crate) fn release(&self) -> bool {
        let mut stands = self.stands();
        if fault!(ReserveNotGiven) || stands.take().is_none() {
            return false;
        }
        self.shown_bytes.store(0, Ordering::Relaxed);
        self.is_ours() && self.storage.remove(&self.path).is_ok()
    }

    /// Makes the file, if none of that length exists and the disk has plenty of space. If this
    /// fails, [`bytes`](Self::bytes) shows it, and the next call tries again.
    pub(crate) fn fill(&self) {
        let mut stands = self.stands();
        if stands.unwrap_or(0) >= self.bytes {
            return;
        }
        // A file that this crate did not make stays as it is.
        let is_free = matches!(self.storage.kind(&self.path), Ok(None));
        let is_known = stands.is_some() && self.is_ours();
        if !is_free && !is_known {
            return;
        }
        let wanted = self.bytes.saturating_mul(FREE_FOR_EACH_BYTE);
        let has_room = self.storage.free_bytes(&self.root).is_ok_and(|free| free >= wanted);
        if has_room && self.make().is_ok() {
            *stands = Some(self.bytes);
            self.shown_bytes.store(self.bytes, Ordering::Relaxed);
        }
    }

    /// Returns whether the file holds only zeros.
    fn is_ours(&self) -> bool {
        let read = self.storage.read(&self.path);
        read.is_ok_and(|bytes| super::all_zero(&bytes))
    }

    fn make(&self) -> std::io::Result<()> {
        let temporary = self.storage.create_temporary(&self.root)?;
        let file = temporary.file();
        let mut position = 0;
        while position < self.bytes {
            let left = usize::try_from(self.bytes - position).unwrap_or(ZEROS.len());
            let (piece, _) = ZEROS.split_at(left.min(ZEROS.len()));
            write_all_at(&*file, piece, position)?;
            position += crate::files::position(piece.len());
        }
        // The file system allocates the blocks only when they are written.
        file.sync_data()?;
        temporary.publish(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::storage::Disk;
    use crate::storage::faulty::{Faulty, Operation};

    fn reserve(root: &Path, bytes: u64) -> Reserve {
        Reserve::find(Arc::new(Disk), root, bytes)
    }

    #[test]
    fn it_is_as_long_as_it_says_and_made_longer_where_it_is_short() {
        let directory = tempfile::tempdir().unwrap();
        let first = reserve(directory.path(), 5000);
        assert!(first.bytes() == 0 && !first.release());
        first.fill();
        let later = reserve(directory.path(), 70_000);
        assert_eq!((first.bytes(), later.bytes()), (5000, 5000));
        later.fill();
        let path = directory.path().join(RESERVE_NAME);
        assert_eq!((later.bytes(), std::fs::metadata(&path).unwrap().len()), (70_000, 70_000));
        assert!(later.release() && !path.exists() && later.bytes() == 0 && !later.release());
    }

    #[test]
    fn its_length_is_told_while_the_disk_hangs() {
        let directory = tempfile::tempdir().unwrap();
        let (told, syncing) = channel();
        let (go_on, gate) = channel();
        let storage = Faulty::new(move |operation| {
            if *operation == Operation::SyncData {
                told.send(()).unwrap();
                gate.recv().unwrap();
            }
            None
        });
        let reserve = Reserve::find(storage, directory.path(), 5000);
        std::thread::scope(|scope| {
            let filled = scope.spawn(|| reserve.fill());
            syncing.recv().unwrap();
            assert_eq!(reserve.bytes(), 0);
            go_on.send(()).unwrap();
            filled.join().unwrap();
        });
        assert_eq!(reserve.bytes(), 5000);
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(RESERVE_NAME);
        std::fs::write(&path, "somebody's notes").unwrap();
        let reserve = reserve(directory.path(), 5000);
        reserve.fill();
        assert!(!reserve.release());
        assert_eq!(std::fs::read(&path).unwrap(), b"somebody's notes");
    }
}

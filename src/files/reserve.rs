//! Owns the room that a database keeps for itself on the disk: a file of zeros that goes when the
//! disk is full, so that a few more commands, or a snapshot, can be written. Knows nothing of what
//! takes its room.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::mutex::lock;
use crate::storage::{Storage, write_all_at};

/// Its name in the database directory.
pub(crate) const RESERVE_NAME: &str = "RESERVE";

/// How long it is at most: enough for a segment of a few hundred commands, a MANIFEST and a small
/// snapshot.
pub(crate) const LARGEST_RESERVE_BYTES: u64 = 256 << 10;

/// It is made only where so many times its size is free: on a disk that is nearly full it would
/// take the very room that was just made.
const FREE_FOR_EACH_BYTE: u64 = 4;

/// What is written at once.
const ZEROS: &[u8] = &[0; 64 << 10];

/// The file, or that there is none.
pub(crate) struct Reserve {
    storage: Arc<dyn Storage>,
    root: PathBuf,
    path: PathBuf,
    /// How long one is that is made anew.
    bytes: u64,
    /// How long the one is that stands there.
    stands: Mutex<Option<u64>>,
}

impl Reserve {
    /// Looks whether it stands in the directory `root`. One that is made anew has `bytes`.
    pub(crate) fn find(storage: Arc<dyn Storage>, root: &Path, bytes: u64) -> Self {
        let path = root.join(RESERVE_NAME);
        // Where it cannot be looked at, or is not as we make it, it is not counted on.
        let length = storage.open_to_read(&path).map(|file| file.length()).ok();
        let stands = Mutex::new(length.filter(|length| *length <= LARGEST_RESERVE_BYTES));
        let bytes = bytes.min(LARGEST_RESERVE_BYTES);
        Self { storage, root: root.to_path_buf(), path, bytes, stands }
    }

    fn stands(&self) -> MutexGuard<'_, Option<u64>> {
        lock(&self.stands)
    }

    /// How much is kept now.
    pub(crate) fn bytes(&self) -> u64 {
        self.stands().unwrap_or(0)
    }

    /// Gives its room away. `false`: there was none, or it cannot be given.
    pub(crate) fn release(&self) -> bool {
        let mut stands = self.stands();
        if planted!(ReserveNotGiven) || stands.take().is_none() {
            return false;
        }
        self.is_ours() && self.storage.remove(&self.path).is_ok()
    }

    /// Makes it, if there is none of that length and the disk has plenty of room. Where that fails
    /// there is none, which [`bytes`](Self::bytes) says, and the next call tries again.
    pub(crate) fn fill(&self) {
        let mut stands = self.stands();
        if stands.unwrap_or(0) >= self.bytes {
            return;
        }
        // What is not ours is left alone.
        let is_free = matches!(self.storage.kind(&self.path), Ok(None));
        let is_known = stands.is_some() && self.is_ours();
        if !is_free && !is_known {
            return;
        }
        let wanted = self.bytes.saturating_mul(FREE_FOR_EACH_BYTE);
        let has_room = self.storage.free_bytes(&self.root).is_ok_and(|free| free >= wanted);
        if has_room && self.make().is_ok() {
            *stands = Some(self.bytes);
        }
    }

    /// Whether what stands there is zeros and nothing else.
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
        // Its blocks are taken only once they are written.
        file.sync_data()?;
        temporary.publish(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Disk;

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

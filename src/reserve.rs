//! Owns the room that a database keeps for itself on the disk: a file of zeros that goes when the
//! disk is full, so that a few more commands, or a snapshot, can be written. Knows nothing of what
//! takes its room.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::storage::{EntryKind, Storage, write_all_at};

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
    bytes: u64,
    stands: Mutex<bool>,
}

impl Reserve {
    /// Looks whether it stands in the directory `root`. One that is made anew has `bytes`.
    pub(crate) fn find(storage: Arc<dyn Storage>, root: &Path, bytes: u64) -> Self {
        let path = root.join(RESERVE_NAME);
        // Where it cannot be looked at, it is not counted on.
        let stands = matches!(storage.kind(&path), Ok(Some(EntryKind::File)));
        let bytes = bytes.min(LARGEST_RESERVE_BYTES);
        Self { storage, root: root.to_path_buf(), path, bytes, stands: Mutex::new(stands) }
    }

    fn stands(&self) -> MutexGuard<'_, bool> {
        self.stands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much is kept now.
    pub(crate) fn bytes(&self) -> u64 {
        if *self.stands() { self.bytes } else { 0 }
    }

    /// Gives its room away. `false`: there was none, or it cannot be given.
    pub(crate) fn release(&self) -> bool {
        let mut stands = self.stands();
        if !*stands || planted!(ReserveNotGiven) {
            return false;
        }
        *stands = false;
        self.storage.remove(&self.path).is_ok()
    }

    /// Makes it, if there is none and the disk has plenty of room. Where that fails there is none,
    /// which [`bytes`](Self::bytes) says, and the next call tries again.
    pub(crate) fn fill(&self) {
        let mut stands = self.stands();
        let wanted = self.bytes.saturating_mul(FREE_FOR_EACH_BYTE);
        if self.bytes == 0 || *stands {
            return;
        }
        // What is not ours is left alone.
        if !matches!(self.storage.kind(&self.path), Ok(None)) {
            return;
        }
        if self.storage.free_bytes(&self.root).is_ok_and(|free| free >= wanted) {
            *stands = self.make().is_ok();
        }
    }

    fn make(&self) -> std::io::Result<()> {
        let temporary = self.storage.create_temporary(&self.root)?;
        let file = temporary.file();
        let mut position = 0;
        while position < self.bytes {
            let left = usize::try_from(self.bytes - position).unwrap_or(ZEROS.len());
            let (piece, _) = ZEROS.split_at(left.min(ZEROS.len()));
            write_all_at(&*file, piece, position)?;
            position += crate::fields::position(piece.len());
        }
        // Its blocks are taken only once they are written.
        file.sync_data()?;
        temporary.publish(&self.path)
    }
}

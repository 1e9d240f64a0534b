//! Owns which snapshots stay because a durable follower derives events from them that are not
//! stored. Knows nothing of the segments that are held for it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Mutex;

use rustix::io::Errno;

use super::cleanup::Superseded;
use super::holds::newest_before;
use crate::error::Error;
use crate::files::{
    FileHeader, FollowerDirectory, PackedFile, SEGMENT_MAGIC, SNAPSHOT_MAGIC, StoreError,
    list_followers, list_segments, list_snapshots, segment_path, snapshot_path,
};
use crate::mutex::lock;
use crate::options::Events;
use crate::storage::Pace;

/// Whether snapshots that only followers need were found whole. Each is read once for that: what is
/// not listed any more was not verified by the open, and events cannot be derived from damage.
#[derive(Default)]
pub(crate) struct KnownWhole(Mutex<BTreeMap<u64, bool>>);

impl Superseded {
    /// Returns whether a follower may have to derive events, which it replays from an older
    /// snapshot: the options of this open, or of one before, do not store them.
    pub(super) fn may_derive(&self) -> Result<bool, Error> {
        if self.events == Events::Derived {
            return Ok(true);
        }
        let (storage, directory) = (&*self.storage, &self.directory);
        if list_followers(storage, directory)?.is_empty() {
            return Ok(false);
        }
        for first in list_segments(storage, &directory.journal)? {
            let path = segment_path(&directory.journal, first);
            let file = storage.open_to_read(&path).map_err(Error::io("read", &path))?;
            match FileHeader::read(&path, SEGMENT_MAGIC, &*file).map_err(Error::from) {
                Ok((header, _)) if header.events != Events::Derived.code() => {}
                Err(error @ Error::Io { .. }) => return Err(error),
                _ => return Ok(true), // nobody knows what a damaged one holds
            }
        }
        Ok(false)
    }

    /// Returns the snapshots from which followers derive: for each the newest whole one that is not
    /// behind its position. If there is none, the events behind its position are stored up to a
    /// later snapshot, and it derives from the oldest one.
    pub(super) fn deriving(&self, listed: &[u64], pace: &Pace<'_>) -> Result<Vec<u64>, Error> {
        let (storage, directory) = (&*self.storage, &self.directory);
        let mut snapshots = list_snapshots(storage, &directory.snapshots)?;
        snapshots.retain(|sequence| !self.is_spared(*sequence));
        lock(&self.whole.0).retain(|sequence, _| snapshots.contains(sequence));
        let mut needed = Vec::new();
        for (kind, name) in list_followers(storage, directory)? {
            let own = FollowerDirectory::of(directory, kind, &name);
            let after = match own.read(storage).map_err(Error::from) {
                Ok(Some(standing)) if standing.lost.is_none() => standing.needed_after(),
                Err(error @ Error::Io { .. }) => return Err(error),
                _ => continue,
            };
            let mut left = snapshots.clone();
            while let Some(chosen) = newest_before(after, &left).or(left.iter().copied().min()) {
                if listed.contains(&chosen) || self.is_whole(chosen, pace)? {
                    needed.push(chosen);
                    break;
                }
                left.retain(|sequence| *sequence != chosen);
            }
        }
        Ok(needed)
    }

    /// Whether a snapshot, and all that it rests on, can be read.
    fn is_whole(&self, sequence: u64, pace: &Pace<'_>) -> Result<bool, Error> {
        if let Some(known) = lock(&self.whole.0).get(&sequence) {
            return Ok(*known);
        }
        let path = snapshot_path(&self.directory.snapshots, sequence);
        let verified = PackedFile::open(&*self.storage, &path, SNAPSHOT_MAGIC)
            .and_then(|file| file.verify_content(pace).map(|()| file.header.base_sequence));
        let is_whole = match verified {
            Ok(base) if base < sequence => self.is_whole(base, pace)?,
            Ok(_) => true,
            // What is gone, or on a bad place of the disk, must not stop the clean-up for ever.
            Err(StoreError::Io { source, .. })
                if source.kind() == ErrorKind::NotFound
                    || Errno::from_io_error(&source) == Some(Errno::IO) =>
            {
                false
            }
            Err(error @ StoreError::Io { .. }) => return Err(error.into()),
            Err(_) => false,
        };
        lock(&self.whole.0).insert(sequence, is_whole);
        Ok(is_whole)
    }
}

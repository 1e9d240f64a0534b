//! Owns the clean-up of the snapshots and segments that a newer snapshot supersedes: it archives or
//! removes them, oldest first, so that it may be interrupted at any point and repeated. Knows
//! nothing of how the newer snapshot was made.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::error::Error;
use crate::files::{
    DatabaseId, Directory, ManifestFile, PackedFile, Packing, SNAPSHOT_MAGIC, exists,
    list_segments, list_snapshots, position, segment_path, snapshot_path,
};
use crate::journal::archive_segment;
use crate::mutex::lock;
use crate::options::{ArchivedSnapshots, Retention};
use crate::storage::{Pace, Room, Storage, remove_gently};

/// The compression level of archives when snapshots are not compressed.
const ARCHIVE_LEVEL: i32 = 3;

/// What does not change while the database is open.
pub(crate) struct Superseded {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) directory: Directory,
    pub(crate) database: DatabaseId,
    pub(crate) packing: Packing,
    pub(crate) retention: Retention,
    pub(crate) archived_snapshots: ArchivedSnapshots,
    /// Damaged snapshots that the open reported. They are kept for the user to examine.
    pub(crate) spared: Vec<PathBuf>,
}

impl Superseded {
    /// Archives or removes what the snapshots in the MANIFEST supersede.
    pub(crate) fn clear(
        &self,
        manifest: &Mutex<ManifestFile>,
        room: &Room,
        pace: &Pace<'_>,
    ) -> Result<(), Error> {
        let (listed, newest_segment) = {
            let mut manifest = lock(manifest);
            manifest.settle()?;
            (manifest.current().snapshots.clone(), manifest.current().newest_segment)
        };
        self.clear_snapshots(&listed, pace)?;
        let oldest = if fault!(SegmentRemovedTooEarly) { listed.last() } else { listed.first() };
        let Some(&oldest) = oldest else { return Ok(()) };
        let segments = list_segments(&*self.storage, &self.directory.journal)?;
        for (&first, &next_segment_first) in segments.iter().zip(segments.iter().skip(1)) {
            // The segment holds a command that the oldest snapshot does not hold; or the name of
            // the next segment may not be durable yet, because the MANIFEST does not list it.
            if next_segment_first > oldest + 1 || next_segment_first > newest_segment {
                break;
            }
            self.clear_segment(first, next_segment_first, room, pace)?;
        }
        Ok(())
    }

    /// Returns whether segments are archived. Once an archive exists, archiving continues, whatever
    /// the options of this open: a forgotten option must not lose part of the history.
    fn archives(&self) -> Result<bool, Error> {
        Ok(self.retention == Retention::Archive || self.directory.has_archive(&*self.storage)?)
    }

    /// Archives or removes the snapshots that are not listed.
    fn clear_snapshots(&self, listed: &[u64], pace: &Pace<'_>) -> Result<(), Error> {
        let Self { directory, spared, .. } = self;
        let storage = &*self.storage;
        for sequence in list_snapshots(storage, &directory.snapshots)? {
            let path = snapshot_path(&directory.snapshots, sequence);
            // A damaged snapshot, or one of another database, is kept for the user to examine.
            if listed.contains(&sequence) || spared.contains(&path) {
                continue;
            }
            let Ok(file) = PackedFile::open(storage, &path, SNAPSHOT_MAGIC) else { continue };
            let length = file.file_bytes();
            if file.header.database != self.database {
                continue;
            }
            drop(file); // the file is about to be cut, and no map may be open then
            if self.archives()? && self.is_to_be_archived(sequence)? {
                self.archive_snapshot(&path, sequence)?;
            } else {
                remove_gently(storage, &path, length, pace).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }

    fn is_to_be_archived(&self, sequence: u64) -> Result<bool, Error> {
        let (storage, directory) = (&*self.storage, &self.directory);
        let begun = directory.has_archive(storage)?;
        let archived = if begun { list_snapshots(storage, &directory.archive)? } else { vec![] };
        // The archive may hold this snapshot already: a crash left it in both places.
        let before = archived.iter().rev().find(|&&archived| archived < sequence).copied();
        Ok(archived.contains(&sequence) || self.archived_snapshots.keeps(sequence, before))
    }

    /// Moves a snapshot into the archive. Its new name is durable before the old name disappears.
    fn archive_snapshot(&self, path: &Path, sequence: u64) -> Result<(), Error> {
        let (storage, directory) = (&*self.storage, &self.directory);
        directory.create_archive(storage)?;
        let target = snapshot_path(&directory.archive, sequence);
        if exists(storage, &target)? {
            let archived = PackedFile::open(storage, &target, SNAPSHOT_MAGIC)?;
            let (expected, found) = (self.database, archived.header.database);
            if found != expected {
                return Err(Error::ForeignFile { path: target, expected, found });
            }
        }
        storage.rename(path, &target).map_err(Error::io("archive", path))?;
        for changed in [&directory.archive, &directory.snapshots] {
            storage.sync_directory(changed).map_err(Error::io("sync directory", changed))?;
        }
        Ok(())
    }

    fn clear_segment(
        &self,
        first: u64,
        next_segment_first: u64,
        room: &Room,
        pace: &Pace<'_>,
    ) -> Result<(), Error> {
        let Self { directory, packing, .. } = self;
        let storage = &*self.storage;
        if self.archives()? {
            directory.create_archive(storage)?;
            let level = packing.compression_level;
            let compression_level = if level == 0 { ARCHIVE_LEVEL } else { level };
            let packing = Packing { compression_level, ..*packing };
            let _taking = room.take();
            let (journal, archive) = (&directory.journal, &directory.archive);
            archive_segment(storage, journal, archive, (first, next_segment_first), packing, pace)?;
        }
        let path = segment_path(&directory.journal, first);
        let length = storage.read(&path).map_err(Error::io("read", &path))?.len();
        remove_gently(storage, &path, position(length), pace).map_err(Error::io("remove", &path))
    }
}

//! Owns the clean-up of the snapshots and segments that a newer snapshot supersedes: it archives or
//! removes them, oldest first, so that it may be interrupted at any point and repeated. Knows
//! nothing of how the newer snapshot was made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::derivable::KnownWhole;
use super::holds::{Removable, unheld};
use super::late::HeldFiles;
use crate::engine::FollowerBoard;
use crate::error::Error;
use crate::files::{
    DatabaseId, Directory, FileHeader, ManifestFile, PackedFile, Packing, SNAPSHOT_MAGIC,
    StoreError, exists, list_segments, list_snapshots, position, segment_path, snapshot_path,
};
use crate::journal::archive_segment;
use crate::mutex::lock;
use crate::options::{ArchivedSnapshots, Events, Retention};
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
    /// The files that the model still reads.
    pub(crate) held: HeldFiles,
    pub(crate) followers: Arc<FollowerBoard>,
    pub(crate) events: Events,
    pub(crate) whole: KnownWhole,
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
        let derives = self.may_derive()?;
        let mut kept = listed.clone();
        if derives {
            kept.extend(self.deriving(&listed, pace)?);
            kept.sort_unstable();
        }
        self.clear_snapshots(&kept, pace)?;
        let oldest = if fault!(SegmentRemovedTooEarly) { listed.last() } else { listed.first() };
        let Some(&oldest) = oldest else { return Ok(()) };
        let segments = list_segments(&*self.storage, &self.directory.journal)?;
        let mut removable = Vec::new();
        for (&first, &next_segment_first) in segments.iter().zip(segments.iter().skip(1)) {
            // The segment holds a command that the oldest snapshot does not hold; or the name of
            // the next segment may not be durable yet, because the MANIFEST does not list it.
            if next_segment_first > oldest + 1 || next_segment_first > newest_segment {
                break;
            }
            let path = segment_path(&self.directory.journal, first);
            let file = self.storage.open_to_read(&path).map_err(Error::io("read", &path))?;
            removable.push(Removable { first, next_segment_first, bytes: file.length() });
        }
        // What is archived can be read, so nothing needs to be held.
        let archives = self.archives()?;
        let candidates = if archives { &[] } else { &*removable };
        // Whoever has gone on meanwhile may not need the newer ones: they may be gone.
        let begins = derives.then_some(&*kept);
        let (storage, board) = (&*self.storage, &self.followers);
        let unheld = unheld(storage, &self.directory, board, candidates, begins)?;
        let held = if archives { removable.len() } else { unheld };
        let held_bytes = removable.drain(held..).map(|it| it.bytes).sum();
        for Removable { first, next_segment_first, .. } in removable {
            self.clear_segment(first, next_segment_first, room, pace)?;
        }
        // Whoever reads 0 may rely on it: what was held is gone.
        self.followers.set_held_bytes(held_bytes);
        Ok(())
    }

    /// Whether the open found this snapshot damaged.
    pub(super) fn is_spared(&self, sequence: u64) -> bool {
        self.spared.contains(&snapshot_path(&self.directory.snapshots, sequence))
    }

    /// Returns whether segments are archived. Once an archive exists, archiving continues, whatever
    /// the options of this open: a forgotten option must not lose part of the history.
    fn archives(&self) -> Result<bool, Error> {
        Ok(self.retention == Retention::Archive || self.directory.has_archive(&*self.storage)?)
    }

    /// Archives or removes the snapshots that are not listed, and on which no listed one rests.
    fn clear_snapshots(&self, listed: &[u64], pace: &Pace<'_>) -> Result<(), Error> {
        let (storage, directory) = (&*self.storage, &self.directory);
        let found = list_snapshots(storage, &directory.snapshots)?;
        let needed = self.needed(listed, &found)?;
        // Each with its length and the sequence of its base.
        let mut superseded = BTreeMap::new();
        for sequence in found {
            let path = snapshot_path(&directory.snapshots, sequence);
            // A damaged snapshot, or one of another database, is kept for the user to examine.
            if needed.contains(&sequence) && !fault!(BaseRemovedTooEarly)
                || listed.contains(&sequence)
                || self.is_spared(sequence)
            {
                continue;
            }
            let Ok(file) = PackedFile::open(storage, &path, SNAPSHOT_MAGIC) else { continue };
            if file.header.database == self.database {
                superseded.insert(sequence, (file.file_bytes(), file.header.base_sequence));
            }
        }
        // A base moves before what rests on it, and is removed after it.
        for sequence in self.to_be_archived(&superseded)? {
            let path = snapshot_path(&directory.snapshots, sequence);
            self.archive_snapshot(&path, sequence)?;
            superseded.remove(&sequence);
        }
        for (sequence, (length, _)) in superseded.into_iter().rev() {
            let path = snapshot_path(&directory.snapshots, sequence);
            if self.held.reads(sequence) && !fault!(ReadFileCut) {
                storage.remove(&path).map_err(Error::io("remove", &path))?;
                continue;
            }
            remove_gently(storage, &path, length, pace).map_err(Error::io("remove", &path))?;
        }
        Ok(())
    }

    /// Returns the snapshots on which those rest that are listed or spared, with these.
    fn needed(&self, listed: &[u64], found: &[u64]) -> Result<BTreeSet<u64>, Error> {
        let storage = &*self.storage;
        let path = |sequence| snapshot_path(&self.directory.snapshots, sequence);
        let mut needed = BTreeSet::new();
        for &root in found {
            if !listed.contains(&root) && !self.is_spared(root) {
                continue;
            }
            let mut next = Some(root);
            while let Some(sequence) = next.filter(|&sequence| needed.insert(sequence)) {
                let path = path(sequence);
                if exists(storage, &path)? {
                    let file = storage.open_to_read(&path).map_err(StoreError::io("read", &path));
                    let header = file.and_then(|it| FileHeader::read(&path, SNAPSHOT_MAGIC, &*it));
                    match header {
                        Ok((header, _)) => next = Some(header.base_sequence),
                        // What it rests on is not known, so it may be any of the older ones.
                        Err(_) => needed.extend(found.iter().filter(|&&older| older < sequence)),
                    }
                }
            }
        }
        Ok(needed)
    }

    /// Returns which of these snapshots go into the archive, oldest first: those that the options
    /// keep, and those on which these rest.
    fn to_be_archived(&self, superseded: &BTreeMap<u64, (u64, u64)>) -> Result<Vec<u64>, Error> {
        let (storage, directory) = (&*self.storage, &self.directory);
        if superseded.is_empty() || !self.archives()? {
            return Ok(Vec::new());
        }
        let begun = directory.has_archive(storage)?;
        let archived = if begun { list_snapshots(storage, &directory.archive)? } else { vec![] };
        let archived = BTreeSet::from_iter(archived);
        let (mut kept, mut chosen) = (archived.clone(), BTreeSet::new());
        for &sequence in superseded.keys() {
            let before = kept.range(..sequence).next_back().copied();
            // The archive may hold this snapshot already: a crash left it in both places.
            let is_kept =
                kept.contains(&sequence) || self.archived_snapshots.keeps(sequence, before);
            if is_kept && rests_on_known(sequence, superseded, &archived) {
                kept.insert(sequence);
                chosen.insert(sequence);
            }
        }
        let mut rests: Vec<u64> = chosen.iter().copied().collect();
        while let Some(sequence) = rests.pop() {
            let base = superseded.get(&sequence).map_or(sequence, |&(_, base)| base);
            if superseded.contains_key(&base) && chosen.insert(base) {
                rests.push(base);
            }
        }
        Ok(chosen.into_iter().collect())
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

/// Returns whether everything that a snapshot rests on is superseded, too, or in the archive. What
/// a crash has left may rest on one that stays, and what was damaged on one that has gone: without
/// it, a snapshot is of no use in the archive.
fn rests_on_known(
    mut sequence: u64,
    superseded: &BTreeMap<u64, (u64, u64)>,
    archived: &BTreeSet<u64>,
) -> bool {
    while let Some(&(_, base)) = superseded.get(&sequence) {
        if base == sequence {
            return true;
        }
        sequence = base;
    }
    archived.contains(&sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_of_use_in_the_archive_only_with_all_that_it_rests_on() {
        let rests = [(10, 10), (20, 10), (30, 20), (50, 40), (60, 50), (80, 70), (90, 80)];
        let superseded = rests.map(|(sequence, base)| (sequence, (0, base)));
        let (superseded, archived) = (BTreeMap::from(superseded), BTreeSet::from([40]));
        let known = |it: &u64| rests_on_known(*it, &superseded, &archived);
        let known: Vec<u64> = superseded.keys().copied().filter(known).collect();
        assert_eq!(known, [10, 20, 30, 50, 60], "70 is nowhere");
    }
}

//! Owns finding the files of a database and describing each. Reads headers, indexes and footers,
//! and no contents. Knows nothing of what an open would make of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::found::{ArchiveFile, PurgeFile, SchemasFile, SegmentFile, SnapshotFile, SnapshotPlace};
use super::journal_end::Tail;
use crate::error::Error;
use crate::files::{
    ARCHIVE_MAGIC, DatabaseId, Directory, FileHeader, Manifest, PURGE_SUFFIX, PackedFile,
    SEGMENT_MAGIC, SNAPSHOT_MAGIC, StoreError, all_zero, archive_path, list_archives,
    list_if_there, list_schemas, list_segments, list_snapshots, numbered_path, position,
    read_schemas, schemas_path, segment_path, snapshot_path,
};
use crate::model::system_time;
use crate::purge::PurgeRecord;
use crate::schema::{Schemas, SchemasDigest};
use crate::snapshot::check;
use crate::storage::{ReadableFile, Storage, read_up_to};

/// How much is read at once from the end of a segment.
const BLOCK_BYTES: usize = 256 << 10;

/// What the survey of one directory looks at.
pub(super) struct Survey<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) directory: &'a Directory,
    pub(super) manifest: &'a Manifest,
}

/// A file that is gone is not listed, unless it must exist.
fn length(storage: &dyn Storage, path: &Path) -> u64 {
    storage.open_to_read(path).map_or(0, |file| file.length())
}

pub(super) fn foreign(
    path: &Path,
    expected: DatabaseId,
    found: DatabaseId,
) -> Result<(), StoreError> {
    if expected == found {
        return Ok(());
    }
    Err(StoreError::ForeignFile { path: path.to_path_buf(), expected, found })
}

impl Survey<'_> {
    /// Opens a packed file, and checks that it belongs to this database.
    pub(super) fn packed(&self, path: &Path, magic: [u8; 8]) -> Result<PackedFile, StoreError> {
        let file = PackedFile::open_beside_others(self.storage, path, magic)?;
        foreign(path, self.manifest.database, file.header.database)?;
        Ok(file)
    }

    /// Describes the snapshots in both directories, oldest first.
    pub(super) fn snapshots(&self) -> Result<Vec<SnapshotFile>, Error> {
        let mut found = Vec::new();
        let mut listed: BTreeSet<u64> = self.manifest.snapshots.iter().copied().collect();
        let places = [
            (&self.directory.snapshots, SnapshotPlace::Current),
            (&self.directory.archive, SnapshotPlace::Archive),
        ];
        for (directory, place) in places {
            for sequence in self.list(directory, list_snapshots)? {
                let is_listed = place == SnapshotPlace::Current && listed.remove(&sequence);
                let path = snapshot_path(directory, sequence);
                found.push(self.snapshot(path, sequence, place, is_listed));
            }
        }
        for sequence in listed {
            let path = snapshot_path(&self.directory.snapshots, sequence);
            let mut missing = self.snapshot(path, sequence, SnapshotPlace::Current, true);
            missing.problem = Some(format!(
                "{} is missing, but the MANIFEST lists this snapshot",
                missing.path.display()
            ));
            found.push(missing);
        }
        found.sort_by_key(|it| (it.sequence, it.place));
        mark_needed(&mut found);
        Ok(found)
    }

    fn snapshot(
        &self,
        path: PathBuf,
        sequence: u64,
        place: SnapshotPlace,
        is_listed: bool,
    ) -> SnapshotFile {
        let file = self.packed(&path, SNAPSHOT_MAGIC).map_err(Error::from);
        let mut found = SnapshotFile {
            file_bytes: length(self.storage, &path),
            path,
            sequence,
            place,
            is_listed,
            is_needed: is_listed,
            base: None,
            time: None,
            model_version: None,
            content_bytes: 0,
            problem: None,
        };
        match file.and_then(|file| check(file, sequence)) {
            Ok(file) => {
                found.base = Some(file.header.base_sequence).filter(|_| file.header.is_change());
                found.time = Some(system_time(file.header.time_ns));
                found.model_version = Some(file.header.model_version);
                found.content_bytes = file.footer.raw_bytes;
            }
            Err(error) => found.problem = Some(error.to_string()),
        }
        found
    }

    /// Describes the segments, oldest first. `tail` is the end of the newest one.
    pub(super) fn segments(&self, tail: Option<&Tail>) -> Result<Vec<SegmentFile>, Error> {
        let firsts = self.list(&self.directory.journal, list_segments)?;
        let mut found = Vec::new();
        for (at, &first) in firsts.iter().enumerate() {
            let path = segment_path(&self.directory.journal, first);
            let tail = tail.filter(|tail| tail.first_sequence == first);
            let last = match (firsts.get(at + 1), tail) {
                (Some(next), _) => Some(next - 1),
                (None, Some(tail)) => Some(tail.end.sequence),
                (None, None) => None,
            };
            found.push(self.segment(path, first, last, tail));
        }
        if !firsts.contains(&self.manifest.newest_segment) {
            let first = self.manifest.newest_segment;
            let path = segment_path(&self.directory.journal, first);
            let mut missing = self.segment(path, first, None, None);
            missing.problem = Some(format!(
                "{} is missing, but the MANIFEST names it as the newest segment",
                missing.path.display()
            ));
            found.push(missing);
            found.sort_by_key(|it| it.first_sequence);
        }
        Ok(found)
    }

    fn segment(
        &self,
        path: PathBuf,
        first_sequence: u64,
        last: Option<u64>,
        tail: Option<&Tail>,
    ) -> SegmentFile {
        let last_sequence = last.filter(|&last| last >= first_sequence);
        let mut found = SegmentFile {
            first_sequence,
            last_sequence,
            commands: last_sequence.map_or(0, |last| last - first_sequence + 1),
            time: None,
            file_bytes: 0,
            used_bytes: 0,
            problem: None,
            path,
        };
        let path = &found.path;
        let described = self.storage.open_to_read(path).map_err(StoreError::io("read", path));
        let described = described.and_then(|file| {
            found.file_bytes = file.length();
            found.used_bytes = match tail {
                Some(tail) => tail.end.position + tail.end.torn_bytes,
                None => used_bytes(path, &*file)?,
            };
            let (header, _) = FileHeader::read(path, SEGMENT_MAGIC, &*file)?;
            found.time = Some(system_time(header.time_ns));
            foreign(path, self.manifest.database, header.database)?;
            if header.sequence != first_sequence {
                let expected = format!("first sequence {first_sequence}, as the file's name says");
                return Err(StoreError::corrupt(path, 40, expected, header.sequence.to_string()));
            }
            if file.length() < header.file_bytes {
                let expected = format!("a file of at least {} bytes", header.file_bytes);
                return Err(StoreError::corrupt(path, file.length(), expected, "its end"));
            }
            Ok(())
        });
        found.problem = described.err().map(|error| error.to_string());
        found
    }

    /// Describes the archives, oldest first.
    pub(super) fn archives(&self) -> Result<Vec<ArchiveFile>, Error> {
        let mut found = Vec::new();
        for first_sequence in list_archives(self.storage, &self.directory.archive)? {
            let path = archive_path(&self.directory.archive, first_sequence);
            let mut archive = ArchiveFile {
                file_bytes: length(self.storage, &path),
                first_sequence,
                last_sequence: None,
                commands: 0,
                time: None,
                content_bytes: 0,
                problem: None,
                path,
            };
            match self.packed(&archive.path, ARCHIVE_MAGIC) {
                Ok(file) => {
                    let last = file.footer.sequence;
                    archive.last_sequence = Some(last);
                    archive.commands = last.saturating_add(1).saturating_sub(first_sequence);
                    archive.time = Some(system_time(file.header.time_ns));
                    archive.content_bytes = file.footer.raw_bytes;
                }
                Err(error) => archive.problem = Some(error.to_string()),
            }
            found.push(archive);
        }
        Ok(found)
    }

    /// Describes the files of schemas.
    pub(super) fn schemas(&self) -> Result<Vec<SchemasFile>, Error> {
        let directory = &self.directory.schemas;
        let describe = |digest| {
            let path = schemas_path(directory, digest);
            let problem = schemas_problem(self.storage, directory, digest);
            SchemasFile { digest, file_bytes: length(self.storage, &path), problem, path }
        };
        Ok(list_schemas(self.storage, directory)?.into_iter().map(describe).collect())
    }

    /// Describes the records of purges, the first purge first.
    pub(super) fn purges(&self) -> Result<Vec<PurgeFile>, Error> {
        let directory = &self.directory.purges;
        let mut found = Vec::new();
        for number in list_if_there(self.storage, directory, PURGE_SUFFIX)? {
            let path = numbered_path(directory, number, PURGE_SUFFIX);
            let bytes = self.storage.read(&path).map_err(Error::io("read", &path));
            let file_bytes = length(self.storage, &path);
            let record = bytes.and_then(|bytes| {
                let record = PurgeRecord::decode(&path, &bytes, number)?;
                foreign(&path, self.manifest.database, record.database)?;
                Ok(record)
            });
            let count = |list: &Vec<u64>| position(list.len());
            let described = record.as_ref().ok();
            found.push(PurgeFile {
                number,
                time: described.map(|it| it.time),
                replaced: described.map_or(0, |it| count(&it.replaced)),
                redacted: described.map_or(0, |it| count(&it.redacted)),
                metadata_dropped: described.map_or(0, |it| count(&it.metadata_dropped)),
                file_bytes,
                problem: record.as_ref().err().map(ToString::to_string),
                path,
            });
        }
        Ok(found)
    }

    /// Lists the numbers of files in a directory; none if it does not exist.
    pub(super) fn list(&self, directory: &Path, list: ListNumbers) -> Result<Vec<u64>, Error> {
        match list(self.storage, directory) {
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(Vec::new())
            }
            listed => Ok(listed?),
        }
    }
}

pub(super) type ListNumbers = fn(&dyn Storage, &Path) -> Result<Vec<u64>, StoreError>;

/// Marks the snapshots on which needed ones rest.
fn mark_needed(snapshots: &mut [SnapshotFile]) {
    let mut needed: BTreeSet<u64> = BTreeSet::new();
    for snapshot in snapshots.iter_mut().rev() {
        if snapshot.place == SnapshotPlace::Current && needed.contains(&snapshot.sequence) {
            snapshot.is_needed = true;
        }
        if snapshot.is_needed {
            needed.extend(snapshot.base);
        }
    }
}

/// Returns the number of bytes up to the last one that is not zero. Reads backwards from the end.
pub(super) fn used_bytes(path: &Path, file: &dyn ReadableFile) -> Result<u64, StoreError> {
    let mut end = file.length();
    let mut block = vec![0; BLOCK_BYTES];
    while end > 0 {
        let begin = end.saturating_sub(position(BLOCK_BYTES));
        let length = usize::try_from(end - begin).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
        let target = block.get_mut(..length).unwrap_or(&mut []);
        let read = read_up_to(file, target, begin).map_err(StoreError::io("read", path))?;
        let bytes = target.get(..read).unwrap_or(&[]);
        if !all_zero(bytes) {
            let zeros = bytes.iter().rev().take_while(|&&byte| byte == 0).count();
            return Ok(begin + position(read - zeros));
        }
        end = begin;
    }
    Ok(0)
}

/// Returns what is wrong with a file of schemas; `None` if it is as it was written.
pub(super) fn schemas_problem(
    storage: &dyn Storage,
    directory: &Path,
    digest: SchemasDigest,
) -> Option<String> {
    match read_schemas(storage, directory, digest) {
        Ok(Some(text)) => Schemas::decode(&text).err(),
        Ok(None) => Some("it is missing".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

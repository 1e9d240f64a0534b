//! Owns finding the files of a database and describing each. Reads headers, indexes and footers, and
//! no contents. Knows nothing of what an open would make of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::found::{
    ArchiveFile, FollowerFiles, OtherFile, OtherKind, PurgeFile, SchemasFile, SegmentFile,
    SnapshotFile, SnapshotPlace,
};
use super::journal_end::Tail;
use crate::error::Error;
use crate::files::{
    ARCHIVE_MAGIC, CHECKPOINT_MAGIC, DatabaseId, Directory, FileHeader, FollowerDirectory,
    FollowerKind, Manifest, PURGE_SUFFIX, PackedFile, SEGMENT_MAGIC, SNAPSHOT_MAGIC, Standing,
    StoreError, all_zero, archive_path, list_archives, list_followers, list_if_there, list_schemas,
    list_segments, list_snapshots, numbered_path, position, read_schemas, schemas_path,
    segment_path, snapshot_path,
};
use crate::model::system_time;
use crate::purge::PurgeRecord;
use crate::schema::{Schemas, SchemasDigest};
use crate::snapshot::check;
use crate::storage::{EntryKind, ReadableFile, Storage, is_temporary, read_up_to};

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

fn foreign(path: &Path, expected: DatabaseId, found: DatabaseId) -> Result<(), StoreError> {
    if expected == found {
        return Ok(());
    }
    Err(StoreError::ForeignFile { path: path.to_path_buf(), expected, found })
}

impl Survey<'_> {
    /// Opens a packed file, and checks that it belongs to this database.
    fn packed(&self, path: &Path, magic: [u8; 8]) -> Result<PackedFile, StoreError> {
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

    /// Describes the durable followers. `newest` is the sequence of the newest command.
    pub(super) fn followers(
        &self,
        newest: u64,
        segments: &[SegmentFile],
    ) -> Result<Vec<FollowerFiles>, Error> {
        let mut found = Vec::new();
        for (kind, name) in list_followers(self.storage, self.directory)? {
            let own = FollowerDirectory::of(self.directory, kind, &name);
            let standing = match own.read(self.storage) {
                Ok(Some(standing)) => Ok(standing),
                Ok(None) => continue, // it was removed meanwhile
                Err(error) => Err(error.to_string()),
            };
            let (standing, mut problem) = match standing {
                Ok(standing) => (Some(standing), None),
                Err(problem) => (None, Some(problem)),
            };
            if let Some(standing) = &standing {
                problem = self.follower_problem(&own, kind, &name, standing);
            }
            let standing = standing.as_ref();
            let at = standing.map_or(0, |it| it.current.position);
            found.push(FollowerFiles {
                kind,
                name,
                position: at,
                next_position: standing.and_then(|it| Some(it.next.as_ref()?.position)),
                lag: standing.map_or(0, |_| newest.saturating_sub(at)),
                version: standing.map_or(0, |it| it.current.version),
                hold_at_most_bytes: standing.map_or(0, |it| it.hold_at_most),
                held_bytes: standing.map_or(0, |it| self.held_bytes(it, segments)),
                lost: standing.and_then(|it| it.lost),
                dead_letters: standing.map_or_else(Vec::new, |it| {
                    it.current.letters.iter().map(|letter| letter.sequence).collect()
                }),
                file_bytes: self.bytes_below(&own.root),
                problem,
                path: own.root,
            });
        }
        Ok(found)
    }

    fn follower_problem(
        &self,
        own: &FollowerDirectory,
        kind: FollowerKind,
        name: &str,
        standing: &Standing,
    ) -> Option<String> {
        let path = own.standing();
        if let Err(error) = foreign(&path, self.manifest.database, standing.database) {
            return Some(error.to_string());
        }
        if (standing.kind, standing.name.as_str()) != (kind, name) {
            return Some(format!(
                "{} is of the {} `{}`, but its directory is that of the {kind} `{name}`",
                path.display(),
                standing.kind,
                standing.name
            ));
        }
        let builds = std::iter::once(&standing.current).chain(&standing.next);
        for build in builds.filter(|build| build.checkpoint > 0) {
            let path = own.checkpoint(build.checkpoint);
            match self.packed(&path, CHECKPOINT_MAGIC) {
                Ok(file) if file.header.sequence == build.position => {}
                Ok(file) => {
                    return Some(format!(
                        "{} is of position {}, but STANDING states {}",
                        path.display(),
                        file.header.sequence,
                        build.position
                    ));
                }
                Err(error) => return Some(error.to_string()),
            }
        }
        None
    }

    /// Returns the bytes of the segments that no snapshot needs, and that stay for a follower.
    fn held_bytes(&self, standing: &Standing, segments: &[SegmentFile]) -> u64 {
        let is_archived = self.directory.has_archive(self.storage).unwrap_or(true);
        if standing.lost.is_some() || is_archived {
            return 0;
        }
        let oldest = self.manifest.snapshots.first().copied().unwrap_or(0);
        let after = standing.needed_after();
        let pairs = segments.iter().zip(segments.iter().skip(1));
        let held = pairs.filter(|(_, next)| {
            next.first_sequence <= oldest.saturating_add(1)
                && next.first_sequence > after.saturating_add(1)
        });
        held.map(|(segment, _)| segment.file_bytes).sum()
    }

    /// Finds everything that does not belong to the current state.
    pub(super) fn others(&self) -> Result<Vec<OtherFile>, Error> {
        let mut found = Vec::new();
        let Directory { root, journal, snapshots, archive, purges, schemas, .. } = self.directory;
        let known =
            ["LOCK", "MANIFEST", "RESERVE", "journal", "snapshots", "archive", "purges", "schemas"];
        let followers = ["projections", "sinks", "reactors"];
        self.strangers(root, &mut found, |path, name| {
            let is_purge = name.ends_with(".purging") || name.ends_with(".purged");
            let is_known = known.iter().chain(&followers).any(|known| *known == name);
            match is_purge {
                true => Some(OtherKind::PurgeLeftover),
                false => (!is_known).then(|| self.stranger(path, name)),
            }
        })?;
        let mut numbered: BTreeSet<PathBuf> = BTreeSet::new();
        let mut name = |directory: &Path, list: ListNumbers, path: fn(&Path, u64) -> PathBuf| {
            let numbers = self.list(directory, list)?;
            numbered.extend(numbers.iter().map(|&number| path(directory, number)));
            Ok::<(), Error>(())
        };
        name(journal, list_segments, segment_path)?;
        name(snapshots, list_snapshots, snapshot_path)?;
        name(archive, list_snapshots, snapshot_path)?;
        name(archive, list_archives, archive_path)?;
        let records = list_if_there(self.storage, purges, PURGE_SUFFIX)?;
        numbered.extend(records.iter().map(|&it| numbered_path(purges, it, PURGE_SUFFIX)));
        let described = list_schemas(self.storage, schemas)?;
        numbered.extend(described.iter().map(|&it| schemas_path(schemas, it)));
        for directory in [journal, snapshots, archive, purges, schemas] {
            self.strangers(directory, &mut found, |path, name| {
                (!numbered.contains(path)).then(|| self.stranger(path, name))
            })?;
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn stranger(&self, path: &Path, name: &str) -> OtherKind {
        let is_directory = matches!(self.storage.kind(path), Ok(Some(EntryKind::Directory)));
        match (is_temporary(name), is_directory) {
            (true, false) => OtherKind::Temporary,
            (true, true) => OtherKind::HalfMadeCopy,
            (false, _) => OtherKind::Unknown,
        }
    }

    fn strangers(
        &self,
        directory: &Path,
        found: &mut Vec<OtherFile>,
        kind: impl Fn(&Path, &str) -> Option<OtherKind>,
    ) -> Result<(), Error> {
        let entries = match self.storage.entries(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io("list", directory)(error)),
        };
        for entry in entries {
            let path = directory.join(&entry.name);
            let Some(kind) = kind(&path, &entry.name.to_string_lossy()) else { continue };
            let file_bytes = match entry.kind {
                EntryKind::Directory => self.bytes_below(&path),
                EntryKind::File | EntryKind::Other => entry.bytes,
            };
            found.push(OtherFile { path, kind, file_bytes });
        }
        Ok(())
    }

    /// Returns the bytes of the files in a directory, and in the directories in it. What cannot be
    /// read counts as nothing.
    fn bytes_below(&self, directory: &Path) -> u64 {
        let mut bytes = 0_u64;
        for entry in self.storage.entries(directory).unwrap_or_default() {
            let below = directory.join(&entry.name);
            bytes = bytes.saturating_add(match entry.kind {
                EntryKind::Directory => {
                    let inner = self.storage.entries(&below).unwrap_or_default();
                    inner.iter().map(|entry| entry.bytes).sum()
                }
                EntryKind::File | EntryKind::Other => entry.bytes,
            });
        }
        bytes
    }

    /// Lists the numbers of files in a directory; none if it does not exist.
    fn list(&self, directory: &Path, list: ListNumbers) -> Result<Vec<u64>, Error> {
        match list(self.storage, directory) {
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(Vec::new())
            }
            listed => Ok(listed?),
        }
    }
}

type ListNumbers = fn(&dyn Storage, &Path) -> Result<Vec<u64>, StoreError>;

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

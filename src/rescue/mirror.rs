//! Owns the directory of a backup: what is there already, what is added, and the order in which it
//! becomes valid. Knows nothing of what is worth copying.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::copying::{End, PartWriter, copy_file};
use crate::error::Error;
use crate::files::{
    DatabaseId, Directory, MANIFEST_NAME, Manifest, ManifestFile, PackedFile, SNAPSHOT_MAGIC,
    State, UNFINISHED_BACKUP_NAME, beside, exchange, exists, kind, list_segments, list_snapshots,
    segment_path, snapshot_path,
};
use crate::inspect::Inspection;
use crate::journal::{FrameStream, Records};
use crate::storage::{EntryKind, Lock, Storage, is_temporary, replace_file};

/// The directory of a backup, locked.
pub(super) struct Mirror<'a> {
    pub(super) source: &'a Arc<dyn Storage>,
    pub(super) storage: &'a Arc<dyn Storage>,
    pub(super) directory: Directory,
    /// The directories into which new segments are written.
    pub(super) new: Directory,
    database: DatabaseId,
    lock: Box<dyn Lock>,
    /// `None` before the first backup was finished.
    manifest: Option<ManifestFile>,
    pub(super) copied_files: u64,
    pub(super) copied_bytes: u64,
}

/// Where the journal of the copy begins and ends.
pub(super) struct Reached {
    /// The first sequence of its oldest segment.
    pub(super) oldest: u64,
    pub(super) end: End,
    pub(super) path: PathBuf,
}

impl<'a> Mirror<'a> {
    /// Locks the directory `target`, and creates it if nothing is there. It must be empty, or a
    /// backup of the same database.
    pub(super) fn open(
        source: &'a Arc<dyn Storage>,
        storage: &'a Arc<dyn Storage>,
        target: &Path,
        original: &Inspection,
    ) -> Result<Self, Error> {
        let database = original.database();
        let disk = &**storage;
        let directory = Directory::at(target);
        match kind(disk, target)? {
            None => {
                if let Some(parent) = target.parent() {
                    Directory::at(parent).create_root(disk)?;
                }
                // Whoever may not read the original may not read the copy.
                let made = match disk.kind(original.path()) {
                    Ok(Some(_)) => disk.create_directory_like(target, original.path()),
                    _ => disk.create_directory(target), // the original is in memory
                };
                made.map_err(Error::io("create directory", target))?;
                directory.sync_root_names(disk)?;
            }
            Some(EntryKind::Directory) => {}
            Some(_) => return Err(Error::NotADirectory { path: target.to_path_buf() }),
        }
        if let Some(parent) = target.parent() {
            beside::remove_abandoned(disk, parent);
        }
        let names = disk.list(target).map_err(Error::io("list", target))?;
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        let is_new = names.iter().all(|name| name == "LOCK" || is_temporary(name));
        if !is_new && !has(MANIFEST_NAME) && !has(UNFINISHED_BACKUP_NAME) {
            return Err(Error::NotEmpty { path: target.to_path_buf() });
        }
        let lock = disk.lock(&directory.lock).map_err(Error::io("lock", &directory.lock))?;
        let lock = lock.ok_or_else(|| Error::Locked { path: target.to_path_buf() })?;
        let mut manifest = ManifestFile::read(storage, target)?;
        if let Some(manifest) = &mut manifest
            && manifest.current().state == State::Swapping
        {
            exchange::finish(disk, &directory, manifest)?;
        }
        let (source, copied_files, copied_bytes) = (source, 0, 0);
        let new = directory.clone();
        let mirror = Self {
            source,
            storage,
            directory,
            new,
            database,
            lock,
            manifest,
            copied_files,
            copied_bytes,
        };
        mirror.check()?;
        Ok(mirror)
    }

    /// Checks that a copy of this database is here, if one is.
    fn check(&self) -> Result<(), Error> {
        let root = &self.directory.root;
        if let Some(manifest) = &self.manifest {
            let (expected, current) = (self.database, manifest.current());
            if current.database != expected {
                let (path, found) = (manifest.path().to_path_buf(), current.database);
                return Err(Error::ForeignFile { path, expected, found });
            }
            return match current.state {
                State::Clean | State::Dirty => Ok(()),
                // Another program has made it.
                State::Creating | State::Suspect | State::Swapping => {
                    Err(Error::NotEmpty { path: root.clone() })
                }
            };
        }
        let marker = root.join(UNFINISHED_BACKUP_NAME);
        if !exists(&**self.storage, &marker)? {
            return Ok(()); // it is new
        }
        let stated = self.storage.read(&marker).map_err(Error::io("read", &marker))?;
        match *stated == *self.database.to_string().as_bytes() {
            true => Ok(()),
            false => Err(Error::NotEmpty { path: root.clone() }),
        }
    }

    pub(super) fn unlock(self) -> Result<(), Error> {
        self.lock.unlock().map_err(Error::io("unlock", &self.directory.lock))
    }

    pub(super) fn has_archive(&self) -> Result<bool, Error> {
        Ok(self.directory.has_archive(&**self.storage)?)
    }

    /// Returns whether no backup was finished here.
    pub(super) fn is_first(&self) -> bool {
        self.manifest.is_none()
    }

    /// Finds where the journal of the copy ends; `None` if no backup was finished here.
    pub(super) fn reached(&self) -> Result<Option<Reached>, Error> {
        let (disk, journal) = (&**self.storage, &self.directory.journal);
        if self.is_first() || !exists(disk, journal)? {
            return Ok(None);
        }
        let segments = list_segments(disk, journal)?;
        let (Some(&oldest), Some(&newest)) = (segments.first(), segments.last()) else {
            return Ok(None);
        };
        let mut frames = FrameStream::of_segment(disk, journal, newest, newest, None)?;
        let file = frames.file().clone();
        if file.header.database != self.database {
            let (expected, found) = (self.database, file.header.database);
            return Err(Error::ForeignFile { path: file.path.clone(), expected, found });
        }
        let mut time_ns = file.header.time_ns;
        while frames.advance(u64::MAX)? {
            let records = frames.frame().map(|frame| Records::new(frame.payload));
            let newest = records.and_then(|records| records.filter_map(Result::ok).last());
            time_ns = newest.map_or(time_ns, |record| record.time_ns);
        }
        let sequence = frames.next_sequence().saturating_sub(1);
        let end = End { sequence, chain: frames.chain(), time_ns };
        Ok(Some(Reached { oldest, end, path: file.path.clone() }))
    }

    /// States that the copy is not finished, and makes room for new segments: in the journal that
    /// is there, or in one that will replace it.
    pub(super) fn begin(&mut self, is_append: bool) -> Result<(), Error> {
        let disk = &**self.storage;
        match &mut self.manifest {
            Some(manifest) if is_append => {
                if manifest.current().state == State::Clean {
                    manifest.update(|manifest| manifest.state = State::Dirty)?;
                }
            }
            Some(_) => self.new = exchange::stage_journal(disk, &self.directory)?,
            None => {
                let marker = self.directory.root.join(UNFINISHED_BACKUP_NAME);
                replace_file(disk, &marker, self.database.to_string().as_bytes())
                    .map_err(Error::io("write", &marker))?;
                self.directory.create_inner(disk)?;
                // Those of an interrupted backup may end before the snapshot of this one.
                let journal = &self.directory.journal;
                for first in list_segments(disk, journal)? {
                    let path = segment_path(journal, first);
                    disk.remove(&path).map_err(Error::io("remove", &path))?;
                }
            }
        }
        Ok(())
    }

    /// Copies a file that never changes, unless it is there.
    pub(super) fn copy_small(
        &mut self,
        from: &Path,
        place: &str,
        step: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        let to = self.place(from, place)?;
        let original = self.source.read(from).map_err(Error::io("read", from))?;
        let is_same =
            |storage: &dyn Storage| matches!(storage.read(&to), Ok(copy) if *copy == *original);
        if exists(&**self.storage, &to)? && is_same(&**self.storage) {
            return Ok(());
        }
        self.copy(from, &to, step)?;
        match is_same(&**self.storage) {
            true => Ok(()),
            false => Err(self.withdrawn(&to, "another content")),
        }
    }

    /// Removes a copy that is not what was written, and returns the error.
    fn withdrawn(&self, path: &Path, found: &str) -> Error {
        // The caller gets this error. What cannot be removed is replaced by the next backup.
        self.storage.remove(path).ok();
        Error::corrupt(path, 0, "what was written", found)
    }

    pub(super) fn copy_snapshot(
        &mut self,
        from: &Path,
        place: &str,
        step: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        self.copy_packed(from, place, SNAPSHOT_MAGIC, step)
    }

    /// Copies a packed file, unless it is there, and unpacks all of the copy.
    pub(super) fn copy_packed(
        &mut self,
        from: &Path,
        place: &str,
        magic: [u8; 8],
        step: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        let to = self.place(from, place)?;
        let open = |storage: &dyn Storage, path: &Path| {
            PackedFile::open_beside_others(storage, path, magic)
        };
        let original = open(&**self.source, from)?;
        let stated = |file: &PackedFile| {
            let footer = &file.footer;
            (file.file_bytes(), footer.digest, footer.sequence, footer.chain)
        };
        let copied = match exists(&**self.storage, &to)? {
            true => open(&**self.storage, &to).ok().filter(|it| stated(it) == stated(&original)),
            false => None,
        };
        if let Some(copy) = copied {
            // What an interrupted first backup has left may not have been read back.
            if !self.is_first() || check_whole(&copy).is_ok() {
                return Ok(());
            }
        }
        // A damaged original must not take the place of a sound copy.
        check_whole(&original)?;
        self.copy(from, &to, step)?;
        match open(&**self.storage, &to).map_err(Error::from).and_then(|it| check_whole(&it)) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.withdrawn(&to, &error.to_string())),
        }
    }

    /// Returns the path of the copy of a file, and creates its directory.
    fn place(&self, from: &Path, place: &str) -> Result<PathBuf, Error> {
        let (disk, directory) = (&**self.storage, &self.directory);
        match place {
            "schemas" => directory.create_schemas(disk)?,
            "purges" => directory.create_purges(disk)?,
            "archive" => directory.create_archive(disk)?,
            _ => {}
        }
        let name = from.file_name().unwrap_or(from.as_os_str());
        Ok(directory.root.join(place).join(name))
    }

    fn copy(&mut self, from: &Path, to: &Path, step: &mut dyn FnMut(u64)) -> Result<(), Error> {
        let mut copied = 0;
        let mut told = |bytes| {
            copied += bytes;
            step(bytes);
        };
        copy_file(&**self.source, from, &**self.storage, to, &mut told)?;
        self.copied_files += 1;
        self.copied_bytes += copied;
        Ok(())
    }

    /// Gives a new segment its name, and reads it back.
    pub(super) fn publish(&mut self, writer: PartWriter) -> Result<(), Error> {
        let (disk, journal) = (&**self.storage, &self.new.journal);
        let first = writer.first();
        let end = writer.publish(disk)?;
        let mut frames = FrameStream::of_segment(disk, journal, first, first, None)?;
        while frames.next_sequence() <= end.sequence && frames.advance(end.sequence)? {}
        let path = segment_path(journal, first);
        if (frames.next_sequence(), frames.chain()) != (end.sequence.saturating_add(1), end.chain) {
            let expected = format!("sequence {} and chain {:08x}", end.sequence, end.chain);
            let found = format!("sequence {}", frames.next_sequence().saturating_sub(1));
            return Err(Error::corrupt(&path, frames.position(), expected, found));
        }
        self.copied_files += 1;
        self.copied_bytes += frames.position();
        Ok(())
    }

    /// Makes the copy valid.
    pub(super) fn switch(&mut self, new: Manifest) -> Result<(), Error> {
        let (disk, directory) = (&**self.storage, &self.directory);
        for inner in [&self.new.journal, &directory.snapshots, &directory.root] {
            disk.sync_directory(inner).map_err(Error::io("sync directory", inner))?;
        }
        match &mut self.manifest {
            Some(file) if self.new.journal != directory.journal => {
                exchange::exchange(disk, directory, file, |current| *current = new)?;
                self.new = directory.clone();
            }
            Some(file) => file.update(|current| *current = new)?,
            None => {
                self.manifest = Some(ManifestFile::create(self.storage, &directory.root, new)?);
            }
        }
        Ok(directory.sync_root_names(disk)?)
    }

    /// Removes what the copy does not need any more: segments before `first`, and snapshots whose
    /// names are not in `kept`.
    pub(super) fn remove_superseded(
        &mut self,
        kept: &BTreeSet<&OsStr>,
        first: u64,
    ) -> Result<(), Error> {
        let (disk, directory) = (&**self.storage, &self.directory);
        let mut superseded = vec![directory.root.join(UNFINISHED_BACKUP_NAME)];
        let segments = list_segments(disk, &directory.journal)?;
        for (segment, next) in segments.iter().zip(segments.iter().skip(1)) {
            if *next <= first {
                superseded.push(segment_path(&directory.journal, *segment));
            }
        }
        for sequence in list_snapshots(disk, &directory.snapshots)? {
            let path = snapshot_path(&directory.snapshots, sequence);
            if path.file_name().is_none_or(|name| !kept.contains(name)) {
                superseded.push(path);
            }
        }
        for path in superseded {
            match disk.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(directory.remove_stale_temporaries(disk)?)
    }
}

/// Unpacks all of a packed file.
pub(super) fn check_whole(file: &PackedFile) -> Result<(), Error> {
    let mut damage = None;
    file.check_parts(&mut |_| Ok(()), &mut |part| {
        damage.get_or_insert(part.error);
    })?;
    match damage {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

//! Owns writing a new directory with what can be read of another one. Knows nothing of why.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::copying::{End, Part, copy_file, write_last_segment, write_part};
use super::course::{Course, Past, Slice};
use super::pieces::Place;
use super::stock::Stock;
use crate::error::Error;
use crate::files::{
    Directory, Manifest, ManifestFile, PURGE_SUFFIX, State, archive_path, list_if_there,
    list_schemas, numbered_path, read_schemas, schemas_path, segment_path, snapshot_path,
};
use crate::journal::{SegmentIdentity, archive_segment};
use crate::options::Options;
use crate::purge::PurgeRecord;
use crate::storage::{Pace, Storage};

/// Writes the files of a new, closed database.
pub(super) struct Assembly<'a> {
    pub(super) stock: &'a Stock,
    pub(super) course: &'a Course<'a>,
    /// The history that is kept: in the archive if there is one, otherwise in the journal as far as
    /// it reaches back without a gap.
    pub(super) past: &'a Past<'a>,
    pub(super) target: &'a Arc<dyn Storage>,
}

impl Assembly<'_> {
    /// Writes everything into `directory`, which must exist. Returns the end.
    pub(super) fn write(
        &self,
        directory: &Directory,
        step: &mut dyn FnMut(u64),
    ) -> Result<End, Error> {
        let target = &**self.target;
        directory.create_inner(target)?;
        self.copy_schemas(directory, step)?;
        self.copy_purges(directory, step)?;
        self.copy_snapshots(directory, step)?;
        let begin = self.course.snapshot.sequence;
        if self.stock.has_archive {
            directory.create_archive(target)?;
            self.copy_archived_snapshots(directory, step)?;
            for slice in &self.past.slices {
                self.archive(directory, slice, step)?;
            }
            let archive = &directory.archive;
            target.sync_directory(archive).map_err(Error::io("sync directory", archive))?;
        } else {
            for slice in self.past.joined(begin) {
                self.segment(&directory.journal, slice, slice.piece.chain_before)?;
                step(0);
            }
        }
        let snapshot = &self.course.snapshot;
        let (sequence, chain, time_ns) =
            (snapshot.sequence, snapshot.chain, snapshot.header.time_ns);
        let mut end = End { sequence, chain, time_ns };
        for slice in &self.course.tail {
            end = self.segment(&directory.journal, slice, end.chain)?;
            step(0);
        }
        let header = self.course.tail.last().map(|slice| slice.piece.header.clone());
        let header = header.or_else(|| self.stock.newest_header());
        let header = header.unwrap_or_else(|| snapshot.header.clone());
        write_last_segment(target, directory, &SegmentIdentity::of(&header), end)?;
        let journal = &directory.journal;
        target.sync_directory(journal).map_err(Error::io("sync directory", journal))?;
        let manifest = Manifest {
            database: self.stock.database,
            state: State::Clean,
            sequence: end.sequence,
            chain: end.chain,
            newest_segment: end.sequence.saturating_add(1),
            snapshots: vec![sequence],
        };
        ManifestFile::create(self.target, &directory.root, manifest)?;
        Ok(end)
    }

    fn copy(&self, from: &Path, to: &Path, step: &mut dyn FnMut(u64)) -> Result<(), Error> {
        copy_file(&*self.stock.storage, from, &**self.target, to, step)
    }

    /// Copies the sound files of schemas.
    fn copy_schemas(&self, directory: &Directory, step: &mut dyn FnMut(u64)) -> Result<(), Error> {
        let (source, from) = (&*self.stock.storage, &self.stock.directory.schemas);
        for digest in list_schemas(source, from)? {
            if matches!(read_schemas(source, from, digest), Ok(Some(_))) {
                directory.create_schemas(&**self.target)?;
                let to = schemas_path(&directory.schemas, digest);
                self.copy(&schemas_path(from, digest), &to, step)?;
            }
        }
        Ok(())
    }

    /// Copies the records of purges, up to the first that is not sound: their numbers have no gaps.
    fn copy_purges(&self, directory: &Directory, step: &mut dyn FnMut(u64)) -> Result<(), Error> {
        let (source, from) = (&*self.stock.storage, &self.stock.directory.purges);
        for (number, expected) in list_if_there(source, from, PURGE_SUFFIX)?.into_iter().zip(1..) {
            let path = numbered_path(from, number, PURGE_SUFFIX);
            let bytes = source.read(&path).map_err(Error::io("read", &path));
            let record = bytes.and_then(|bytes| PurgeRecord::decode(&path, &bytes, number));
            let is_ours = record.is_ok_and(|it| it.database == self.stock.database);
            if !is_ours || number != expected {
                break;
            }
            directory.create_purges(&**self.target)?;
            let to = numbered_path(&directory.purges, number, PURGE_SUFFIX);
            self.copy(&path, &to, step)?;
        }
        Ok(())
    }

    /// Copies the snapshot with which the copy begins, and those that it rests on.
    fn copy_snapshots(
        &self,
        directory: &Directory,
        step: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        for path in &self.course.snapshot.paths {
            let name = path.file_name().unwrap_or(path.as_os_str());
            self.copy(path, &directory.snapshots.join(name), step)?;
        }
        Ok(())
    }

    /// Copies the other snapshots up to the end, as the archive keeps them.
    fn copy_archived_snapshots(
        &self,
        directory: &Directory,
        step: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        let begin = self.course.snapshot.sequence;
        let mut copied = BTreeSet::new();
        for snapshot in self.stock.snapshots.iter().filter(|it| it.sequence <= begin) {
            let is_current = snapshot.sequence == begin && !snapshot.is_archived;
            let Some(path) = snapshot.paths.first().filter(|_| !is_current) else { continue };
            if copied.insert(snapshot.sequence) {
                let to = snapshot_path(&directory.archive, snapshot.sequence);
                self.copy(path, &to, step)?;
            }
        }
        Ok(())
    }

    /// Writes commands into the archive: a sound archive as it is, everything else anew.
    fn archive(
        &self,
        directory: &Directory,
        slice: &Slice<'_>,
        step: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        let Slice { piece, first, last } = *slice;
        let is_all = (first, last) == (piece.first, piece.last);
        if piece.place == Place::Archive && piece.is_whole && is_all {
            return self.copy(&piece.path, &archive_path(&directory.archive, first), step);
        }
        let target = &**self.target;
        let journal = &directory.journal;
        self.segment(journal, slice, piece.chain_before)?;
        let range = (first, last.saturating_add(1));
        let packing = Options::default().packing();
        archive_segment(target, journal, &directory.archive, range, packing, &Pace::full())?;
        let path = segment_path(journal, first);
        step(0);
        target.remove(&path).map_err(Error::io("remove", &path))
    }

    fn segment(&self, journal: &Path, slice: &Slice<'_>, chain: u32) -> Result<End, Error> {
        let stock = self.stock;
        let mut frames = slice.piece.open(&*stock.storage, &stock.directory, slice.first)?;
        write_part(&**self.target, journal, &mut frames, &Part::of(slice, chain))
    }
}

//! Owns the answer to which file of a stored history holds which sequence. Knows nothing of frames
//! and models.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;
use crate::files::{
    DatabaseId, Directory, FileHeader, PackedFile, SNAPSHOT_MAGIC, SchemaFiles, archive_path, kind,
    list_archives, list_segments, list_snapshots, segment_path, snapshot_path,
};
use crate::journal::{Bookmark, FrameStream};
use crate::model::Model;
use crate::recovery::{ChangedTypes, check_identity, check_tags};
use crate::snapshot::{OpenFile, missing_base, with_bases};
use crate::storage::Storage;

/// The files of one database. The history ends with `newest`. While it is read, files may be
/// archived, moved and removed.
pub(crate) struct HistoryFiles {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) directory: Directory,
    pub(crate) database: DatabaseId,
    /// The model's name in the files.
    pub(crate) model_name: String,
    pub(crate) newest: u64,
    /// The chain value at `newest`.
    pub(crate) newest_chain: u32,
}

/// The directory in which a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Journal,
    Archive,
}

/// The first sequences of the files in the two directories, listed at one time.
pub(super) struct Listing {
    journal: Vec<u64>,
    archives: Vec<u64>,
}

impl Listing {
    /// Returns the file with the highest first sequence that is not beyond `sequence`. If a segment
    /// and an archive begin there, the segment.
    pub(super) fn holding(&self, sequence: u64) -> Option<(Place, u64)> {
        let last = |firsts: &[u64]| firsts.iter().rev().find(|&&first| first <= sequence).copied();
        match (last(&self.journal), last(&self.archives)) {
            (Some(segment), archive) if archive.is_none_or(|archive| archive <= segment) => {
                Some((Place::Journal, segment))
            }
            (_, archive) => archive.map(|archive| (Place::Archive, archive)),
        }
    }

    /// Returns the next file: the one with the lowest first sequence that is beyond `first`.
    pub(super) fn after(&self, first: u64) -> Option<(Place, u64)> {
        let next = |firsts: &[u64]| firsts.iter().find(|&&other| other > first).copied();
        match (next(&self.journal), next(&self.archives)) {
            (Some(segment), archive) if archive.is_none_or(|archive| archive >= segment) => {
                Some((Place::Journal, segment))
            }
            (_, archive) => archive.map(|archive| (Place::Archive, archive)),
        }
    }

    /// Returns the lowest first sequence.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.journal.first().into_iter().chain(self.archives.first()).min().copied()
    }
}

impl HistoryFiles {
    /// Returns the sequence of the first stored command; `None` if there is none.
    pub(crate) fn oldest_command(&self) -> Result<Option<u64>, Error> {
        Ok(self.list()?.oldest().filter(|&oldest| oldest <= self.newest))
    }

    /// Returns the sequence and the path of every snapshot up to `newest`, oldest first.
    pub(crate) fn snapshots(&self) -> Result<Vec<(u64, PathBuf)>, Error> {
        let Directory { snapshots, archive, .. } = &self.directory;
        // Snapshots move from the first directory to the second one. Listed in this order, no
        // snapshot is missed.
        let mut found = Vec::new();
        for directory in [snapshots, archive] {
            let examined = kind(&*self.storage, directory)?;
            if examined.is_none() {
                continue;
            }
            let sequences = list_snapshots(&*self.storage, directory)?;
            found.extend(sequences.iter().map(|&s| (s, snapshot_path(directory, s))));
        }
        found.retain(|(sequence, _)| *sequence <= self.newest);
        found.sort_by_key(|(sequence, _)| *sequence);
        found.dedup_by_key(|(sequence, _)| *sequence);
        Ok(found)
    }

    /// Opens the snapshots that `file` rests on, with `open`. Each is in the one directory or in
    /// the other.
    pub(crate) fn with_bases(&self, file: PackedFile, open: OpenFile) -> Result<PackedFile, Error> {
        let Directory { snapshots, archive, .. } = &self.directory;
        with_bases(file, |change, sequence| {
            // Snapshots move from the first directory to the second one.
            for directory in [snapshots, archive] {
                let path = snapshot_path(directory, sequence);
                match open(&*self.storage, &path, SNAPSHOT_MAGIC) {
                    Err(error) if kind(&*self.storage, &path)?.is_some() => {
                        return Err(error.into());
                    }
                    Err(_) => {}
                    Ok(base) => return Ok(base),
                }
            }
            Err(missing_base(change, &snapshot_path(snapshots, sequence)))
        })
    }

    /// Checks that a file belongs to this database and its model.
    pub(crate) fn check_identity(&self, path: &Path, header: &FileHeader) -> Result<(), Error> {
        check_identity(path, header, self.database, &self.model_name)
    }

    /// Checks that the program's tags mean what they meant when a file was written, and returns
    /// which types were changed since.
    pub(crate) fn check_types<M: Model>(
        &self,
        path: &Path,
        header: &FileHeader,
    ) -> Result<Arc<ChangedTypes>, Error> {
        check_tags::<M>(path, header)?;
        ChangedTypes::since::<M>(&self.schema_files(), header)
    }

    pub(crate) fn schema_files(&self) -> SchemaFiles {
        SchemaFiles { storage: self.storage.clone(), directory: self.directory.schemas.clone() }
    }

    /// Lists the segments, then the archives. In this order no commands are missed: a segment that
    /// was archived and removed before is found in the archive.
    pub(super) fn list(&self) -> Result<Listing, Error> {
        Ok(Listing {
            journal: list_segments(&*self.storage, &self.directory.journal)?,
            archives: list_archives(&*self.storage, &self.directory.archive)?,
        })
    }

    /// Opens a file at the frame that holds `wanted`, or at one before it.
    pub(super) fn open(
        &self,
        (place, first): (Place, u64),
        wanted: u64,
        bookmark: Option<Bookmark>,
    ) -> Result<FrameStream, Error> {
        let (storage, directory) = (&*self.storage, &self.directory);
        let stream = match place {
            Place::Journal => {
                FrameStream::of_segment(storage, &directory.journal, first, wanted, bookmark)
            }
            Place::Archive => FrameStream::of_archive(storage, &directory.archive, first, wanted),
        }?;
        self.check_identity(&stream.file().path, &stream.file().header)?;
        Ok(stream)
    }

    pub(super) fn path(&self, (place, first): (Place, u64)) -> PathBuf {
        match place {
            Place::Journal => segment_path(&self.directory.journal, first),
            Place::Archive => archive_path(&self.directory.archive, first),
        }
    }

    pub(super) fn truncated(&self, wanted: u64, oldest: u64) -> Error {
        Error::HistoryTruncated { path: self.directory.root.clone(), wanted, oldest }
    }

    /// Builds the error that `file` ends with `end` and that the next file does not begin there.
    pub(super) fn gap(&self, file: (Place, u64), end: u64, next: Option<(Place, u64)>) -> Error {
        let next = next.map_or_else(
            || "there is no later file".to_owned(),
            |next| format!("the next file is {}", self.path(next).display()),
        );
        let reason = format!("{} ends with sequence {end} and {next}", self.path(file).display());
        Error::Missing { path: self.path((file.0, end + 1)), reason }
    }
}

//! Reads all files of a database, and says of each damage where it is, what it means and what to
//! do. It does not stop at the first one. Knows nothing of models.
//!
//! - `finding`: what is told of one damage
//! - `packed`: snapshots, and what all packed files have in common
//! - `commands`: the files with the commands, one after the other, and the chain through them
//! - `segment`: one segment, beyond its damage
//! - `archive`: one archived segment, beyond its damage
//! - `small`: MANIFEST, purge records, followers

mod archive;
mod commands;
mod finding;
mod packed;
mod segment;
mod small;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

pub use finding::{Finding, Severity};
pub(crate) use packed::check_requests;

use finding::Findings;

use super::inspection::Inspection;
use super::opener::Opener;
use crate::error::Error;
use crate::files::{
    ARCHIVE_MAGIC, DatabaseId, Directory, FieldReader, FileHeader, MANIFEST_NAME, Manifest,
    SEGMENT_MAGIC, SNAPSHOT_MAGIC, StoreError, absolute, archive_path, list_archives,
    list_segments, list_snapshots, position, segment_path, snapshot_path,
};
use crate::recovery::{KnownChain, settled_manifest};
use crate::storage::{ReadOnlyDisk, ReadableFile, Storage, read_up_to};

/// The progress is told whenever so many bytes more were read: a bar costs more than a small batch.
const TOLD_EVERY_BYTES: u64 = 1 << 20;

/// How much of the files is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Depth {
    /// Headers, footers and indexes of all files, and all frames of the journal.
    Quick,
    /// Everything, also the contents of snapshots, archives and checkpoints.
    Deep,
}

/// How far a verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyProgress {
    /// The bytes of files that were read.
    pub done_bytes: u64,
    /// The bytes of all files when it began. The database may grow meanwhile.
    pub total_bytes: u64,
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// The directory.
    pub path: PathBuf,
    /// When it began.
    pub looked_at: SystemTime,
    /// How much was read.
    pub depth: Depth,
    /// What is wrong, in the order in which it was found.
    pub findings: Vec<Finding>,
    /// How many findings are not in the list, because there are too many.
    pub more_findings: u64,
    /// How many files were read.
    pub files: u64,
    /// How many bytes these have.
    pub bytes: u64,
    /// How many commands were read and are undamaged. A quick verification counts those of archives
    /// by their footers.
    pub commands: u64,
    /// How many files were archived or removed while they should have been read.
    pub vanished_files: u64,
}

impl Verification {
    /// Returns whether there is no damage.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let is_damage = |it: &Finding| it.severity == Severity::Damage;
        self.more_findings == 0 && !self.findings.iter().any(is_damage)
    }
}

/// Verifies all files of the database in the directory `path`, whoever has it open. `progress` is
/// told now and then how far it is.
///
/// # Errors
/// Those of [`Inspection::open`], but a MANIFEST that is missing or damaged is a finding.
pub fn verify(
    path: impl AsRef<Path>,
    depth: Depth,
    mut progress: impl FnMut(VerifyProgress),
) -> Result<Verification, Error> {
    let root = absolute(path.as_ref())?;
    verify_with(Arc::new(ReadOnlyDisk), &root, depth, &mut progress)
}

/// Verifies as [`verify`] through `storage`.
pub(crate) fn verify_with(
    storage: Arc<dyn Storage>,
    root: &Path,
    depth: Depth,
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<Verification, Error> {
    let mut findings = Findings::default();
    let manifest = match settled_manifest(&storage, root) {
        Ok(manifest) => Some(manifest),
        Err(error @ (Error::Corrupt { .. } | Error::Missing { .. }))
            if Directory::at(root).holds_files_of_ours(&*storage)? =>
        {
            findings.push(small::manifest_finding(&*storage, root, &error));
            None
        }
        Err(error) => return Err(error),
    };
    let directory = Directory::at(root);
    let database = match &manifest {
        Some(manifest) => Some(manifest.database),
        None => stated_database(&*storage, &directory)?,
    };
    let total_bytes = total_bytes(&*storage, &directory, depth)?;
    let mut check = Check {
        looked_at: storage.now(),
        storage,
        directory,
        depth,
        manifest,
        database,
        model_name: None,
        known: Vec::new(),
        damaged_snapshots: BTreeSet::new(),
        findings,
        progress,
        seen: VerifyProgress { done_bytes: 0, total_bytes },
        told_bytes: 0,
        files: 0,
        commands: 0,
        vanished_files: 0,
    };
    check.snapshots()?;
    check.purges()?;
    check.schemas()?;
    let newest = check.commands()?;
    check.followers(newest)?;
    check.would_open()?;
    Ok(check.done())
}

/// A verification at work.
struct Check<'a> {
    storage: Arc<dyn Storage>,
    directory: Directory,
    looked_at: SystemTime,
    depth: Depth,
    /// `None` if it cannot be read.
    manifest: Option<Manifest>,
    database: Option<DatabaseId>,
    /// The model's name in the first file that was read.
    model_name: Option<String>,
    /// What files state of the chain.
    known: Vec<KnownChain>,
    /// The snapshots with findings. Those that rest on them cannot be loaded either.
    damaged_snapshots: BTreeSet<PathBuf>,
    findings: Findings,
    progress: &'a mut dyn FnMut(VerifyProgress),
    seen: VerifyProgress,
    /// How many bytes the progress was told of.
    told_bytes: u64,
    files: u64,
    commands: u64,
    vanished_files: u64,
}

impl Check<'_> {
    fn done(self) -> Verification {
        (self.progress)(self.seen);
        Verification {
            path: self.directory.root,
            looked_at: self.looked_at,
            depth: self.depth,
            findings: self.findings.list,
            more_findings: self.findings.more,
            files: self.files,
            bytes: self.seen.done_bytes,
            commands: self.commands,
            vanished_files: self.vanished_files,
        }
    }

    fn is_deep(&self) -> bool {
        self.depth == Depth::Deep
    }

    /// Counts bytes that were read.
    fn step(&mut self, bytes: u64) {
        self.seen.done_bytes = self.seen.done_bytes.saturating_add(bytes);
        if self.seen.done_bytes - self.told_bytes >= TOLD_EVERY_BYTES {
            self.told_bytes = self.seen.done_bytes;
            (self.progress)(self.seen);
        }
    }

    /// Returns whether a file is gone, so that an error about it says nothing. A file that the
    /// MANIFEST needs is never gone.
    fn is_gone(&mut self, path: &Path) -> bool {
        let is_there = !matches!(self.storage.kind(path), Ok(None));
        if is_there {
            return false;
        }
        self.vanished_files += 1;
        true
    }

    /// Makes a finding of an error about a file.
    fn finding(&self, error: &Error, path: &Path) -> Finding {
        Finding::of(error, path, |path, at| region(&*self.storage, path, at))
    }

    /// Checks that a file belongs to this database and its model.
    fn check_identity(&mut self, path: &Path, header: &FileHeader) -> Result<(), Error> {
        if let Some(expected) = self.database
            && expected != header.database
        {
            let (path, found) = (path.to_path_buf(), header.database);
            return Err(Error::ForeignFile { path, expected, found });
        }
        let expected = self.model_name.get_or_insert_with(|| header.model_name.clone());
        if *expected == header.model_name {
            return Ok(());
        }
        let expected = format!("model `{expected}`, as in the files before");
        Err(Error::corrupt(path, 88, expected, format!("model `{}`", header.model_name)))
    }

    /// Says what an open would fail at, if nothing else has said it.
    fn would_open(&mut self) -> Result<(), Error> {
        if self.findings.has_damage() || self.manifest.is_none() {
            return Ok(());
        }
        let unknown = |_: &Path| Opener::NobodySeen;
        let look = Inspection::open_with(self.storage.clone(), &self.directory.root, unknown)?;
        if let Some(problem) = &look.open_plan().problem {
            let root = &self.directory.root;
            let finding = Finding::new(root, 0..0, "files with which an open succeeds", problem);
            self.findings.push(finding.meaning(
                "An open fails.",
                "Restore the directory from a backup. Keep a copy of it as it is.",
            ));
        }
        Ok(())
    }
}

/// Returns the database id of the first file that states one.
fn stated_database(
    storage: &dyn Storage,
    directory: &Directory,
) -> Result<Option<DatabaseId>, Error> {
    Ok(paths(storage, directory)?.into_iter().find_map(|(path, magic)| {
        let file = storage.open_to_read(&path).ok()?;
        Some(FileHeader::read(&path, magic, &*file).ok()?.0.database)
    }))
}

/// Returns the snapshots, archives and segments.
fn paths(storage: &dyn Storage, directory: &Directory) -> Result<Vec<(PathBuf, [u8; 8])>, Error> {
    let Directory { journal, snapshots, archive, .. } = directory;
    let mut found = Vec::new();
    for first in if_there(list_segments(storage, journal))? {
        found.push((segment_path(journal, first), SEGMENT_MAGIC));
    }
    for place in [snapshots, archive] {
        for sequence in if_there(list_snapshots(storage, place))? {
            found.push((snapshot_path(place, sequence), SNAPSHOT_MAGIC));
        }
    }
    for first in list_archives(storage, archive)? {
        found.push((archive_path(archive, first), ARCHIVE_MAGIC));
    }
    Ok(found)
}

/// A directory that does not exist holds nothing.
fn if_there(listed: Result<Vec<u64>, StoreError>) -> Result<Vec<u64>, Error> {
    match listed {
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(Vec::new())
        }
        listed => Ok(listed?),
    }
}

/// Returns how many bytes are going to be read, about.
fn total_bytes(storage: &dyn Storage, directory: &Directory, depth: Depth) -> Result<u64, Error> {
    let read = |magic: &[u8; 8]| depth == Depth::Deep || *magic == SEGMENT_MAGIC;
    let lengths = paths(storage, directory)?.into_iter().map(|(path, magic)| {
        let length = storage.open_to_read(&path).map_or(0, |file| file.length());
        if read(&magic) { length } else { 0 }
    });
    Ok(lengths.sum())
}

/// Returns the damaged bytes of a file from a position on: all of the header, if it is in there,
/// otherwise up to the file's end.
fn region(storage: &dyn Storage, path: &Path, at: u64) -> Range<u64> {
    let Ok(file) = storage.open_to_read(path) else { return at..at };
    let header = header_range(&*file);
    if header.contains(&at) && path.file_name().is_some_and(|name| name != MANIFEST_NAME) {
        return header;
    }
    at..file.length().max(at)
}

/// Returns where a file's header is, as far as it states its length.
fn header_range(file: &dyn ReadableFile) -> Range<u64> {
    let mut begin = [0; 16];
    let read = read_up_to(file, &mut begin, 0).unwrap_or(0);
    let stated = begin.get(12..read).and_then(|bytes| FieldReader::new(bytes).length());
    let stated = stated.filter(|length| (92..=1 << 20).contains(length)).unwrap_or(4096);
    0..position(stated).min(file.length())
}

//! Owns the choice of archives that become one, and the compaction of a whole archive. Knows
//! nothing of models, and of batches only that the journal can merge them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Progress;
use super::places::tidy;
use crate::error::Error;
use crate::files::{
    ARCHIVE_MAGIC, DatabaseId, FileHeader, PackedFile, Packing, archive_path, list_archives,
    list_segments,
};
use crate::journal::ArchiveMerge;
use crate::options::require;
use crate::recovery::{Access, LockedDatabase, check_archive_end};
use crate::storage::{HeldDisk, Storage};

/// The least size of a new archive that can be asked for.
const LEAST_CONTENT_BYTES: u64 = 1 << 20;
/// The largest one. The reader of a single command reads the index of its archive, and 20 bytes of
/// that are for 64 KiB of commands.
const MOST_CONTENT_BYTES: u64 = 4 << 30;

/// How an archive is compacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compaction {
    content_bytes: u64,
    compression_level: i32,
    repacks: bool,
}

impl Default for Compaction {
    fn default() -> Self {
        Self { content_bytes: 256 << 20, compression_level: 15, repacks: false }
    }
}

impl Compaction {
    /// How many bytes of commands, before packing, one archive may hold. From 1 MiB to 4 GiB; the
    /// default is 256 MiB. Archives that are larger already stay as they are.
    #[must_use]
    pub fn content_bytes(mut self, bytes: u64) -> Self {
        self.content_bytes = bytes;
        self
    }

    /// The zstd level. Archives are packed once and read seldom, so the default is 15. It is that
    /// of new files only; the program goes on with [its own](crate::Builder::compression_level).
    #[must_use]
    pub fn compression_level(mut self, level: i32) -> Self {
        self.compression_level = level;
        self
    }

    /// Whether archives are packed anew that cannot be merged with a neighbour. Otherwise they are
    /// left as they are. The default is `false`.
    #[must_use]
    pub fn repacks(mut self, repacks: bool) -> Self {
        self.repacks = repacks;
        self
    }

    fn validate(&self) -> Result<(), Error> {
        let levels = zstd::compression_level_range();
        require("content_bytes", self.content_bytes, LEAST_CONTENT_BYTES, MOST_CONTENT_BYTES)?;
        require("compression_level", self.compression_level, *levels.start(), *levels.end())
    }

    fn packing(&self) -> Packing {
        Packing { compression_level: self.compression_level, compression_threads: 0 }
    }
}

/// What a compaction has done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactionReport {
    /// The directory of the database.
    pub path: PathBuf,
    /// How many archives there were.
    pub archives_before: u64,
    /// How many there are now.
    pub archives: u64,
    /// The bytes of their files before.
    pub bytes_before: u64,
    /// The bytes of their files now.
    pub bytes: u64,
    /// How many of the archives now are new files.
    pub written: u64,
}

/// Merges archives that follow each other in the directory `path` of a closed database, and packs
/// them better. The commands, their batches and all checksums of the history stay as they are, and
/// nothing else in the directory changes.
///
/// Archives are merged if the same release of the program wrote them: if they have the same
/// schemas, the same version of the model, and the same choice for events. An archive whose
/// commands are in the journal, too, stays as it is until the next open has removed them there.
///
/// All archives to be merged are read and verified first. A new archive is written under a
/// temporary name and read back before it takes the place of the first one; then the others are
/// removed, one by one. If this is interrupted, the history can be read all the same, and a later
/// compaction goes on. The directory needs room for one new archive.
///
/// ```
/// # use prevalence::{Command, Context, Database, Model, Retention};
/// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
/// # struct Counter(u64);
/// # impl Model for Counter { type Event = (); }
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Add(u64);
/// # impl Command<Counter> for Add {
/// #     type Output = u64;
/// #     type Rejection = std::convert::Infallible;
/// #     fn apply(self, counter: &mut Counter, _: &mut Context<'_, Counter>)
/// #         -> Result<u64, Self::Rejection> { counter.0 += self.0; Ok(counter.0) }
/// # }
/// # prevalence::commands! { Counter { 1 => Add } }
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path();
/// let counter = Database::<Counter>::builder().retention(Retention::Archive).open(path)?;
/// for number in 1..=4 {
///     counter.execute(Add(number))?;
///     counter.snapshot()?; // what is behind the kept snapshots is archived
/// }
/// counter.close()?;
///
/// use prevalence::rescue::{Compaction, compact_archive};
/// let done = compact_archive(path, &Compaction::default(), |_| {})?;
/// assert!(done.archives <= 1 && done.archives <= done.archives_before);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// - [`Error::Locked`] if the database is open somewhere. [`Error::Missing`] if there is none.
/// - [`Error::InvalidOption`] if `how` is not within its limits.
/// - [`Error::Corrupt`], [`Error::ForeignFile`] and the other errors of reading if an archive is
///   damaged, is of another database, or does not continue the one before. What was merged before
///   stays merged. [`verify`](crate::inspect::verify) says what is lost, and
///   [`plan_repair`](crate::rescue::plan_repair) what can be saved.
/// - [`Error::UnknownFile`] if an archive is a link: where it leads, nothing would be removed.
/// - [`Error::Io`] if a file cannot be written, for example because the disk is full.
pub fn compact_archive(
    path: impl AsRef<Path>,
    how: &Compaction,
    mut progress: impl FnMut(Progress),
) -> Result<CompactionReport, Error> {
    how.validate()?;
    let path = tidy(path.as_ref())?;
    compact_on(&(Arc::new(HeldDisk::default()) as _), &path, how, &mut progress)
}

pub(super) fn compact_on(
    storage: &Arc<dyn Storage>,
    path: &Path,
    how: &Compaction,
    progress: &mut dyn FnMut(Progress),
) -> Result<CompactionReport, Error> {
    let locked = LockedDatabase::take(storage, path, Access::Change)?;
    let compacted = Compacting { storage: &**storage, locked: &locked, how }.carry_out(progress);
    let unlocked = locked.unlock();
    let report = compacted?; // if both have failed, the first error is returned
    unlocked?;
    Ok(report)
}

/// A compaction at work.
struct Compacting<'a> {
    storage: &'a dyn Storage,
    locked: &'a LockedDatabase,
    how: &'a Compaction,
}

/// An archive as it is described by its header and its footer.
struct Archive {
    header: FileHeader,
    last: u64,
    chain: u32,
    content_bytes: u64,
    file_bytes: u64,
    has_index: bool,
}

/// Archives that follow each other and can become one.
struct Run {
    firsts: Vec<u64>,
    /// That of the first one, with the names of the commands of all.
    header: FileHeader,
    last: u64,
    chain: u32,
    content_bytes: u64,
    file_bytes: u64,
    /// Whether something would be better if the only one was packed again.
    is_early: bool,
}

impl Compacting<'_> {
    fn carry_out(&self, progress: &mut dyn FnMut(Progress)) -> Result<CompactionReport, Error> {
        let directory = &self.locked.directory;
        let database = self.locked.manifest.current().database;
        check_archive_end(self.storage, directory, database)?;
        directory.remove_stale_temporaries(self.storage)?;
        let runs = self.runs(database)?;
        let (before, bytes_before) = self.measure()?;
        let worth: Vec<_> = runs.iter().filter(|run| self.is_worth(run)).collect();
        // Everything is read twice.
        let total_bytes = worth.iter().map(|run| run.file_bytes.saturating_mul(2)).sum();
        let mut seen = Progress { done_bytes: 0, total_bytes };
        let mut step = |bytes| {
            seen.done_bytes = seen.done_bytes.saturating_add(bytes);
            progress(seen);
        };
        let packing = self.how.packing();
        for run in &worth {
            let merge = ArchiveMerge {
                storage: self.storage,
                archive_directory: &directory.archive,
                firsts: &run.firsts,
                header: run.header.clone(),
            };
            let measured = merge.measure(packing, &mut step)?;
            merge.carry_out(&measured, packing, &mut step)?;
        }
        let (archives, bytes) = self.measure()?;
        Ok(CompactionReport {
            path: directory.root.clone(),
            archives_before: before,
            archives,
            bytes_before,
            bytes,
            written: crate::files::position(worth.len()),
        })
    }

    /// Returns how many archives there are, and the bytes of their files.
    fn measure(&self) -> Result<(u64, u64), Error> {
        let archive = &self.locked.directory.archive;
        let (mut count, mut bytes) = (0, 0);
        for first in list_archives(self.storage, archive)? {
            let path = archive_path(archive, first);
            let file = self.storage.open_to_read(&path).map_err(Error::io("read", &path))?;
            count += 1;
            bytes += file.length();
        }
        Ok((count, bytes))
    }

    fn is_worth(&self, run: &Run) -> bool {
        run.firsts.len() > 1 || run.is_early || self.how.repacks
    }

    /// Divides the archives into those that can become one.
    fn runs(&self, database: DatabaseId) -> Result<Vec<Run>, Error> {
        let directory = &self.locked.directory;
        let archive = &directory.archive;
        let firsts = list_archives(self.storage, archive)?;
        if firsts.is_empty() {
            return Ok(Vec::new());
        }
        let other = self.storage.entry_that_is_no_file(archive);
        if let Some(path) = other.map_err(Error::io("list", archive))? {
            return Err(Error::UnknownFile { path });
        }
        // A crash may have come between the archiving of a segment and its removal.
        let journal = list_segments(self.storage, &directory.journal)?;
        let journal = journal.first().copied().unwrap_or(u64::MAX);
        let mut runs: Vec<Run> = Vec::new();
        for first in firsts {
            let path = archive_path(archive, first);
            let archive = self.archive(&path, first, database)?;
            if archive.last >= journal {
                break;
            }
            match runs.last_mut() {
                Some(run) if run.is_broken_by(&archive) => {
                    let expected =
                        format!("chain {:08x}, as at the end of the one before", run.chain);
                    let found = format!("{:08x}", archive.header.chain);
                    return Err(Error::corrupt(&path, 76, expected, found));
                }
                Some(run) if run.takes(&archive, self.how.content_bytes) => run.push(archive),
                _ => runs.push(Run::of(archive)),
            }
        }
        Ok(runs)
    }

    fn archive(&self, path: &Path, first: u64, expected: DatabaseId) -> Result<Archive, Error> {
        let file = PackedFile::open_beside_others(self.storage, path, ARCHIVE_MAGIC)?;
        let found = file.header.database;
        if found != expected {
            return Err(Error::ForeignFile { path: path.to_path_buf(), expected, found });
        }
        if file.header.sequence != first || file.footer.sequence < first {
            let expected = format!("an archive with sequence {first}, as the file's name says");
            let (from, to) = (file.header.sequence, file.footer.sequence);
            return Err(Error::corrupt(path, 40, expected, format!("one of {from} to {to}")));
        }
        Ok(Archive {
            last: file.footer.sequence,
            chain: file.footer.chain,
            content_bytes: file.footer.raw_bytes,
            file_bytes: file.file_bytes(),
            has_index: file.header.appendix_bytes > 0,
            header: file.header,
        })
    }
}

impl Run {
    fn of(archive: Archive) -> Self {
        Self {
            firsts: vec![archive.header.sequence],
            last: archive.last,
            chain: archive.chain,
            content_bytes: archive.content_bytes,
            file_bytes: archive.file_bytes,
            is_early: !archive.has_index,
            header: archive.header,
        }
    }

    /// Returns whether an archive comes next, but is of another history.
    fn is_broken_by(&self, archive: &Archive) -> bool {
        let follows = archive.header.sequence == self.last.saturating_add(1);
        follows && archive.header.chain != self.chain
    }

    /// Returns whether an archive can become a part of this run. It may begin inside of the run: an
    /// interrupted compaction has left it, or the directory is a backup whose original was
    /// compacted otherwise. The merge compares both.
    fn takes(&self, archive: &Archive, most_bytes: u64) -> bool {
        let (own, other) = (&self.header, &archive.header);
        let is_alike = own.model_name == other.model_name
            && own.model_version == other.model_version
            && own.events == other.events
            && own.schemas == other.schemas
            && own.commands.iter().all(|(tag, name)| {
                other.commands.iter().all(|(same, other)| same != tag || other == name)
            });
        let is_inside = archive.last <= self.last;
        let follows = other.sequence <= self.last.saturating_add(1);
        let fits = self.content_bytes.saturating_add(archive.content_bytes) <= most_bytes;
        is_alike && (is_inside || follows && fits)
    }

    fn push(&mut self, archive: Archive) {
        self.firsts.push(archive.header.sequence);
        self.file_bytes = self.file_bytes.saturating_add(archive.file_bytes);
        if archive.last > self.last {
            (self.last, self.chain) = (archive.last, archive.chain);
            self.content_bytes = self.content_bytes.saturating_add(archive.content_bytes);
        }
        let own: Vec<u16> = self.header.commands.iter().map(|(tag, _)| *tag).collect();
        let new = archive.header.commands.into_iter().filter(|(tag, _)| !own.contains(tag));
        self.header.commands.extend(new);
        self.header.commands.sort_by_key(|(tag, _)| *tag);
    }
}

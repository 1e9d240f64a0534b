//! Owns one look at a directory: it puts together what the other parts find, and repeats itself
//! when the database changed meanwhile. Knows nothing of models.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::found::{
    ArchiveFile, FollowerFiles, OtherFile, PurgeFile, SchemasFile, SegmentFile, SnapshotFile,
};
use super::journal_end::{JournalEnd, Tail};
use super::known::{Known, read_tail};
use super::open_plan::OpenPlan;
use super::opener::{self, Opener};
use super::survey::Survey;
use crate::error::Error;
use crate::files::{
    DatabaseId, Directory, FileHeader, MANIFEST_NAME, Manifest, SEGMENT_MAGIC, SNAPSHOT_MAGIC,
    State, absolute,
};
use crate::history::HistoryFiles;
use crate::recovery::{check_archives, settled_manifest};
use crate::storage::{ReadOnlyDisk, Storage};

/// How often a look is repeated because the database changed meanwhile.
const MOST_LOOKS: u32 = 16;

/// How the MANIFEST says that the last run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DatabaseState {
    /// It was closed.
    Clean,
    /// It is open, or its process ended without a close. The next open finds the journal's end by
    /// reading.
    Dirty,
    /// As [`Dirty`](Self::Dirty), and a part of a snapshot could not be read while it was open. The
    /// next open verifies all of the snapshot.
    Suspect,
}

/// One look at a database; see the [module](crate::inspect).
pub struct Inspection {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) directory: Directory,
    pub(crate) manifest: Manifest,
    manifest_bytes: u64,
    reserve_bytes: u64,
    looked_at: SystemTime,
    opener: Opener,
    model: Option<(String, u32)>,
    snapshots: Vec<SnapshotFile>,
    segments: Vec<SegmentFile>,
    archives: Vec<ArchiveFile>,
    purges: Vec<PurgeFile>,
    schemas: Vec<SchemasFile>,
    followers: Vec<FollowerFiles>,
    others: Vec<OtherFile>,
    pub(super) tail: Option<Tail>,
    plan: OpenPlan,
}

impl std::fmt::Debug for Inspection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspection")
            .field("path", &self.directory.root)
            .field("database", &self.manifest.database)
            .field("newest_sequence", &self.newest_sequence())
            .finish_non_exhaustive()
    }
}

impl Inspection {
    /// Looks at the database in the directory `path`, whoever has it open. It reads headers,
    /// indexes and footers, and the newest segment. If one of these files is damaged or missing,
    /// the look says so where it tells of that file.
    ///
    /// # Errors
    /// [`Error::NotADirectory`] if `path` is something else. [`Error::Missing`] if there is no
    /// database, or no MANIFEST. [`Error::Corrupt`] if the MANIFEST is damaged.
    /// [`Error::UnsupportedFormat`] if a newer release wrote the database.
    /// [`Error::PurgeUnfinished`] if a purge, or a backup into the directory, was interrupted while
    /// it exchanged directories. [`Error::Io`] if the directory cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let root = absolute(path.as_ref())?;
        Self::open_with(Arc::new(ReadOnlyDisk), &root, opener::of)
    }

    /// Looks as [`open`](Self::open) through `storage`.
    pub(crate) fn open_with(
        storage: Arc<dyn Storage>,
        root: &Path,
        opener: fn(&Path) -> Opener,
    ) -> Result<Self, Error> {
        Self::settled(&storage, root, opener, None)
    }

    /// Looks again, as [`open`](Self::open). Of the journal only what is new is read.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn again(&self) -> Result<Self, Error> {
        Self::settled(&self.storage, &self.directory.root, opener::of, self.tail.as_ref())
    }

    /// Looks until nothing has changed meanwhile, a bounded number of times.
    fn settled(
        storage: &Arc<dyn Storage>,
        root: &Path,
        opener: fn(&Path) -> Opener,
        known: Option<&Tail>,
    ) -> Result<Self, Error> {
        let mut look = Self::look(storage, root, opener, known)?;
        for _ in 0..MOST_LOOKS {
            if settled_manifest(storage, root)? == look.manifest && !look.lost_a_file() {
                break;
            }
            look = Self::look(storage, root, opener, look.tail.as_ref())?;
        }
        Ok(look)
    }

    fn look(
        storage: &Arc<dyn Storage>,
        root: &Path,
        opener: fn(&Path) -> Opener,
        known: Option<&Tail>,
    ) -> Result<Self, Error> {
        let looked_at = storage.now();
        let manifest = settled_manifest(storage, root)?;
        let directory = Directory::at(root);
        let survey = Survey { storage: &**storage, directory: &directory, manifest: &manifest };
        let tail = read_tail(&**storage, &directory, &manifest, known)?;
        let segments = survey.segments(tail.as_ref())?;
        let snapshots = survey.snapshots()?;
        let archives = survey.archives()?;
        let newest = tail.as_ref().map_or(manifest.sequence, |tail| tail.end.sequence);
        let followers = survey.followers(newest, &segments)?;
        let others = survey.others()?;
        let end = tail.as_ref().map(|tail| &tail.end);
        let plan = OpenPlan::of(&manifest.snapshots, &snapshots, &segments, end, &others);
        let archived = check_archives(&**storage, &directory, manifest.database);
        let plan = plan.with_archive_problem(archived.err().map(|error| error.to_string()));
        let length = |path: &Path| storage.open_to_read(path).map_or(0, |file| file.length());
        let mut look = Self {
            manifest_bytes: length(&root.join(MANIFEST_NAME)),
            reserve_bytes: length(&root.join("RESERVE")),
            looked_at,
            opener: opener(root),
            model: model(&**storage, &segments, &snapshots),
            purges: survey.purges()?,
            schemas: survey.schemas()?,
            storage: storage.clone(),
            directory,
            manifest,
            snapshots,
            segments,
            archives,
            followers,
            others,
            tail,
            plan,
        };
        look.check_clean_end();
        Ok(look)
    }

    /// Compares the journal's end with what the MANIFEST of a closed database states.
    fn check_clean_end(&mut self) {
        let Some(tail) = self.tail.as_mut().filter(|_| self.manifest.state == State::Clean) else {
            return;
        };
        let Manifest { sequence, chain, .. } = self.manifest;
        if (sequence, chain) == (tail.end.sequence, tail.chain) {
            return;
        }
        let problem = format!(
            "the journal ends with sequence {} and chain {:08x}, but the MANIFEST states that the \
             database was closed at sequence {sequence} and chain {chain:08x}",
            tail.end.sequence, tail.chain
        );
        tail.end.problem.get_or_insert_with(|| problem.clone());
        self.plan.problem.get_or_insert(problem);
    }

    /// Returns whether a file with a problem is gone, or has another name now.
    fn lost_a_file(&self) -> bool {
        let is_gone = |path: &PathBuf| !matches!(self.storage.kind(path), Ok(Some(_)));
        let archives = self.archives.iter().filter(|it| it.problem.is_some()).map(|it| &it.path);
        let segments = self.segments.iter().filter(|it| it.problem.is_some()).map(|it| &it.path);
        let snapshots = self.snapshots.iter().filter(|it| it.problem.is_some() && !it.is_listed);
        archives.chain(segments).chain(snapshots.map(|it| &it.path)).any(is_gone)
    }

    /// Returns the absolute path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory.root
    }

    /// Returns when the look began. Everything that it tells was true at that time or later.
    #[must_use]
    pub fn looked_at(&self) -> SystemTime {
        self.looked_at
    }

    /// Returns who has the database open.
    #[must_use]
    pub fn opener(&self) -> &Opener {
        &self.opener
    }

    /// Returns the database's identity.
    #[must_use]
    pub fn database(&self) -> DatabaseId {
        self.manifest.database
    }

    /// Returns the model's name in the files; `None` if no file can be read.
    #[must_use]
    pub fn model_name(&self) -> Option<&str> {
        Some(&self.model.as_ref()?.0)
    }

    /// Returns `Model::VERSION` of the program that wrote the newest segment or snapshot.
    #[must_use]
    pub fn model_version(&self) -> Option<u32> {
        Some(self.model.as_ref()?.1)
    }

    /// Returns how the last run ended.
    #[must_use]
    pub fn state(&self) -> DatabaseState {
        match self.manifest.state {
            State::Clean => DatabaseState::Clean,
            State::Suspect => DatabaseState::Suspect,
            // A look is never given for the other states.
            State::Dirty | State::Creating | State::Swapping => DatabaseState::Dirty,
        }
    }

    /// Returns the sequence that the MANIFEST states to be on stable storage.
    #[must_use]
    pub fn manifest_sequence(&self) -> u64 {
        self.manifest.sequence
    }

    /// Returns the sequence of the newest command that can be read.
    #[must_use]
    pub fn newest_sequence(&self) -> u64 {
        self.tail.as_ref().map_or(0, |tail| tail.end.sequence)
    }

    /// Returns the sequence of the oldest stored command; `None` if none is stored.
    #[must_use]
    pub fn oldest_sequence(&self) -> Option<u64> {
        let archive = self.archives.first().map(|it| it.first_sequence);
        let segment = self.segments.first().map(|it| it.first_sequence);
        let oldest = archive.into_iter().chain(segment).min()?;
        (oldest <= self.newest_sequence()).then_some(oldest)
    }

    /// Returns where the journal ends; `None` if there is no segment that can be opened.
    #[must_use]
    pub fn journal_end(&self) -> Option<&JournalEnd> {
        self.tail.as_ref().map(|tail| &tail.end)
    }

    /// Returns what an open would do.
    #[must_use]
    pub fn open_plan(&self) -> &OpenPlan {
        &self.plan
    }

    /// Returns the snapshots, oldest first.
    #[must_use]
    pub fn snapshots(&self) -> &[SnapshotFile] {
        &self.snapshots
    }

    /// Returns the segments of the journal, oldest first.
    #[must_use]
    pub fn segments(&self) -> &[SegmentFile] {
        &self.segments
    }

    /// Returns the archived segments, oldest first.
    #[must_use]
    pub fn archives(&self) -> &[ArchiveFile] {
        &self.archives
    }

    /// Returns the files that say what the types of the program's releases are.
    #[must_use]
    pub fn schemas(&self) -> &[SchemasFile] {
        &self.schemas
    }

    /// Returns the records of purges, the first purge first.
    #[must_use]
    pub fn purges(&self) -> &[PurgeFile] {
        &self.purges
    }

    /// Returns the durable followers.
    #[must_use]
    pub fn followers(&self) -> &[FollowerFiles] {
        &self.followers
    }

    /// Returns what does not belong to the current state of the database.
    #[must_use]
    pub fn others(&self) -> &[OtherFile] {
        &self.others
    }

    /// Returns the size of the MANIFEST in bytes.
    #[must_use]
    pub fn manifest_bytes(&self) -> u64 {
        self.manifest_bytes
    }

    /// Returns the bytes that are reserved for a full disk.
    #[must_use]
    pub fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes
    }

    /// Returns the files with the commands, up to the newest one.
    pub(crate) fn history_files(&self) -> Arc<HistoryFiles> {
        self.known().history_files()
    }

    /// Returns what a reader of the stored commands needs.
    pub(super) fn known(&self) -> Known {
        Known {
            storage: self.storage.clone(),
            directory: self.directory.clone(),
            database: self.manifest.database,
            model_name: self.model_name().unwrap_or_default().to_owned(),
            tail: self.tail.clone(),
        }
    }
}

/// Returns the model's name and version in the newest file that tells them.
fn model(
    storage: &dyn Storage,
    segments: &[SegmentFile],
    snapshots: &[SnapshotFile],
) -> Option<(String, u32)> {
    let header = |path: &Path, magic| {
        let file = storage.open_to_read(path).ok()?;
        let (header, _) = FileHeader::read(path, magic, &*file).ok()?;
        Some((header.model_name, header.model_version))
    };
    let sound_segments = segments.iter().rev().filter(|it| it.problem.is_none());
    let sound_snapshots = snapshots.iter().rev().filter(|it| it.problem.is_none());
    sound_segments
        .filter_map(|it| header(&it.path, SEGMENT_MAGIC))
        .chain(sound_snapshots.filter_map(|it| header(&it.path, SNAPSHOT_MAGIC)))
        .next()
}

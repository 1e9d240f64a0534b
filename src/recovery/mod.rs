//! Opens a directory: lock, MANIFEST, snapshot, the journal behind it. Changes nothing on disk
//! before it has verified all that it read, except to finish a purge. Knows nothing of running
//! commands.
//!
//! - `writer_thread`: the thread on which all of this runs
//! - `locked`: locks the directory and reads its MANIFEST
//! - `create`: the first files of a new database
//! - `load`: reads an existing database to its end
//! - `replay`: applies the journal to the model of a snapshot
//! - `compatibility`: whether a file belongs to this database, model and vocabulary
//! - `changed_types`: whether types of commands and events were changed since
//! - `archive_checks`: whether the program knows all archived commands
//! - `settled_manifest`: reads the MANIFEST beside a program that may exchange directories
//! - `report`: what an open tells, while it runs and afterwards

mod archive_checks;
mod changed_types;
mod compatibility;
mod create;
mod load;
mod locked;
mod replay;
mod report;
mod settled_manifest;
mod writer_thread;

pub use report::{DamagedSnapshot, Phase, Progress, RecoveryReport, TornTail};

pub(crate) use archive_checks::{check_archive_end, check_archives};
pub(crate) use changed_types::ChangedTypes;
pub(crate) use compatibility::{check_identity, check_tags, identity, unknown_tag};
pub(crate) use locked::{Access, LockedDatabase};
pub(crate) use replay::{KnownChain, Replayed};
pub(crate) use report::ProgressCallback;
pub(crate) use settled_manifest::settled_manifest;
pub(crate) use writer_thread::LoadingThread;

use archive_checks::check_stored_commands;
use locked::lock_and_read;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::codec::KnownCollections;
use crate::engine::{SnapshotInfo, Version};
use crate::error::Error;
use crate::files::{
    DatabaseId, Directory, ManifestFile, PackedFile, Reserve, SchemaFiles, State, exchange,
    keep_schemas,
};
use crate::journal::{
    Beginning, Journal, JournalOptions, SegmentIdentity, SegmentStart, first_segment_bytes,
};
use crate::model::{Model, ProgramSchemas, RandomSeed, program_schemas};
use crate::options::{Options, Retention};
use crate::schema::SchemasDigest;
use crate::snapshot::{Chain, LateLoading};
use crate::storage::{Lock, Storage};

/// An opened directory, before a command runs on it.
pub(crate) struct Recovered<M> {
    pub(crate) version: Version<M>,
    pub(crate) journal: Journal,
    pub(crate) lock: Box<dyn Lock>,
    pub(crate) lock_path: PathBuf,
    pub(crate) seed: RandomSeed,
    pub(crate) found: Found,
}

/// What an open found besides the model.
pub(crate) struct Found {
    pub(crate) manifest: Arc<Mutex<ManifestFile>>,
    pub(crate) report: RecoveryReport,
    pub(crate) identity: SegmentIdentity,
    pub(crate) schemas: ProgramSchemas,
    pub(crate) directory: Directory,
    pub(crate) reserve: Arc<Reserve>,
    pub(crate) loaded: Loaded,
}

/// Which snapshot was loaded, and what was found on the way to it.
pub(crate) struct Loaded {
    pub(crate) info: SnapshotInfo,
    /// Whether it is of an older version of the model and was migrated.
    pub(crate) outdated: bool,
    /// The collections that the next snapshot may be changes of.
    pub(crate) collections: Option<Arc<KnownCollections>>,
    /// The snapshots that the next one may rest on.
    pub(crate) chain: Option<Chain>,
    /// Who is told of failures, if entries are loaded after the open.
    pub(crate) late: Option<Arc<LateLoading>>,
    /// The snapshot, if it is read after the open.
    pub(crate) file: Option<PackedFile>,
    damaged: Vec<DamagedSnapshot>,
    /// The time to load it.
    pub(crate) load_time: Duration,
    /// How many parts of it the replay has loaded, and the time for that, if entries are loaded
    /// when they are touched.
    pub(crate) replay_loads: Option<(u64, Duration)>,
    /// The time to open the segments behind it.
    pub(crate) open_time: Duration,
    /// The time to replay the commands behind it.
    pub(crate) apply_time: Duration,
}

impl Loaded {
    /// Makes of what was loaded what the running database needs. So many bytes are in the journal
    /// behind it.
    fn keep_what_is_needed(&mut self, shares_snapshots: bool, tail_bytes: u64) {
        let (file, is_late) = (self.file.take(), self.late.is_some());
        if let (Some(file), Some(collections), true) = (&file, &self.collections, shares_snapshots)
        {
            self.chain = Chain::of_loaded(file, collections.clone(), tail_bytes, is_late);
        }
        // A file that is mapped must not stay open: somebody may cut it.
        self.file = file.filter(|_| is_late);
        self.collections = self.collections.take().filter(|_| is_late);
    }
}

pub(crate) fn recover<M: Model>(
    storage: &Arc<dyn Storage>,
    path: &Path,
    options: &Options,
    initial: impl FnOnce() -> M,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Recovered<M>, Error> {
    let _span = trace_span!(INFO, "recovery", path = path.display());
    let began = Instant::now();
    let directory = Directory::at(path);
    directory.create_root(&**storage)?;
    let (lock, manifest) =
        lock_and_read(storage, &directory, Access::Change, options.wait_for_lock)?;
    if manifest.is_none() && directory.is_unfinished_backup(&**storage)? {
        return Err(Error::Missing {
            path: path.join(crate::files::MANIFEST_NAME),
            reason: settled_manifest::UNFINISHED_BACKUP.to_owned(),
        });
    }
    if manifest.is_none() && directory.holds_files_of_ours(&**storage)? {
        return Err(Error::Missing {
            path: path.join(crate::files::MANIFEST_NAME),
            reason: "there are journal segments or snapshots, and this file states which of them \
                     must exist"
                .to_owned(),
        });
    }
    let late = options.load_model.is_late().then(LateLoading::new);
    let mut opening = Opening { storage, directory, options, late };
    let mut recovered = match manifest {
        Some(manifest) if manifest.current().state != State::Creating => {
            if manifest.current().state == State::Suspect {
                opening.late = None;
            }
            opening.existing(manifest, lock, progress)?
        }
        unfinished => {
            if let Some(manifest) = unfinished {
                if let Some(later) = opening.beyond_half_made()? {
                    let expected = format!("a state that fits {}", later.display());
                    let found = "the state of a database whose creation was interrupted";
                    return Err(Error::corrupt(manifest.path(), 32, expected, found));
                }
                opening.directory.remove_half_made(&**storage)?;
            }
            let model = initial();
            let created = opening.create(&model, lock)?;
            // If its `Drop` panics here, `created` is dropped, and the lock with it. A temporary
            // would be dropped before anything owns the lock.
            drop(model);
            created
        }
    };
    recovered.found.report.total = began.elapsed();
    report::tell(path, &recovered.found.report);
    Ok(recovered)
}

/// Reads the database in the directory `path` to its end, and changes nothing in it. Returns its
/// identity and its newest version.
pub(crate) fn read_whole<M: Model>(
    storage: &Arc<dyn Storage>,
    path: &Path,
    options: &Options,
) -> Result<(DatabaseId, Version<M>), Error> {
    let locked = LockedDatabase::take(storage, path, Access::Read)?;
    let directory = locked.directory.clone();
    let opening = Opening { storage, directory, options, late: None };
    let mut segments = Vec::new();
    let (version, ..) = opening.read(&locked.manifest, &mut segments, &mut |_| {})?;
    let database = locked.manifest.current().database;
    locked.unlock()?;
    Ok((database, version))
}

struct Opening<'a> {
    storage: &'a Arc<dyn Storage>,
    directory: Directory,
    options: &'a Options,
    /// Who is told of failures, if the model may be loaded after the open.
    late: Option<Arc<LateLoading>>,
}

impl Opening<'_> {
    /// Opens an existing database. It writes only after it has read and verified all of it.
    fn existing<M: Model>(
        &mut self,
        manifest: ManifestFile,
        lock: Box<dyn Lock>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Recovered<M>, Error> {
        let mut read = self.read_to_write::<M>(&manifest, progress);
        if self.late.as_ref().is_some_and(|late| late.failure().is_some()) {
            // The replay has met damage, and an older snapshot may help.
            self.late = None;
            drop(read);
            read = self.read_to_write(&manifest, progress);
        }
        let (version, beginning, report, loaded) = read?;
        let database = manifest.current().database;
        check_archive_end(&**self.storage, &self.directory, database)?;
        if self.options.retention == Retention::Archive
            || self.directory.has_archive(&**self.storage)?
        {
            let replayed_from = report.snapshot_sequence + 1;
            check_stored_commands::<M>(self.storage, &self.directory, database, replayed_from)?;
        }
        if !report.clean || beginning.last.header.sequence != manifest.current().newest_segment {
            // A process that was killed right after it renamed a segment left the name only in the
            // page cache. Readers must not depend on such a name.
            let journal = &self.directory.journal;
            let synced = self.storage.sync_directory(journal);
            synced.map_err(Error::io("sync directory", journal))?;
        }
        self.directory.remove_stale_temporaries(&**self.storage)?;
        exchange::remove_leftovers(&**self.storage, &self.directory)?;
        self.become_writer(manifest, lock, version, beginning, report, loaded)
    }

    /// Reads an existing database, and returns where its journal goes on.
    fn read_to_write<M: Model>(
        &self,
        manifest: &ManifestFile,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Version<M>, Beginning, RecoveryReport, Loaded), Error> {
        let mut segments = Vec::new();
        let (version, end, report, loaded) = self.read(manifest, &mut segments, progress)?;
        let next = SegmentStart {
            first_sequence: end.next_sequence,
            chain: end.chain,
            time_ns: version.time_ns,
        };
        let unconfirmed = end.unconfirmed.front().map(|frame| SegmentStart {
            first_sequence: frame.header.first_sequence,
            chain: frame.chain_before,
            time_ns: version.time_ns,
        });
        let used_bytes = end.last_segment_used;
        drop(end);
        let last = segments.pop().expect("an open reads at least one segment");
        Ok((version, Beginning { last, next, used_bytes, unconfirmed }, report, loaded))
    }

    /// Prepares the journal to continue behind what was read. It writes only what this needs.
    fn become_writer<M: Model>(
        &self,
        mut manifest: ManifestFile,
        lock: Box<dyn Lock>,
        version: Version<M>,
        beginning: Beginning,
        mut report: RecoveryReport,
        loaded: Loaded,
    ) -> Result<Recovered<M>, Error> {
        let database = manifest.current().database;
        let schemas = self.describe_types::<M>(&mut report)?;
        let events = self.options.events::<M>();
        let identity = identity::<M>(database, events, schemas.digest);
        identity.frames_begin()?; // an early error if it does not fit a header
        let reserve = self.reserve();
        let was_suspect = manifest.current().state == State::Suspect;
        if !loaded.damaged.is_empty() || was_suspect {
            let newest = loaded.info.sequence;
            manifest.update(|manifest| {
                manifest.snapshots.retain(|&sequence| sequence <= newest);
                if was_suspect {
                    manifest.state = State::Dirty; // all was verified
                }
            })?;
        }
        report.sequence = version.sequence;
        report.commands_rewritten = beginning
            .unconfirmed
            .map_or(0, |first| beginning.next.first_sequence - first.first_sequence);
        let manifest = Arc::new(Mutex::new(manifest));
        let journal_options = JournalOptions {
            storage: self.storage.clone(),
            directory: self.directory.journal.clone(),
            identity: identity.clone(),
            manifest: manifest.clone(),
            reserve: reserve.clone(),
            segment_bytes: self.options.segment_bytes,
        };
        let journal = Journal::start(journal_options, beginning)?;
        let directory = self.directory.clone();
        Ok(Recovered {
            version,
            journal,
            lock,
            lock_path: self.directory.lock.clone(),
            seed: RandomSeed::new(database),
            found: Found { manifest, report, identity, schemas, directory, reserve, loaded },
        })
    }

    /// Makes sure that the database holds what the types of this program are. An open must
    /// go on without it on a full disk, and if something else stands in its place.
    fn describe_types<M: Model>(
        &self,
        report: &mut RecoveryReport,
    ) -> Result<ProgramSchemas, Error> {
        let mut schemas = program_schemas::<M>(&self.options.given_schemas);
        let (storage, directory) = (&**self.storage, &self.directory);
        match keep_schemas(storage, directory, schemas.digest, &schemas.text) {
            Ok(None) => {}
            Ok(Some(damage)) => report.damaged_schemas = Some(damage.to_string()),
            Err(error) if error.is_disk_full() || error.is_in_the_way() => {
                schemas.digest = SchemasDigest::default();
                report.types_not_described = Some(error.to_string());
            }
            Err(error) => return Err(error.into()),
        }
        Ok(schemas)
    }

    fn schema_files(&self) -> SchemaFiles {
        SchemaFiles { storage: self.storage.clone(), directory: self.directory.schemas.clone() }
    }

    fn reserve(&self) -> Arc<Reserve> {
        let bytes = first_segment_bytes(self.options.segment_bytes);
        Arc::new(Reserve::find(self.storage.clone(), &self.directory.root, bytes))
    }
}

//! Owns opening: lock, MANIFEST, snapshot, journal tail, new segment. Changes nothing on disk
//! before it has verified all that it read, except to finish a purge. Knows nothing of running
//! commands.

mod archive_checks;
mod compatibility;
mod replay;
mod report;
mod writer_thread;

pub use report::{DamagedSnapshot, Phase, Progress, RecoveryReport, TornTail};

pub(crate) use archive_checks::check_archive_end;
pub(crate) use compatibility::{check_tags, identity, unknown_tag};
pub(crate) use replay::{KnownChain, Replayed};
pub(crate) use report::ProgressCallback;
pub(crate) use writer_thread::LoadingThread;

use archive_checks::check_stored_commands;
use compatibility::check_identity;
use replay::{JournalEnd, replay};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::engine::{SnapshotInfo, Version};
use crate::error::Error;
use crate::files::{
    DatabaseId, Directory, Manifest, ManifestFile, Reserve, State, exchange, exists, kind,
    list_segments, segment_path, snapshot_path,
};
use crate::journal::{
    Beginning, FRAMES_BEGIN_AT_LEAST_BYTES, Journal, JournalOptions, Prepared, Segment,
    SegmentIdentity, SegmentStart, first_segment_bytes, publish_segment, random_bytes,
};
use crate::model::{Model, RandomSeed, time_ns};
use crate::options::{Options, Retention};
use crate::snapshot::{
    decode_version, decode_written, open_snapshot, snapshot_header, undecodable_as_current,
    write_snapshot,
};
use crate::storage::{Lock, Pace, Storage};

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
    pub(crate) directory: Directory,
    pub(crate) reserve: Arc<Reserve>,
    pub(crate) loaded: Loaded,
}

/// Which snapshot was loaded, and what was found on the way to it.
pub(crate) struct Loaded {
    pub(crate) info: SnapshotInfo,
    /// Whether it is of an older version of the model and was migrated.
    pub(crate) outdated: bool,
    damaged: Vec<DamagedSnapshot>,
    /// The time to open the segments behind it.
    pub(crate) open_time: Duration,
    /// The time to replay the commands behind it.
    pub(crate) apply_time: Duration,
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
    let lock = storage
        .lock(&directory.lock)
        .map_err(Error::io("lock", &directory.lock))?
        .ok_or_else(|| Error::Locked { path: path.to_path_buf() })?;
    let mut manifest = ManifestFile::read(storage, path)?;
    if let Some(manifest) = &mut manifest
        && manifest.current().state == State::Swapping
    {
        exchange::finish(&**storage, &directory, manifest)?;
    }
    if manifest.is_none() && directory.holds_files_of_ours(&**storage)? {
        return Err(Error::Missing {
            path: path.join(crate::files::MANIFEST_NAME),
            reason: "there are journal segments or snapshots, and this file states which of them \
                     must exist"
                .to_owned(),
        });
    }
    let opening = Opening { storage, directory, options };
    let mut recovered = match manifest {
        Some(manifest) if manifest.current().state != State::Creating => {
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
    tell(path, &recovered.found.report);
    Ok(recovered)
}

/// Tells `tracing` what the open found.
fn tell(path: &Path, report: &RecoveryReport) {
    for damaged in &report.damaged_snapshots {
        trace_event!(
            WARN,
            "a snapshot is damaged; an older one was loaded",
            path = damaged.path.display(),
            reason = damaged.reason
        );
    }
    if let Some(torn) = &report.torn_tail {
        trace_event!(
            WARN,
            "a batch that was never acknowledged was cut off",
            path = torn.path.display(),
            position = torn.position,
            bytes = torn.bytes
        );
    }
    trace_event!(
        INFO,
        "recovered",
        path = path.display(),
        created = report.created,
        clean = report.clean,
        snapshot = report.snapshot_sequence,
        replayed = report.commands_replayed,
        sequence = report.sequence,
        total_us = report.total.as_micros()
    );
}

/// Reads the database in the directory `path` to its end, and changes nothing in it. Returns its
/// identity and its newest version.
pub(crate) fn read_whole<M: Model>(
    storage: &Arc<dyn Storage>,
    path: &Path,
    options: &Options,
) -> Result<(DatabaseId, Version<M>), Error> {
    let directory = Directory::at(path);
    let missing = || Error::Missing {
        path: path.join(crate::files::MANIFEST_NAME),
        reason: "there is no database in this directory".to_owned(),
    };
    if !exists(&**storage, path)? {
        return Err(missing());
    }
    let lock = storage
        .lock_to_read(&directory.lock)
        .map_err(Error::io("lock", &directory.lock))?
        .ok_or_else(|| Error::Locked { path: path.to_path_buf() })?;
    let manifest = ManifestFile::read(storage, path)?
        .filter(|manifest| manifest.current().state != State::Creating)
        .ok_or_else(missing)?;
    if manifest.current().state == State::Swapping {
        return Err(Error::PurgeUnfinished { path: path.to_path_buf() });
    }
    let opening = Opening { storage, directory, options };
    let mut segments = Vec::new();
    let (version, ..) = opening.read(&manifest, &mut segments, &mut |_| {})?;
    lock.unlock().map_err(Error::io("unlock", &opening.directory.lock))?;
    Ok((manifest.current().database, version))
}

struct Opening<'a> {
    storage: &'a Arc<dyn Storage>,
    directory: Directory,
    options: &'a Options,
}

impl Opening<'_> {
    /// Makes the first files. While the MANIFEST states `Creating`, a crash leaves only files that
    /// the next open may remove.
    fn create<M: Model>(&self, model: &M, lock: Box<dyn Lock>) -> Result<Recovered<M>, Error> {
        let (storage, directory) = (&**self.storage, &self.directory);
        directory.sync_root_names(storage)?;
        directory.create_inner(storage)?;
        directory.remove_stale_temporaries(storage)?;
        let database = DatabaseId(random_bytes(storage, &directory.root)?);
        let chain = crc32c::crc32c(&database.0);
        let first = Manifest {
            database,
            state: State::Creating,
            sequence: 0,
            chain,
            newest_segment: 0,
            snapshots: Vec::new(),
        };
        let mut manifest = ManifestFile::create(self.storage, &directory.root, first)?;
        let time_ns = time_ns(storage.now());
        let identity = identity::<M>(database);
        let packing = self.options.packing();
        let header = snapshot_header(&identity, packing, 0, time_ns, chain);
        let snapshot =
            write_snapshot(storage, &directory.snapshots, &header, model, packing, &Pace::full())?;
        // The database runs on the stored model, so that a field that serde skips is skipped from
        // the start.
        let (model, requests) =
            decode_written::<M>(&snapshot, self.options.request_limits(), &Pace::full())?;
        let loaded = Loaded {
            info: SnapshotInfo::of(&snapshot, Duration::ZERO),
            outdated: false,
            damaged: Vec::new(),
            open_time: Duration::ZERO,
            apply_time: Duration::ZERO,
        };
        let version = Version::written(model, 0, time_ns, chain).with_requests(requests);
        let report = RecoveryReport { created: true, clean: true, ..RecoveryReport::default() };
        let next = SegmentStart { first_sequence: 1, chain, time_ns };
        let last = self.create_segment(identity, next)?;
        manifest.update(|manifest| {
            manifest.state = State::Clean;
            manifest.newest_segment = next.first_sequence;
            manifest.snapshots = vec![0];
        })?;
        let beginning = Beginning { last, next, used_bytes: 0, unconfirmed: None };
        self.become_writer(manifest, lock, version, beginning, report, loaded)
    }

    /// Returns a file that proves that the creation of the database was finished; `None` without
    /// one.
    fn beyond_half_made(&self) -> Result<Option<PathBuf>, Error> {
        let (storage, directory) = (&**self.storage, &self.directory);
        if let Some(later) = directory.beyond_half_made(storage)? {
            return Ok(Some(later));
        }
        let first = segment_path(&directory.journal, 1);
        if !exists(storage, &first)? {
            return Ok(None);
        }
        // A segment of this crate was synced before it got its name, so it is whole. This code must
        // not remove any other file.
        let is_unused = Segment::open(storage, &directory.journal, 1).is_ok_and(|it| it.is_empty());
        Ok((!is_unused).then_some(first))
    }

    /// Makes the first segment of a new database. Its header names no commands: their names become
    /// durable with the first accepted command, so that a release that was only started can be
    /// undone.
    fn create_segment(
        &self,
        identity: SegmentIdentity,
        start: SegmentStart,
    ) -> Result<Segment, Error> {
        let (storage, directory) = (&**self.storage, &self.directory.journal);
        let identity = SegmentIdentity { commands: Vec::new(), ..identity };
        let prepared = Prepared::now(storage, directory, FRAMES_BEGIN_AT_LEAST_BYTES)?;
        publish_segment(storage, directory, prepared, &identity, start, [].iter())?;
        Ok(Segment::open(storage, directory, start.first_sequence)?)
    }

    /// Opens an existing database. It writes only after it has read and verified all of it.
    fn existing<M: Model>(
        &self,
        manifest: ManifestFile,
        lock: Box<dyn Lock>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Recovered<M>, Error> {
        let mut segments = Vec::new();
        let (version, end, report, loaded) = self.read(&manifest, &mut segments, progress)?;
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
        drop(segments);
        let beginning = Beginning { last, next, used_bytes, unconfirmed };
        let database = manifest.current().database;
        check_archive_end(&**self.storage, &self.directory, database)?;
        if self.options.retention == Retention::Archive
            || self.directory.has_archive(&**self.storage)?
        {
            let replayed_from = report.snapshot_sequence + 1;
            check_stored_commands::<M>(&**self.storage, &self.directory, database, replayed_from)?;
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

    /// Reads an existing database and changes nothing. It puts the segments into `segments`, from
    /// which the frames at the journal's end are borrowed.
    fn read<'a, M: Model>(
        &self,
        manifest: &ManifestFile,
        segments: &'a mut Vec<Segment>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Version<M>, JournalEnd<'a>, RecoveryReport, Loaded), Error> {
        let mut undecodable = None;
        let read = self.read_past::<M>(&mut undecodable, manifest, segments, progress);
        // If an older snapshot does not help, the error reports the newest.
        read.map_err(|error| undecodable.unwrap_or(error))
    }

    /// Reads as [`read`](Self::read). If the newest snapshot is whole but this program cannot
    /// decode it, this reads an older one, and puts the error into `undecodable`.
    fn read_past<'a, M: Model>(
        &self,
        undecodable: &mut Option<Error>,
        manifest: &ManifestFile,
        segments: &'a mut Vec<Segment>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Version<M>, JournalEnd<'a>, RecoveryReport, Loaded), Error> {
        let stated = manifest.current().clone();
        let mut report =
            RecoveryReport { clean: stated.state == State::Clean, ..RecoveryReport::default() };

        let (mut replayed, snapshot_chain, mut loaded) =
            self.load_snapshot::<M>(undecodable, &stated, &mut report, progress)?;

        let began = Instant::now();
        let opened = self.open_segments::<M>(&stated, replayed.sequence + 1);
        // If the journal does not reach back to an older snapshot, the error reports the damage of
        // the newer one.
        *segments = match (opened, loaded.damaged.first()) {
            (Err(Error::Missing { .. }), Some(damaged)) => {
                return Err(Error::corrupt(
                    &damaged.path,
                    0,
                    "an intact snapshot, because the journal does not reach back to an older one",
                    damaged.reason.clone(),
                ));
            }
            (opened, _) => opened?,
        };
        loaded.open_time = began.elapsed();
        report.segments = segments.len().try_into().unwrap_or(u64::MAX);
        report.journal_bytes = segments.iter().map(Segment::file_bytes).sum();
        let manifest_chain = KnownChain {
            sequence: stated.sequence,
            chain: stated.chain,
            source: manifest.path().to_path_buf(),
        };
        let end = replay(
            segments,
            &mut replayed,
            &[snapshot_chain, manifest_chain],
            stated.sequence,
            RandomSeed::new(stated.database),
            &mut |done, total| progress(Progress { phase: Phase::Journal, done, total }),
        )?;
        let reached = end.next_sequence - 1;
        if stated.state == State::Clean && stated.sequence != reached {
            let expected = format!("sequence {reached}, the end of the journal");
            let found = format!("closed at sequence {}", stated.sequence);
            return Err(Error::corrupt(manifest.path(), 40, expected, found));
        }
        report.replay_time = began.elapsed();
        report.commands_replayed = replayed.commands;
        report.torn_tail = end.torn.clone();
        report.tail_bytes = replayed.payload_bytes;
        loaded.apply_time = replayed.apply_time;
        report.damaged_snapshots.clone_from(&loaded.damaged);
        let Replayed { model, sequence, time_ns, requests, .. } = replayed;
        let version = Version::written(model, sequence, time_ns, end.chain).with_requests(requests);
        Ok((version, end, report, loaded))
    }

    /// Loads the newest intact snapshot.
    fn load_snapshot<M: Model>(
        &self,
        undecodable: &mut Option<Error>,
        stated: &Manifest,
        report: &mut RecoveryReport,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Replayed<M>, KnownChain, Loaded), Error> {
        let mut damaged = Vec::new();
        let mut first_error = None;
        for &sequence in stated.snapshots.iter().rev() {
            match self.load_one::<M>(stated, sequence, report, progress) {
                Ok((replayed, known, info, outdated)) => {
                    let (open_time, apply_time) = (Duration::ZERO, Duration::ZERO);
                    let loaded = Loaded { info, outdated, damaged, open_time, apply_time };
                    return Ok((replayed, known, loaded));
                }
                // A whole snapshot that does not fit this program is an error: an older one would
                // not help.
                Err(error @ (Error::Corrupt { .. } | Error::Missing { .. })) => {
                    let path = snapshot_path(&self.directory.snapshots, sequence);
                    damaged.push(DamagedSnapshot { path, reason: error.to_string() });
                    first_error.get_or_insert(error);
                }
                // The snapshot is of this version of the model. Either the type cannot be decoded
                // from its own encoding, or it was changed. An older snapshot and the commands
                // behind it may give the model.
                Err(error) if undecodable_as_current::<M>(&**self.storage, &error) => {
                    let path = snapshot_path(&self.directory.snapshots, sequence);
                    damaged.push(DamagedSnapshot { path, reason: error.to_string() });
                    if damaged.len() == 1 {
                        *undecodable = Some(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(first_error.unwrap_or_else(|| Error::Missing {
            path: self.directory.snapshots.clone(),
            reason: "the MANIFEST lists no snapshot, not even one of the initial model".to_owned(),
        }))
    }

    fn load_one<M: Model>(
        &self,
        stated: &Manifest,
        sequence: u64,
        report: &mut RecoveryReport,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Replayed<M>, KnownChain, SnapshotInfo, bool), Error> {
        let began = Instant::now();
        let directory = &self.directory.snapshots;
        let path = snapshot_path(directory, sequence);
        self.require(&path, "the MANIFEST lists this snapshot")?;
        let snapshot = open_snapshot(&**self.storage, directory, sequence)?;
        check_identity::<M>(&path, &snapshot.header, stated.database)?;
        let total = snapshot.file_bytes();
        progress(Progress { phase: Phase::Snapshot, done: 0, total });
        let (model, requests) = decode_version::<M>(&snapshot, self.options.request_limits())?;
        progress(Progress { phase: Phase::Snapshot, done: total, total });
        report.snapshot_sequence = sequence;
        report.snapshot_bytes = total;
        report.snapshot_time = began.elapsed();
        let time_ns = snapshot.header.time_ns;
        let known = KnownChain { sequence, chain: snapshot.footer.chain, source: path };
        let replayed = Replayed {
            model,
            sequence,
            time_ns,
            requests,
            commands: 0,
            payload_bytes: 0,
            apply_time: Duration::ZERO,
        };
        let outdated = snapshot.header.model_version != M::VERSION;
        Ok((replayed, known, SnapshotInfo::of(&snapshot, Duration::ZERO), outdated))
    }

    /// Opens the segments from the one that holds `first_needed` to the newest.
    fn open_segments<M: Model>(
        &self,
        stated: &Manifest,
        first_needed: u64,
    ) -> Result<Vec<Segment>, Error> {
        let storage = &**self.storage;
        let directory = &self.directory.journal;
        self.require(directory, "it holds the journal")?;
        let listed = list_segments(storage, directory)?;
        if !listed.contains(&stated.newest_segment) && !planted!(MissingSegmentNotNoticed) {
            let path = segment_path(directory, stated.newest_segment);
            self.require(&path, "the MANIFEST names it as the newest segment")?;
        }
        let start = listed.iter().rposition(|&first| first <= first_needed).ok_or_else(|| {
            let path = segment_path(directory, first_needed);
            let reason = format!("the journal must continue from sequence {first_needed}");
            Error::Missing { path, reason }
        })?;
        let mut segments = Vec::new();
        for &first in listed.get(start..).unwrap_or(&[]) {
            let segment = Segment::open(storage, directory, first)?;
            check_identity::<M>(&segment.path, &segment.header, stated.database)?;
            if !segment.is_empty() {
                check_tags::<M>(&segment.path, &segment.header)?;
            }
            segments.push(segment);
        }
        Ok(segments)
    }

    fn require(&self, path: &Path, reason: &str) -> Result<(), Error> {
        match kind(&**self.storage, path)? {
            Some(_) => Ok(()),
            None => Err(Error::Missing { path: path.to_path_buf(), reason: reason.to_owned() }),
        }
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
        let identity = identity::<M>(database);
        identity.frames_begin()?; // an early error if it does not fit a header
        let reserve = self.reserve();
        if !loaded.damaged.is_empty() {
            let newest = loaded.info.sequence;
            manifest.update(|manifest| {
                manifest.snapshots.retain(|&sequence| sequence <= newest);
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
            found: Found { manifest, report, identity, directory, reserve, loaded },
        })
    }

    fn reserve(&self) -> Arc<Reserve> {
        let bytes = first_segment_bytes(self.options.segment_bytes);
        Arc::new(Reserve::find(self.storage.clone(), &self.directory.root, bytes))
    }
}

//! Owns the threads of an open database: starts them in order, stops them in order, and ends the
//! database cleanly. Knows nothing of what a command does.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use crate::engine::{
    BatchLimits, Clock, Committer, CommitterEnds, Lane, Published, QueueSender, Shared,
    SharedCommitter, SnapshotBoard, SnapshotInfo, SnapshotState, Status, Working, Writer,
    committer, interval_sync, lock, on_engine_thread, queue,
};
use crate::error::Error;
use crate::files::Reserve;
use crate::files::{Directory, ManifestFile, Packing, State};
use crate::journal::SegmentIdentity;
use crate::model::Model;
use crate::options::{Durability, Options, SnapshotPolicy, StartupRates};
use crate::process::{FreedDeep, OpeningProcess, stack};
use crate::recovery::{Loaded, LoadingThread, Recovered, RecoveryReport};
use crate::snapshot::{
    Readable, SnapshotRequest, Snapshotter, SnapshotterOptions, Superseded, is_overdue,
};
use crate::stats::Counters;
use crate::storage::{Lock, Storage};

/// The number of batches that may wait between writer and committer. While one is committed, one
/// more is ready.
const BATCHES_AHEAD: usize = 1;
/// The number of empty batches that are kept to reuse their buffers.
const SPARE_BATCHES: usize = 3;

/// The number of callers of `snapshot` that may wait in the snapshot thread's channel. Further
/// callers wait to enter it.
const SNAPSHOT_REQUESTS: usize = 16;

/// An open that reads less than this is too short to measure rates, so the guesses below are used.
/// Decoding an `OrdMap` of small entries was measured at 127 ns for an entry of about 6 bytes.
const LEAST_MEASURED_BYTES: u64 = 256 << 10;
const LEAST_MEASURED_COMMANDS: u64 = 1000;
const GUESSED_LOAD_PS_PER_BYTE: u64 = 21_000;
const GUESSED_REPLAY_NS_PER_COMMAND: u64 = 1000;
const LEAST_MEASURED_SEGMENTS: u64 = 8;
/// Opening and mapping a segment and verifying its header was measured at 30 to 60 µs.
const GUESSED_OPEN_NS_PER_SEGMENT: u64 = 50_000;
/// The time for the lock, the MANIFEST and the new segment, which need a few syncs.
const FIXED_STARTUP: Duration = Duration::from_millis(3);

/// A running database.
pub(crate) struct Engine<M: Model> {
    pub(crate) queue: Arc<QueueSender<M>>,
    pub(crate) committer: SharedCommitter<M>,
    pub(crate) report: RecoveryReport,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) directory: Directory,
    pub(crate) identity: SegmentIdentity,
    pub(crate) packing: Packing,
    pub(crate) reserve: Arc<Reserve>,
    pub(crate) max_command_bytes: usize,
    pub(crate) process: OpeningProcess,
    running: Mutex<Option<Running<M>>>,
    /// This must be the last field, because the fields that are dropped before it share it.
    pub(crate) shared: FreedDeep<Shared<M>>,
}

/// Returns what an open has measured, for statistics and for the prediction of the next open.
fn snapshot_state(report: &RecoveryReport, loaded: &Loaded) -> SnapshotState {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let raw_bytes = loaded.info.raw_bytes;
    let load_ps_per_byte = if raw_bytes >= LEAST_MEASURED_BYTES {
        nanoseconds(report.snapshot_time).saturating_mul(1000) / raw_bytes
    } else {
        GUESSED_LOAD_PS_PER_BYTE
    };
    let replay_unmeasured = report.commands_replayed < LEAST_MEASURED_COMMANDS;
    let replay_ns_per_command = if replay_unmeasured {
        GUESSED_REPLAY_NS_PER_COMMAND
    } else {
        nanoseconds(loaded.apply_time) / report.commands_replayed
    };
    let open_ns_per_segment = if report.segments >= LEAST_MEASURED_SEGMENTS {
        nanoseconds(loaded.open_time) / report.segments
    } else {
        GUESSED_OPEN_NS_PER_SEGMENT
    };
    SnapshotState {
        newest: loaded.info.clone(),
        written_then: 0,
        tail_bytes: report.tail_bytes,
        tail_segments: report.segments.max(1),
        segments_then: 0,
        taken: 0,
        failed: 0,
        last_error: None,
        rates: StartupRates {
            load_ps_per_byte,
            replay_ns_per_command,
            open_ns_per_segment,
            fixed: FIXED_STARTUP,
        },
        replay_unmeasured,
    }
}

/// The parts that a stop must end, in the order of the fields.
struct Running<M: Model> {
    shared: Arc<Shared<M>>,
    queue: Arc<QueueSender<M>>,
    writer: JoinHandle<()>,
    committing: JoinHandle<()>,
    syncing: Option<(Sender<std::convert::Infallible>, JoinHandle<()>)>,
    snapshotting: JoinHandle<()>,
    snapshot_requests: Sender<SnapshotRequest>,
    cancelled: Arc<AtomicBool>,
    takes_one_on_close: bool,
    policy: SnapshotPolicy,
    committer: SharedCommitter<M>,
    manifest: Arc<Mutex<ManifestFile>>,
    reserve: Arc<Reserve>,
    lock: Box<dyn Lock>,
    lock_path: std::path::PathBuf,
}

impl<M: Model> Engine<M> {
    pub(crate) fn start(
        storage: Arc<dyn Storage>,
        options: &Options,
        recovered: Recovered<M>,
        thread: LoadingThread,
    ) -> Result<Self, Error> {
        let Recovered { version, journal, manifest, lock, lock_path, seed, report, .. } = recovered;
        let room = journal.room();
        let (identity, directory, loaded) =
            (recovered.identity, recovered.directory, recovered.loaded);
        let reserve = recovered.reserve;
        let version = Arc::new(version);
        let (snapshots, woken) = SnapshotBoard::new(snapshot_state(&report, &loaded));
        let shared = Arc::new(Shared {
            published: Published::new(version.clone(), options.recent_versions),
            status: Status::default(),
            counters: Counters::default(),
            snapshots,
        });
        let committer = Committer::new(journal, options.durability, shared.clone());
        let committer = Arc::new(Mutex::new(committer));
        let (queue, queue_receiver) = queue(options.queue_capacity, options.queue_bytes);
        let (batches, batch_inbox) = bounded(BATCHES_AHEAD);
        let (spare_outbox, spare) = bounded(SPARE_BATCHES);
        let bell = queue_receiver.bell();
        let writers = queue_receiver.bell();
        shared.status.wake_writer_by(move || writers.ring());
        let completed = Arc::new(AtomicU64::new(0));
        // This clones the model, and the stack of the calling thread may be too small for that.
        let cloned = {
            let shared = shared.clone();
            move || shared.guarded("writer", || Working::new(version, seed))
        };
        let working = thread.run(|_| cloned(), &mut |_| {})?;
        let writer = Writer {
            queue: queue_receiver,
            limits: BatchLimits {
                commands: options.max_batch_commands,
                bytes: options.max_batch_bytes,
                linger: options.linger,
            },
            working,
            lane: Lane {
                committer: committer.clone(),
                batches,
                spare,
                completed: completed.clone(),
            },
            shared: shared.clone(),
            storage: storage.clone(),
            refusals: 0,
            handed: 0,
            spare: None,
            unmarked: true,
            clock: Clock::default(),
        };
        let ends = CommitterEnds { batches: batch_inbox, spare: spare_outbox, bell, completed };
        let spawner = Spawner { shared: &shared, path: &lock_path };
        // If a later thread fails to start, the earlier ones end because their channels close.
        let committing = {
            let committer = committer.clone();
            spawner.spawn("committer", move || committer::run(&committer, ends))?
        };
        let syncing = match options.durability {
            Durability::Interval(interval) => {
                let (stop, stopped) = bounded(0);
                let committer = committer.clone();
                let run = move || interval_sync::run(&committer, interval, &stopped);
                Some((stop, spawner.spawn("syncer", run)?))
            }
            Durability::Sync | Durability::Buffered => None,
        };
        let packing = options.packing();
        let (snapshot_requests, requests) = bounded(SNAPSHOT_REQUESTS);
        let cancelled = Arc::new(AtomicBool::new(false));
        let snapshotter = Snapshotter {
            options: SnapshotterOptions {
                storage: storage.clone(),
                directory: directory.clone(),
                identity: identity.clone(),
                packing,
                policy: options.snapshots,
                keep_snapshots: options.keep_snapshots,
            },
            superseded: Superseded {
                storage: storage.clone(),
                directory: directory.clone(),
                database: identity.database,
                packing,
                retention: options.retention,
                archived_snapshots: options.archived_snapshots,
                spared: report.damaged_snapshots.iter().map(|d| d.path.clone()).collect(),
            },
            shared: shared.clone(),
            committer: committer.clone(),
            manifest: manifest.clone(),
            requests,
            woken,
            cancelled: cancelled.clone(),
            room,
            reserve: reserve.clone(),
            outdated: loaded.outdated,
            last_taken: Instant::now(),
            retry: None,
            owed: false,
            readable: Readable::new(loaded.info.sequence),
        };
        let snapshotting = spawner.spawn("snapshotter", move || snapshotter.run())?;
        let writer = {
            let shared = shared.clone();
            thread.go_on(move || shared.run_guarded("writer", || writer.run()))
        };
        let queue = Arc::new(queue);
        let running = Running {
            shared: shared.clone(),
            queue: queue.clone(),
            writer,
            committing,
            syncing,
            snapshotting,
            snapshot_requests: snapshot_requests.clone(),
            cancelled,
            takes_one_on_close: options.snapshots.takes_one_on_close(),
            policy: options.snapshots,
            committer: committer.clone(),
            manifest,
            reserve: reserve.clone(),
            lock,
            lock_path,
        };
        let max_command_bytes = options.max_command_bytes;
        let running = Mutex::new(Some(running));
        Ok(Self {
            shared: FreedDeep::new(shared),
            queue,
            committer,
            report,
            storage,
            directory,
            identity,
            packing,
            reserve,
            max_command_bytes,
            process: OpeningProcess::this(),
            running,
        })
    }

    /// Checks that the calling thread may wait for the engine.
    pub(crate) fn check_caller(&self) -> Result<(), Error> {
        if self.process.is_forked() {
            return Err(Error::Forked);
        }
        if on_engine_thread() { Err(Error::Reentrant) } else { Ok(()) }
    }

    /// Asks the snapshot thread for a snapshot, and waits for it.
    pub(crate) fn take_snapshot(&self) -> Result<SnapshotInfo, Error> {
        let requests = {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.as_ref().map(|running| running.snapshot_requests.clone())
        };
        let (reply, answer) = bounded(1);
        let sent = requests.is_some_and(|requests| requests.send(reply).is_ok());
        match (sent, answer.recv(), self.shared.status.poisoned()) {
            (true, Ok(taken), _) => taken,
            (_, _, Some(poisoned)) => Err(poisoned.clone().into()),
            _ => Err(Error::Stopped),
        }
    }

    /// Commits the queued commands, ends the threads and marks the directory clean. The first call
    /// does this. Other calls that come meanwhile wait for it.
    pub(crate) fn stop(&self) -> Result<(), Error> {
        if self.process.is_forked() {
            return Err(Error::Forked);
        }
        if on_engine_thread() {
            return self.stop_from_engine_thread();
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match (running.take(), self.shared.status.poisoned()) {
            (Some(running), _) => running.finish(),
            (None, Some(poisoned)) => Err(poisoned.clone().into()),
            (None, None) => Ok(()),
        }
    }

    /// Stops the database from a command or a waker that closes it or drops its last handle. The
    /// engine thread cannot wait for itself or for room in its own queue, so another thread does
    /// it. The lock moves to that thread.
    fn stop_from_engine_thread(&self) -> Result<(), Error> {
        // If another thread holds it, that thread is closing the database and waits for this one.
        let running = match self.running.try_lock() {
            Ok(mut running) => running.take(),
            Err(_) => None,
        };
        let Some(running) = running else { return Ok(()) };
        let lock_path = running.lock_path.clone();
        stack::spawn("prevalence-closer".to_owned(), move || running.finish().ok())
            .map(drop)
            .map_err(Error::io("start a thread to close", &lock_path))
    }
}

impl<M: Model> Engine<M> {
    /// Leaks everything in the child of a fork. The child must not join threads, release locks, or
    /// take locks that another thread of the parent may have held. All of this stays in memory
    /// until the child ends.
    fn forget(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner);
        if planted!(ChildUnlocks) {
            drop(running.take().map(|running| running.lock));
        }
        std::mem::forget(running.take());
        std::mem::forget((self.shared.clone(), self.queue.clone(), self.committer.clone()));
        std::mem::forget((self.storage.clone(), self.reserve.clone()));
    }
}

impl<M: Model> Drop for Engine<M> {
    fn drop(&mut self) {
        if self.process.is_forked() {
            return self.forget();
        }
        // Only `close` reports a failure. The next open finds out what happened.
        self.stop().ok();
    }
}

impl<M: Model> Running<M> {
    fn finish(self) -> Result<(), Error> {
        self.queue.stop();
        // A thread that panicked has poisoned the database. That error is reported below.
        self.writer.join().ok();
        self.committing.join().ok();
        if let Some((stop, thread)) = self.syncing {
            drop(stop);
            thread.join().ok();
        }
        let waits_for_one = self.takes_one_on_close || is_overdue(&self.shared, self.policy);
        if !waits_for_one || self.shared.status.poisoned().is_some() {
            self.cancelled.store(true, Ordering::SeqCst);
        }
        drop(self.snapshot_requests);
        self.snapshotting.join().ok();
        let ended = end_cleanly(&self.shared, &self.committer, &self.manifest, &self.reserve);
        self.shared.status.stop();
        // A panic of a user's `Drop` must not keep the directory locked.
        let freed =
            self.shared.guarded("closing", || self.shared.published.forget_all_but_newest());
        self.shared.published.wake_waiting();
        let unlocked = self.lock.unlock().map_err(Error::io("unlock", &self.lock_path));
        ended.and(unlocked).and(freed.map_err(Error::from))
    }
}

/// Syncs the rest of the journal and writes into the MANIFEST that the journal ends exactly here.
fn end_cleanly<M: Model>(
    shared: &Shared<M>,
    committer: &SharedCommitter<M>,
    manifest: &Mutex<ManifestFile>,
    reserve: &Reserve,
) -> Result<(), Error> {
    let synced = committer::sync_outside_lock(committer);
    let mut committer = lock(committer);
    // The preparing thread and its unnamed file must be gone before another process can get the
    // lock.
    committer.journal.stop_preparing();
    if let Some(poisoned) = shared.status.poisoned() {
        return Err(poisoned.clone().into());
    }
    synced?;
    let journal = &committer.journal;
    // A run that only read changes nothing. There is one exception: if the run before was killed,
    // only a mark confirms its last batch, and both may be lost together. So the MANIFEST must be
    // written.
    let manifest_lock = || manifest.lock().unwrap_or_else(PoisonError::into_inner);
    if !journal.has_begun() && manifest_lock().current().state == State::Clean {
        return Ok(());
    }
    let update = || {
        manifest_lock().update(|manifest| {
            manifest.state = State::Clean;
            manifest.newest_segment = journal.newest_segment();
            manifest.sequence = journal.written_sequence();
            manifest.chain = journal.chain();
        })
    };
    match update() {
        Err(failure) if failure.wants_room() && reserve.release() => update()?,
        // This run wrote nothing, so the next open can read what this one read.
        Err(failure) if failure.wants_room() && !journal.has_begun() => {}
        updated => updated?,
    }
    // If nothing was written for a long time, no sync has checked that the files are still in
    // place.
    if planted!(CloseDoesNotLook) {
        return Ok(());
    }
    journal.check_stands().map_err(|error| shared.poison(&error).into())
}

struct Spawner<'a, M> {
    shared: &'a Arc<Shared<M>>,
    path: &'a std::path::Path,
}

impl<M: Model> Spawner<'_, M> {
    fn spawn(
        &self,
        name: &'static str,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<JoinHandle<()>, Error> {
        let shared = self.shared.clone();
        stack::spawn(format!("prevalence-{name}"), move || shared.run_guarded(name, body))
            .map_err(Error::io("start a thread for", self.path))
    }
}

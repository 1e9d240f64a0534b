//! Owns how a running database is put together of what an open found: its parts, the channels
//! between them, and their threads. Knows nothing of what the parts do.
//!
//! ```text
//! callers ──queue──▶ writer ──batches──▶ committer ──▶ log
//!                      ▲                    │
//!                      └──── spare, bell ───┘
//! callers ──requests─▶ snapshotter ◀──woken── committer, through the snapshot board
//! ```
//!
//! *Spare* are emptied batches, whose buffers the writer uses again. The *bell* wakes a writer that
//! waits for the committer.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, bounded};

use super::running::{Engine, Running, Syncing};
use crate::engine::{
    BatchLimits, Clock, Committer, CommitterEnds, Lane, Published, QueueReceiver, RecentBatches,
    Requests, Seat, Shared, SharedCommitter, SnapshotBoard, SnapshotState, Status, Working, Writer,
    committer, interval_sync, queue,
};
use crate::error::Error;
use crate::execute_error::note_rejections;
use crate::files::{ManifestFile, State, StoreError};
use crate::model::{Entry, Model, RandomSeed};
use crate::mutex::lock;
use crate::options::{Durability, Events, LoadModel, Options};
use crate::process::{FreedDeep, OpeningProcess, stack};
use crate::recovery::{Found, Loaded, LoadingThread, Recovered, RecoveryReport};
use crate::snapshot::{
    DecodeCheck, HeldFiles, OpenMeasured, SnapshotRequest, Snapshotter, SnapshotterOptions,
    Superseded,
};
use crate::stats::Counters;
use crate::storage::{Room, Storage};

/// The number of batches that may wait between writer and committer. While one is committed, one
/// more is ready.
const BATCHES_AHEAD: usize = 1;
/// The number of empty batches that are kept to reuse their buffers.
const SPARE_BATCHES: usize = 3;

/// The number of callers of `snapshot` that may wait in the snapshot thread's channel. Further
/// callers wait to enter it.
const SNAPSHOT_REQUESTS: usize = 16;

impl<M: Model> Engine<M> {
    /// Starts the threads. `thread` has loaded the model, and becomes the writer.
    pub(crate) fn start(
        storage: Arc<dyn Storage>,
        options: &Options,
        recovered: Recovered<M>,
        thread: LoadingThread,
    ) -> Result<Self, Error> {
        let Recovered { version, journal, lock, lock_path, seed, mut found } = recovered;
        note_rejections(M::entries().iter().map(Entry::rejection));
        let version = Arc::new(version);
        let (snapshots, woken) =
            SnapshotBoard::new(snapshot_state(&found.report, &found.loaded, options.load_model));
        let shared = Arc::new(Shared {
            published: Published::new(version.clone(), options.recent_versions),
            status: Status::default(),
            counters: Counters::default(),
            snapshots,
            recent_batches: RecentBatches::default(),
            followers: Arc::default(),
            requests: Requests::new(
                options.request_limits(),
                options.rejection_limits(),
                storage.clone(),
            ),
        });
        let room = journal.room();
        let committer = Committer::new(Box::new(journal), options.durability, shared.clone());
        let committer = Arc::new(Mutex::new(committer));
        let (queue, receiver) = queue(options.queue_capacity, options.queue_bytes);
        let (lane, ends) = connect(&shared, &committer, &receiver);
        let working = working_version(&shared, version, (seed, options.events::<M>()), &thread)?;
        let writer = writer(receiver, options, working, lane, &shared, &storage);
        let seat = Arc::new(Seat::new(writer));
        let spawner = Spawner { shared: &shared, path: &lock_path };
        // Should a later thread fail to start, the earlier ones end with their channels.
        let committing = {
            let committer = committer.clone();
            spawner.spawn("committer", move || committer::run(&committer, ends))?
        };
        let syncing = spawner.spawn_syncer(options.durability, &committer)?;
        let (snapshot_requests, requests) = bounded(SNAPSHOT_REQUESTS);
        let cancelled = Arc::new(AtomicBool::new(false));
        let wires =
            SnapshotWires { requests, woken, cancelled: cancelled.clone(), room: room.clone() };
        let snapshotter = snapshotter(&storage, options, &mut found, &shared, &committer, wires);
        let snapshotting = spawner.spawn("snapshotter", move || snapshotter.run())?;
        let writing = {
            let shared = shared.clone();
            let seat = seat.clone();
            thread.go_on_with(move || shared.run_guarded("writer", || seat.run()))
        };
        let queue = Arc::new(queue);
        if let Some(late) = &found.loaded.late {
            late.tell_by(fail_late(&shared, &found.manifest));
        }
        let running = Running {
            shared: shared.clone(),
            queue: queue.clone(),
            writing,
            committing,
            syncing,
            snapshotting,
            snapshot_requests,
            cancelled,
            policy: options.snapshots,
            committer: committer.clone(),
            lock,
            lock_path,
            late: found.loaded.late.take(),
        };
        Ok(Self {
            queue,
            seat,
            committer,
            report: found.report,
            storage,
            directory: found.directory,
            identity: found.identity,
            schemas: found.schemas,
            packing: options.packing(),
            reserve: found.reserve,
            room,
            max_command_bytes: options.max_command_bytes,
            max_request_id_bytes: options.max_request_id_bytes,
            process: OpeningProcess::this(),
            durability: options.durability,
            running: Mutex::new(Some(running)),
            shared: FreedDeep::new(shared),
        })
    }
}

/// Returns what happens when entries cannot be loaded after the open: the database fails, and the
/// next open loads all at once.
fn fail_late<M: Model>(
    shared: &Arc<Shared<M>>,
    manifest: &Arc<Mutex<ManifestFile>>,
) -> impl Fn(&str) + Send + Sync + 'static {
    // The model of a version in it may be what fails.
    let (shared, manifest) = (Arc::downgrade(shared), manifest.clone());
    move |reason| {
        let noted = lock(&manifest).update(|manifest| manifest.state = State::Suspect);
        if let Some(shared) = shared.upgrade() {
            let then = match noted {
                Ok(()) => "the next open loads and verifies all of it".to_owned(),
                Err(error) => format!(
                    "open it with LoadModel::AtOpen, because the MANIFEST could not note this: {}",
                    StoreError::from(error)
                ),
            };
            shared.poison(&format!("entries could not be loaded after the open: {reason}; {then}"));
        }
    }
}

/// What the snapshot thread waits for and looks at.
struct SnapshotWires {
    requests: Receiver<SnapshotRequest>,
    woken: Receiver<()>,
    cancelled: Arc<AtomicBool>,
    room: Arc<Room>,
}

fn snapshotter<M: Model>(
    storage: &Arc<dyn Storage>,
    options: &Options,
    found: &mut Found,
    shared: &Arc<Shared<M>>,
    committer: &SharedCommitter<M>,
    wires: SnapshotWires,
) -> Snapshotter<M> {
    let (chain, file) = (found.loaded.chain.take(), found.loaded.file.take());
    let to_load = found.loaded.collections.take();
    let to_load = to_load.filter(|_| options.load_model == LoadModel::InBackground);
    let packing = options.packing();
    Snapshotter {
        options: SnapshotterOptions {
            storage: storage.clone(),
            directory: found.directory.clone(),
            identity: found.identity.clone(),
            packing,
            policy: options.snapshots,
            keep_snapshots: options.keep_snapshots,
            share_snapshots: options.share_snapshots,
        },
        superseded: Superseded {
            storage: storage.clone(),
            directory: found.directory.clone(),
            database: found.identity.database,
            packing,
            retention: options.retention,
            archived_snapshots: options.archived_snapshots,
            spared: found.report.damaged_snapshots.iter().map(|d| d.path.clone()).collect(),
            held: HeldFiles::new(file),
            followers: shared.followers.clone(),
            events: options.events::<M>(),
            whole: <_>::default(),
        },
        shared: shared.clone(),
        committer: committer.clone(),
        manifest: found.manifest.clone(),
        requests: wires.requests,
        woken: wires.woken,
        cancelled: wires.cancelled,
        room: wires.room,
        reserve: found.reserve.clone(),
        outdated: found.loaded.outdated,
        last_taken: Instant::now(),
        retry: None,
        owed: false,
        decode_check: DecodeCheck::new(found.loaded.info.sequence),
        chain,
        to_load,
        broken: Vec::new(),
    }
}

/// What the snapshot board begins with.
fn snapshot_state(report: &RecoveryReport, loaded: &Loaded, when: LoadModel) -> SnapshotState {
    let will_be_late = report.created && when.is_late();
    let measured = OpenMeasured {
        loaded: (loaded.info.load, loaded.load_time),
        created: report.created,
        replayed: (report.commands_replayed, loaded.apply_time),
        late: if will_be_late { Some(Default::default()) } else { loaded.replay_loads },
        opened: (report.segments, loaded.open_time),
    };
    let (rates, replay_unmeasured) = measured.rates();
    SnapshotState {
        newest: loaded.info.clone(),
        written_then: 0,
        tail_bytes: report.tail_bytes,
        tail_segments: report.segments.max(1),
        segments_then: 0,
        taken: 0,
        failed: 0,
        last_error: None,
        rates,
        replay_unmeasured,
    }
}

/// Makes the channels between writer and committer.
fn connect<M: Model>(
    shared: &Shared<M>,
    committer: &SharedCommitter<M>,
    receiver: &QueueReceiver<M>,
) -> (Lane<M>, CommitterEnds<M>) {
    let (batches, batch_inbox) = bounded(BATCHES_AHEAD);
    let (spare_outbox, spare) = bounded(SPARE_BATCHES);
    let completed = Arc::new(AtomicU64::new(0));
    let wakes_writer = receiver.bell();
    shared.status.wake_writer_by(move || wakes_writer.ring());
    let lane = Lane { committer: committer.clone(), batches, spare, completed: completed.clone() };
    let bell = receiver.bell();
    (lane, CommitterEnds { batches: batch_inbox, spare: spare_outbox, bell, completed })
}

/// Clones the model on the writer's thread: the stack of this one may not be enough for that.
fn working_version<M: Model>(
    shared: &Arc<Shared<M>>,
    version: Arc<crate::engine::Version<M>>,
    (seed, events): (RandomSeed, Events),
    thread: &LoadingThread,
) -> Result<Working<M>, Error> {
    let shared = shared.clone();
    let cloned = move || {
        let requests = &shared.requests;
        shared.guarded("writer", || Working::new(version, requests, seed, events))
    };
    Ok(thread.run(|_| cloned(), &mut |_| {})?)
}

fn writer<M: Model>(
    queue: QueueReceiver<M>,
    options: &Options,
    working: Working<M>,
    lane: Lane<M>,
    shared: &Arc<Shared<M>>,
    storage: &Arc<dyn Storage>,
) -> Writer<M> {
    Writer {
        queue,
        limits: BatchLimits {
            commands: options.max_batch_commands,
            bytes: options.max_batch_bytes,
            linger: options.linger,
        },
        working,
        lane,
        shared: shared.clone(),
        storage: storage.clone(),
        refusals: 0,
        handed: 0,
        spare: None,
        needs_commit_marker: true,
        clock: Clock::default(),
        until_sample: 1,
    }
}

struct Spawner<'a, M> {
    shared: &'a Arc<Shared<M>>,
    path: &'a Path,
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

    /// Starts the thread that syncs at an interval, where the durability asks for one.
    fn spawn_syncer(
        &self,
        durability: Durability,
        committer: &SharedCommitter<M>,
    ) -> Result<Option<Syncing>, Error> {
        let Durability::Interval(interval) = durability else { return Ok(None) };
        let (stop, stopped): (_, Receiver<_>) = bounded(0);
        let committer = committer.clone();
        let run = move || interval_sync::run(&committer, interval, &stopped);
        Ok(Some((stop, self.spawn("syncer", run)?)))
    }
}

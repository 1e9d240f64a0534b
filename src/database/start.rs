//! Owns the assembly of a running database from what an open found: its parts, the channels between
//! them, and their threads. Knows nothing of what the parts do.
//!
//! ```text
//! callers ──queue──▶ writer ──batches──▶ committer ──▶ log
//!                      ▲                    │
//!                      └──── spare, bell ───┘
//! callers ──requests─▶ snapshotter ◀──woken── committer, through the snapshot board
//! ```

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, bounded};

use super::running::{Engine, Running, Syncing};
use crate::engine::{
    BatchLimits, Clock, Committer, CommitterEnds, Lane, Published, QueueReceiver, Shared,
    SharedCommitter, SnapshotBoard, SnapshotState, Status, Working, Writer, committer,
    interval_sync, queue,
};
use crate::error::Error;
use crate::model::{Model, RandomSeed};
use crate::options::{Durability, Options};
use crate::process::{FreedDeep, OpeningProcess, stack};
use crate::recovery::{Loaded, LoadingThread, Recovered, RecoveryReport};
use crate::snapshot::{
    OpenMeasured, Readable, SnapshotRequest, Snapshotter, SnapshotterOptions, Superseded,
};
use crate::stats::Counters;
use crate::storage::Storage;

/// How many batches wait between writer and committer, besides the one being committed.
const BATCHES_AHEAD: usize = 1;
/// How many empty batches are kept for their buffers.
const SPARE_BATCHES: usize = 3;

/// How many requests for a snapshot the thread's channel holds. Further callers wait for room in
/// it.
const SNAPSHOT_REQUESTS: usize = 16;

impl<M: Model> Engine<M> {
    /// Starts the threads. `thread` has loaded the model, and becomes the writer.
    pub(crate) fn start(
        storage: Arc<dyn Storage>,
        options: &Options,
        recovered: Recovered<M>,
        thread: LoadingThread,
    ) -> Result<Self, Error> {
        let Recovered { version, journal, manifest, lock, lock_path, seed, .. } = recovered;
        let Recovered { report, identity, directory, reserve, loaded, .. } = recovered;
        let version = Arc::new(version);
        let (snapshots, woken) = SnapshotBoard::new(snapshot_state(&report, &loaded));
        let shared = Arc::new(Shared {
            published: Published::new(version.clone(), options.recent_versions),
            status: Status::default(),
            counters: Counters::default(),
            snapshots,
        });
        let room = journal.room();
        let committer = Committer::new(Box::new(journal), options.durability, shared.clone());
        let committer = Arc::new(Mutex::new(committer));
        let (queue, receiver) = queue(options.queue_capacity, options.queue_bytes);
        let (lane, ends) = connect(&shared, &committer, &receiver);
        let working = working_version(&shared, version, seed, &thread)?;
        let writer = writer(receiver, options, working, lane, &shared, &storage);
        let spawner = Spawner { shared: &shared, path: &lock_path };
        // If a later thread fails to start, the earlier threads end when their channels close.
        let committing = {
            let committer = committer.clone();
            spawner.spawn("committer", move || committer::run(&committer, ends))?
        };
        let syncing = spawner.spawn_syncer(options.durability, &committer)?;
        let (snapshot_requests, requests) = bounded::<SnapshotRequest>(SNAPSHOT_REQUESTS);
        let cancelled = Arc::new(AtomicBool::new(false));
        let packing = options.packing();
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
            manifest,
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
        let writing = {
            let shared = shared.clone();
            thread.become_writer(move || shared.run_guarded("writer", || writer.run()))
        };
        let queue = Arc::new(queue);
        let running = Running {
            shared: shared.clone(),
            queue: queue.clone(),
            writing,
            committing,
            syncing,
            snapshotting,
            snapshot_requests,
            cancelled,
            takes_one_on_close: options.snapshots.takes_one_on_close(),
            policy: options.snapshots,
            committer: committer.clone(),
            lock,
            lock_path,
        };
        Ok(Self {
            queue,
            committer,
            report,
            storage,
            directory,
            identity,
            packing,
            reserve,
            max_command_bytes: options.max_command_bytes,
            process: OpeningProcess::this(),
            running: Mutex::new(Some(running)),
            shared: FreedDeep::new(shared),
        })
    }
}

/// Makes the first state of the snapshot board.
fn snapshot_state(report: &RecoveryReport, loaded: &Loaded) -> SnapshotState {
    let measured = OpenMeasured {
        loaded: (loaded.info.raw_bytes, report.snapshot_time),
        replayed: (report.commands_replayed, loaded.apply_time),
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

/// Clones the model on the writer's thread, because the stack of this thread may be too small.
fn working_version<M: Model>(
    shared: &Arc<Shared<M>>,
    version: Arc<crate::engine::Version<M>>,
    seed: RandomSeed,
    thread: &LoadingThread,
) -> Result<Working<M>, Error> {
    let shared = shared.clone();
    let cloned = move || shared.guarded("writer", || Working::new(version, seed));
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

    /// Starts the thread that syncs at an interval, if the durability needs one.
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

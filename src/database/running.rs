//! Owns a running database: what its handles share, and how its threads stop in order and leave the
//! directory clean. Knows nothing of what a command does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};

use crate::engine::{
    QueueSender, Seat, Shared, SharedCommitter, SnapshotInfo, committer, on_engine_thread,
};
use crate::error::Error;
use crate::files::{Directory, Packing, Reserve};
use crate::journal::SegmentIdentity;
use crate::model::{Model, ProgramSchemas};
use crate::mutex::lock;
use crate::options::{Durability, SnapshotPolicy};
use crate::process::{FreedDeep, OpeningProcess, stack};
use crate::recovery::RecoveryReport;
use crate::snapshot::{LateLoading, SnapshotRequest, is_overdue};
use crate::storage::{Lock, Room, Storage};

/// A running database.
pub(crate) struct Engine<M: Model> {
    pub(crate) queue: Arc<QueueSender<M>>,
    pub(crate) seat: Arc<Seat<M>>,
    pub(crate) committer: SharedCommitter<M>,
    pub(crate) report: RecoveryReport,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) directory: Directory,
    pub(crate) identity: SegmentIdentity,
    pub(crate) schemas: ProgramSchemas,
    pub(crate) packing: Packing,
    pub(crate) reserve: Arc<Reserve>,
    /// The space that snapshots and checkpoints give up when the journal needs it.
    pub(crate) room: Arc<Room>,
    pub(crate) max_command_bytes: usize,
    pub(crate) max_request_id_bytes: usize,
    pub(crate) process: OpeningProcess,
    pub(crate) durability: Durability,
    pub(super) running: Mutex<Option<Running<M>>>,
    /// This is the last field, because the fields before it share it and must be dropped first.
    pub(crate) shared: FreedDeep<Shared<M>>,
}

/// The thread that syncs at an interval. It ends when the channel is closed.
pub(super) type Syncing = (Sender<std::convert::Infallible>, JoinHandle<()>);

/// What must be stopped, in the order of its fields.
pub(super) struct Running<M: Model> {
    pub(super) shared: Arc<Shared<M>>,
    pub(super) queue: Arc<QueueSender<M>>,
    pub(super) writing: JoinHandle<()>,
    pub(super) committing: JoinHandle<()>,
    pub(super) syncing: Option<Syncing>,
    pub(super) snapshotting: JoinHandle<()>,
    pub(super) snapshot_requests: Sender<SnapshotRequest>,
    pub(super) cancelled: Arc<AtomicBool>,
    pub(super) policy: SnapshotPolicy,
    pub(super) committer: SharedCommitter<M>,
    pub(super) lock: Box<dyn Lock>,
    /// Who is told when what is loaded after the open cannot be loaded.
    pub(super) late: Option<Arc<LateLoading>>,
    pub(super) lock_path: std::path::PathBuf,
}

impl<M: Model> Engine<M> {
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
            let running = lock(&self.running);
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

    /// Commits what is in the queue, ends the threads and marks the directory clean. The first call
    /// does this, and other calls meanwhile wait for it.
    pub(crate) fn stop(&self) -> Result<(), Error> {
        if self.process.is_forked() {
            return Err(Error::Forked);
        }
        // Followers are waited for, too.
        if on_engine_thread() || self.shared.followers.has_this_thread() {
            return self.stop_from_engine_thread();
        }
        // No lock is held meanwhile, because a follower may be in a call that needs it.
        self.shared.followers.close(|| self.shared.published.wake_waiting());
        let mut running = lock(&self.running);
        match (running.take(), self.shared.status.poisoned()) {
            (Some(running), _) => running.finish(),
            (None, Some(poisoned)) => Err(poisoned.clone().into()),
            (None, None) => Ok(()),
        }
    }

    /// Stops the engine when a command, a waker or a follower closes the database or drops its last
    /// handle. This thread cannot wait for itself or for room in its own queue, so another thread
    /// does, and that thread also releases the lock.
    fn stop_from_engine_thread(&self) -> Result<(), Error> {
        // If another thread holds the lock, it is already closing and waits for this thread.
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
    /// Leaks everything in a forked child. The child must join no thread, release no lock, and take
    /// no lock that another thread of the parent may have held. All of it stays until the child
    /// ends.
    fn forget(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner);
        if fault!(ChildUnlocks) {
            drop(running.take().map(|running| running.lock));
        }
        std::mem::forget(running.take());
        std::mem::forget((self.shared.clone(), self.queue.clone(), self.committer.clone()));
        std::mem::forget((self.storage.clone(), self.reserve.clone(), self.seat.clone()));
    }
}

impl<M: Model> Drop for Engine<M> {
    fn drop(&mut self) {
        if self.process.is_forked() {
            return self.forget();
        }
        // A drop cannot report a failure; `close` can. The next open finds what happened.
        self.stop().ok();
    }
}

impl<M: Model> Running<M> {
    fn finish(self) -> Result<(), Error> {
        // Reactors may still execute commands until they have ended. This has been done already,
        // unless a follower, a command or a waker closes the database.
        self.shared.followers.close(|| self.shared.published.wake_waiting());
        self.queue.stop();
        // A thread that panicked has poisoned the database, and the code below reports that.
        self.writing.join().ok();
        self.committing.join().ok();
        self.shared.requests.close();
        if let Some((stop, thread)) = self.syncing {
            drop(stop);
            thread.join().ok();
        }
        let waits_for_one =
            self.policy.takes_one_on_close() || is_overdue(&self.shared, self.policy);
        if !waits_for_one || self.shared.status.poisoned().is_some() {
            self.cancelled.store(true, Ordering::SeqCst);
        }
        drop(self.snapshot_requests);
        self.snapshotting.join().ok();
        if let Some(late) = &self.late {
            late.stop();
        }
        let ended = end_cleanly(&self.shared, &self.committer);
        self.shared.status.stop();
        // A panic of a user's `Drop` must not keep the directory locked.
        let freed =
            self.shared.guarded("closing", || self.shared.published.forget_all_but_newest());
        self.shared.published.wake_waiting();
        let unlocked = self.lock.unlock().map_err(Error::io("unlock", &self.lock_path));
        let closed = ended.and(unlocked).and(freed.map_err(Error::from));
        match &closed {
            Ok(()) => trace_event!(INFO, "closed", path = self.lock_path.display()),
            Err(error) => trace_event!(ERROR, "closed, and not cleanly", error = error),
        }
        closed
    }
}

/// Syncs what is left, and states in the MANIFEST that the journal ends exactly here.
fn end_cleanly<M: Model>(shared: &Shared<M>, committer: &SharedCommitter<M>) -> Result<(), Error> {
    let synced = committer::sync_outside_lock(committer);
    let mut committer = committer::lock(committer);
    // The log's thread and its temporary file must be gone before another opener gets the lock.
    committer.log.stop_preparing();
    if let Some(poisoned) = shared.status.poisoned() {
        return Err(poisoned.clone().into());
    }
    synced?;
    committer.log.close()?;
    // A sync checks this, too, but without writes the last sync may be long ago.
    if fault!(CloseDoesNotLook) {
        return Ok(());
    }
    committer.log.check_stands().map_err(|error| shared.poison(&error).into())
}

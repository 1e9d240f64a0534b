//! Owns what the committer and the snapshot thread tell each other: at which figures the committer
//! wakes the snapshot thread, and the result of the last snapshot. Knows nothing of why one is due,
//! and of how it is written.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::Serialize;

use crate::files::PackedFile;
use crate::mutex::lock;
use crate::options::{StartupLoad, StartupRates};

/// One snapshot; see [`Database::snapshot`](crate::Database::snapshot).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SnapshotInfo {
    /// The version that it holds.
    pub sequence: u64,
    /// Its file.
    pub path: PathBuf,
    /// Bytes that a start decodes: the size of the model's encoding, or, if the snapshot holds only
    /// what has changed since an earlier one, of all encodings that it rests on together.
    pub raw_bytes: u64,
    /// Size of the file in bytes: so much was written.
    pub file_bytes: u64,
    /// Size of the earlier snapshots' files that it rests on: so much was shared. 0 if it is whole.
    pub shared_bytes: u64,
    /// How long it took to write and verify; zero if the snapshot existed already.
    pub duration: Duration,
    #[serde(skip)]
    pub(crate) load: StartupLoad,
}

impl SnapshotInfo {
    pub(crate) fn of(file: &PackedFile, duration: Duration) -> Self {
        Self {
            sequence: file.header.sequence,
            path: file.path.clone(),
            raw_bytes: file.chain().map(|file| file.footer.raw_bytes).sum(),
            file_bytes: file.file_bytes(),
            shared_bytes: file.chain().skip(1).map(PackedFile::file_bytes).sum(),
            load: load_of(file),
            duration,
        }
    }
}

fn load_of(file: &PackedFile) -> StartupLoad {
    let mut load = StartupLoad::default();
    for file in file.chain() {
        let bytes = file.footer.raw_bytes;
        if file.base().is_some() {
            load.change_bytes += bytes;
        } else {
            (load.parts, load.part_bytes) = file.parts();
            load.other_bytes = bytes.saturating_sub(load.part_bytes);
        }
    }
    load
}

/// When the committer should wake the snapshot thread, and the state of the snapshots.
pub(crate) struct SnapshotBoard {
    due_sequence: AtomicU64,
    due_bytes: AtomicU64,
    wake: Sender<()>,
    /// Whether the disk is full: then a snapshot would allow older segments to be removed.
    pub(crate) room_wanted: AtomicBool,
    state: Mutex<SnapshotState>,
}

/// What is known about snapshots, for statistics and predictions.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotState {
    pub(crate) newest: SnapshotInfo,
    /// The journal bytes that this run had written when the newest snapshot was taken. The tail
    /// that the open replayed is counted in `tail_bytes`.
    pub(crate) written_then: u64,
    /// Journal bytes that an earlier run left behind the newest snapshot.
    pub(crate) tail_bytes: u64,
    /// Segments behind the newest snapshot, without those that were added since.
    pub(crate) tail_segments: u64,
    /// How many segments this run had added when the newest snapshot was taken.
    pub(crate) segments_then: u64,
    pub(crate) taken: u64,
    pub(crate) failed: u64,
    /// Why the last try failed, until one succeeds.
    pub(crate) last_error: Option<Arc<str>>,
    pub(crate) rates: StartupRates,
    /// Whether the replay rate is only a guess from the time of live commands.
    pub(crate) replay_unmeasured: bool,
}

impl SnapshotBoard {
    pub(crate) fn new(state: SnapshotState) -> (Self, Receiver<()>) {
        let (wake, woken) = bounded(1);
        let never = || AtomicU64::new(u64::MAX);
        let state = Mutex::new(state);
        let room_wanted = AtomicBool::new(false);
        (Self { due_sequence: never(), due_bytes: never(), wake, room_wanted, state }, woken)
    }

    /// Notes that a batch found no room on the disk, and wakes the thread.
    pub(crate) fn want_room(&self) {
        self.room_wanted.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Wakes the thread, so that it checks whether a snapshot is due.
    pub(crate) fn wake(&self) {
        // If the channel is full, the thread was woken already.
        self.wake.try_send(()).ok();
    }

    /// Notes the state after a batch. This is two loads and comparisons, unless a snapshot is due.
    pub(crate) fn note(&self, sequence: u64, written_bytes: u64) {
        // This pairs with the fence in `plan`: either this sees the plan, or the planner, which
        // reads the newest version afterwards, sees this batch.
        fence(Ordering::SeqCst);
        if sequence >= self.due_sequence.load(Ordering::Relaxed)
            || written_bytes >= self.due_bytes.load(Ordering::Relaxed)
        {
            self.plan(u64::MAX, u64::MAX);
            self.wake();
        }
    }

    pub(crate) fn plan(&self, sequence: u64, written_bytes: u64) {
        self.due_sequence.store(sequence, Ordering::Relaxed);
        self.due_bytes.store(written_bytes, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn state(&self) -> SnapshotState {
        lock(&self.state).clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut SnapshotState)) {
        change(&mut lock(&self.state));
    }
}

//! Owns the snapshot thread: it pins a version, writes and verifies a snapshot of it, lists the
//! snapshot in the MANIFEST, and only then archives or removes what it supersedes. Commands never
//! wait for this. After a failure, which users can see, it tries again, and commands continue.
//!
//! `owed` says that a snapshot is to be taken.
//!
//! | `owed` | `retry` | where the thread stands |
//! |---|---|---|
//! | no | `None` | it waits until a snapshot is due, or a caller asks for one |
//! | yes | `None` | it takes a snapshot |
//! | yes | `Some` | the last try failed: it tries again at that time, or when a caller asks |
//! | no | `Some` | the snapshot is listed, but the clean-up failed: it repeats it at that time |
//!
//! `outdated` stays set until a snapshot of the current `Model::VERSION` is listed. Until then, the
//! thread takes a snapshot even if one of the same sequence exists.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, select};

use super::chain::Chain;
use super::cleanup::Superseded;
use super::decode_check::DecodeCheck;
use super::due::{is_behind, is_overdue, limits};
use crate::codec::KnownCollections;
use crate::engine::{Shared, SharedCommitter, SnapshotInfo, SnapshotState};
use crate::error::Error;
use crate::files::{Directory, ManifestFile, Packing, Reserve};
use crate::journal::SegmentIdentity;
use crate::model::Model;
use crate::options::{Limits, SnapshotPolicy};
use crate::storage::{Pace, Room, Storage};

/// The pause before the next try after a failure. It doubles after each further failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// How often the thread checks the measured rates, for `startup_within`.
const LOOK_AT_RATES: Duration = Duration::from_secs(1);
/// How often the thread looks how much memory the newest snapshot's version keeps alive.
const LOOK_AT_MEMORY: Duration = Duration::from_secs(1);
/// How long the thread loads entries before it looks for other work.
const LOADED_AT_ONCE: Duration = Duration::from_millis(50);
/// How long the thread sleeps if nothing is planned.
const NOTHING_PLANNED: Duration = Duration::from_secs(3600);

/// A caller that waits for a snapshot.
pub(crate) type SnapshotRequest = Sender<Result<SnapshotInfo, Error>>;

/// What does not change while the database is open.
pub(crate) struct SnapshotterOptions {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) directory: Directory,
    pub(crate) identity: SegmentIdentity,
    pub(crate) packing: Packing,
    pub(crate) policy: SnapshotPolicy,
    pub(crate) keep_snapshots: usize,
    /// Whether a snapshot may hold only what has changed since an earlier one.
    pub(crate) share_snapshots: bool,
}

pub(crate) struct Snapshotter<M: Model> {
    pub(crate) options: SnapshotterOptions,
    pub(crate) superseded: Superseded,
    pub(crate) shared: Arc<Shared<M>>,
    pub(crate) committer: SharedCommitter<M>,
    pub(crate) manifest: Arc<Mutex<ManifestFile>>,
    pub(crate) requests: Receiver<SnapshotRequest>,
    pub(crate) woken: Receiver<()>,
    /// Ends a snapshot that is being written when the database is closed.
    pub(crate) cancelled: Arc<AtomicBool>,
    /// The space that a snapshot gives up when the journal needs it.
    pub(crate) room: Arc<Room>,
    /// The reserve that is released when a snapshot finds no room.
    pub(crate) reserve: Arc<Reserve>,
    /// Whether the newest snapshot is of an older version of the model, so that it should be
    /// written again.
    pub(crate) outdated: bool,
    pub(crate) last_taken: Instant,
    pub(crate) retry: Option<(Instant, Duration)>,
    /// Whether a snapshot must still be taken.
    pub(crate) owed: bool,
    pub(crate) decode_check: DecodeCheck,
    /// The snapshots that the next one may rest on.
    pub(crate) chain: Option<Chain>,
    /// The collections whose entries are loaded in the background.
    pub(crate) to_load: Option<Arc<KnownCollections>>,
    /// The snapshots of this run that turned out to rest on damaged ones.
    pub(crate) broken: Vec<u64>,
}

impl<M: Model> Snapshotter<M> {
    /// Runs until no handle can ask for a snapshot any more.
    pub(crate) fn run(mut self) {
        give_way_to_commits();
        // The channel outlives a panic (of a user's `Drop`), so every waiting caller gets the
        // error.
        let shared = self.shared.clone();
        if let Err(poisoned) = shared.guarded("snapshotter", || self.work()) {
            for reply in &self.requests {
                reply.send(Err(poisoned.clone().into())).ok();
            }
        }
    }

    fn work(&mut self) {
        // A crash may have left the clean-up after the last snapshot unfinished.
        self.tidy_and_note();
        loop {
            let pause = self.plan().min(self.forget_old_versions()).min(self.forget_base());
            let pause = pause.min(self.load_some());
            select! {
                recv(self.requests) -> request => match request {
                    // The caller may have gone.
                    Ok(reply) => { reply.send(self.take()).ok(); }
                    Err(_) => break,
                },
                recv(self.woken) -> _ => self.take_if_due(),
                default(pause) => self.take_if_due(),
            }
        }
        let policy = self.options.policy;
        let wanted = policy.takes_one_on_close() || is_overdue(&self.shared, policy);
        if wanted && !self.is_cancelled() {
            // The statistics show a failure, and the journal holds every command.
            self.take().ok();
        }
    }

    /// Frees old versions that the committer would free with the next batch, in case none comes.
    /// Returns the time until the next check.
    fn forget_old_versions(&self) -> Duration {
        self.shared.published.forget_old();
        self.shared.published.recent().pause().unwrap_or(NOTHING_PLANNED)
    }

    /// Loads some entries that are still in the file of the snapshot. Returns the time until it
    /// goes on.
    fn load_some(&mut self) -> Duration {
        let Some(collections) = &self.to_load else { return NOTHING_PLANNED };
        let began = Instant::now();
        let goes_on = || {
            self.requests.is_empty()
                && self.woken.is_empty()
                && !self.is_cancelled()
                && began.elapsed() < LOADED_AT_ONCE
        };
        if collections.load_all(&mut { goes_on }) {
            self.to_load = None;
        }
        if self.to_load.is_some() { Duration::ZERO } else { NOTHING_PLANNED }
    }

    /// Frees the version of the newest snapshot when it keeps too much memory alive. Returns the
    /// time until the next check.
    fn forget_base(&mut self) -> Duration {
        self.superseded.held.close_if_unread();
        let journal_bytes = self.shared.counters.journal_bytes.get();
        if self.chain.as_ref().is_some_and(|chain| chain.is_too_old(journal_bytes)) {
            self.chain = None;
        }
        if self.chain.is_some() { LOOK_AT_MEMORY } else { NOTHING_PLANNED }
    }

    /// Tells the committer when to wake this thread. Returns how long to sleep at most.
    fn plan(&self) -> Duration {
        if let Some((at, _)) = self.retry {
            return at.saturating_duration_since(Instant::now());
        }
        let state = self.shared.snapshots.state();
        let Limits { commands, bytes, time, .. } =
            limits(&self.shared, self.options.policy, &state);
        let due_sequence = state.newest.sequence.saturating_add(commands);
        let due_bytes = state.written_then.saturating_add(bytes.saturating_sub(state.tail_bytes));
        let left = time.map(|time| time.saturating_sub(self.last_taken.elapsed()));
        // If a snapshot is due by time but nothing has changed, the next command makes it due.
        let due_sequence = match left {
            Some(Duration::ZERO) => state.newest.sequence.saturating_add(1),
            _ => due_sequence,
        };
        self.shared.snapshots.plan(due_sequence, due_bytes);
        // Otherwise the thread would not notice a snapshot that is already due before the next
        // batch.
        if self.is_due(&state) {
            return Duration::ZERO;
        }
        let pause = left.filter(|left| !left.is_zero()).unwrap_or(NOTHING_PLANNED);
        // Rates change while commands run, and so do the limits that fit the budget.
        if self.options.policy.depends_on_rates() { pause.min(LOOK_AT_RATES) } else { pause }
    }

    fn is_due(&self, state: &SnapshotState) -> bool {
        let time = self.options.policy.time();
        let is_late = time.is_some_and(|time| self.last_taken.elapsed() >= time);
        let is_behind = is_behind(&self.shared, self.options.policy, 1);
        is_behind || (is_late && self.shared.published.sequence() != state.newest.sequence)
    }

    fn take_if_due(&mut self) {
        if self.retry.is_some_and(|(at, _)| Instant::now() < at) {
            return;
        }
        let room_wanted = self.shared.snapshots.room_wanted.swap(false, Ordering::SeqCst)
            && self.options.policy.is_automatic();
        if room_wanted && self.keeps_older() {
            // Only a whole snapshot lets go of those before it, and of the journal behind them.
            self.chain = None;
        }
        if self.owed || room_wanted || self.is_due(&self.shared.snapshots.state()) {
            // `take` notes a failure and plans the next try.
            self.take().ok();
        } else if self.retry.is_some() || self.superseded.followers.held_bytes() > 0 {
            // The snapshot succeeded, but the clean-up after it failed, or left what followers
            // hold.
            self.tidy_and_note();
        }
    }

    /// Takes a snapshot of the newest durable version, unless one exists.
    fn take(&mut self) -> Result<SnapshotInfo, Error> {
        let _span = trace_span!(INFO, "snapshot", sequence = self.shared.published.sequence());
        let began = Instant::now();
        self.owed = true;
        let mut taken = self.try_take_guarded(began);
        // A snapshot allows older files to be removed, so it is a good use of the reserve.
        if taken.as_ref().is_err_and(Error::is_disk_full) && self.reserve.release() {
            taken = self.try_take_guarded(began);
        }
        match &taken {
            Ok(info) => {
                trace_event!(
                    INFO,
                    "a snapshot is listed",
                    sequence = info.sequence,
                    path = info.path.display(),
                    raw_bytes = info.raw_bytes,
                    file_bytes = info.file_bytes,
                    duration_us = info.duration.as_micros()
                );
                self.retry = None;
                // The reserve may have been used, and the disk may have room again.
                self.reserve.fill();
            }
            Err(error) => self.note_failure(error),
        }
        // Commands would notice the lost place later, after more of them were acknowledged in it.
        if let Err(error) = &taken
            && error.is_place_lost()
        {
            self.shared.poison(error);
        }
        taken
    }

    fn try_take_guarded(&mut self, began: Instant) -> Result<SnapshotInfo, Error> {
        // A panic that arrives here comes from a `Drop`. Panics of encoding and decoding are
        // errors.
        let shared = self.shared.clone();
        let taken = shared.guarded("snapshotter", || self.try_take(began));
        taken.unwrap_or_else(|poisoned| Err(poisoned.into()))
    }

    fn tidy_and_note(&mut self) {
        let mut tidied = self.tidy();
        // To mark a follower as lost needs a file, and gives room.
        if tidied.as_ref().is_err_and(Error::is_disk_full) && self.reserve.release() {
            tidied = self.tidy();
        }
        match tidied {
            Ok(()) => {
                self.retry = None;
                self.shared.snapshots.change(|state| state.last_error = None);
            }
            Err(error) => self.note_failure(&error),
        }
    }

    /// Whether the journal goes back to an older snapshot than the newest.
    pub(super) fn keeps_older(&self) -> bool {
        self.options.keep_snapshots > 1
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// Returns the pace of work that gives up if the journal has asked for room more often than
    /// `since`.
    pub(super) fn pace(&self, since: u64) -> Pace<'_> {
        Pace::beside(&self.shared.counters, &self.cancelled, (&self.room, since))
    }

    fn note_failure(&mut self, error: &Error) {
        let pause = self.retry.map_or(FIRST_RETRY, |(_, pause)| (pause * 2).min(LONGEST_RETRY));
        self.retry = Some((Instant::now() + pause, pause));
        trace_event!(
            WARN,
            "background work failed",
            error = error,
            retry_in_ms = pause.as_millis()
        );
        let reason = error.to_string().into();
        self.shared.snapshots.change(|state| {
            state.failed += 1;
            state.last_error = Some(reason);
        });
    }

    /// Archives or removes what the listed snapshots supersede.
    pub(super) fn tidy(&self) -> Result<(), Error> {
        let pace = self.pace(self.room.requests());
        self.superseded.clear(&self.manifest, &self.room, &pace)
    }
}

/// Lowers this thread's priority. On a machine whose cores are busy, a commit would otherwise wait
/// for milliseconds until the scheduler takes a core away from a snapshot.
fn give_way_to_commits() {
    // This affects only this thread, which Linux calls the calling process here. If it is not
    // allowed, snapshots still work.
    #[cfg(target_os = "linux")]
    rustix::process::setpriority_process(None, 19).ok();
}

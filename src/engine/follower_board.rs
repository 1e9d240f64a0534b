//! Owns which durable followers run in this process, how each of them is told to do something or to
//! stop, and what it has told of itself. Knows nothing of what followers do.
//!
//! A follower writes files, so none may be at work when the directory's lock is released. `close`
//! asks all of them to stop, and waits a while. Whoever has not ended then, because a user's code
//! does not return, finds the files closed.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use crate::error::Error;
use crate::files::FollowerKind;
use crate::mutex::lock;

/// How long `close` waits for followers that are in a user's code.
const CLOSE_WAITS: Duration = Duration::from_secs(10);
/// The most orders that wait for one follower. Whoever gives more is refused.
const MOST_ORDERS: usize = 64;

/// What a follower is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Try again what has failed.
    Retry,
    /// Put the command aside that has failed, and go on behind it.
    Skip,
    /// Begin anew.
    Rebuild,
    /// Make the position durable.
    Checkpoint,
    /// Try the dead letter with this sequence again.
    Replay(u64),
}

thread_local! {
    /// Whether this is the thread of a follower. Two that wait for each other would wait for ever.
    static IS_FOLLOWER: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is that of a follower, of whatever database.
pub(crate) fn on_follower_thread() -> bool {
    IS_FOLLOWER.get()
}

type Reply = Sender<Result<(), Error>>;

/// What a follower does at present.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FollowerState {
    /// It works on commands, or waits for the next one.
    Running,
    /// A command, or the other database, has failed. It tries again after a pause.
    Retrying {
        /// The sequence of the first command that it has not worked on.
        sequence: u64,
        /// How often it has tried.
        attempts: u32,
        /// Why the last try failed.
        reason: Arc<str>,
    },
    /// It has failed, and waits for `retry`, `skip` or `rebuild`.
    Stopped {
        /// The sequence of the first command that it has not worked on.
        sequence: u64,
        /// Why it failed.
        reason: Arc<str>,
    },
    /// Commands that it has not worked on are no longer stored. It must be built anew.
    Lost {
        /// The oldest sequence that is still stored.
        oldest: u64,
    },
    /// The database or the follower was closed.
    Ended,
}

/// What is known of a follower that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FollowerStatus {
    /// What it does.
    pub state: FollowerState,
    /// The sequence of the last command that it has worked on.
    pub position: u64,
    /// The position that is durable: after a crash, it goes on behind this one.
    pub durable_position: u64,
    /// Commands that were put aside.
    pub dead_letters: u64,
    /// If it is being built anew: the position with which the new state takes the place of the old
    /// one.
    pub rebuilt_at: Option<u64>,
    /// Why it was built anew at its start, if what was stored of it was damaged or did not fit.
    pub damage: Option<Arc<str>>,
    /// Why the position could not be made durable, if that failed last. It is tried again.
    pub checkpoint_failure: Option<Arc<str>>,
    /// Why files that a durable position has replaced could not be removed, if that failed last.
    /// They take room and do no harm. The next checkpoint removes them.
    pub clean_up_failure: Option<Arc<str>>,
}

/// What a follower's thread is to do next.
pub(crate) enum Told {
    /// To stop.
    Stop,
    /// To do this, and to answer.
    Do(Order, Reply),
    Nothing,
}

/// A follower that runs, as its handle and its thread see it.
pub(crate) struct Seat {
    pub(crate) kind: FollowerKind,
    pub(crate) name: Arc<str>,
    /// Whether the thread must look at what it is told: it asks after every command.
    is_wanted: AtomicBool,
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    stops: bool,
    has_ended: bool,
    thread: Option<ThreadId>,
    orders: VecDeque<(Order, Reply)>,
    status: FollowerStatus,
}

impl Seat {
    fn new(kind: FollowerKind, name: &str) -> Self {
        let status = FollowerStatus {
            state: FollowerState::Running,
            position: 0,
            durable_position: 0,
            dead_letters: 0,
            rebuilt_at: None,
            damage: None,
            checkpoint_failure: None,
            clean_up_failure: None,
        };
        let orders = VecDeque::new();
        let inner = Inner { stops: false, has_ended: false, thread: None, orders, status };
        let (inner, changed) = (Mutex::new(inner), Condvar::new());
        Self { kind, name: name.into(), is_wanted: AtomicBool::new(false), inner, changed }
    }

    pub(crate) fn status(&self) -> FollowerStatus {
        lock(&self.inner).status.clone()
    }

    /// Changes the status, and wakes whoever waits for that.
    pub(crate) fn tell<R>(&self, change: impl FnOnce(&mut FollowerStatus) -> R) -> R {
        let changed = change(&mut lock(&self.inner).status);
        self.changed.notify_all();
        changed
    }

    /// Whether the calling thread is that of this follower.
    pub(crate) fn is_this_thread(&self) -> bool {
        lock(&self.inner).thread == Some(std::thread::current().id())
    }

    /// Gives an order. `wake` wakes a thread that waits for commands. Returns the answer.
    pub(crate) fn order(&self, order: Order, wake: impl FnOnce()) -> Result<(), Error> {
        let (reply, answer) = bounded(1);
        {
            let mut inner = lock(&self.inner);
            if inner.has_ended || inner.stops {
                return Err(Error::Stopped);
            }
            if inner.orders.len() >= MOST_ORDERS {
                let (kind, name) = (self.kind, self.name.to_string());
                let reason = format!("{MOST_ORDERS} calls wait for it already; try it again later");
                return Err(Error::FollowerRefuses { kind, name, reason });
            }
            inner.orders.push_back((order, reply));
            self.is_wanted.store(true, Ordering::SeqCst);
        }
        self.changed.notify_all();
        wake();
        answer.recv().unwrap_or(Err(Error::Stopped))
    }

    /// Whether the thread must look at [`told`](Self::told).
    pub(crate) fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::SeqCst)
    }

    /// Returns what the thread is to do, after it has waited for that at most so long.
    pub(crate) fn told(&self, timeout: Duration) -> Told {
        let deadline = Instant::now().checked_add(timeout);
        let mut inner = lock(&self.inner);
        loop {
            if inner.stops {
                return Told::Stop;
            }
            if let Some((order, reply)) = inner.orders.pop_front() {
                self.is_wanted.store(!inner.orders.is_empty(), Ordering::SeqCst);
                return Told::Do(order, reply);
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Told::Nothing;
            }
            let left = left.unwrap_or(CLOSE_WAITS);
            let waited = self.changed.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Notes the thread, so that it does not wait for itself.
    pub(crate) fn begin(&self) {
        IS_FOLLOWER.set(true);
        lock(&self.inner).thread = Some(std::thread::current().id());
    }

    /// Notes that the thread touches nothing any more.
    pub(crate) fn end(&self) {
        let orders = {
            let mut inner = lock(&self.inner);
            inner.has_ended = true;
            if !matches!(inner.status.state, FollowerState::Stopped { .. }) {
                inner.status.state = FollowerState::Ended;
            }
            std::mem::take(&mut inner.orders)
        };
        self.changed.notify_all();
        drop(orders); // whoever waits for an answer gets none, and knows
    }

    pub(crate) fn ask_to_stop(&self) {
        {
            let mut inner = lock(&self.inner);
            inner.stops = true;
            self.is_wanted.store(true, Ordering::SeqCst);
        }
        self.changed.notify_all();
    }

    /// Waits until the thread has ended. The thread itself does not wait.
    pub(crate) fn wait_until_ended(&self, deadline: Option<Instant>) {
        let this = Some(std::thread::current().id());
        drop(self.wait_while(deadline, |inner| !inner.has_ended && inner.thread != this));
    }

    /// Waits until the status fulfils a condition. Returns the last status, and whether it does.
    pub(crate) fn wait_for(
        &self,
        timeout: Duration,
        is_it: impl Fn(&FollowerStatus) -> bool,
    ) -> (FollowerStatus, bool) {
        let deadline = Instant::now().checked_add(timeout);
        let inner = self.wait_while(deadline, |inner| !inner.has_ended && !is_it(&inner.status));
        let status = inner.status.clone();
        drop(inner);
        let fulfilled = is_it(&status);
        (status, fulfilled)
    }

    fn wait_while(
        &self,
        deadline: Option<Instant>,
        waits: impl Fn(&Inner) -> bool,
    ) -> std::sync::MutexGuard<'_, Inner> {
        let mut inner = lock(&self.inner);
        while waits(&inner) {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            let waited = self.changed.wait_timeout(inner, left.unwrap_or(CLOSE_WAITS));
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        inner
    }
}

type Seats = BTreeMap<(FollowerKind, Arc<str>), Arc<Seat>>;

/// The durable followers of an open database.
#[derive(Default)]
pub(crate) struct FollowerBoard {
    seats: Mutex<Seats>,
    /// Whether no follower may start any more.
    is_closing: AtomicBool,
    /// Whether followers that are still at work are to give up.
    gives_up: AtomicBool,
    /// Whether followers may no longer touch files.
    are_closed: RwLock<bool>,
    /// Held while the file of a follower's standing is replaced.
    standings: Mutex<()>,
    /// Those that the last clean-up found to be lost.
    lost: Mutex<BTreeSet<(FollowerKind, String)>>,
    /// The bytes of segments that stay for followers alone, as of the last clean-up.
    held_bytes: AtomicU64,
}

impl FollowerBoard {
    /// Takes the seat of that name; `None` if somebody has it, or the database is being closed.
    pub(crate) fn take(&self, kind: FollowerKind, name: &str) -> Option<Arc<Seat>> {
        let mut seats = lock(&self.seats);
        // This is set under the same lock: whoever has a seat before is asked to stop.
        if self.is_closing.load(Ordering::SeqCst) {
            return None;
        }
        let key = (kind, Arc::<str>::from(name));
        if seats.contains_key(&key) {
            return None;
        }
        let seat = Arc::new(Seat::new(kind, name));
        seats.insert(key, seat.clone());
        Some(seat)
    }

    /// Gives the seat back. The thread has ended, or was never started.
    pub(crate) fn leave(&self, seat: &Seat) {
        lock(&self.seats).remove(&(seat.kind, seat.name.clone()));
        seat.end();
    }

    /// Returns the seat of a follower that runs.
    pub(crate) fn find(&self, kind: FollowerKind, name: &str) -> Option<Arc<Seat>> {
        lock(&self.seats).get(&(kind, name.into())).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Seat>> {
        lock(&self.seats).values().cloned().collect()
    }

    /// Whether the database is being closed, or was closed.
    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::SeqCst)
    }

    /// Set when followers that are still at work are to give up.
    pub(crate) fn gives_up(&self) -> &AtomicBool {
        &self.gives_up
    }

    /// Whether the calling thread is that of one of these followers.
    pub(crate) fn has_this_thread(&self) -> bool {
        let this = Some(std::thread::current().id());
        self.all().iter().any(|seat| lock(&seat.inner).thread == this)
    }

    /// Lets a follower touch files while the guard lives; `None` after the database was closed.
    pub(crate) fn files(&self) -> Option<RwLockReadGuard<'_, bool>> {
        let are_closed = self.are_closed.read().unwrap_or_else(PoisonError::into_inner);
        if *are_closed { None } else { Some(are_closed) }
    }

    /// Lets one caller at a time replace standings.
    pub(crate) fn standings(&self) -> std::sync::MutexGuard<'_, ()> {
        lock(&self.standings)
    }

    /// Notes which followers are lost.
    pub(crate) fn set_lost(&self, lost: BTreeSet<(FollowerKind, String)>) {
        *lock(&self.lost) = lost;
    }

    /// Notes that a follower has a durable position from which it can go on.
    pub(crate) fn is_not_lost(&self, seat: &Seat) {
        lock(&self.lost).remove(&(seat.kind, seat.name.to_string()));
    }

    pub(crate) fn set_held_bytes(&self, bytes: u64) {
        self.held_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Returns how many followers run, and how many are lost, whether they run or not.
    pub(crate) fn count(&self) -> (usize, usize) {
        let (all, mut lost) = (self.all(), lock(&self.lost).clone());
        for seat in &all {
            if matches!(seat.status().state, FollowerState::Lost { .. }) {
                lost.insert((seat.kind, seat.name.to_string()));
            }
        }
        (all.len(), lost.len())
    }

    /// Ends all followers; see the module's documentation. `wake` wakes those who wait for
    /// commands.
    pub(crate) fn close(&self, wake: impl Fn()) {
        if self.files().is_none() {
            return; // they were waited for already
        }
        let all: Vec<_> = {
            let seats = lock(&self.seats);
            self.is_closing.store(true, Ordering::SeqCst);
            seats.values().cloned().collect()
        };
        all.iter().for_each(|seat| seat.ask_to_stop());
        wake();
        let deadline = Instant::now().checked_add(CLOSE_WAITS);
        all.iter().for_each(|seat| seat.wait_until_ended(deadline));
        self.gives_up.store(true, Ordering::SeqCst);
        *self.are_closed.write().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

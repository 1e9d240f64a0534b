//! Owns the handle with which a program reads a database that it must not change. Knows nothing of
//! files.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use super::progress::Ask;
use super::reading::Reading;
use super::state::State;
use super::thread::{Order, run};
use crate::engine::{View, on_engine_thread};
use crate::error::Error;
use crate::execute_error::WaitError;
use crate::files::{DatabaseId, Directory};
use crate::model::Model;
use crate::options::Options;
use crate::process::{FreedDeep, OpeningProcess};
use crate::recovery::{LoadingThread, ProgressCallback, RecoveryReport};
use crate::storage::Storage;

/// How many orders may wait. Further callers wait to give theirs.
const ORDERS: usize = 16;
/// The shortest and the longest pause of a caller who waits while nothing follows.
const WAIT_PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));

/// A handle to a database that is only read, and that another process may have open;
/// see [`Database::open_read_only`](crate::Database::open_read_only).
///
/// It is cheap to clone, and any number of threads may use it. Dropping the last handle ends its
/// thread; views that were taken stay.
pub struct ReadOnly<M: Model> {
    inner: Arc<Inner<M>>,
}

struct Inner<M: Model> {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    database: DatabaseId,
    directory: Directory,
    report: RecoveryReport,
    process: OpeningProcess,
    /// This is the last field, because the thread shares it and must end first.
    state: FreedDeep<State<M>>,
}

/// Opens the database at the absolute path `root`.
pub(crate) fn open<M: Model>(
    storage: Arc<dyn Storage>,
    root: &Path,
    options: Options,
    progress: &mut ProgressCallback,
) -> Result<ReadOnly<M>, Error> {
    let _span = trace_span!(INFO, "open read-only", path = root.display());
    let thread = LoadingThread::start_named("prevalence-follower", root)?;
    let directory = Directory::at(root);
    let opened = {
        let directory = directory.clone();
        let load = move |progress: &mut (dyn FnMut(_) + Send)| {
            let mut tell = |told| progress(told);
            let mut ask = Ask { options: &options, progress: &mut tell };
            Reading::open(storage, directory, &mut ask)
        };
        thread.run(load, progress)
    };
    let (reading, report) = opened?;
    let (database, state) = (reading.database, reading.copy.state.clone());
    let (orders, inbox) = bounded(ORDERS);
    let thread = thread.go_on_with(move || run(reading, &inbox));
    Ok(ReadOnly {
        inner: Arc::new(Inner {
            orders: Some(orders),
            thread: Some(thread),
            database,
            directory,
            report,
            process: OpeningProcess::this(),
            state: FreedDeep::new(state),
        }),
    })
}

impl<M: Model> ReadOnly<M> {
    /// Reads the newest version that was read from the files. Takes no lock, and never waits: not
    /// for a refresh, and not for the program that writes.
    ///
    /// The memory of the version cannot be freed while the reader runs. Use [`view`](Self::view)
    /// for anything that takes long.
    pub fn query<R>(&self, reader: impl FnOnce(&M) -> R) -> R {
        self.inner.state.published.read(|version| reader(&version.model))
    }

    /// Pins the newest version that was read from the files, and returns it.
    #[must_use]
    pub fn view(&self) -> View<M> {
        self.inner.state.published.view()
    }

    /// Returns the sequence of the newest readable version. It never goes back.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.inner.state.published.sequence()
    }

    /// Reads what the files hold that is new and durable. Returns the newest sequence. Readers go
    /// on meanwhile, and see the steps of a long refresh.
    ///
    /// # Errors
    /// After every error the last version stays readable, and the next refresh tries again.
    ///
    /// - [`Error::UnknownTag`], [`Error::RenumberedTag`], [`Error::CommandChanged`],
    ///   [`Error::CommandUndecodable`] and [`Error::ReplayDiverged`] if this program cannot apply
    ///   a command, because another release of it has written that. The commands before are
    ///   applied. [`Error::WrongVersion`] and [`Error::UnsupportedFormat`] in the same way.
    /// - [`Error::HistoryRewritten`] if a [`purge`](crate::purge()) has rewritten commands that
    ///   were read, or an older copy stands in the place of the database. Open it again.
    /// - [`Error::Missing`] if the directory or a file in it is gone, and [`Error::ForeignFile`] if
    ///   another database stands in its place. [`Error::PurgeUnfinished`] while a purge, or a
    ///   backup into the directory, is interrupted. [`Error::Corrupt`] for damage, and
    ///   [`Error::Io`] if a file cannot be read.
    /// - [`Error::Poisoned`] if the model's `Clone` or `Drop` panics.
    /// - [`Error::Reentrant`] from within a command's `apply`, and [`Error::Forked`] in the child
    ///   of a fork.
    pub fn refresh(&self) -> Result<u64, Error> {
        if self.inner.process.is_forked() {
            return Err(Error::Forked);
        }
        if on_engine_thread() {
            return Err(Error::Reentrant);
        }
        let (reply, answer) = bounded(1);
        self.inner.order(Order::Look(reply))?;
        answer.recv().map_err(|_| Error::Stopped)?
    }

    /// Refreshes in the background from now on, until the last handle is dropped or
    /// [`stop_following`](Self::stop_following) is called. A thread looks at the files after each
    /// pause: of 1 ms while there is something new, and longer each time when there is not, up to
    /// `longest_pause`. So a busy writer is some milliseconds ahead, and the first command after an
    /// idle time is seen after `longest_pause` at most. 10 ms cost one or two hundredths of a core
    /// while the writer is idle, 50 ms a fifth of that.
    ///
    /// A refresh that fails is tried again, at last once a second; [`failure`](Self::failure) says
    /// why it failed. A second call changes the pause.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if the pause is zero; [`Error::Reentrant`] and [`Error::Forked`] as
    /// in [`refresh`](Self::refresh).
    pub fn follow(&self, longest_pause: Duration) -> Result<(), Error> {
        if longest_pause.is_zero() {
            return Err(Error::InvalidOption {
                option: "follow",
                value: "a pause of zero".to_owned(),
                constraint: "it must be longer than zero, or a core would be busy for nothing"
                    .to_owned(),
            });
        }
        self.order_to_follow(Some(longest_pause))
    }

    /// Ends what [`follow`](Self::follow) has begun. [`refresh`](Self::refresh) still works.
    ///
    /// # Errors
    /// [`Error::Reentrant`] and [`Error::Forked`] as in [`refresh`](Self::refresh).
    pub fn stop_following(&self) -> Result<(), Error> {
        self.order_to_follow(None)
    }

    fn order_to_follow(&self, longest_pause: Option<Duration>) -> Result<(), Error> {
        if self.inner.process.is_forked() {
            return Err(Error::Forked);
        }
        if on_engine_thread() {
            return Err(Error::Reentrant);
        }
        self.inner.order(Order::Follow(longest_pause))
    }

    /// Waits until the readable version has reached `sequence`. If nothing
    /// [follows](Self::follow), this call refreshes.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] after the timeout. [`WaitError::FollowerStopped`] if a refresh fails
    /// meanwhile. [`WaitError::Reentrant`] from within a command's `apply`, and
    /// [`WaitError::Forked`] in the child of a fork.
    pub fn wait_for(&self, sequence: u64, timeout: Duration) -> Result<(), WaitError> {
        if self.inner.process.is_forked() {
            return Err(WaitError::Forked);
        }
        if on_engine_thread() {
            return Err(WaitError::Reentrant);
        }
        // A deadline beyond the clock's range never comes.
        let deadline = Instant::now().checked_add(timeout);
        let (mut pause, longest) = WAIT_PAUSES;
        while self.sequence() < sequence {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left = left.unwrap_or(Duration::MAX);
            if self.inner.state.is_following() {
                self.inner.state.wait_while_following(sequence, left)?;
                continue;
            }
            let reached = self.refresh().map_err(|error| WaitError::FollowerStopped {
                wanted: sequence,
                reached: self.sequence(),
                reason: error.to_string().into(),
            })?;
            if reached < sequence && left.is_zero() {
                return Err(WaitError::TimedOut { wanted: sequence, reached });
            }
            if reached < sequence {
                std::thread::sleep(pause.min(left));
                pause = pause.saturating_mul(2).min(longest);
            }
        }
        Ok(())
    }

    /// Returns when the last refresh began that has succeeded. The readable version holds
    /// everything that the files stated to be durable at that time.
    #[must_use]
    pub fn refreshed_at(&self) -> Instant {
        self.inner.state.looked_at()
    }

    /// Returns whether it [follows](Self::follow) the database.
    #[must_use]
    pub fn is_following(&self) -> bool {
        self.inner.state.is_following()
    }

    /// Returns why the last refresh has failed, in the background or not; `None` if it has
    /// succeeded. [`refresh`](Self::refresh) returns the error itself.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<str>> {
        self.inner.state.failure()
    }

    /// Returns what the open found.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.inner.report
    }

    /// Returns the random id of the database, which all of its files repeat.
    #[must_use]
    pub fn id(&self) -> DatabaseId {
        self.inner.database
    }

    /// Returns the directory of the database as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.directory.root
    }
}

impl<M: Model> Clone for ReadOnly<M> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<M: Model> fmt::Debug for ReadOnly<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadOnly")
            .field("sequence", &self.sequence())
            .field("is_following", &self.is_following())
            .field("failure", &self.failure())
            .finish_non_exhaustive()
    }
}

impl<M: Model> Inner<M> {
    fn order(&self, order: Order) -> Result<(), Error> {
        // The channel is taken only when this is dropped.
        let orders = self.orders.as_ref().ok_or(Error::Stopped)?;
        orders.send(order).map_err(|_| Error::Stopped)
    }
}

impl<M: Model> Drop for Inner<M> {
    fn drop(&mut self) {
        if self.process.is_forked() {
            // The child has no such thread, and a lock may stay locked for ever.
            std::mem::forget((self.orders.take(), self.thread.take(), self.state.clone()));
            return;
        }
        self.state.stop();
        self.orders = None;
        let Some(thread) = self.thread.take() else { return };
        // A model may hold a handle, and then its own thread drops it.
        if thread.thread().id() != std::thread::current().id() {
            // A panic there was told as a failure of its look.
            thread.join().ok();
        }
    }
}

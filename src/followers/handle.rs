//! Owns what a program holds of a follower that runs. Knows nothing of what the follower does.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;

use super::keeper::Projected;
use super::projection::Projection;
use crate::engine::{
    FollowerSeat, FollowerState, FollowerStatus, Order, on_engine_thread, on_follower_thread,
};
use crate::error::Error;
use crate::events::Followed;
use crate::execute_error::WaitError;
use crate::files::FollowerDirectory;
use crate::model::{Model, system_time};

/// A durable follower that runs: a [`Sink`](crate::Sink) or a [`Reactor`](crate::Reactor), or the
/// part of a [`ProjectionHandle`] that all of them share.
///
/// Dropping it closes the follower, and waits until that has ended: a call of the user's code is
/// not interrupted. The handle does not keep the database open.
pub struct FollowerHandle<M: Model> {
    seat: Arc<FollowerSeat>,
    followed: Followed<M>,
    own: FollowerDirectory,
}

/// A command that a follower could not work on, and that was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The command's sequence.
    pub sequence: u64,
    /// When it was put aside.
    pub time: SystemTime,
    /// How often it was tried before.
    pub attempts: u32,
    /// Why the last try failed. At most 4 KiB are kept.
    pub reason: String,
}

impl<M: Model> FollowerHandle<M> {
    pub(super) fn new(
        seat: Arc<FollowerSeat>,
        followed: Followed<M>,
        own: FollowerDirectory,
    ) -> Self {
        Self { seat, followed, own }
    }

    fn check_process(&self) -> Result<(), Error> {
        if self.followed.process.is_forked() { Err(Error::Forked) } else { Ok(()) }
    }

    /// Returns the name under which it was started.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.seat.name
    }

    /// Returns what it does and where it stands.
    ///
    /// # Errors
    /// [`Error::Forked`] in the child of a fork, where it does not run.
    pub fn status(&self) -> Result<FollowerStatus, Error> {
        self.check_process()?;
        Ok(self.seat.status())
    }

    /// Returns how many durable commands it has not worked on.
    ///
    /// # Errors
    /// [`Error::Forked`] in the child of a fork.
    pub fn lag(&self) -> Result<u64, Error> {
        Ok(self.followed.reached().saturating_sub(self.status()?.position))
    }

    /// Waits until it has worked on the command with this sequence, and returns its position then.
    /// So a caller reads its own writes: it waits for the sequence of its command.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`]; [`WaitError::FollowerStopped`] if it has stopped, is lost, or has
    /// ended; [`WaitError::Forked`] in the child of a fork; [`WaitError::Reentrant`] if it would
    /// wait inside a command's `apply`.
    pub fn wait_for(&self, sequence: u64, timeout: Duration) -> Result<u64, WaitError> {
        if self.followed.process.is_forked() {
            return Err(WaitError::Forked);
        }
        let is_over = |status: &FollowerStatus| {
            !matches!(status.state, FollowerState::Running | FollowerState::Retrying { .. })
        };
        // It would wait for itself.
        let is_inside = on_engine_thread() || self.seat.is_this_thread();
        let timeout = if is_inside { Duration::ZERO } else { timeout };
        let (status, _) =
            self.seat.wait_for(timeout, |status| status.position >= sequence || is_over(status));
        let (wanted, reached) = (sequence, status.position);
        if reached >= wanted {
            return Ok(reached);
        }
        if is_over(&status) {
            let reason = match status.state {
                FollowerState::Stopped { reason, .. } => reason,
                FollowerState::Lost { oldest } => {
                    format!("it is lost, because commands are stored only from {oldest} on").into()
                }
                _ => "it was closed".into(),
            };
            return Err(WaitError::FollowerStopped { wanted, reached, reason });
        }
        if on_engine_thread() {
            Err(WaitError::Reentrant)
        } else {
            Err(WaitError::TimedOut { wanted, reached })
        }
    }

    /// Lets it try again at once, after it has stopped or while it pauses.
    ///
    /// # Errors
    /// [`Error::Stopped`] if it has ended; [`Error::Forked`]; [`Error::Reentrant`] if the
    /// thread of a follower calls this, or a command's `apply`.
    pub fn retry(&self) -> Result<(), Error> {
        self.order(Order::Retry)
    }

    /// Puts the command aside at which it has stopped, as a [`DeadLetter`], and lets it go on
    /// behind that command. This is durable on return.
    ///
    /// # Errors
    /// [`Error::FollowerRefuses`] if it has not stopped at a command, or is a sink, which works on
    /// whole batches; the errors of [`checkpoint`](Self::checkpoint).
    pub fn skip(&self) -> Result<(), Error> {
        self.order(Order::Skip)
    }

    /// Makes its position durable now.
    ///
    /// # Errors
    /// [`Error::Io`] and other errors of writing a file; [`Error::Stopped`] if it has ended;
    /// [`Error::Forked`]; [`Error::Reentrant`] if its own thread calls this.
    pub fn checkpoint(&self) -> Result<(), Error> {
        self.order(Order::Checkpoint)
    }

    /// Returns the commands that were put aside, in their order.
    ///
    /// # Errors
    /// [`Error::Corrupt`] and [`Error::Io`] if they cannot be read; [`Error::Forked`].
    pub fn dead_letters(&self) -> Result<Vec<DeadLetter>, Error> {
        self.check_process()?;
        let standing = self.own.read(&*self.followed.storage)?;
        let build = standing.map(|it| it.next.unwrap_or(it.current)).unwrap_or_default();
        let made = build.letters.into_iter().map(|letter| DeadLetter {
            sequence: letter.sequence,
            time: system_time(letter.time_ns),
            attempts: letter.attempts,
            reason: letter.reason,
        });
        Ok(made.collect())
    }

    /// Works on a command again that was put aside, after all that it has worked on since. If that
    /// succeeds, the dead letter is removed.
    ///
    /// # Errors
    /// [`Error::FollowerRefuses`] if there is no such dead letter, or if it fails again: then the
    /// dead letter stays. Otherwise the errors of [`checkpoint`](Self::checkpoint).
    pub fn replay(&self, sequence: u64) -> Result<(), Error> {
        self.order(Order::Replay(sequence))
    }

    /// Lets it begin anew. This is the way out of [`FollowerState::Lost`].
    ///
    /// A projection is built from the first command on, or from the model if history does not reach
    /// back that far; see [`Projection::from_model`]. Readers see the new value from its beginning,
    /// and the checkpoint of the old one is kept until the new one has caught up. A reactor goes on
    /// where its options let a new one [begin](crate::FollowerOptions::begin). A sink goes on where
    /// its own database says: empty its tables and its position there before.
    ///
    /// # Errors
    /// [`Error::HistoryTruncated`] if history does not reach back that far; then nothing has
    /// changed. Otherwise the errors of [`checkpoint`](Self::checkpoint).
    pub fn rebuild(&self) -> Result<(), Error> {
        self.order(Order::Rebuild)
    }

    /// Ends it, and waits for that. A call of the user's code is not interrupted. Closing the
    /// database ends all followers, too.
    ///
    /// # Errors
    /// [`Error::FollowerRefuses`] if its position could not be made durable: the next start goes on
    /// from an earlier one. [`Error::Forked`]; [`Error::Reentrant`] if the thread of a follower or
    /// a command's `apply` calls this: it ends nevertheless, a little later.
    pub fn close(self) -> Result<(), Error> {
        self.end()
    }

    fn end(&self) -> Result<(), Error> {
        self.check_process()?; // a thread of the parent may have held the locks
        self.seat.ask_to_stop();
        self.followed.shared.published.wake_waiting();
        if on_engine_thread() || on_follower_thread() {
            return Err(Error::Reentrant);
        }
        self.seat.wait_until_ended(None);
        let (kind, name) = (self.seat.kind, self.seat.name.to_string());
        match self.seat.status().checkpoint_failure {
            None => Ok(()),
            Some(why) => Err(Error::FollowerRefuses {
                kind,
                name,
                reason: format!("its position could not be made durable: {why}"),
            }),
        }
    }

    fn order(&self, order: Order) -> Result<(), Error> {
        self.check_process()?;
        // Two followers that wait for each other would wait for ever.
        if on_engine_thread() || on_follower_thread() {
            return Err(Error::Reentrant);
        }
        self.seat.order(order, || self.followed.shared.published.wake_waiting())
    }
}

impl<M: Model> Drop for FollowerHandle<M> {
    fn drop(&mut self) {
        self.end().ok(); // `close` tells
    }
}

impl<M: Model> fmt::Debug for FollowerHandle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FollowerHandle")
            .field("kind", &self.seat.kind)
            .field("name", &self.seat.name)
            .finish_non_exhaustive()
    }
}

/// A [`Projection`] that runs. What every follower offers, such as `status` and `wait_for`, it
/// offers as a [`FollowerHandle`].
pub struct ProjectionHandle<M: Model, P> {
    handle: FollowerHandle<M>,
    published: Arc<ArcSwap<Projected<P>>>,
}

impl<M: Model, P: Projection<M>> ProjectionHandle<M, P> {
    pub(super) fn new(handle: FollowerHandle<M>, published: Arc<ArcSwap<Projected<P>>>) -> Self {
        Self { handle, published }
    }

    /// Reads the newest version. It takes no lock, and waits for nothing.
    pub fn query<R>(&self, read: impl FnOnce(&P) -> R) -> R {
        read(&self.published.load().value)
    }

    /// Ends it; see [`FollowerHandle::close`]. Views live on.
    ///
    /// # Errors
    /// Those of [`FollowerHandle::close`].
    pub fn close(self) -> Result<(), Error> {
        self.handle.close()
    }

    /// Pins the newest version.
    #[must_use]
    pub fn view(&self) -> ProjectionView<P> {
        ProjectionView { projected: self.published.load_full() }
    }
}

impl<M: Model, P> Deref for ProjectionHandle<M, P> {
    type Target = FollowerHandle<M>;

    fn deref(&self) -> &FollowerHandle<M> {
        &self.handle
    }
}

impl<M: Model, P> fmt::Debug for ProjectionHandle<M, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

/// A pinned version of a projection. It does not change, and keeps what it holds in memory.
pub struct ProjectionView<P> {
    projected: Arc<Projected<P>>,
}

impl<P> ProjectionView<P> {
    /// Returns the sequence of the last command that this version holds.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.projected.position
    }
}

impl<P> Deref for ProjectionView<P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.projected.value
    }
}

impl<P> Clone for ProjectionView<P> {
    fn clone(&self) -> Self {
        Self { projected: self.projected.clone() }
    }
}

impl<P> fmt::Debug for ProjectionView<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProjectionView").field("sequence", &self.sequence()).finish_non_exhaustive()
    }
}

//! Owns a follower's way through a database: from the files to the batches that were just
//! committed, and back to the files if it falls behind. Knows nothing of what it is followed for.
//!
//! ```text
//!   recent batches   hold the next sequence?   yes -> take the batch
//!                                              no  -> read files up to the newest version,
//!                                                     then ask again
//! ```
//!
//! Only sequences up to the newest durable version are given. So a file is never read beyond what
//! the journal has confirmed, and a follower that reads files while batches pass misses none: what
//! is not among the recent batches is in the files.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_core::Stream;

use super::derived::Derived;
use super::{Followed, Recorded};
use crate::engine::{LONG_WAIT, Lookup, Shared, on_engine_thread};
use crate::error::Error;
use crate::execute_error::WaitError;
use crate::history::{Frames, HistoryRecord, RecordOrigin, StoredRecords, check_frame};
use crate::journal::{Bookmark, Records};
use crate::model::Model;

/// Where a [`Subscription`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum From {
    /// With the first command that was ever accepted.
    Beginning,
    /// With the command behind the one with this sequence. 0 is the same as `Beginning`.
    After(u64),
    /// With the next command that becomes durable.
    Now,
}

/// Every accepted command with its events, one by one, in the order of their sequences; see
/// [`Database::subscribe`](crate::Database::subscribe).
///
/// It is an iterator that waits for the next command, and a [`Stream`] that needs no runtime. After
/// the database was closed, it gives what was accepted before, and then ends. It ends after an
/// error, too.
///
/// The database never waits for a subscription. Who is slow reads from the files what is no longer
/// in memory. So a subscription takes at most 8 MiB in the engine, for all of them together, and
/// one batch of its own. Under [`Events::Derived`](crate::Events::Derived) it also has a model of
/// its own, to which it applies each command. Reading files happens in the call that asks for the
/// next command, also in that of a stream: on an executor that must not be blocked, run a
/// subscription that begins far back on a thread of its own until it has caught up.
pub struct Subscription<M: Model> {
    followed: Followed<M>,
    /// The sequence that is wanted next.
    next: u64,
    /// Up to here commands were readable and durable when it looked last.
    reached: u64,
    batch: Option<Batch<M>>,
    /// The files that are read, if it is behind.
    frames: Option<Frames>,
    /// Where it has left the files: if it falls behind again, it goes on there.
    bookmark: Option<Bookmark>,
    /// The file whose table of names was checked last.
    checked: Option<Arc<RecordOrigin<M>>>,
    /// What the recent batches come from.
    live: Arc<RecordOrigin<M>>,
    derived: Derived<M>,
    filter: Option<Filter<M>>,
    /// Its number among the tasks that wait.
    task: u64,
    has_ended: bool,
}

type Filter<M> = Box<dyn FnMut(&Recorded<M>) -> bool + Send>;

/// Records of which some are not given yet.
struct Batch<M: Model> {
    stored: Arc<StoredRecords<M>>,
    /// Where the next record begins, and its sequence.
    at: usize,
    sequence: u64,
}

/// Whether there is a next command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Given,
    NotYet,
    Ended,
}

impl<M: Model> Subscription<M> {
    pub(crate) fn new(followed: Followed<M>, from: From) -> Result<Self, Error> {
        let recent = &followed.shared.recent_batches;
        recent.join();
        let next = match from {
            From::Beginning => 1,
            From::After(sequence) => sequence.saturating_add(1),
            From::Now => followed.reached() + 1,
        };
        let live = RecordOrigin::of_this_program(followed.live_file());
        let task = followed.shared.published.tasks.number();
        let mut made = Self {
            reached: followed.reached(),
            followed,
            next,
            batch: None,
            frames: None,
            bookmark: None,
            checked: None,
            live,
            derived: Derived::new(),
            filter: None,
            task,
            has_ended: false,
        };
        // What is no longer stored is told at once.
        made.find_batch()?;
        if made.batch.as_ref().is_some_and(|batch| batch.stored.origin.derives_events()) {
            made.derived.begin(&made.followed, made.next)?;
        }
        Ok(made)
    }

    /// Gives only those commands for which `wanted` returns true. It is called once for each, in
    /// their order. A second filter takes the place of the first one. If it panics, the
    /// subscription has ended.
    #[must_use]
    pub fn only(mut self, wanted: impl FnMut(&Recorded<M>) -> bool + Send + 'static) -> Self {
        self.filter = Some(Box::new(wanted));
        self
    }

    /// Returns the sequence of the next command that it looks at. All commands before were given,
    /// or were not wanted.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Returns the next command if it is durable already. `None` says that there is none now; or,
    /// if [`has_ended`](Self::has_ended), that none will come.
    ///
    /// # Errors
    /// [`Error::HistoryTruncated`] if the next command is no longer stored; it says where history
    /// begins. [`Error::EventsUndecodable`] if the program cannot read its events;
    /// [`Error::EventsNotDerivable`] and [`Error::ReplayDiverged`] if they were not stored and a
    /// replay cannot tell them.
    /// [`Error::Poisoned`] if the database has failed, after the last durable command was given.
    /// Otherwise the errors of [`History::records`](crate::History::records).
    pub fn try_next(&mut self) -> Result<Option<Recorded<M>>, Error> {
        let mut given = None;
        self.step(&mut given)?;
        Ok(given)
    }

    /// Returns the next command, and waits for it at most so long. `None` says that the time has
    /// passed; or, if [`has_ended`](Self::has_ended), that no command will come.
    ///
    /// # Errors
    /// The errors of [`try_next`](Self::try_next), and [`Error::Reentrant`] if it would have to
    /// wait inside a command's `apply`.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Recorded<M>>, Error> {
        self.next_unless(timeout, &|| false)
    }

    /// Does the same, and gives up when `is_wanted` returns true. Whoever changes what that looks
    /// at wakes the threads that wait for a version.
    pub(crate) fn next_unless(
        &mut self,
        timeout: Duration,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Recorded<M>>, Error> {
        // The clock is read only if there is something to wait for.
        let (mut waits_until, mut given) = (None, None);
        loop {
            if self.step(&mut given)? != Next::NotYet {
                return Ok(given);
            }
            // A deadline beyond the clock's range is none.
            let deadline = *waits_until.get_or_insert_with(|| Instant::now().checked_add(timeout));
            let left =
                deadline.map_or(LONG_WAIT, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() || is_wanted() {
                return Ok(None);
            }
            if on_engine_thread() {
                self.has_ended = true;
                return Err(Error::Reentrant);
            }
            let Shared { published, status, .. } = &**self.followed.shared;
            let reached = || if is_wanted() { u64::MAX } else { self.followed.reached() };
            match published.wait_until_reached(self.next, &reached, left, status) {
                Err(WaitError::TimedOut { .. }) if deadline.is_some() => return Ok(None),
                // The next step finds out what happened.
                _ => {}
            }
        }
    }

    /// Returns whether no command will come any more: the database was closed and everything was
    /// given, or there was an error.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Puts the next command into `given`: a command is large, so it is moved as little as
    /// possible.
    fn step(&mut self, given: &mut Option<Recorded<M>>) -> Result<Next, Error> {
        if self.has_ended {
            return Ok(Next::Ended);
        }
        let next = self.try_step(given);
        self.has_ended = matches!(next, Ok(Next::Ended) | Err(_));
        next
    }

    #[inline]
    fn try_step(&mut self, given: &mut Option<Recorded<M>>) -> Result<Next, Error> {
        loop {
            if self.followed.process.is_forked() {
                return Err(Error::Forked);
            }
            if self.next > self.reached {
                // The order counts: what was reached before the end must still be given.
                let is_over = self.followed.is_over();
                self.reached = self.followed.reached();
                if self.next > self.reached {
                    return match self.followed.shared.status.poisoned() {
                        _ if !is_over => Ok(Next::NotYet),
                        Some(poisoned) => Err(Error::Poisoned(poisoned.clone())),
                        None => Ok(Next::Ended),
                    };
                }
            }
            let recorded = given.insert(self.take()?);
            let Some(wanted) = &mut self.filter else { return Ok(Next::Given) };
            // If it panics, nobody knows whether the command is wanted.
            self.has_ended = true;
            let is_wanted = wanted(recorded);
            self.has_ended = false;
            if is_wanted {
                return Ok(Next::Given);
            }
            *given = None;
        }
    }

    /// Takes the next command, which is durable.
    #[inline]
    fn take(&mut self) -> Result<Recorded<M>, Error> {
        self.find_batch()?;
        let batch = self.batch.as_mut().expect("a durable command is in a batch");
        let sequence = self.next;
        if batch.sequence != sequence {
            return Err(batch.no_record());
        }
        let read = HistoryRecord::read(&batch.stored, sequence, batch.at);
        let (command, end) = read.ok_or_else(|| batch.no_record())?;
        batch.at = end;
        batch.sequence += 1;
        self.next += 1;
        if batch.at >= batch.stored.bytes.len() {
            self.batch = None;
        }
        if command.has_derived_events() {
            let events = self.derived.events(&self.followed, &command)?;
            return Ok(Recorded::with(command, events));
        }
        Recorded::of(command)
    }

    /// Finds the batch with the next command, if that is durable.
    fn find_batch(&mut self) -> Result<(), Error> {
        while self.batch.is_none() && self.next <= self.reached {
            if let Lookup::Found(found) = self.followed.shared.recent_batches.find(self.next) {
                self.leave_files();
                let payload = found.payload.clone();
                self.batch = Some(Batch::new(&self.live, payload, found.first_sequence));
            } else {
                self.read_batch()?;
            }
            if let Some(batch) = &mut self.batch {
                batch.skip_to(self.next)?;
            }
        }
        Ok(())
    }

    /// Closes the files. It keeps only the place: an open file that is removed would keep its room.
    fn leave_files(&mut self) {
        if let Some(frames) = self.frames.take() {
            self.bookmark = frames.bookmark().or(self.bookmark);
        }
    }

    /// Reads the next batch from the files. There may be none: then these files end before it, and
    /// the next ones do not.
    fn read_batch(&mut self) -> Result<(), Error> {
        let frames = match &mut self.frames {
            Some(frames) => frames,
            none => {
                let files = self.followed.files();
                none.insert(files.frames_behind(self.bookmark, self.next, None)?)
            }
        };
        if !frames.advance()? {
            self.leave_files();
            return Ok(());
        }
        let Some((file, frame)) = frames.frame() else { return Ok(()) };
        check_frame(file, &frame)?;
        let origin = match &mut self.checked {
            Some(known) if known.is(file) => known,
            other => {
                let changed = self.followed.files().check_types::<M>(&file.path, &file.header)?;
                other.insert(RecordOrigin::new(file.clone(), changed))
            }
        };
        self.batch = Some(Batch::new(origin, frame.payload.into(), frame.header.first_sequence));
        Ok(())
    }
}

impl<M: Model> Batch<M> {
    fn new(origin: &Arc<RecordOrigin<M>>, bytes: Arc<[u8]>, sequence: u64) -> Self {
        let stored = Arc::new(StoredRecords { origin: origin.clone(), bytes });
        Self { stored, at: 0, sequence }
    }

    /// Goes to the record with this sequence.
    fn skip_to(&mut self, sequence: u64) -> Result<(), Error> {
        while self.sequence < sequence {
            let rest = self.stored.bytes.get(self.at..).unwrap_or(&[]);
            let record = Records::new(rest).next().and_then(Result::ok);
            self.at += record.ok_or_else(|| self.no_record())?.bytes();
            self.sequence += 1;
        }
        Ok(())
    }

    fn no_record(&self) -> Error {
        let (expected, found) = ("a batch of whole records", "bytes that are not a record");
        Error::corrupt(self.stored.path(), 0, expected, found)
    }
}

impl<M: Model> Iterator for Subscription<M> {
    type Item = Result<Recorded<M>, Error>;

    /// Waits for the next command. `None` after the end of the database, or after an error.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.next_timeout(Duration::MAX) {
                Ok(Some(recorded)) => return Some(Ok(recorded)),
                Ok(None) if self.has_ended => return None,
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl<M: Model> Stream for Subscription<M> {
    type Item = Result<Recorded<M>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut given = None;
        for has_waker in [false, true] {
            match self.step(&mut given) {
                Ok(Next::Given | Next::Ended) => return Poll::Ready(given.map(Ok)),
                Err(error) => return Poll::Ready(Some(Err(error))),
                Ok(Next::NotYet) if has_waker => {}
                // It looks once more, because something may have come before the waker was set.
                Ok(Next::NotYet) => {
                    self.followed.shared.published.tasks.set(self.task, cx.waker());
                }
            }
        }
        Poll::Pending
    }
}

impl<M: Model> Unpin for Subscription<M> {}

impl<M: Model> Drop for Subscription<M> {
    fn drop(&mut self) {
        if self.followed.process.is_forked() {
            return; // a thread of the parent may have held these locks
        }
        self.followed.shared.recent_batches.leave();
        self.followed.shared.published.tasks.forget(self.task);
    }
}

impl<M: Model> fmt::Debug for Subscription<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("next_sequence", &self.next)
            .field("has_ended", &self.has_ended)
            .finish_non_exhaustive()
    }
}

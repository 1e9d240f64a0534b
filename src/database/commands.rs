//! Owns how a caller gives a command to the database: executes it, or submits it and waits later.
//! Knows nothing of what becomes of it.

use super::Database;
use crate::codec::EncodeFailure;
use crate::engine::{Pending, Refusal, Submission, Submitted, on_engine_thread, submission_to};
use crate::execute_error::{ExecuteError, TrySubmitError};
use crate::model::{LARGEST_METADATA_BYTES, Listed, Metadata, Model};

#[expect(clippy::type_complexity, reason = "aliases would hide what a caller gets")]
impl<M: Model> Database<M> {
    /// Executes a command and waits until it is durable, as [`Durability`](crate::Durability)
    /// defines it.
    ///
    /// # Errors
    /// [`ExecuteError::Rejected`] if the command refused. The other variants say why it could not
    /// be executed. After `Poisoned` the command may have left a trace. After every other error of
    /// this call it has left none.
    pub fn execute<C: Listed<M>>(
        &self,
        command: C,
    ) -> Result<C::Output, ExecuteError<C::Rejection>> {
        self.begin(command)?.wait()
    }

    /// Does all of [`execute`](Self::execute) but the wait for another thread, if there is one.
    pub(crate) fn begin<C: Listed<M>>(
        &self,
        command: C,
    ) -> Result<Pending<C::Output, C::Rejection>, ExecuteError<C::Rejection>> {
        let (submission, pending) = self.prepare(&command, &self.metadata)?;
        self.serve_or_queue(submission)?;
        Ok(pending)
    }

    /// Executes a command only if the last accepted command still has this sequence. Then the state
    /// that the caller read before its decision has not changed.
    ///
    /// ```
    /// # use prevalence::{Command, Context, Database, ExecuteError, Model};
    /// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// # struct Seats(Vec<String>);
    /// # impl Model for Seats { type Event = (); }
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Sell(String);
    /// # impl Command<Seats> for Sell {
    /// #     type Output = usize;
    /// #     type Rejection = std::convert::Infallible;
    /// #     fn apply(self, seats: &mut Seats, _: &mut Context<'_, Seats>)
    /// #         -> Result<usize, Self::Rejection> { seats.0.push(self.0); Ok(seats.0.len()) }
    /// # }
    /// # prevalence::commands! { Seats { 1 => Sell } }
    /// # let directory = tempfile::tempdir()?;
    /// # let database = Database::<Seats>::open(directory.path())?;
    /// let seen = database.view(); // a customer looks at it, and takes her time
    /// database.execute(Sell("Ada".to_owned()))?; // another caller is faster
    /// let late = database.execute_if(seen.sequence(), Sell("Grace".to_owned()));
    /// assert!(matches!(late, Err(ExecuteError::Stale { expected: 0, found: 1 })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ExecuteError::Stale`] if another command was accepted since then. In this case the command
    /// was not applied and left no trace. Other errors are those of [`execute`](Self::execute).
    pub fn execute_if<C: Listed<M>>(
        &self,
        sequence: u64,
        command: C,
    ) -> Result<C::Output, ExecuteError<C::Rejection>> {
        let (mut submission, pending) = self.prepare(&command, &self.metadata)?;
        submission.only_at = Some(sequence);
        self.serve_or_queue(submission)?;
        pending.wait()
    }

    /// Executes a command that is journaled with this metadata, whatever the metadata of this
    /// handle is. A [request id](Metadata::request_id) belongs to one command, so give it here.
    ///
    /// ```
    /// # use prevalence::{Command, Context, Database, ExecuteError, Metadata, Model};
    /// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// # struct Counter(u64);
    /// # impl Model for Counter { type Event = (); }
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Add(u64);
    /// # impl Command<Counter> for Add {
    /// #     type Output = u64;
    /// #     type Rejection = std::convert::Infallible;
    /// #     fn apply(self, counter: &mut Counter, _: &mut Context<'_, Counter>)
    /// #         -> Result<u64, Self::Rejection> { counter.0 += self.0; Ok(counter.0) }
    /// # }
    /// # prevalence::commands! { Counter { 1 => Add } }
    /// # let database = Database::<Counter>::in_memory()?;
    /// let asked = Metadata { request_id: "order 7".to_owned(), ..Metadata::default() };
    /// assert_eq!(database.execute_with(&asked, Add(2))?, 2);
    /// // The answer was lost, so the client asks again. Nothing is added twice:
    /// let again = database.execute_with(&asked, Add(2));
    /// assert!(matches!(again, Err(ExecuteError::Duplicate { sequence: 1, .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ExecuteError::Metadata`] if the metadata cannot be journaled. Otherwise those of
    /// [`execute`](Self::execute).
    pub fn execute_with<C: Listed<M>>(
        &self,
        metadata: &Metadata,
        command: C,
    ) -> Result<C::Output, ExecuteError<C::Rejection>> {
        let (submission, pending) = self.prepare(&command, &self.encoded(metadata)?)?;
        self.serve_or_queue(submission)?;
        pending.wait()
    }

    /// Submits a command and returns at once. If the queue is full, it waits for room. The commands
    /// of one thread are applied in the order in which the thread submitted them.
    ///
    /// # Errors
    /// If the command cannot be encoded or is too large, if the database accepts nothing more, or
    /// if the call comes from a command's `apply`. After any error of this call the command has
    /// left no trace. The [`Pending`] reports later failures.
    pub fn submit<C: Listed<M>>(
        &self,
        command: C,
    ) -> Result<Pending<C::Output, C::Rejection>, ExecuteError<C::Rejection>> {
        self.send(self.prepare(&command, &self.metadata)?)
    }

    /// Submits a command as [`submit`](Self::submit) does, to be applied only if the last accepted
    /// command still has this sequence when its turn comes; see [`execute_if`](Self::execute_if).
    ///
    /// # Errors
    /// Those of [`submit`](Self::submit).
    pub fn submit_if<C: Listed<M>>(
        &self,
        sequence: u64,
        command: C,
    ) -> Result<Pending<C::Output, C::Rejection>, ExecuteError<C::Rejection>> {
        let (mut submission, pending) = self.prepare(&command, &self.metadata)?;
        submission.only_at = Some(sequence);
        self.send((submission, pending))
    }

    /// Submits a command as [`submit`](Self::submit) does, with this metadata; see
    /// [`execute_with`](Self::execute_with).
    ///
    /// # Errors
    /// [`ExecuteError::Metadata`], and those of [`submit`](Self::submit).
    pub fn submit_with<C: Listed<M>>(
        &self,
        metadata: &Metadata,
        command: C,
    ) -> Result<Pending<C::Output, C::Rejection>, ExecuteError<C::Rejection>> {
        self.send(self.prepare(&command, &self.encoded(metadata)?)?)
    }

    /// Submits a command like [`submit`](Self::submit), but never waits for room in the queue.
    ///
    /// # Errors
    /// [`TrySubmitError::Busy`] gives the command back if the queue is full.
    /// [`TrySubmitError::Refused`] holds any error of `submit`. After either error the command has
    /// left no trace.
    pub fn try_submit<C: Listed<M>>(
        &self,
        command: C,
    ) -> Result<Pending<C::Output, C::Rejection>, TrySubmitError<C, C::Rejection>> {
        let prepared = self.prepare(&command, &self.metadata);
        self.try_send(prepared.map_err(TrySubmitError::Refused)?, command)
    }

    /// Submits a command as [`try_submit`](Self::try_submit) does, to be applied only at this
    /// sequence; see [`execute_if`](Self::execute_if).
    ///
    /// # Errors
    /// Those of [`try_submit`](Self::try_submit).
    pub fn try_submit_if<C: Listed<M>>(
        &self,
        sequence: u64,
        command: C,
    ) -> Result<Pending<C::Output, C::Rejection>, TrySubmitError<C, C::Rejection>> {
        let prepared = self.prepare(&command, &self.metadata);
        let (mut submission, pending) = prepared.map_err(TrySubmitError::Refused)?;
        submission.only_at = Some(sequence);
        self.try_send((submission, pending), command)
    }

    /// Submits a command as [`try_submit`](Self::try_submit) does, with this metadata; see
    /// [`execute_with`](Self::execute_with).
    ///
    /// # Errors
    /// [`ExecuteError::Metadata`] in [`TrySubmitError::Refused`], and those of
    /// [`try_submit`](Self::try_submit).
    pub fn try_submit_with<C: Listed<M>>(
        &self,
        metadata: &Metadata,
        command: C,
    ) -> Result<Pending<C::Output, C::Rejection>, TrySubmitError<C, C::Rejection>> {
        let encoded = self.encoded(metadata).map_err(TrySubmitError::Refused)?;
        let prepared = self.prepare(&command, &encoded);
        self.try_send(prepared.map_err(TrySubmitError::Refused)?, command)
    }

    /// Waits for room in the queue, and puts a command there.
    fn send<O, R>(
        &self,
        (submission, pending): (Submission<M>, Pending<O, R>),
    ) -> Result<Pending<O, R>, ExecuteError<R>> {
        match self.engine.queue.send(submission) {
            Ok(()) => Ok(pending),
            Err(Refusal::Full | Refusal::Stopped) => Err(self.refused()),
        }
    }

    /// Puts a command into the queue, or gives it back if there is no room.
    fn try_send<C, O, R>(
        &self,
        (submission, pending): (Submission<M>, Pending<O, R>),
        command: C,
    ) -> Result<Pending<O, R>, TrySubmitError<C, R>> {
        match self.engine.queue.try_send(submission) {
            Ok(()) => Ok(pending),
            Err(Refusal::Full) => Err(TrySubmitError::Busy(command)),
            Err(Refusal::Stopped) => Err(TrySubmitError::Refused(self.refused())),
        }
    }

    /// Serves a command on this thread if no other command is on its way. Otherwise it goes to the
    /// writer's thread by the queue. Inlined, because a submission is large, and a call would copy
    /// it.
    #[inline(always)]
    fn serve_or_queue<R>(&self, submission: Submission<M>) -> Result<(), ExecuteError<R>> {
        match self.engine.seat.serve(submission) {
            None => Ok(()),
            Some(submission) => self.engine.queue.send(submission).map_err(|_| self.refused()),
        }
    }

    /// Encodes a command, unless the database would refuse it.
    #[inline(always)]
    pub(super) fn prepare<C: Listed<M>>(
        &self,
        command: &C,
        metadata: &[u8],
    ) -> Result<Submitted<M, C>, ExecuteError<C::Rejection>> {
        self.check_submission()?;
        let limit = self.engine.max_command_bytes;
        let requests = Some(&self.engine.shared.requests);
        submission_to(self.engine.process, requests, command, metadata, limit)
    }

    /// Returns why no command of this thread would be taken.
    #[inline(always)]
    pub(super) fn check_submission<R>(&self) -> Result<(), ExecuteError<R>> {
        if self.engine.process.is_forked() {
            return Err(ExecuteError::Forked);
        }
        if on_engine_thread() {
            return Err(ExecuteError::Reentrant);
        }
        match self.engine.shared.status.poisoned() {
            Some(poisoned) => Err(ExecuteError::Poisoned(poisoned.clone())),
            None => Ok(()),
        }
    }

    /// Returns what the request id is if it is too long, and the most bytes of one.
    pub(super) fn longer_id(&self, metadata: &Metadata) -> Option<(String, usize)> {
        let (bytes, most) = (metadata.request_id.len(), self.engine.max_request_id_bytes);
        (bytes > most).then(|| (format!("a request id of {bytes} bytes"), most))
    }

    /// Encodes the metadata of one command.
    pub(super) fn encoded<R>(&self, metadata: &Metadata) -> Result<Vec<u8>, ExecuteError<R>> {
        if let Some((found, most)) = self.longer_id(metadata) {
            let reason = format!("it has {found}, and the most are {most}");
            return Err(ExecuteError::Metadata { reason });
        }
        metadata.encode().map_err(|failure| ExecuteError::Metadata {
            reason: match failure {
                EncodeFailure::TooLarge { bytes } => format!(
                    "it takes {bytes} bytes or more, and the most are {LARGEST_METADATA_BYTES}"
                ),
                EncodeFailure::Failed(reason) => reason,
            },
        })
    }

    /// Returns why the queue takes nothing more.
    pub(super) fn refused<R>(&self) -> ExecuteError<R> {
        match self.engine.shared.status.poisoned() {
            Some(poisoned) => ExecuteError::Poisoned(poisoned.clone()),
            None => ExecuteError::Stopped,
        }
    }
}

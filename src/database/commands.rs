//! Owns how a caller gives a command to the database: executes it, or submits it and waits later.
//! Knows nothing of what becomes of it.

use super::Database;
use crate::engine::{Pending, Refusal, Submission, Submitted, on_engine_thread, submission_to};
use crate::execute_error::{ExecuteError, TrySubmitError};
use crate::model::{Model, Registered};

#[expect(clippy::type_complexity, reason = "aliases would hide what a caller gets")]
impl<M: Model> Database<M> {
    /// Executes a command and waits until it is durable, as [`Durability`](crate::Durability)
    /// defines it.
    ///
    /// # Errors
    /// [`ExecuteError::Rejected`] if the command refused. The other variants say why it could not
    /// be executed. After `Poisoned` the command may have left a trace. After every other error of
    /// this call it has left none.
    pub fn execute<C: Registered<M>>(
        &self,
        command: C,
    ) -> Result<C::Output, ExecuteError<C::Rejection>> {
        self.begin(command)?.wait()
    }

    /// Does all of [`execute`](Self::execute) but the wait for another thread, if there is one.
    pub(crate) fn begin<C: Registered<M>>(
        &self,
        command: C,
    ) -> Result<Pending<C::Output, C::Rejection>, ExecuteError<C::Rejection>> {
        let (submission, pending) = self.prepare(&command)?;
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
    pub fn execute_if<C: Registered<M>>(
        &self,
        sequence: u64,
        command: C,
    ) -> Result<C::Output, ExecuteError<C::Rejection>> {
        let (mut submission, pending) = self.prepare(&command)?;
        submission.only_at = Some(sequence);
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
    pub fn submit<C: Registered<M>>(
        &self,
        command: C,
    ) -> Result<Pending<C::Output, C::Rejection>, ExecuteError<C::Rejection>> {
        let (submission, pending) = self.prepare(&command)?;
        match self.engine.queue.send(submission) {
            Ok(()) => Ok(pending),
            Err(Refusal::Full | Refusal::Stopped) => Err(self.refused()),
        }
    }

    /// Submits a command like [`submit`](Self::submit), but never waits for room in the queue.
    ///
    /// # Errors
    /// [`TrySubmitError::Busy`] gives the command back if the queue is full.
    /// [`TrySubmitError::Refused`] holds any error of `submit`. After either error the command has
    /// left no trace.
    pub fn try_submit<C: Registered<M>>(
        &self,
        command: C,
    ) -> Result<Pending<C::Output, C::Rejection>, TrySubmitError<C, C::Rejection>> {
        let (submission, pending) = self.prepare(&command).map_err(TrySubmitError::Refused)?;
        match self.engine.queue.try_send(submission) {
            Ok(()) => Ok(pending),
            Err(Refusal::Full) => Err(TrySubmitError::Busy(command)),
            Err(Refusal::Stopped) => Err(TrySubmitError::Refused(self.refused())),
        }
    }

    /// Serves a command on this thread if no other command is on its way. Otherwise it goes to the
    /// writer's thread by the queue.
    fn serve_or_queue<R>(&self, submission: Submission<M>) -> Result<(), ExecuteError<R>> {
        match self.engine.seat.serve(submission) {
            None => Ok(()),
            Some(submission) => self.engine.queue.send(submission).map_err(|_| self.refused()),
        }
    }

    /// Encodes a command, unless the database would refuse it.
    #[inline(always)]
    fn prepare<C: Registered<M>>(
        &self,
        command: &C,
    ) -> Result<Submitted<M, C>, ExecuteError<C::Rejection>> {
        if self.engine.process.is_forked() {
            return Err(ExecuteError::Forked);
        }
        if on_engine_thread() {
            return Err(ExecuteError::Reentrant);
        }
        if let Some(poisoned) = self.engine.shared.status.poisoned() {
            return Err(ExecuteError::Poisoned(poisoned.clone()));
        }
        let limit = self.engine.max_command_bytes;
        submission_to(self.engine.process, command, &self.metadata, limit)
    }

    /// Returns why the queue takes nothing more.
    fn refused<R>(&self) -> ExecuteError<R> {
        match self.engine.shared.status.poisoned() {
            Some(poisoned) => ExecuteError::Poisoned(poisoned.clone()),
            None => ExecuteError::Stopped,
        }
    }
}

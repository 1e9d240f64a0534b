//! Owns how asynchronous code gives a command to the database: the task waits for room in the
//! queue, and no thread does. Knows nothing of what becomes of the command.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Database;
use crate::engine::{Pending, Refusal, Submission, Submitted};
use crate::execute_error::ExecuteError;
use crate::model::{Command, Listed, Metadata, Model};

impl<M: Model> Database<M> {
    /// Submits a command from asynchronous code. The future is ready when the command is in the
    /// queue. If the queue is full, the task waits for room, and no thread does: no runtime is
    /// needed, and none is blocked. It gives the [`Pending`], which is the future of the answer.
    ///
    /// The command is encoded in this call. Dropping the future before it is ready takes the
    /// command back; it has left no trace then. While it waits for room, the future keeps the
    /// database open. Several tasks that wait for room are woken in the order in which they came,
    /// but one that asks at that moment may be faster.
    ///
    /// ```
    /// # use prevalence::{Command, Context, Database, Model};
    /// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// # struct Bank(u64);
    /// # impl Model for Bank { type Event = (); }
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Deposit(u64);
    /// # impl Command<Bank> for Deposit {
    /// #     type Output = u64;
    /// #     type Rejection = std::convert::Infallible;
    /// #     fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>)
    /// #         -> Result<u64, Self::Rejection> { bank.0 += self.0; Ok(bank.0) }
    /// # }
    /// # prevalence::commands! { Bank { 1 => Deposit } }
    /// use prevalence::{ExecuteError, Listed};
    ///
    /// async fn run<C>(db: &Database<Bank>, c: C) -> Result<C::Output, ExecuteError<C::Rejection>>
    /// where
    ///     C: Listed<Bank>,
    /// {
    ///     db.submit_async(c).await?.await
    /// }
    /// # let database = Database::<Bank>::in_memory()?;
    /// # let mut future = std::pin::pin!(run(&database, Deposit(3)));
    /// # let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    /// # let balance = loop {
    /// #     if let std::task::Poll::Ready(done) = future.as_mut().poll(&mut cx) { break done?; }
    /// #     std::thread::yield_now();
    /// # };
    /// # assert_eq!(balance, 3);
    /// # use std::future::Future;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The future gives the errors of [`submit`](Self::submit).
    pub fn submit_async<C: Listed<M>>(&self, command: C) -> Submitting<M, C::Output, C::Rejection> {
        Submitting::new::<C>(self, self.prepare(&command, &self.metadata), None)
    }

    /// Submits a command as [`submit_async`](Self::submit_async) does, to be applied only if the
    /// last accepted command still has this sequence when its turn comes; see
    /// [`execute_if`](Self::execute_if).
    ///
    /// # Errors
    /// The future gives the errors of [`submit`](Self::submit).
    pub fn submit_async_if<C: Listed<M>>(
        &self,
        sequence: u64,
        command: C,
    ) -> Submitting<M, C::Output, C::Rejection> {
        Submitting::new::<C>(self, self.prepare(&command, &self.metadata), Some(sequence))
    }

    /// Submits a command as [`submit_async`](Self::submit_async) does, with this metadata; see
    /// [`execute_with`](Self::execute_with).
    ///
    /// # Errors
    /// The future gives [`ExecuteError::Metadata`], and the errors of [`submit`](Self::submit).
    pub fn submit_async_with<C: Listed<M>>(
        &self,
        metadata: &Metadata,
        command: C,
    ) -> Submitting<M, C::Output, C::Rejection> {
        let prepared = self.encoded(metadata).and_then(|encoded| self.prepare(&command, &encoded));
        Submitting::new::<C>(self, prepared, None)
    }
}

/// The future of [`Database::submit_async`]: it is ready when the command is in the queue.
///
/// # Panics
/// Polling it again after it was ready panics, as with every future.
#[must_use = "the command is submitted only when this is awaited"]
pub struct Submitting<M: Model, O, R> {
    database: Database<M>,
    /// `None` once it is in the queue, and if the command was refused at once.
    submission: Option<Submission<M>>,
    /// What the future gives; `None` once it was ready.
    given: Option<Result<Pending<O, R>, ExecuteError<R>>>,
    /// Its place among the tasks that wait for room.
    task: Option<u64>,
}

impl<M: Model, O, R> Submitting<M, O, R> {
    fn new<C: Command<M, Output = O, Rejection = R>>(
        database: &Database<M>,
        prepared: Result<Submitted<M, C>, ExecuteError<R>>,
        only_at: Option<u64>,
    ) -> Self {
        let (submission, given) = match prepared {
            Ok((submission, pending)) => (Some(Submission { only_at, ..submission }), Ok(pending)),
            Err(error) => (None, Err(error)),
        };
        Self { database: database.clone(), submission, given: Some(given), task: None }
    }
}

impl<M: Model, O, R> Future for Submitting<M, O, R> {
    type Output = Result<Pending<O, R>, ExecuteError<R>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { database, submission, given, task } = &mut *self;
        let engine = &database.engine;
        let sent = match engine.process.is_forked() {
            true => Err(ExecuteError::Forked),
            false => match engine.queue.poll_send(submission, task, cx.waker()) {
                Poll::Ready(sent) => sent.map_err(|_: Refusal| database.refused()),
                Poll::Pending => return Poll::Pending,
            },
        };
        if sent.is_err() {
            *submission = None; // it is not on its way
        }
        let given = given.take().expect("it must not be polled again once it was ready");
        Poll::Ready(sent.and(given))
    }
}

impl<M: Model, O, R> Unpin for Submitting<M, O, R> {}

impl<M: Model, O, R> Drop for Submitting<M, O, R> {
    fn drop(&mut self) {
        if let Some(task) = self.task.filter(|_| !self.database.engine.process.is_forked()) {
            self.database.engine.queue.forget(task);
        }
    }
}

impl<M: Model, O, R> fmt::Debug for Submitting<M, O, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitting").field("waits", &self.task.is_some()).finish_non_exhaustive()
    }
}

//! Owns the observation of an answer at the moment it is given. A waker runs on the answering
//! thread and writes the answer into the disk's operation log. So the log shows an answer before
//! its sync.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::life::{Event, Journalist};
use super::model::Refused;
use crate::engine::Pending;
use crate::execute_error::ExecuteError;

pub(crate) type Answer = Result<(u64, u64), ExecuteError<Refused>>;

/// A submitted command, and its answer once it was given.
pub(crate) struct Answering {
    journalist: Journalist,
    pending: Mutex<Option<Pending<(u64, u64), Refused>>>,
    answer: Mutex<Option<Answer>>,
    answered: Condvar,
}

/// How long an answer may take. A longer wait counts as a hang.
const HANGS_AFTER: Duration = Duration::from_secs(20);

impl Answering {
    pub(crate) fn watch(
        journalist: Journalist,
        pending: Pending<(u64, u64), Refused>,
    ) -> Arc<Self> {
        let answering = Arc::new(Self {
            journalist,
            pending: Mutex::new(Some(pending)),
            answer: Mutex::new(None),
            answered: Condvar::new(),
        });
        answering.clone().look();
        answering
    }

    fn look(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        let mut pending = self.pending.lock().unwrap();
        let Some(future) = pending.as_mut() else { return };
        let Poll::Ready(answer) = Pin::new(future).poll(&mut Context::from_waker(&waker)) else {
            return;
        };
        *pending = None;
        drop(pending);
        let sequence = answer.as_ref().ok().map(|(sequence, _)| *sequence);
        self.journalist.note(Event::Answered { sequence });
        *self.answer.lock().unwrap() = Some(answer);
        self.answered.notify_all();
    }

    /// Whether the command was answered that it could not be written.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(&*self.answer.lock().unwrap(), Some(Err(ExecuteError::NotWritten { .. })))
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.answer.lock().unwrap().is_some()
    }

    /// Waits for the answer. `None` if it does not come in time.
    pub(crate) fn wait(&self) -> Option<Answer> {
        let guard = self.answer.lock().unwrap();
        let (mut guard, _) =
            self.answered.wait_timeout_while(guard, HANGS_AFTER, |a| a.is_none()).unwrap();
        guard.take()
    }
}

impl Wake for Answering {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}

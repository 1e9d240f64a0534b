//! Messages on their way to the disk.
//!
//! Waiting for each message before sending the next would pay for one sync of the disk per message.
//! With thousands under way, the database makes them durable in batches.

use std::collections::VecDeque;

use prevalence::{Database, ExecuteError, Pending};

use crate::book::{Book, Rejection};
use crate::commands::{Delete, ExecuteHidden, ExecuteVisible, Reduce, Submit};
use crate::feed::{Action, Message};

/// So many messages may be under way at once.
const IN_FLIGHT: usize = 4_096;

/// The database could not take a message, for a reason that is not the message's fault.
#[derive(Debug, thiserror::Error)]
#[error("message {number} was not taken")]
pub struct NotTaken {
    number: u64,
    source: ExecuteError<Rejection>,
}

/// What is under way, oldest first, each with its message's number.
pub struct Pipeline<'a> {
    db: &'a Database<Book>,
    pending: VecDeque<(u64, Pending<(), Rejection>)>,
}

impl<'a> Pipeline<'a> {
    pub fn new(db: &'a Database<Book>) -> Pipeline<'a> {
        let pending = VecDeque::with_capacity(IN_FLIGHT);
        Pipeline { db, pending }
    }

    /// Sends a message on its way; if too many are, it waits for the oldest first.
    pub fn send(&mut self, sent: Message) -> Result<(), NotTaken> {
        if self.pending.len() >= IN_FLIGHT {
            self.wait_for_oldest()?;
        }
        match submit(self.db, sent.number, sent.action) {
            Ok(pending) => self.pending.push_back((sent.number, pending)),
            Err(error) => rejections_pass(sent.number, Err(error))?,
        }
        Ok(())
    }

    /// Waits until every message that was sent is durable or refused.
    pub fn drain(&mut self) -> Result<(), NotTaken> {
        while !self.pending.is_empty() {
            self.wait_for_oldest()?;
        }
        Ok(())
    }

    fn wait_for_oldest(&mut self) -> Result<(), NotTaken> {
        match self.pending.pop_front() {
            Some((number, pending)) => rejections_pass(number, pending.wait()),
            None => Ok(()),
        }
    }
}

/// Turns a message into its command, and submits that.
fn submit(
    db: &Database<Book>,
    message: u64,
    action: Action,
) -> Result<Pending<(), Rejection>, ExecuteError<Rejection>> {
    match action {
        Action::Submit { id, order } => db.submit(Submit { message, id, order }),
        Action::Reduce { id, shares } => db.submit(Reduce { message, id, shares }),
        Action::Delete { id } => db.submit(Delete { message, id }),
        Action::ExecuteVisible { id, shares } => db.submit(ExecuteVisible { message, id, shares }),
        Action::ExecuteHidden { shares } => db.submit(ExecuteHidden { message, shares }),
    }
}

/// A refused message is the feed's affair, and the run goes on. Any other error is the database's
/// trouble, and ends it.
fn rejections_pass(
    number: u64,
    result: Result<(), ExecuteError<Rejection>>,
) -> Result<(), NotTaken> {
    match result {
        Ok(()) | Err(ExecuteError::Rejected(_)) => Ok(()),
        Err(source) => Err(NotTaken { number, source }),
    }
}

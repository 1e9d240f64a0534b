//! Keeps messages in flight to the disk.
//!
//! If the program waited for each message before it sends the next, it would pay for one disk sync
//! per message. With thousands in flight, the database makes them durable in batches.

use std::collections::VecDeque;

use prevalence::{Database, ExecuteError, Pending};

use crate::book::{Book, Rejection};
use crate::commands::{Delete, ExecuteHidden, ExecuteVisible, Reduce, Submit};
use crate::feed::{Action, Message};

/// The largest number of messages in flight.
const IN_FLIGHT: usize = 4_096;

/// The database could not take a message, for a reason other than the message itself.
#[derive(Debug, thiserror::Error)]
#[error("message {number} was not taken")]
pub struct NotTaken {
    number: u64,
    source: ExecuteError<Rejection>,
}

/// The commands in flight, oldest first, each with the number of its message.
pub struct Pipeline<'a> {
    db: &'a Database<Book>,
    pending: VecDeque<(u64, Pending<(), Rejection>)>,
}

impl<'a> Pipeline<'a> {
    pub fn new(db: &'a Database<Book>) -> Pipeline<'a> {
        let pending = VecDeque::with_capacity(IN_FLIGHT);
        Pipeline { db, pending }
    }

    /// Sends a message. If too many are in flight, waits for the oldest first.
    pub fn send(&mut self, sent: Message) -> Result<(), NotTaken> {
        if self.pending.len() >= IN_FLIGHT {
            self.wait_for_oldest()?;
        }
        match submit(self.db, &sent) {
            Ok(pending) => self.pending.push_back((sent.number, pending)),
            Err(error) => rejections_pass(sent.number, Err(error))?,
        }
        Ok(())
    }

    /// Waits until every sent message is durable or refused.
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

/// Makes the command of a message and submits it.
fn submit(
    db: &Database<Book>,
    sent: &Message,
) -> Result<Pending<(), Rejection>, ExecuteError<Rejection>> {
    let (message, time) = (sent.number, sent.time);
    match sent.action {
        Action::Submit { id, order } => db.submit(Submit { message, id, order }),
        Action::Reduce { id, shares } => db.submit(Reduce { message, id, shares }),
        Action::Delete { id } => db.submit(Delete { message, id }),
        Action::ExecuteVisible { id, shares } => {
            db.submit(ExecuteVisible { message, time, id, shares })
        }
        Action::ExecuteHidden { price, shares } => {
            db.submit(ExecuteHidden { message, time, price, shares })
        }
    }
}

/// Ignores the refusal of a message, because refusals are a normal part of the feed. Any other
/// error is an error of the database and ends the run.
fn rejections_pass(
    number: u64,
    result: Result<(), ExecuteError<Rejection>>,
) -> Result<(), NotTaken> {
    match result {
        Ok(()) | Err(ExecuteError::Rejected(_)) => Ok(()),
        Err(source) => Err(NotTaken { number, source }),
    }
}

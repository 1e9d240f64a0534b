//! Owns the thread that feeds a sink: it gathers commands, gives them as one batch, and tries again
//! after failures. Knows nothing of what the sink stores.

use super::follower::{Follower, Found};
use super::sink::{Sink, Source};
use super::thread::{Failure, Step, Works};
use crate::engine::{FollowerState, Order};
use crate::error::Error;
use crate::files::Standing;
use crate::model::Model;
use crate::panics::told_of_panics;

/// The most bytes of the commands and events of a batch, unless one command has more.
const LARGEST_BATCH_BYTES: usize = 8 << 20;

pub(super) struct Feeder<M: Model, S: Sink<M>> {
    sink: S,
    source: Source,
    /// The position that the sink has told; `None` if it must be asked.
    position: Option<u64>,
    /// The last position that it has told.
    told: u64,
    /// How often it has failed in a row.
    attempts: u32,
    /// The last one, because its seat is left when the sink is gone.
    follower: Follower<M>,
}

impl<M: Model, S: Sink<M>> Feeder<M, S> {
    pub(super) fn new(follower: Follower<M>, found: Found, sink: S) -> Result<Self, Error> {
        let database = follower.followed.identity.database;
        let source = Source { database, name: follower.seat.name.to_string() };
        let told = follower.standing.current.position;
        let mut made = Self { sink, source, position: None, told, attempts: 0, follower };
        if let Found::Damaged(damage) = found {
            // The truth is in the other database.
            let damage = damage.to_string().into();
            made.follower.seat.tell(|status| status.damage = Some(damage));
        }
        made.follower.save(made.follower.standing.clone())?;
        Ok(made)
    }

    /// Asks the sink where it stands.
    fn ask(&mut self) -> Result<(), Failure> {
        let Self { sink, source, .. } = self;
        let asked =
            told_of_panics("position", || sink.position(source).map_err(|error| error.to_string()));
        let at = self.follower.standing.current.position;
        let position = asked.and_then(|asked| asked).map_err(|reason| self.failed(at, reason))?;
        let reached = self.follower.followed.reached();
        if position > reached {
            let reason = format!(
                "the sink holds commands up to {position}, and the database only up to {reached}: \
                 one of the two was restored, or the sink was fed from another copy"
            );
            return Err(Failure::At(position + 1, reason));
        }
        self.follower.subscription = None; // it may stand elsewhere
        (self.position, self.told) = (Some(position), position);
        self.follower.seat.tell(|status| status.position = position);
        // The journal is held behind what STANDING says.
        if position != self.follower.standing.current.position {
            self.save();
        }
        Ok(())
    }

    /// Returns what a failure behind `position` means.
    fn failed(&mut self, position: u64, reason: String) -> Failure {
        self.position = None;
        self.attempts += 1;
        if self.attempts < self.follower.options.attempts {
            return Failure::Again(position + 1, reason, self.attempts);
        }
        self.attempts = 0;
        Failure::At(position + 1, reason)
    }

    /// Makes the position durable. The status says whether that failed.
    fn save(&mut self) {
        self.try_save().ok();
    }

    fn try_save(&mut self) -> Result<(), Error> {
        let mut standing: Standing = self.follower.standing.clone();
        standing.current.position = self.told;
        let saved = self.follower.save(standing);
        self.follower.note_save(&saved);
        saved
    }
}

impl<M: Model, S: Sink<M>> Works<M> for Feeder<M, S> {
    fn follower(&mut self) -> &mut Follower<M> {
        &mut self.follower
    }

    fn step(&mut self) -> Result<Step, Failure> {
        if self.follower.is_save_due() {
            self.save();
        }
        if self.position.is_none() {
            self.ask()?;
            if self.attempts == 0 {
                return Ok(Step::GoesOn);
            }
        }
        let Some(mut position) = self.position else { return Ok(Step::GoesOn) };
        let (before, mut batch, mut bytes) = (position, Vec::new(), 0);
        while batch.len() < self.follower.options.batch_commands && bytes < LARGEST_BATCH_BYTES {
            let is_first = batch.is_empty();
            let next = match self.follower.next(position, is_first) {
                // The next step finds it again, behind what was gathered.
                Err(_) if !is_first => None,
                next => next?,
            };
            let Some(next) = next else { break };
            bytes += next.command.encoded().len();
            position = next.sequence;
            batch.push(next);
        }
        if batch.is_empty() {
            return Ok(if self.follower.has_ended() { Step::Ended } else { Step::GoesOn });
        }
        let sink = &mut self.sink;
        let applied = told_of_panics("apply_batch", || {
            sink.apply_batch(&batch).map_err(|error| error.to_string())
        });
        applied.and_then(|applied| applied).map_err(|reason| self.failed(before, reason))?;
        self.attempts = 0;
        (self.position, self.told) = (Some(position), position);
        self.follower.note(position - before);
        self.follower.seat.tell(|status| status.position = position);
        Ok(Step::GoesOn)
    }

    fn obey(&mut self, order: Order) -> Result<(), Error> {
        match order {
            Order::Retry | Order::Rebuild => {
                (self.position, self.attempts) = (None, 0);
                self.follower.enter(FollowerState::Running);
                Ok(())
            }
            Order::Checkpoint => self.try_save(),
            Order::Skip | Order::Replay(_) => Err(self.follower.refuses(
                "a sink works on whole batches; let its apply_batch pass over what it cannot store",
            )),
        }
    }

    fn finish(&mut self) {
        if self.follower.has_unsaved() {
            self.save();
        }
    }
}

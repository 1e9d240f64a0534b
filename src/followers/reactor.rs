//! Owns side effects: what runs once a command is durable, and never on replay. Knows nothing of
//! how commands are applied.

use std::sync::{Arc, Weak};

use super::OnFailure;
use super::follower::{Follower, Found};
use super::projection::FollowerError;
use super::thread::{Failure, Step, Works};
use crate::Database;
use crate::database::Engine;
use crate::engine::{FollowerState, Order, SharedCommitter, sync_outside_lock};
use crate::error::Error;
use crate::events::{From, Recorded};
use crate::execute_error::ExecuteError;
use crate::files::{Build, Standing};
use crate::model::{Listed, Metadata, Model};
use crate::options::Durability;
use crate::panics::told_of_panics;

/// A side effect of commands: it sends a message, calls a service, or executes other commands.
///
/// It runs for every command that becomes durable behind its position, in order, on a thread of its
/// own; never on replay. Its position is durable, and is stored after the effect. So after a crash
/// an effect may run again, but none is left out: make it such that twice is the same as once.
/// Commands that it executes with [`Reaction::execute`] are executed exactly once.
///
/// Start it with [`Database::reactor`](crate::Database::reactor).
pub trait Reactor<M: Model>: Send + 'static {
    /// Reacts to a command and its events.
    ///
    /// # Errors
    /// After an error or a panic it is called again with the same command, after a pause, as often
    /// as [`FollowerOptions::attempts`](crate::FollowerOptions::attempts) says. Then
    /// [`FollowerOptions::on_failure`](crate::FollowerOptions::on_failure) says what happens.
    fn react(
        &mut self,
        recorded: &Recorded<M>,
        reaction: &mut Reaction<'_, M>,
    ) -> Result<(), FollowerError>;
}

/// What a [`Reactor`] may use while it reacts to one command.
pub struct Reaction<'a, M: Model> {
    database: Database<M>,
    name: &'a str,
    sequence: u64,
    attempt: u32,
    executed: u64,
}

impl<M: Model> Reaction<'_, M> {
    /// Executes a command, exactly once for this reaction: its request id is made of the reactor's
    /// name, the sequence that it reacts to, and the number of the call in the reaction. So a
    /// reaction that is repeated must make the same calls in the same order. `None` says that an
    /// earlier attempt has executed it.
    ///
    /// # Errors
    /// Those of [`Database::execute`](crate::Database::execute).
    pub fn execute<C: Listed<M>>(
        &mut self,
        command: C,
    ) -> Result<Option<C::Output>, ExecuteError<C::Rejection>> {
        let mut index = self.executed;
        self.executed += 1;
        if fault!(RequestIdsDiffer) {
            index += self.database.sequence();
        }
        let metadata = Metadata {
            actor: format!("reactor {}", self.name),
            request_id: format!("reactor {} {} {index}", self.name, self.sequence),
            ..Metadata::default()
        };
        match self.database.execute_with(&metadata, command) {
            Ok(output) => Ok(Some(output)),
            Err(ExecuteError::Duplicate { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the database, to read from it. Do not keep a clone of it: the database stays open as
    /// long as one lives.
    #[must_use]
    pub fn database(&self) -> &Database<M> {
        &self.database
    }

    /// Returns the number of this attempt, 1 for the first one since the start.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

impl<M: Model> std::fmt::Debug for Reaction<'_, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reaction")
            .field("sequence", &self.sequence)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// What the thread of a reactor works with.
pub(super) struct Reacting<M: Model, R: Reactor<M>> {
    reactor: R,
    /// Not a handle: a reactor does not keep the database open.
    engine: Weak<Engine<M>>,
    committer: SharedCommitter<M>,
    /// Whether it has executed commands since the position was made durable.
    has_executed: bool,
    position: u64,
    /// The command that it could not react to, while it tries again or has stopped, and how often
    /// it has tried.
    failed: Option<(Recorded<M>, u32)>,
    /// The last one, because its seat is left when the reactor is gone.
    follower: Follower<M>,
}

impl<M: Model, R: Reactor<M>> Reacting<M, R> {
    pub(super) fn new(
        follower: Follower<M>,
        found: Found,
        reactor: R,
        engine: &Arc<Engine<M>>,
    ) -> Result<Self, Error> {
        if follower.followed.shared.published.pin().requests.is_off() {
            return Err(follower.refuses(
                "request ids are not remembered, so its commands could be executed twice; see \
                 Builder::remembered_requests",
            ));
        }
        let mut made = Self {
            reactor,
            engine: Arc::downgrade(engine),
            committer: engine.committer.clone(),
            has_executed: false,
            position: 0,
            failed: None,
            follower,
        };
        match found {
            // Nobody knows what it has done already.
            Found::Damaged(damage) => return Err(damage),
            Found::Standing => {
                let (position, reached) =
                    (made.follower.standing.current.position, made.follower.followed.reached());
                if position > reached {
                    let path = made.follower.own.standing();
                    let expected = format!("a position up to {reached}, where the database ends");
                    return Err(Error::corrupt(&path, 0, expected, position.to_string()));
                }
                made.position = position;
                made.save_with(made.follower.standing.current.clone())?;
            }
            Found::Nothing => made.begin()?,
        }
        made.tell_position();
        Ok(made)
    }

    /// Begins where the options say. After an error, nothing has changed.
    fn begin(&mut self) -> Result<(), Error> {
        let reached = self.follower.followed.reached();
        let position = match self.follower.options.from {
            From::Beginning => 0,
            From::After(sequence) => sequence,
            From::Now => reached,
        };
        if position > reached {
            return Err(Error::InvalidOption {
                option: "begin",
                value: format!("From::After({position})"),
                constraint: format!("the newest durable command has sequence {reached}"),
            });
        }
        let Build { letters, .. } = self.follower.standing.current.clone();
        let current = Build { version: 1, position, checkpoint: 0, letters };
        let standing = Standing { current, next: None, ..self.follower.standing.clone() };
        let begun = self
            .follower
            .subscribe_after(position)
            .and_then(|()| self.follower.save_begun(standing));
        if let Err(error) = begun {
            self.follower.subscription = None; // it goes on behind the old position
            return Err(error);
        }
        (self.position, self.failed) = (position, None);
        self.follower.note_save(&Ok(()));
        Ok(())
    }

    fn tell_position(&self) {
        self.follower.seat.tell(|status| status.position = self.position);
    }

    /// Makes the position durable, with these dead letters.
    fn save_with(&mut self, build: Build) -> Result<(), Error> {
        let saved = self.try_save_with(build);
        self.follower.note_save(&saved);
        saved
    }

    fn try_save_with(&mut self, build: Build) -> Result<(), Error> {
        // With a weaker durability its commands may not be durable yet. A position behind them
        // would forget them if the power was cut now.
        if self.has_executed && !self.is_synced() && !fault!(PositionBeforeCommands) {
            sync_outside_lock(&self.committer)?;
        }
        let current = Build { position: self.position, ..build };
        let standing = Standing { current, next: None, ..self.follower.standing.clone() };
        self.follower.save(standing)?;
        self.has_executed = false;
        Ok(())
    }

    /// Whether commands are durable when they are answered.
    fn is_synced(&self) -> bool {
        self.follower.followed.durability == Durability::Sync
    }

    fn save(&mut self) -> Result<(), Error> {
        self.save_with(self.follower.standing.current.clone())
    }

    /// Lets the user's code react.
    fn react(&mut self, recorded: &Recorded<M>, attempt: u32) -> Result<(), Unable> {
        let engine = self.engine.upgrade().ok_or(Unable::Closed)?;
        let (name, sequence) = (self.follower.seat.name.clone(), recorded.sequence);
        let database = Database::of_engine(engine);
        let mut reaction = Reaction { database, name: &name, sequence, attempt, executed: 0 };
        let reactor = &mut self.reactor;
        // The error's `Display` and `Drop` are a user's code, too.
        let reacted = told_of_panics("react", || {
            reactor.react(recorded, &mut reaction).map_err(|error| error.to_string())
        });
        self.has_executed |= reaction.executed > 0;
        reacted.and_then(|reacted| reacted).map_err(Unable::Failed)
    }

    /// Moves on behind a command that was reacted to, or put aside.
    fn pass(&mut self, sequence: u64) {
        (self.position, self.failed) = (sequence, None);
        self.follower.note(1);
        self.tell_position();
    }

    fn put_aside(
        &mut self,
        failed: &Recorded<M>,
        attempts: u32,
        reason: &str,
    ) -> Result<(), Error> {
        let mut build = self.follower.standing.current.clone();
        let letter = self.follower.letter(failed, attempts, reason)?;
        self.follower.put_aside(&mut build, letter)?;
        let before = std::mem::replace(&mut self.position, failed.sequence);
        if let Err(error) = self.save_with(build) {
            self.position = before;
            return Err(error);
        }
        self.failed = None;
        self.tell_position();
        Ok(())
    }

    fn work_on(&mut self, recorded: Recorded<M>, attempts: u32) -> Result<(), Failure> {
        let (sequence, attempts) = (recorded.sequence, attempts.saturating_add(1));
        if fault!(PositionBeforeEffect) {
            self.position = sequence;
            self.save().ok();
        }
        let reason = match self.react(&recorded, attempts) {
            Ok(()) => {
                self.pass(sequence);
                // The request ids of its commands are remembered for a while only.
                if self.has_executed && self.is_synced() || self.follower.is_save_due() {
                    self.save().ok(); // the status shows a failure
                }
                return Ok(());
            }
            Err(Unable::Closed) => {
                // That is no attempt. It is told to stop soon.
                self.failed = Some((recorded, attempts - 1));
                return Err(Failure::Again(sequence, "the database is being closed".into(), 1));
            }
            Err(Unable::Failed(reason)) => reason,
        };
        if attempts < self.follower.options.attempts {
            self.failed = Some((recorded, attempts));
            return Err(Failure::Again(sequence, reason, attempts));
        }
        let put_aside = match self.follower.options.on_failure {
            OnFailure::Stop => Err(reason),
            OnFailure::DeadLetter => self
                .put_aside(&recorded, attempts, &reason)
                .map_err(|error| format!("{reason}; and it could not be put aside: {error}")),
        };
        put_aside.map_err(|reason| {
            self.failed = Some((recorded, attempts));
            Failure::At(sequence, reason)
        })
    }
}

/// Why it has not reacted.
enum Unable {
    /// The last handle of the database is gone.
    Closed,
    Failed(String),
}

impl<M: Model, R: Reactor<M>> Works<M> for Reacting<M, R> {
    fn follower(&mut self) -> &mut Follower<M> {
        &mut self.follower
    }

    fn step(&mut self) -> Result<Step, Failure> {
        if self.follower.is_save_due() {
            self.save().ok(); // the status shows a failure
        }
        if let Some((failed, attempts)) = self.failed.take() {
            return self.work_on(failed, attempts).map(|()| Step::GoesOn);
        }
        if let Some(recorded) = self.follower.next(self.position, true)? {
            self.work_on(recorded, 0)?;
        }
        Ok(if self.follower.has_ended() { Step::Ended } else { Step::GoesOn })
    }

    fn obey(&mut self, order: Order) -> Result<(), Error> {
        match order {
            Order::Retry => {
                if let Some((_, attempts)) = &mut self.failed {
                    *attempts = 0;
                }
                self.follower.enter(FollowerState::Running);
                Ok(())
            }
            Order::Skip => {
                let FollowerState::Stopped { reason, .. } = self.follower.seat.status().state
                else {
                    return Err(self.follower.refuses("it has not stopped at a command"));
                };
                let Some((failed, attempts)) = self.failed.take() else {
                    let reason = format!("it did not stop at a command: {reason}");
                    return Err(self.follower.refuses(reason));
                };
                if let Err(error) = self.put_aside(&failed, attempts, &reason) {
                    self.failed = Some((failed, attempts));
                    return Err(error);
                }
                self.follower.enter(FollowerState::Running);
                Ok(())
            }
            Order::Replay(sequence) => {
                let mut build = self.follower.standing.current.clone();
                let letter = self.follower.opened(&build, sequence)?;
                let reacted = self.react(&letter, 1);
                reacted.map_err(|unable| match unable {
                    Unable::Closed => Error::Stopped,
                    Unable::Failed(reason) => {
                        self.follower.refuses(format!("it failed again: {reason}"))
                    }
                })?;
                build.letters.retain(|letter| letter.sequence != sequence);
                self.save_with(build)
            }
            Order::Checkpoint => self.save(),
            Order::Rebuild => {
                self.begin()?;
                self.tell_position();
                self.follower.enter(FollowerState::Running);
                Ok(())
            }
        }
    }

    fn finish(&mut self) {
        if self.follower.has_unsaved() {
            self.save().ok(); // the status shows a failure
        }
    }
}

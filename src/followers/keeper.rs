//! Owns the work of a projection: it works on commands, publishes the value for readers, and keeps
//! it in checkpoints. Knows nothing of where commands come from.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::checkpoint::{CheckpointOf, write_checkpoint};
use super::follower::{Follower, Found};
use super::projection::Projection;
use super::thread::{Failure, Step, Works};
use crate::database::Engine;
use crate::engine::{FollowerState, Order, SharedCommitter};
use crate::error::Error;
use crate::events::Recorded;
use crate::files::{Build, Packing, Standing};
use crate::model::Model;
use crate::panics::told_of_panics;
use crate::storage::Room;

/// The most commands that are worked on before readers see them.
const PUBLISHED_AFTER: u64 = 1024;

/// What readers of a projection see.
pub(super) struct Projected<P> {
    pub(super) value: P,
    pub(super) position: u64,
}

/// What the thread of a projection works with.
pub(super) struct Keeper<M: Model, P: Projection<M>> {
    pub(super) initial: P,
    /// The value with which the next command works, and the commands that it holds.
    pub(super) working: P,
    pub(super) position: u64,
    /// Whether a user's code has left `working` in the middle of a command.
    pub(super) is_spoilt: bool,
    /// The command at which it has stopped, if it has.
    failed_at: Option<u64>,
    published: Arc<ArcSwap<Projected<P>>>,
    packing: Packing,
    pub(super) committer: SharedCommitter<M>,
    room: Arc<Room>,
    /// The number of the newest checkpoint that was tried.
    tried: u64,
    /// The last one, because its seat is left when the values are gone.
    pub(super) follower: Follower<M>,
}

impl<M: Model, P: Projection<M>> Keeper<M, P> {
    /// Finds out from where the projection goes on, and makes that durable.
    pub(super) fn new(
        follower: Follower<M>,
        found: Found,
        initial: P,
        engine: &Engine<M>,
    ) -> Result<Self, Error> {
        let published = Projected { value: initial.clone(), position: 0 };
        let tried = follower.standing.checkpoints().into_iter().max().unwrap_or(0);
        let mut made = Self {
            working: initial.clone(),
            initial,
            position: 0,
            is_spoilt: false,
            failed_at: None,
            published: Arc::new(ArcSwap::from_pointee(published)),
            packing: engine.packing,
            committer: engine.committer.clone(),
            room: engine.room.clone(),
            tried,
            follower,
        };
        match found {
            Found::Standing => made.go_on()?,
            Found::Nothing => made.begin(None)?,
            Found::Damaged(damage) => {
                made.follower.standing.current.version = P::VERSION;
                made.begin(Some(damage.to_string()))?;
            }
        }
        Ok(made)
    }

    pub(super) fn published(&self) -> Arc<ArcSwap<Projected<P>>> {
        self.published.clone()
    }

    pub(super) fn tell_standing(&self, damage: Option<String>) {
        let is_behind = self.follower.standing.next.is_some() || damage.is_some();
        let reached = self.follower.followed.reached();
        self.follower.seat.tell(|status| {
            status.rebuilt_at = is_behind.then_some(reached);
            status.damage = damage.map(Into::into).or(status.damage.take());
        });
    }

    /// Lets readers see what was worked on.
    fn publish(&mut self) -> Result<(), Error> {
        let value = self.cloned()?;
        self.show(value);
        Ok(())
    }

    fn cloned(&self) -> Result<P, Error> {
        let value = told_of_panics("Clone", || self.working.clone());
        value.map_err(|reason| self.follower.refuses(reason))
    }

    /// Shows readers a clone of what was worked on.
    pub(super) fn show(&mut self, value: P) {
        let position = self.position;
        let before = self.published.swap(Arc::new(Projected { value, position }));
        self.follower.note(position.saturating_sub(before.position));
        self.failed_at = None;
        self.follower.seat.tell(|status| status.position = position);
        // A user's `Drop` may panic. Nobody sees any more what it belongs to, and the panic hook
        // tells its owner.
        told_of_panics("Drop", || drop(before)).ok();
    }

    /// Goes back to what readers see, if a command was left in the middle, or is not shown yet.
    fn go_back(&mut self) {
        let seen = self.published.load_full();
        if !self.is_spoilt && self.position == seen.position {
            return;
        }
        self.follower.subscription = None;
        self.is_spoilt = true; // until the clone is made
        self.replace_working(seen.value.clone(), seen.position);
    }

    fn apply(&mut self, recorded: &Recorded<M>) -> Result<(), String> {
        self.is_spoilt = true;
        let working = &mut self.working;
        // The error's `Display` and `Drop` are a user's code, too.
        let applied =
            told_of_panics("apply", || working.apply(recorded).map_err(|error| error.to_string()));
        applied.and_then(|applied| applied)?;
        self.is_spoilt = false;
        self.position = recorded.sequence;
        Ok(())
    }

    /// Works on a command. If it fails, nothing of it is left.
    fn work_on(&mut self, recorded: &Recorded<M>) -> Result<(), Failure> {
        let Err(reason) = self.apply(recorded) else { return Ok(()) };
        self.go_back();
        let again = self.work_up_to(recorded.sequence - 1);
        self.go_back();
        again?;
        self.failed_at = Some(recorded.sequence);
        Err(Failure::At(recorded.sequence, reason))
    }

    /// Works once more on what came before a failure, because nobody knows what that has left.
    fn work_up_to(&mut self, last: u64) -> Result<(), Failure> {
        while self.position < last {
            let Some(again) = self.follower.next(self.position, false)? else { break };
            let sequence = again.sequence;
            if let Err(reason) = self.apply(&again) {
                self.go_back();
                self.failed_at = Some(sequence);
                return Err(Failure::At(sequence, reason));
            }
            self.publish().map_err(|error| Failure::At(sequence, error.to_string()))?;
        }
        Ok(())
    }

    pub(super) fn checkpoint_of(&self, position: u64) -> CheckpointOf<'_> {
        CheckpointOf {
            database: self.follower.followed.identity.database,
            name: &self.follower.seat.name,
            version: P::VERSION,
            position,
        }
    }

    /// Returns the build that is in work.
    fn build(&self) -> &Build {
        let Standing { current, next, .. } = &self.follower.standing;
        next.as_ref().unwrap_or(current)
    }

    /// Makes the value and its position durable.
    pub(super) fn checkpoint(&mut self) -> Result<(), Error> {
        self.checkpoint_with(self.build().clone())
    }

    fn checkpoint_with(&mut self, build: Build) -> Result<(), Error> {
        // A number is never used twice: STANDING may name a checkpoint although that was told to
        // have failed.
        self.tried += 1;
        let build = Build { position: self.position, checkpoint: self.tried, ..build };
        let standing = self.standing_with(build);
        if fault!(CheckpointNamedTooEarly) {
            self.follower.save(standing.clone())?;
        }
        if fault!(OldCheckpointRemovedTooEarly) {
            self.follower.own.clear(&*self.follower.storage, &[])?;
        }
        let Follower { storage, own, followed, .. } = &self.follower;
        let (path, of) = (own.checkpoint(self.tried), self.checkpoint_of(self.position));
        let shared = &followed.shared;
        let beside = (&shared.counters, shared.followers.gives_up(), &*self.room);
        write_checkpoint(&**storage, &path, of, &self.working, self.packing, beside)?;
        self.follower.save(standing)
    }

    /// Returns where the follower stands with this build. When a new one has caught up, it takes
    /// the place of the old one.
    fn standing_with(&self, build: Build) -> Standing {
        let rebuilt_at = self.follower.seat.status().rebuilt_at;
        let has_caught_up = rebuilt_at.is_none_or(|at| build.position >= at);
        let before = &self.follower.standing;
        match before.next.is_some() && !has_caught_up {
            true => Standing { next: Some(build), ..before.clone() },
            false => Standing { current: build, next: None, ..before.clone() },
        }
    }

    /// Removes what STANDING does not name.
    fn clear_files(&self) -> Result<(), Error> {
        let Follower { storage, own, standing, followed, .. } = &self.follower;
        // A temporary file may be there for a moment, to say that the follower is lost.
        let _alone = followed.shared.followers.standings();
        Ok(own.clear(&**storage, &standing.checkpoints())?)
    }

    /// Notes whether the position could be made durable, and removes what it has replaced. That is
    /// no part of it: what cannot be removed now is removed later.
    pub(super) fn note_checkpoint(&mut self, made: &Result<(), Error>) {
        self.follower.note_save(made);
        if made.is_err() {
            return;
        }
        let left = self.clear_files().err().map(|error| error.to_string().into());
        self.follower.seat.tell(|status| {
            status.clean_up_failure = left;
            if status.rebuilt_at.is_some_and(|at| status.durable_position >= at) {
                status.rebuilt_at = None;
            }
        });
    }

    fn checkpoint_if_due(&mut self) {
        let rebuilt_at = self.follower.seat.status().rebuilt_at;
        let has_caught_up = rebuilt_at.is_some_and(|at| self.position >= at);
        // After a failure, the next try comes with the next save.
        if self.follower.is_save_due() || has_caught_up && !self.follower.has_failed_to_save() {
            let made = self.checkpoint();
            self.note_checkpoint(&made);
        }
    }

    fn skip(&mut self) -> Result<(), Error> {
        let (state, failed_at) = (self.follower.seat.status().state, self.failed_at);
        let (FollowerState::Stopped { reason, .. }, Some(failed_at)) = (state, failed_at) else {
            return Err(self.follower.refuses("it has not stopped at a command; try it again"));
        };
        self.go_back();
        let cannot = |failure| match failure {
            Failure::At(_, reason) | Failure::Again(_, reason, _) => reason,
            Failure::Lost(oldest) => format!("commands are stored only from {oldest} on"),
        };
        self.follower.subscription = None;
        let next = self.follower.next(self.position, false);
        self.follower.subscription = None; // it has given the command that fails
        let next = next.map_err(|failure| self.follower.refuses(cannot(failure)))?;
        let Some(failed) = next.filter(|next| next.sequence == failed_at) else {
            let reason = format!("it has not come to command {failed_at}; try it again");
            return Err(self.follower.refuses(reason));
        };
        let mut build = self.build().clone();
        let letter = self.follower.letter(&failed, 1, &reason)?;
        self.follower.put_aside(&mut build, letter)?;
        self.position = failed_at;
        self.change_and_save(build)?;
        self.follower.enter(FollowerState::Running);
        Ok(())
    }

    /// Makes the working value durable, with these dead letters. If that fails, nothing of it has
    /// happened.
    fn change_and_save(&mut self, build: Build) -> Result<(), Error> {
        let changed = self.cloned().and_then(|value| {
            self.checkpoint_with(build)?;
            Ok(value)
        });
        match changed {
            Ok(value) => {
                self.show(value);
                self.note_checkpoint(&Ok(()));
                Ok(())
            }
            Err(error) => {
                self.is_spoilt = true;
                self.go_back();
                Err(error)
            }
        }
    }

    fn replay(&mut self, sequence: u64) -> Result<(), Error> {
        self.go_back();
        let mut build = self.build().clone();
        let failed = self.follower.opened(&build, sequence)?;
        let position = self.position;
        let applied = self.apply(&failed);
        self.position = position;
        if let Err(reason) = applied {
            self.go_back();
            return Err(self.follower.refuses(format!("it failed again: {reason}")));
        }
        build.letters.retain(|letter| letter.sequence != sequence);
        let failed_at = self.failed_at;
        self.change_and_save(build)?;
        self.failed_at = failed_at; // where it has stopped is another matter
        Ok(())
    }
}

impl<M: Model, P: Projection<M>> Works<M> for Keeper<M, P> {
    fn follower(&mut self) -> &mut Follower<M> {
        &mut self.follower
    }

    fn step(&mut self) -> Result<Step, Failure> {
        self.failed_at = None;
        self.go_back(); // something may have panicked on the way
        self.checkpoint_if_due();
        let begun_at = self.position;
        let mut next = self.follower.next(self.position, true)?;
        while let Some(recorded) = next {
            self.work_on(&recorded)?;
            let is_enough = self.position - begun_at >= PUBLISHED_AFTER;
            next = match is_enough || self.follower.seat.is_wanted() {
                true => None,
                // The next step finds a failure again.
                false => self.follower.next(self.position, false).unwrap_or_default(),
            };
        }
        if self.position > begun_at {
            let at = self.position;
            self.publish().map_err(|error| Failure::At(at, error.to_string()))?;
        }
        Ok(if self.follower.has_ended() { Step::Ended } else { Step::GoesOn })
    }

    fn obey(&mut self, order: Order) -> Result<(), Error> {
        match order {
            Order::Retry => {
                self.go_back();
                self.follower.subscription = None;
                self.follower.enter(FollowerState::Running);
                Ok(())
            }
            Order::Skip => self.skip(),
            Order::Replay(sequence) => self.replay(sequence),
            Order::Checkpoint => {
                self.go_back();
                let made = self.checkpoint();
                self.note_checkpoint(&made);
                made
            }
            Order::Rebuild => {
                self.go_back();
                let begun = self.begin(None);
                match &begun {
                    Ok(()) => self.follower.enter(FollowerState::Running),
                    Err(_) => self.go_back(),
                }
                begun
            }
        }
    }

    fn finish(&mut self) {
        // What readers see is whole; what is in work may be half a command.
        self.go_back();
        if self.follower.has_unsaved() {
            let made = self.checkpoint();
            self.note_checkpoint(&made);
        }
    }
}

//! Owns read models: a value that is made of all commands and events, published for readers and
//! kept in checkpoints. Knows nothing of where commands come from.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::checkpoint::{CheckpointOf, read_checkpoint, write_checkpoint};
use super::follower::{Failure, Follower, Found, Step, Works};
use crate::engine::{FollowerState, Order};
use crate::error::Error;
use crate::events::Recorded;
use crate::files::{Build, CHECKPOINT_SUFFIX, Packing, Standing, StoreError, numbered_path};
use crate::model::Model;
use crate::process::told_of_panics;
use crate::storage::is_temporary;

/// The most commands that are worked on before readers see them.
const PUBLISHED_AFTER: u64 = 1024;

/// Why a follower could not work on a command.
pub type FollowerError = Box<dyn std::error::Error + Send + Sync>;

/// A read model: a value that every accepted command changes, in order, on a thread of its own.
///
/// Readers see a whole number of commands, and never wait. `clone()` must be cheap, as that of a
/// [`Model`]: a clone is made each time when readers get a new version, so use the
/// [`collections`](crate::collections) of this crate. The value is written to a checkpoint now and
/// then, so that the next start goes on from there.
///
/// Start it with [`Database::projection`](crate::Database::projection).
pub trait Projection<M: Model>:
    Clone + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// The version of the projection's code. Raise it when a change of the type changes what serde
    /// writes, or when `apply` makes something else of a command. Then the projection is built
    /// anew, beside the checkpoint of the old version. That one is removed when the new one has
    /// caught up.
    const VERSION: u32 = 1;

    /// Works on a command and its events. It must not depend on anything else, such as the time or
    /// another database: after a crash, commands behind the last checkpoint are given again.
    ///
    /// # Errors
    /// Any error, or a panic, stops the projection before this command, as if `apply` had changed
    /// nothing. The database goes on.
    fn apply(&mut self, recorded: &Recorded<M>) -> Result<(), FollowerError>;

    /// Makes the projection of a whole model, if that is possible. It is used when the projection
    /// must be built anew, and history no longer reaches back to the first command. The default
    /// says that it is not possible.
    #[must_use]
    fn from_model(_model: &M) -> Option<Self> {
        None
    }
}

/// What readers of a projection see.
pub(super) struct Projected<P> {
    pub(super) value: P,
    pub(super) position: u64,
}

/// What the thread of a projection works with.
pub(super) struct Keeper<M: Model, P: Projection<M>> {
    follower: Follower<M>,
    initial: P,
    /// The value with which the next command works, and the commands that it holds.
    working: P,
    position: u64,
    published: Arc<ArcSwap<Projected<P>>>,
    packing: Packing,
}

impl<M: Model, P: Projection<M>> Keeper<M, P> {
    /// Finds out from where the projection goes on, and makes that durable.
    pub(super) fn new(
        follower: Follower<M>,
        found: Found,
        initial: P,
        packing: Packing,
    ) -> Result<Self, Error> {
        let published = Projected { value: initial.clone(), position: 0 };
        let mut made = Self {
            follower,
            working: initial.clone(),
            initial,
            position: 0,
            published: Arc::new(ArcSwap::from_pointee(published)),
            packing,
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

    /// Goes on from a checkpoint, if there is one of this version that fits.
    fn go_on(&mut self) -> Result<(), Error> {
        let standing = &self.follower.standing;
        let of_next = standing.next.as_ref().filter(|next| next.version == P::VERSION).cloned();
        let of_current = Some(&standing.current).filter(|it| it.version == P::VERSION).cloned();
        let Some(build) = of_next.or(of_current) else { return self.begin(None) };
        match self.load(&build) {
            Ok(value) => self.continue_with(value, &build),
            Err(error @ Error::Io { .. }) => Err(error),
            Err(damage) => self.begin(Some(damage.to_string())),
        }
    }

    fn load(&self, build: &Build) -> Result<P, Error> {
        let reached = self.follower.followed.reached();
        if build.position > reached {
            let path = self.follower.own.standing();
            let expected = format!("a position up to {reached}, where the database ends");
            return Err(Error::corrupt(&path, 0, expected, build.position.to_string()));
        }
        if build.checkpoint == 0 {
            return Ok(self.initial.clone());
        }
        let storage = &*self.follower.followed.storage;
        let path = self.checkpoint_path(build.checkpoint);
        read_checkpoint(storage, &path, self.checkpoint_of(build.position)).map_err(|error| {
            match error {
                // A file that is gone is damage, too; any other failure may pass.
                Error::Io { path, source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                    Error::Missing { path, reason: "STANDING names it".to_owned() }
                }
                error => error,
            }
        })
    }

    fn continue_with(&mut self, value: P, build: &Build) -> Result<(), Error> {
        match self.follower.subscribe_after(build.position) {
            Ok(()) => {}
            Err(Error::HistoryTruncated { oldest, .. }) => {
                return self.begin(Some(format!(
                    "it stood at {}, and commands are stored only from {oldest} on",
                    build.position
                )));
            }
            Err(error) => return Err(error),
        }
        (self.working, self.position) = (value, build.position);
        self.tell_standing(None);
        self.publish()?;
        self.follower.save(self.follower.standing.clone())?;
        self.clear_files()
    }

    /// Begins a new build: from the first command on, or from a version of the model.
    fn begin(&mut self, damage: Option<String>) -> Result<(), Error> {
        let followed = self.follower.followed.clone();
        let (value, position) = match self.follower.subscribe_after(0) {
            Ok(()) => (self.initial.clone(), 0),
            Err(truncated @ Error::HistoryTruncated { .. }) => {
                let version = followed.shared.published.pin();
                let position = version.sequence;
                // Only what is durable may be in a checkpoint.
                let made = if followed.reached() < position { None } else { Some(&version.model) };
                let made = told_of_panics("from_model", || made.and_then(P::from_model));
                let made = made.map_err(|reason| self.follower.refuses(reason))?;
                let value = made.ok_or(truncated)?;
                self.follower.subscribe_after(position)?;
                (value, position)
            }
            Err(error) => return Err(error),
        };
        let standing = &self.follower.standing;
        let build = Build { version: P::VERSION, ..Build::default() };
        // What has no checkpoint is not worth keeping.
        let is_damaged = damage.is_some() && standing.current.version == P::VERSION;
        let replaces = standing.current.checkpoint == 0 || is_damaged;
        let standing = match replaces {
            true => Standing { current: build, next: None, lost: None, ..standing.clone() },
            false => Standing { next: Some(build), lost: None, ..standing.clone() },
        };
        self.follower.save(standing)?;
        (self.working, self.position) = (value, position);
        self.tell_standing(damage);
        self.publish()?;
        if position > 0 { self.checkpoint(false) } else { self.clear_files() }
    }

    fn tell_standing(&self, damage: Option<String>) {
        let is_behind = self.follower.standing.next.is_some() || damage.is_some();
        let reached = self.follower.followed.reached();
        self.follower.seat.tell(|status| {
            status.rebuilt_at = is_behind.then_some(reached);
            status.damage = damage.map(Into::into).or(status.damage.take());
        });
    }

    /// Lets readers see what was worked on.
    fn publish(&mut self) -> Result<(), Error> {
        let value = told_of_panics("Clone", || self.working.clone());
        let value = value.map_err(|reason| self.follower.refuses(reason))?;
        let before = self.published.swap(Arc::new(Projected { value, position: self.position }));
        self.follower.note(self.position.saturating_sub(before.position));
        self.follower.seat.tell(|status| status.position = self.position);
        // A user's `Drop` may panic. What it belongs to is no longer seen.
        told_of_panics("Drop", || drop(before)).map_err(|reason| self.follower.refuses(reason))
    }

    /// Goes back to what readers see.
    fn go_back(&mut self) {
        let seen = self.published.load_full();
        (self.working, self.position) = (seen.value.clone(), seen.position);
        self.follower.subscription = None;
    }

    fn apply(&mut self, recorded: &Recorded<M>) -> Result<(), String> {
        let working = &mut self.working;
        let applied = told_of_panics("apply", || working.apply(recorded))?;
        applied.map_err(|error| error.to_string())?;
        self.position = recorded.sequence;
        Ok(())
    }

    /// Works on a command. If it fails, nothing of it is left.
    fn work_on(&mut self, recorded: &Recorded<M>) -> Result<(), Failure> {
        let Err(reason) = self.apply(recorded) else { return Ok(()) };
        let (failed_at, before) = (recorded.sequence, recorded.sequence - 1);
        self.go_back();
        // What came before it is worked on again, because nobody knows what it has left.
        while self.position < before {
            let Some(again) = self.follower.next(self.position, false)? else { break };
            let sequence = again.sequence;
            self.apply(&again).map_err(|reason| Failure::At(sequence, reason))?;
            self.publish().map_err(|error| Failure::At(sequence, error.to_string()))?;
        }
        self.go_back();
        Err(Failure::At(failed_at, reason))
    }

    fn checkpoint_path(&self, number: u64) -> PathBuf {
        numbered_path(&self.follower.own.root, number, CHECKPOINT_SUFFIX)
    }

    fn checkpoint_of(&self, position: u64) -> CheckpointOf<'_> {
        CheckpointOf {
            database: self.follower.followed.identity.database,
            name: &self.follower.seat.name,
            version: P::VERSION,
            position,
        }
    }

    fn build(&self) -> &Build {
        let Standing { current, next, .. } = &self.follower.standing;
        next.as_ref().unwrap_or(current)
    }

    /// Makes the value and its position durable. When a new build has caught up, it takes the place
    /// of the old one.
    fn checkpoint(&mut self, at_the_end: bool) -> Result<(), Error> {
        let build = self.build().clone();
        self.checkpoint_with(build, at_the_end)
    }

    fn checkpoint_with(&mut self, build: Build, at_the_end: bool) -> Result<(), Error> {
        self.follower.saved(); // also after a failure: the next try comes as late as the next save
        let Standing { current, next, .. } = &self.follower.standing;
        let newest = next.as_ref().map_or(0, |next| next.checkpoint).max(current.checkpoint);
        let number = newest.max(build.checkpoint) + 1;
        let build = Build { position: self.position, checkpoint: number, ..build };
        let standing = self.standing_with(build);
        if fault!(CheckpointNamedTooEarly) {
            self.follower.save(standing.clone())?;
        }
        if fault!(OldCheckpointRemovedTooEarly) {
            self.follower.standing.current.checkpoint = 0;
            self.clear_files()?;
        }
        let shared = &self.follower.followed.shared;
        let counters = (!at_the_end).then_some(&shared.counters);
        {
            let _open = shared.followers.files().ok_or(Error::Stopped)?;
            let storage = &*self.follower.followed.storage;
            let (path, of) = (self.checkpoint_path(number), self.checkpoint_of(self.position));
            write_checkpoint(storage, &path, of, &self.working, self.packing, counters)?;
        }
        self.follower.save(standing)?;
        self.clear_files()
    }

    /// Returns where the follower stands with this build. When a new one has caught up, it takes the
    /// place of the old one.
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
        let Follower { followed, own, standing, .. } = &self.follower;
        let _open = followed.shared.followers.files().ok_or(Error::Stopped)?;
        let storage = &*followed.storage;
        let builds = std::iter::once(&standing.current).chain(&standing.next);
        let kept: Vec<PathBuf> = builds.map(|it| self.checkpoint_path(it.checkpoint)).collect();
        let names = storage.list(&own.root).map_err(StoreError::io("list", &own.root))?;
        for name in names {
            let path = own.root.join(&name);
            let is_ours = name.ends_with(CHECKPOINT_SUFFIX) || is_temporary(&name);
            if is_ours && !kept.contains(&path) {
                storage.remove(&path).map_err(StoreError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Notes whether the position could be made durable.
    fn note_checkpoint(&self, made: &Result<(), Error>) {
        let failure = made.as_ref().err().map(|error| error.to_string().into());
        self.follower.seat.tell(|status| {
            status.checkpoint_failure = failure;
            if status.rebuilt_at.is_some_and(|at| status.durable_position >= at) {
                status.rebuilt_at = None;
            }
        });
    }

    fn checkpoint_if_due(&mut self) {
        let status = self.follower.seat.status();
        let has_caught_up = status.rebuilt_at.is_some_and(|at| self.position >= at);
        // After a failure, the next try comes with the next save.
        let is_first_try = status.checkpoint_failure.is_none();
        if self.follower.is_save_due() || has_caught_up && is_first_try {
            let made = self.checkpoint(false);
            self.note_checkpoint(&made);
        }
    }

    fn skip(&mut self) -> Result<(), Error> {
        let FollowerState::Stopped { sequence, reason } = self.follower.seat.status().state else {
            return Err(self.follower.refuses("it has not stopped at a command"));
        };
        self.go_back();
        let cannot = |failure| match failure {
            Failure::At(_, reason) | Failure::Again(_, reason, _) => reason,
            Failure::Lost(oldest) => format!("commands are stored only from {oldest} on"),
        };
        let next = self.follower.next(self.position, false);
        let next = next.map_err(|failure| self.follower.refuses(cannot(failure)))?;
        let Some(failed) = next.filter(|next| next.sequence == sequence) else {
            let reason = format!("it has not stopped at command {sequence} itself; try it again");
            return Err(self.follower.refuses(reason));
        };
        let mut build = self.build().clone();
        let letter = self.follower.letter(&failed, 1, &reason);
        self.follower.put_aside(&mut build, letter)?;
        self.position = sequence;
        self.change_and_save(build)?;
        self.follower.enter(FollowerState::Running);
        Ok(())
    }

    /// Makes the working value durable, with these dead letters. If that fails, nothing of it has
    /// happened.
    fn change_and_save(&mut self, build: Build) -> Result<(), Error> {
        if let Err(error) = self.checkpoint_with(build, false) {
            self.go_back();
            return Err(error);
        }
        self.note_checkpoint(&Ok(()));
        self.publish()
    }

    fn replay(&mut self, sequence: u64) -> Result<(), Error> {
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
        self.change_and_save(build)
    }
}

impl<M: Model, P: Projection<M>> Works<M> for Keeper<M, P> {
    fn follower(&mut self) -> &mut Follower<M> {
        &mut self.follower
    }

    fn step(&mut self) -> Result<Step, Failure> {
        let begun_at = self.published.load().position;
        if self.position != begun_at {
            self.go_back(); // something has panicked on the way
        }
        self.checkpoint_if_due();
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
                self.follower.enter(FollowerState::Running);
                Ok(())
            }
            Order::Skip => self.skip(),
            Order::Replay(sequence) => self.replay(sequence),
            Order::Checkpoint => {
                let made = self.checkpoint(false);
                self.note_checkpoint(&made);
                made
            }
            Order::Rebuild => {
                let begun = self.begin(None);
                match &begun {
                    Ok(()) => self.follower.enter(FollowerState::Running),
                    Err(_) => self.go_back(),
                }
                begun
            }
        }
    }

    fn finish(&mut self) -> Result<(), Error> {
        // What readers see is whole; what is in work may be half a command.
        self.go_back();
        if self.follower.has_unsaved() { self.checkpoint(true) } else { Ok(()) }
    }
}

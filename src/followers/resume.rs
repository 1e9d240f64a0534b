//! Owns where a projection begins: behind its checkpoint, before the first command, or with a
//! version of the model. Knows nothing of how it goes on.

use super::checkpoint::read_checkpoint;
use super::follower::lost_before;
use super::keeper::Keeper;
use super::projection::Projection;
use crate::engine::sync_outside_lock;
use crate::error::Error;
use crate::files::{Build, Standing};
use crate::model::Model;
use crate::panics::told_of_panics;
use crate::process::stack;

impl<M: Model, P: Projection<M>> Keeper<M, P> {
    /// Goes on from a checkpoint, if there is one of this version that fits.
    pub(super) fn go_on(&mut self) -> Result<(), Error> {
        let standing = &mut self.follower.standing;
        if standing.next.as_ref().is_some_and(|next| next.version != P::VERSION) {
            // A program has gone back to older code, or on to newer code than it was building for.
            standing.next = None;
        }
        let build = standing.next.clone().unwrap_or_else(|| standing.current.clone());
        if build.version != P::VERSION {
            return self.begin(None);
        }
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
        let storage = &*self.follower.storage;
        let path = self.follower.own.checkpoint(build.checkpoint);
        let of = self.checkpoint_of(build.position);
        // The value may be nested more deeply than this thread's stack allows.
        let read = stack::run(|| read_checkpoint(storage, &path, of));
        let read = read.map_err(Error::io("start a thread to read", &path))?;
        read.map_err(|error| match error {
            // A file that is gone is damage, too; any other failure may pass.
            Error::Io { path, source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Error::Missing { path, reason: "STANDING names it".to_owned() }
            }
            error => error,
        })
    }

    fn continue_with(&mut self, value: P, build: &Build) -> Result<(), Error> {
        match self.follower.subscribe_after(build.position) {
            Ok(()) => {}
            Err(error) => {
                let Some(oldest) = lost_before(&error) else { return Err(error) };
                return self.begin(Some(format!(
                    "it stood at {}, and commands are stored only from {oldest} on",
                    build.position
                )));
            }
        }
        let shown = self.clone_of(&value)?;
        self.follower.save_begun(self.follower.standing.clone())?;
        self.replace_working(value, build.position);
        self.tell_standing(None);
        self.show(shown);
        self.note_checkpoint(&Ok(()));
        Ok(())
    }

    fn clone_of(&self, value: &P) -> Result<P, Error> {
        let cloned = told_of_panics("Clone", || value.clone());
        cloned.map_err(|reason| self.follower.refuses(reason))
    }

    /// Begins a new build: from the first command on, or from a version of the model. After an
    /// error, the old build goes on.
    pub(super) fn begin(&mut self, damage: Option<String>) -> Result<(), Error> {
        let (value, position) = match self.follower.subscribe_after(0) {
            Ok(()) => (self.initial.clone(), 0),
            Err(truncated) if lost_before(&truncated).is_some() => self.of_model(truncated)?,
            Err(error) => return Err(error),
        };
        let standing = &self.follower.standing;
        let build = Build { version: P::VERSION, ..Build::default() };
        // What has no checkpoint is not worth keeping.
        let is_damaged = damage.is_some() && standing.current.version == P::VERSION;
        let replaces = standing.current.checkpoint == 0 || is_damaged;
        let standing = match replaces {
            true => Standing { current: build, next: None, ..standing.clone() },
            false => Standing { next: Some(build), ..standing.clone() },
        };
        // Nothing that may fail comes behind the save.
        let saved = self
            .clone_of(&value)
            .and_then(|shown| self.follower.save_begun(standing).map(|()| shown));
        let shown = match saved {
            Ok(shown) => shown,
            Err(error) => {
                self.follower.subscription = None;
                return Err(error);
            }
        };
        self.replace_working(value, position);
        self.tell_standing(damage);
        self.show(shown);
        let made = if position == 0 { Ok(()) } else { self.checkpoint() };
        self.note_checkpoint(&made);
        Ok(())
    }

    /// Goes on with another value. If the `Drop` of the one before panics, nothing is made of this
    /// one: it does not belong to the position.
    pub(super) fn replace_working(&mut self, value: P, position: u64) {
        self.is_spoilt = true;
        (self.working, self.position) = (value, position);
        self.is_spoilt = false;
    }

    /// Makes a value of the newest version of the model.
    fn of_model(&mut self, truncated: Error) -> Result<(P, u64), Error> {
        let version = self.follower.followed.shared.published.pin();
        // Only what is durable may be in a checkpoint.
        sync_outside_lock(&self.committer)?;
        let made = told_of_panics("from_model", || P::from_model(&version.model));
        let made = made.map_err(|reason| self.follower.refuses(reason))?;
        let value = made.ok_or(truncated)?;
        self.follower.subscribe_after(version.sequence)?;
        Ok((value, version.sequence))
    }
}

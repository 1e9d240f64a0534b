//! Owns the events of commands that were accepted under `Events::Derived`: it replays the commands
//! and takes what they emit. Knows nothing of where the commands were read.

use std::sync::Arc;

use super::Followed;
use crate::error::Error;
use crate::history::{HistoryRecord, Replica};
use crate::model::{Model, time_ns};
use crate::process::{FreedDeep, stack};

/// A model that is replayed beside a subscription, once it has come to such a command.
pub(super) struct Derived<M: Model> {
    replica: Option<Replica<M>>,
}

impl<M: Model> Derived<M> {
    pub(super) fn new() -> Self {
        Self { replica: None }
    }

    /// Makes the model before the command with this sequence, unless it is at hand.
    pub(super) fn begin(&mut self, followed: &Followed<M>, sequence: u64) -> Result<(), Error> {
        let before = sequence.saturating_sub(1);
        if self.replica.as_ref().is_some_and(|it| it.replayed.sequence == before) {
            return Ok(());
        }
        self.free();
        let view = followed.history().at(before).map_err(|error| match error {
            // The command is there, so it is not the history that has lost it.
            Error::HistoryTruncated { path, oldest, .. } => {
                Error::EventsNotDerivable { path, sequence, oldest }
            }
            error => error,
        })?;
        let (model, time) = ((*view).clone(), time_ns(view.time()));
        let made = Replica::new(&followed.files(), model, before, time);
        self.replica = Some(made);
        Ok(())
    }

    /// Returns what a command emits. It is cheap if the command before was the last one that this
    /// was asked for. Otherwise, the model before it is made of a snapshot and the commands behind.
    pub(super) fn events(
        &mut self,
        followed: &Followed<M>,
        command: &HistoryRecord<M>,
    ) -> Result<Vec<M::Event>, Error> {
        let replayed = self.replay(followed, command, false);
        if replayed.is_ok() || stack::is_known() {
            return replayed;
        }
        // The command may be nested too deep for this thread. What the failure has left of the
        // model is not used.
        self.free();
        self.replay(followed, command, true)
    }

    fn replay(
        &mut self,
        followed: &Followed<M>,
        command: &HistoryRecord<M>,
        on_large_stack: bool,
    ) -> Result<Vec<M::Event>, Error> {
        self.begin(followed, command.sequence())?;
        let replica = self.replica.as_mut().expect("it was just made");
        let mut events = Vec::new();
        let mut apply = || replica.apply_and_emit(command.file(), &command.record(), &mut events);
        match on_large_stack {
            true => {
                stack::run(apply).map_err(Error::io("start a thread for", command.path()))??
            }
            false => apply()?,
        }
        Ok(events)
    }

    /// Frees the model, which may be nested more deeply than this thread's stack allows.
    fn free(&mut self) {
        if let Some(replica) = self.replica.take() {
            drop(FreedDeep::new(Arc::new(replica.replayed.model)));
        }
    }
}

impl<M: Model> Drop for Derived<M> {
    fn drop(&mut self) {
        self.free();
    }
}

//! Owns the events of commands that were accepted under `Events::Derived`: it replays the commands
//! and takes what they emit. Knows nothing of where the commands were read.

use std::sync::Arc;

use super::Followed;
use crate::error::Error;
use crate::history::{HistoryRecord, Replica};
use crate::model::{Model, time_ns};
use crate::process::FreedDeep;

/// A model that is replayed beside a subscription, once it has come to such a command.
pub(super) struct Derived<M: Model> {
    replica: Option<Replica<M>>,
}

impl<M: Model> Derived<M> {
    pub(super) fn new() -> Self {
        Self { replica: None }
    }

    /// Returns what a command emits. It is cheap if the command before was the last one that this
    /// was asked for. Otherwise, the model before it is made of a snapshot and the commands behind.
    pub(super) fn events(
        &mut self,
        followed: &Followed<M>,
        command: &HistoryRecord<M>,
    ) -> Result<Vec<M::Event>, Error> {
        let before = command.sequence().saturating_sub(1);
        let at_hand = self.replica.take().filter(|it| it.replayed.sequence == before);
        let mut replica = match at_hand {
            Some(replica) => replica,
            None => {
                let view = followed.history().at(before).map_err(|error| match error {
                    // The command is there, so it is not the history that has lost it.
                    Error::HistoryTruncated { path, oldest, .. } => {
                        Error::EventsNotDerivable { path, sequence: before + 1, oldest }
                    }
                    error => error,
                })?;
                let (model, time) = ((*view).clone(), time_ns(view.time()));
                Replica::new(followed.identity.database, model, before, time)
            }
        };
        let mut events = Vec::new();
        let applied = replica.apply_and_emit(command.file(), &command.record(), &mut events);
        self.replica = Some(replica);
        applied?;
        Ok(events)
    }
}

impl<M: Model> Drop for Derived<M> {
    fn drop(&mut self) {
        // A model may be nested more deeply than this thread's stack allows.
        if let Some(replica) = self.replica.take() {
            drop(FreedDeep::new(Arc::new(replica.replayed.model)));
        }
    }
}

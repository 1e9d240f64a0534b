//! Owns the events of commands that were accepted under `Events::Derived`: it replays the commands
//! and takes what they emit. Knows nothing of where the commands were read.

use super::Followed;
use crate::error::Error;
use crate::history::{HistoryRecord, Replica};
use crate::model::{Model, time_ns};

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
                let view = followed.history().at(before)?;
                let (model, time) = ((*view).clone(), time_ns(view.time()));
                Replica::new(followed.identity.database, model, before, time)
            }
        };
        let mut events = Vec::new();
        replica.apply_and_emit(command.file(), &command.record(), &mut events)?;
        self.replica = Some(replica);
        Ok(events)
    }
}

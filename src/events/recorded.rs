//! Owns one accepted command as a follower gets it. Knows nothing of where it was read.

use std::fmt;
use std::time::SystemTime;

use crate::error::Error;
use crate::history::HistoryRecord;
use crate::model::{Metadata, Model};

/// One accepted command, with all events that it emitted; see
/// [`Subscription`](crate::Subscription).
#[non_exhaustive]
pub struct Recorded<M: Model> {
    /// The command's sequence. It is also the position of whoever has got this: to continue behind
    /// it, subscribe with [`From::After`](crate::From::After) this sequence.
    pub sequence: u64,
    /// The command's journaled time, which [`Context::now`](crate::Context::now) gave it.
    pub time: SystemTime,
    /// The command's metadata, for example who asked for it.
    pub metadata: Metadata,
    /// The command itself: its name, and the value if you ask for it. While it lives, it keeps the
    /// bytes of its whole batch in memory.
    pub command: HistoryRecord<M>,
    /// The events that the command emitted, in their order, as they were stored with it. Under
    /// [`Events::Derived`](crate::Events::Derived) they are what the present program emits. Empty
    /// if it emitted none, or if it was accepted under [`Events::Off`](crate::Events::Off).
    pub events: Vec<M::Event>,
}

impl<M: Model> Recorded<M> {
    /// Decodes what comes with a command.
    pub(crate) fn of(command: HistoryRecord<M>) -> Result<Self, Error> {
        let events = command.events()?.unwrap_or_default();
        Ok(Self::with(command, events))
    }

    /// Decodes what comes with a command that has emitted these events.
    pub(super) fn with(command: HistoryRecord<M>, events: Vec<M::Event>) -> Self {
        let (sequence, time, metadata) = (command.sequence(), command.time(), command.metadata());
        Self { sequence, time, metadata, command, events }
    }
}

impl<M: Model> fmt::Debug for Recorded<M>
where
    M::Event: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorded")
            .field("sequence", &self.sequence)
            .field("time", &self.time)
            .field("metadata", &self.metadata)
            .field("command", &self.command.command_name())
            .field("events", &self.events)
            .finish()
    }
}

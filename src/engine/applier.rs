//! Applies a record by its tag where no caller waits for an answer: in a rollback, a replay, a
//! history. Knows nothing of where records come from.

use super::published_version::free;
use crate::journal::Record;
use crate::model::{CommandTable, Context, Entry, Model, RandomSeed};
use crate::process::told_of_panics;

/// How many events there is room for, after one command emitted many.
pub(crate) const KEPT_EVENTS: usize = 1024;

/// Drops events, each by itself. The error says that the `Drop` of one panicked.
pub(crate) fn drop_events<E>(events: &mut Vec<E>) -> Result<(), String> {
    if !std::mem::needs_drop::<E>() {
        events.clear();
        return Ok(());
    }
    told_of_panics("event's Drop", || free(events.drain(..)))
}

/// What is needed to apply records, besides the model.
pub(crate) struct Applier<M: Model> {
    table: CommandTable<M>,
    seed: RandomSeed,
    events: Vec<M::Event>,
}

impl<M: Model> Applier<M> {
    pub(crate) fn new(seed: RandomSeed) -> Self {
        Self { table: CommandTable::new(), seed, events: Vec::new() }
    }

    /// Returns the command with this tag; `None` when `commands!` does not list it.
    pub(crate) fn entry(&self, tag: u16) -> Option<&'static Entry<M>> {
        self.table.get(tag)
    }

    /// Applies a record of that command, which was accepted before, as the command with this
    /// sequence. It drops the events that the command emits now.
    ///
    /// # Errors
    /// Returns the reason when the command is refused or panics now.
    pub(crate) fn apply(
        &mut self,
        entry: &Entry<M>,
        record: &Record<'_>,
        sequence: u64,
        model: &mut M,
    ) -> Result<(), String> {
        let mut events = std::mem::take(&mut self.events);
        let applied = self.apply_and_emit(entry, record, sequence, model, &mut events);
        if events.is_empty() {
            self.events = events;
            return applied;
        }
        let cleared = drop_events(&mut events);
        events.shrink_to(KEPT_EVENTS);
        self.events = events;
        applied.and(cleared)
    }

    /// Applies as [`apply`](Self::apply), and appends the events that the command emits now to
    /// `events`.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub(crate) fn apply_and_emit(
        &self,
        entry: &Entry<M>,
        record: &Record<'_>,
        sequence: u64,
        model: &mut M,
        events: &mut Vec<M::Event>,
    ) -> Result<(), String> {
        let mut cx = Context::new(self.seed, sequence, record.time_ns, record.metadata, events);
        CommandTable::replay(entry, record.command, model, &mut cx)
    }
}

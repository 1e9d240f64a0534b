//! Applies a record by its tag where no caller waits for an answer: in a rollback, a replay, a
//! history. Knows nothing of where records come from.

use std::any::Any;
use std::sync::Arc;

use super::published_version::free;
use crate::engine::Remembered;
use crate::execute_error::FirstAnswer;
use crate::journal::Record;
use crate::model::{CommandTable, Context, Entry, Model, RandomSeed, asked, system_time};
use crate::panics::told_of_panics;

/// A command's output as JSON, if it is to be remembered.
pub(crate) type Output = Option<Arc<str>>;

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

    /// Returns what is told of an accepted request.
    pub(crate) fn first_answer(&self, first: &Remembered) -> Box<FirstAnswer> {
        let tag = Some(first.tag).filter(|&tag| tag != Remembered::NO_TAG);
        let command = tag.and_then(|tag| self.entry(tag));
        Box::new(FirstAnswer {
            command: command.map(Entry::name),
            applied: command.map(Entry::applied),
            actor: first.key.actor().to_owned(),
            time: system_time(first.time_ns),
            output: first.output.clone(),
        })
    }

    /// Applies a record of that command, which was accepted before, as the command with this
    /// sequence. It drops the events that the command emits now. Returns the output as JSON, if the
    /// command has a request id, and its output takes at most so many bytes.
    ///
    /// # Errors
    /// Returns the reason when the command is refused or panics now.
    pub(crate) fn apply(
        &mut self,
        entry: &Entry<M>,
        record: &Record<'_>,
        sequence: u64,
        model: &mut M,
        output_bytes: usize,
    ) -> Result<Output, String> {
        let mut events = std::mem::take(&mut self.events);
        let emitted = (&mut events, output_bytes);
        let applied = self.apply_and_emit(entry, record, sequence, model, emitted);
        if events.is_empty() {
            self.events = events;
            return applied;
        }
        let cleared = drop_events(&mut events);
        events.shrink_to(KEPT_EVENTS);
        self.events = events;
        cleared.and(applied)
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
        (events, output_bytes): (&mut Vec<M::Event>, usize),
    ) -> Result<Output, String> {
        let mut cx = Context::new(self.seed, sequence, record.time_ns, record.metadata, events);
        if output_bytes == 0 || asked(record.metadata).is_none() {
            return CommandTable::replay(entry, record.command, model, &mut cx, None)
                .map(|()| None);
        }
        let mut json = None;
        let mut show = |output: &dyn Any| json = entry.output_to_json(output, output_bytes);
        CommandTable::replay(entry, record.command, model, &mut cx, Some(&mut show))?;
        Ok(json.map(Arc::from))
    }
}

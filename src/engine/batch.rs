//! Owns what goes together from the writer to the committer: the records of one frame, the version
//! after them, the events that are to be freed, and the callers that wait for them. After the
//! answers the emptied batch goes back to the writer, which frees the old versions in it. Knows
//! nothing of how a batch is written.

use std::sync::Arc;

use super::pending::{Failure, Ticket};
use super::published_version::{Version, free};
use crate::engine::KEPT_EVENTS;
use crate::journal::FrameBuffer;
use crate::model::Model;

/// The size to which a buffer is shrunk after one large batch.
const KEPT_FRAME_BYTES: usize = 4 << 20;
/// The number of events to whose room a batch is shrunk: some for each of its commands.
const KEPT_EVENTS_OF_BATCH: usize = 16 * KEPT_EVENTS;

/// One group-commit batch.
pub(crate) struct Batch<M: Model> {
    pub(crate) frame: FrameBuffer,
    /// How many batches were refused before it began. It depends on none of those.
    pub(crate) refusals: u64,
    /// Accepted commands, each a record in `frame`.
    pub(crate) count: u32,
    /// The tickets of accepted and of refused commands, in the order of the commands.
    pub(crate) tickets: Vec<Ticket>,
    /// The events of its commands, if they have a `Drop`: it may panic, and must not do that while
    /// a command is applied. The frame has what is stored of them.
    pub(crate) events: Vec<M::Event>,
    /// The version after the last accepted command. It is set when the writer hands the batch over.
    pub(crate) version: Option<Arc<Version<M>>>,
    /// Versions that are no longer needed once this batch's version is published.
    pub(crate) superseded: Vec<Arc<Version<M>>>,
    pub(crate) rejected: u64,
    pub(crate) panicked: u64,
    pub(crate) reapplied: u64,
    /// How many commands were for another sequence than the one at their place in the batch.
    pub(crate) stale: u64,
    /// How many commands had a request id that was accepted before.
    pub(crate) duplicates: u64,
    /// How many commands had a request id that cannot be remembered.
    pub(crate) requests_full: u64,
}

impl<M: Model> Batch<M> {
    pub(crate) fn new() -> Self {
        Self {
            frame: FrameBuffer::new(),
            refusals: 0,
            count: 0,
            tickets: Vec::new(),
            events: Vec::new(),
            version: None,
            superseded: Vec::new(),
            rejected: 0,
            panicked: 0,
            reapplied: 0,
            stale: 0,
            duplicates: 0,
            requests_full: 0,
        }
    }

    /// Gives each caller the answer to its command.
    pub(crate) fn release(&mut self) {
        self.tickets.drain(..).for_each(Ticket::release);
    }

    /// Gives all callers the same failure: even a refusal may depend on a batch that was lost.
    pub(crate) fn fail(&mut self, failure: &Failure) {
        for ticket in self.tickets.drain(..) {
            ticket.fail(failure.clone());
        }
    }

    /// Empties the batch, so that its buffers can be used again, and frees the versions that it
    /// replaced.
    pub(crate) fn reset(&mut self) {
        // All fields are named here, so that none is forgotten.
        let Self {
            frame,
            refusals,
            count,
            tickets,
            events,
            version,
            superseded,
            rejected,
            panicked,
            reapplied,
            stale,
            duplicates,
            requests_full,
        } = self;
        frame.clear(KEPT_FRAME_BYTES);
        tickets.clear();
        *count = 0;
        for counter in [refusals, rejected, panicked, reapplied, stale, duplicates, requests_full] {
            *counter = 0;
        }
        // Users' values come last, when the batch is empty: the `Drop` of one may panic. What is
        // not freed then stays here, since a second panic meanwhile would end the process.
        let mut emitted = std::mem::take(events);
        free(emitted.drain(..));
        emitted.shrink_to(KEPT_EVENTS_OF_BATCH);
        self.events = emitted;
        let (version, mut superseded) = (version.take(), std::mem::take(superseded));
        free(superseded.drain(..).chain(version));
        self.superseded = superseded;
    }
}

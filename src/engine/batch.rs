//! Owns what travels together from the writer to the committer: the records of one frame, the
//! version they lead to, the events that they emitted, and the callers that wait for them.

use std::sync::Arc;

use super::pending::{Failure, Ticket};
use super::published_version::{Version, free};
use crate::journal::FrameBuffer;
use crate::model::Model;

/// A buffer that grew beyond this for one large batch is shrunk again.
const KEPT_FRAME_BYTES: usize = 4 << 20;

/// The events that one accepted command emitted. They are delivered together, once the command is
/// readable.
pub(crate) struct Emitted<E> {
    pub(crate) sequence: u64,
    /// At least one.
    pub(crate) events: Vec<E>,
}

/// One group-commit batch.
pub(crate) struct Batch<M: Model> {
    pub(crate) frame: FrameBuffer,
    /// How many batches had been refused when it was begun: it rests on none of those.
    pub(crate) refusals: u64,
    /// Accepted commands, each a record in `frame`.
    pub(crate) count: u32,
    /// Of accepted and of refused commands, in the order they were taken.
    pub(crate) tickets: Vec<Ticket>,
    /// What accepted commands emitted, in their order.
    pub(crate) events: Vec<Emitted<M::Event>>,
    /// The version after the last accepted command; set when the batch is handed over.
    pub(crate) version: Option<Arc<Version<M>>>,
    /// Versions that are not needed any more once this batch's is published.
    pub(crate) superseded: Vec<Arc<Version<M>>>,
    pub(crate) rejected: u64,
    pub(crate) panicked: u64,
    pub(crate) reapplied: u64,
    /// Commands for another sequence than the batch had come to.
    pub(crate) stale: u64,
    /// Commands whose request id was accepted before.
    pub(crate) duplicates: u64,
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
        }
    }

    /// Answers everybody with what their command came to.
    pub(crate) fn release(&mut self) {
        self.tickets.drain(..).for_each(Ticket::release);
    }

    /// Answers everybody with one failure: even a refusal may rest on a batch that was lost.
    pub(crate) fn fail(&mut self, failure: &Failure) {
        for ticket in self.tickets.drain(..) {
            ticket.fail(failure.clone());
        }
    }

    /// Empties the batch, for its buffers to be used again, and frees the versions that it
    /// replaced.
    pub(crate) fn reset(&mut self) {
        let frame = std::mem::replace(&mut self.frame, FrameBuffer::new());
        let tickets = std::mem::take(&mut self.tickets);
        let mut superseded = std::mem::take(&mut self.superseded);
        let (version, events) = (self.version.take(), std::mem::take(&mut self.events));
        *self = Self { frame, tickets, ..Self::new() };
        self.frame.clear(KEPT_FRAME_BYTES);
        self.tickets.clear();
        free(events);
        free(superseded.drain(..).chain(version));
        self.superseded = superseded;
    }
}

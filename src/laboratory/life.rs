//! Owns what a history leaves to be looked at: the operation log of each life of the disk, from one
//! power-on to the next, with what was asked and answered in it. Knows nothing of how it was made.

use std::sync::{Arc, Mutex};

use super::model::{Order, Reference};
use super::setup::Setup;
use crate::storage::simulated::{Operation, SimulatedDisk, State};

/// What the laboratory did or saw, in the disk's operation log.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Submitted(Order),
    /// Submitted, and answered that it could not be written: it was never in the journal.
    Withdrawn,
    /// `sequence` when it was accepted.
    Answered {
        sequence: Option<u64>,
    },
    /// An open returned; whoever reads sees this version.
    Opened {
        sequence: u64,
    },
    /// `sync` or `close` returned.
    Durable {
        sequence: u64,
    },
    Closed,
}

/// Writes events into the disk's log.
#[derive(Clone)]
pub(crate) struct Journalist {
    pub(super) disk: SimulatedDisk,
    pub(super) events: Arc<Mutex<Vec<Event>>>,
}

impl Journalist {
    pub(super) fn new(disk: SimulatedDisk) -> Self {
        Self { disk, events: Arc::default() }
    }

    /// Gives the event's number, unless the disk is dead.
    pub(crate) fn note(&self, event: Event) -> Option<usize> {
        let mut noted = None;
        self.disk.note_with(|| {
            let mut events = self.events.lock().unwrap();
            events.push(event);
            noted = Some(events.len() - 1);
            events.len() - 1
        });
        noted
    }

    /// Takes back that a command was submitted.
    pub(crate) fn withdraw(&self, number: usize) {
        self.events.lock().unwrap()[number] = Event::Withdrawn;
    }
}

/// What a history consists of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Execute,
    Batch,
    FillSegment,
    Snapshot,
    /// Long enough for the writer to mark the journal's end.
    Idle,
    Reopen,
    Sync,
    Crash,
    CrashAmidBatch,
    Clock,
    Fault,
}

/// What must be there: after a power cut, and after a process kill, which asks for more under
/// `Durability::Buffered`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Required {
    pub(crate) cut: u64,
    pub(crate) kill: u64,
}

/// What happened from one power-on to the next.
pub(crate) struct Life {
    pub(crate) setup: Setup,
    pub(crate) start: State,
    pub(crate) log: Vec<Operation>,
    pub(crate) events: Vec<Event>,
    /// As they stood at the start.
    pub(crate) reference: Reference,
    pub(crate) required: Required,
}

/// How much a history does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) steps: usize,
    pub(crate) faults: bool,
}

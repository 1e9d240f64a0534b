//! Owns the result of a history: the operation log of each life of the disk, from one power-on to
//! the next, with the commands and answers in it. Knows nothing of how it was made.

use std::sync::{Arc, Mutex};

use super::model::{Order, Reference};
use super::setup::Setup;
use crate::storage::simulated::{Operation, SimulatedDisk, State};

/// An event that the laboratory notes in the disk's operation log.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Submitted(Order),
    /// The command was submitted, and answered that it could not be written. So it was never in the
    /// journal.
    Withdrawn,
    /// `sequence` is given if the command was accepted.
    Answered {
        sequence: Option<u64>,
    },
    /// An open returned. Readers see this version.
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

    /// Notes an event. Returns its number, unless the disk is dead.
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

    /// Replaces the event of a submitted command by [`Event::Withdrawn`].
    pub(crate) fn withdraw(&self, number: usize) {
        self.events.lock().unwrap()[number] = Event::Withdrawn;
    }
}

/// One step of a history.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Execute,
    Batch,
    FillSegment,
    Snapshot,
    /// Waits until the writer has marked the journal's end.
    Idle,
    Reopen,
    Sync,
    Crash,
    CrashAmidBatch,
    Clock,
    Fault,
}

/// The sequence that must be there after a power cut, and after a process kill. The latter is
/// higher under `Durability::Buffered`.
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
    /// The reference and the required sequences at the start.
    pub(crate) reference: Reference,
    pub(crate) required: Required,
}

/// How long a history is, and whether faults come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) steps: usize,
    pub(crate) faults: bool,
}

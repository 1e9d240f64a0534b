//! The model, and followers whose other databases are files of the simulated disk, so that a crash
//! reaches these, too.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::collections::Map;
use crate::storage::simulated::SimulatedDisk;
use crate::storage::{Storage, replace_file};
use crate::{
    Command, Context, FollowerError, Model, Projection, Reaction, Reactor, Recorded, Sink, Source,
};

/// What was put, and what the reactor has noted of it, and how often.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Notes {
    pub(super) puts: u64,
    pub(super) noted: Map<u64, u64>,
}

impl Model for Notes {
    type Event = u64;
}

#[derive(Serialize, Deserialize)]
pub(super) struct Put {
    pub(super) padding: Vec<u8>,
}

impl Command<Notes> for Put {
    type Output = u64;
    type Rejection = ();

    fn apply(self, notes: &mut Notes, cx: &mut Context<'_, Notes>) -> Result<u64, ()> {
        notes.puts += 1;
        let event = cx.random();
        cx.emit(event);
        Ok(cx.sequence())
    }
}

/// What the reactor executes.
#[derive(Serialize, Deserialize)]
pub(super) struct Note(pub(super) u64);

impl Command<Notes> for Note {
    type Output = ();
    type Rejection = ();

    fn apply(self, notes: &mut Notes, _: &mut Context<'_, Notes>) -> Result<(), ()> {
        let before = notes.noted.get(&self.0).copied().unwrap_or(0);
        notes.noted.insert(self.0, before + 1);
        Ok(())
    }
}

crate::commands! { Notes { 1 => Put, 2 => Note } }

/// Depends on each event, and on their order.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Folded {
    commands: u64,
    mixed: u64,
    events: Map<u64, u64>,
}

impl Folded {
    pub(super) fn take(&mut self, sequence: u64, events: &[u64]) {
        self.commands += 1;
        self.mixed = self.mixed.wrapping_mul(31).wrapping_add(sequence);
        for event in events {
            self.events.insert(*event, sequence);
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        crate::codec::encode_stream(self, &mut bytes).unwrap();
        bytes
    }
}

impl Projection<Notes> for Folded {
    fn apply(&mut self, recorded: &Recorded<Notes>) -> Result<(), FollowerError> {
        self.take(recorded.sequence, &recorded.events);
        Ok(())
    }
}

/// Numbers in a file of the disk, which is replaced as a whole.
#[derive(Clone)]
pub(super) struct Numbers {
    pub(super) disk: SimulatedDisk,
    pub(super) path: PathBuf,
}

impl Numbers {
    pub(super) fn read(&self) -> Result<Vec<u64>, String> {
        if self.disk.kind(&self.path).map_err(|error| error.to_string())?.is_none() {
            return Ok(Vec::new());
        }
        let bytes = self.disk.read(&self.path).map_err(|error| error.to_string())?;
        let (numbers, rest) = bytes.as_chunks::<8>();
        assert!(rest.is_empty(), "it is replaced as a whole");
        Ok(numbers.iter().map(|number| u64::from_le_bytes(*number)).collect())
    }

    fn write(&self, numbers: &[u64]) -> Result<(), String> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let storage: Arc<dyn Storage> = Arc::new(self.disk.clone());
        replace_file(&*storage, &self.path, &bytes).map_err(|error| error.to_string())
    }
}

/// Another database whose rows are the sequences that it was given. The last one is its position.
pub(super) struct Rows(pub(super) Numbers);

impl Sink<Notes> for Rows {
    type Error = String;

    fn position(&mut self, _: &Source) -> Result<u64, String> {
        Ok(self.0.read()?.last().copied().unwrap_or(0))
    }

    fn apply_batch(&mut self, batch: &[Recorded<Notes>]) -> Result<(), String> {
        let mut rows = self.0.read()?;
        rows.extend(batch.iter().map(|recorded| recorded.sequence));
        self.0.write(&rows)
    }
}

/// Notes each third put in the database, and all of them in a file.
pub(super) struct Noting(pub(super) Numbers);

impl Reactor<Notes> for Noting {
    fn react(
        &mut self,
        recorded: &Recorded<Notes>,
        reaction: &mut Reaction<'_, Notes>,
    ) -> Result<(), FollowerError> {
        if recorded.command.command_name() != "Put" {
            return Ok(());
        }
        if recorded.sequence.is_multiple_of(3) {
            reaction.execute(Note(recorded.sequence)).map_err(|error| format!("{error:?}"))?;
        }
        let mut effects = self.0.read()?;
        effects.push(recorded.sequence);
        Ok(self.0.write(&effects)?)
    }
}

pub(super) fn numbers(disk: &SimulatedDisk, name: &str) -> Numbers {
    Numbers { disk: disk.clone(), path: Path::new("/data/other").join(name) }
}

//! A model whose bytes tell which commands are in it, in which order; and disks that only a reader
//! may use.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::collections::Map;
use crate::options::Options;
use crate::read_only::{self, ReadOnly};
use crate::storage::simulated::SimulatedDisk;
use crate::storage::{EntryKind, FileBytes, Lock, Storage, TemporaryFile};
use crate::{Command, Context, Database, Error, Model};

#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Mixture {
    mixed: u64,
    values: Map<u64, u64>,
}

impl Model for Mixture {
    type Event = u64;
}

impl Mixture {
    pub(super) fn mix(&mut self, value: u64) {
        self.mixed = self.mixed.wrapping_mul(0x0100_0000_01b3) ^ value;
        self.values.insert(value % 64, value);
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        bincode::serde::encode_to_vec(self, bincode::config::standard()).unwrap()
    }
}

/// Mixes in a value. The padding only takes room in the journal.
#[derive(Serialize, Deserialize)]
pub(super) struct Mix(pub(super) u64, pub(super) Vec<u8>);

impl Command<Mixture> for Mix {
    type Output = u64;
    type Rejection = ();

    fn apply(self, model: &mut Mixture, cx: &mut Context<'_, Mixture>) -> Result<u64, ()> {
        model.mix(self.0);
        cx.emit(self.0);
        Ok(cx.sequence())
    }
}

crate::commands! { Mixture { 1 => Mix } }

/// The encoded model after the first `sequence` of these values.
pub(super) fn bytes_at(values: &[u64], sequence: u64) -> Vec<u8> {
    let mut model = Mixture::default();
    values[..sequence as usize].iter().for_each(|value| model.mix(*value));
    model.bytes()
}

pub(super) fn writer(
    storage: Arc<dyn Storage>,
    path: &Path,
    options: Options,
) -> Result<Database<Mixture>, Error> {
    Database::open_with(storage, path, options, Mixture::default, &mut (Box::new(|_| {}) as _))
}

pub(super) fn reader(storage: Arc<dyn Storage>, path: &Path) -> Result<ReadOnly<Mixture>, Error> {
    read_only::open(storage, path, Options::default(), &mut (Box::new(|_| {}) as _))
}

/// A disk as a reader sees it. What is behind it can be exchanged. Whatever would change something,
/// or lock it, ends the test.
pub(super) struct Window(Mutex<SimulatedDisk>);

impl Window {
    pub(super) fn onto(disk: SimulatedDisk) -> Arc<Self> {
        Arc::new(Self(Mutex::new(disk)))
    }

    pub(super) fn show(&self, disk: SimulatedDisk) {
        *self.0.lock().unwrap() = disk;
    }

    fn disk(&self) -> SimulatedDisk {
        self.0.lock().unwrap().clone()
    }
}

impl Storage for Window {
    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        self.disk().kind(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.disk().list(directory)
    }

    fn read(&self, path: &Path) -> io::Result<FileBytes> {
        self.disk().read(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        panic!("a reader makes {}", path.display());
    }

    fn create_temporary(&self, directory: &Path) -> io::Result<Box<dyn TemporaryFile>> {
        panic!("a reader makes a file in {}", directory.display());
    }

    fn rename(&self, from: &Path, _: &Path) -> io::Result<()> {
        panic!("a reader renames {}", from.display());
    }

    fn shorten(&self, path: &Path, _: u64) -> io::Result<()> {
        panic!("a reader cuts {}", path.display());
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        panic!("a reader removes {}", path.display());
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        panic!("a reader removes {}", path.display());
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        panic!("a reader syncs {}", directory.display());
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        panic!("a reader locks {}", path.display());
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        panic!("a reader needs nothing random");
    }

    fn for_copies(self: Arc<Self>) -> Arc<dyn Storage> {
        panic!("a reader makes no copies");
    }
}

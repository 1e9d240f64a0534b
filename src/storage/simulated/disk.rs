//! Owns the simulated disk as the engine uses it: [`Storage`] over a [`State`], with a log, planned
//! faults, and a gate that can hold writers.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use super::faults::{Fault, Target};
use super::state::{Node, NodeId, Operation, State};
use super::world::{CLOCK_START, World};
use crate::storage::{
    EntryKind, FileBytes, Lock, Storage, StoredFile, TEMPORARY_PREFIX, TEMPORARY_SUFFIX,
    TemporaryFile,
};

/// A disk in memory.
#[derive(Clone)]
pub(crate) struct SimulatedDisk(Arc<Inner>);

struct Inner {
    world: Mutex<World>,
    changed: Condvar,
}

impl SimulatedDisk {
    pub(crate) fn new(state: State, seed: u64, recording: bool) -> Self {
        let world = World::new(state, seed, recording);
        Self(Arc::new(Inner { world: Mutex::new(world), changed: Condvar::new() }))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.world.lock().unwrap()
    }

    /// Returns the state as it is now, which is the state after a process kill.
    pub(crate) fn state(&self) -> State {
        self.world().state.clone()
    }

    /// Takes the log of all operations out of the disk.
    pub(crate) fn take_log(&self) -> Vec<Operation> {
        std::mem::take(&mut self.world().log)
    }

    /// Puts an event outside the disk into the log. `number` runs under the disk's lock, so that
    /// the numbers are in order.
    pub(crate) fn note_with(&self, number: impl FnOnce() -> usize) {
        let mut world = self.world();
        if !world.dead && world.recording {
            let number = number();
            world.log.push(Operation::Note(number));
        }
    }

    pub(crate) fn plan(&self, fault: Fault) {
        self.world().faults.plan(fault);
    }

    pub(crate) fn cancel_faults(&self) {
        let mut world = self.world();
        world.faults.cancel();
        world.failing = None;
    }

    /// Returns how many faults have happened so far.
    pub(crate) fn faults_fired(&self) -> u64 {
        self.world().faults.fired
    }

    /// Holds every write until [`thaw`](Self::thaw).
    pub(crate) fn freeze(&self) {
        self.world().frozen = true;
    }

    pub(crate) fn thaw(&self) {
        self.world().frozen = false;
        self.0.changed.notify_all();
    }

    /// Waits until a writer waits at the gate or `otherwise` is true; at most two seconds.
    pub(crate) fn wait_for_writer(&self, otherwise: impl Fn() -> bool) -> bool {
        let mut world = self.world();
        for _ in 0..20_000 {
            if world.waiting > 0 {
                return true;
            }
            if otherwise() {
                return false;
            }
            world = self.0.changed.wait_timeout(world, Duration::from_micros(100)).unwrap().0;
        }
        false
    }

    /// Kills the process: from here on, nothing that it does has an effect.
    pub(crate) fn kill(&self) {
        let mut world = self.world();
        world.dead = true;
        world.frozen = false;
        drop(world);
        self.0.changed.notify_all();
    }

    /// Sets the clock, in seconds after its start. It may go back.
    pub(crate) fn set_clock(&self, seconds: u64) {
        self.world().clock_ns = (CLOCK_START + seconds) * 1_000_000_000;
    }
}

impl Storage for SimulatedDisk {
    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        let world = self.world();
        world.alive()?;
        Ok(world.state.find(path).map(|node| match world.state.nodes[node] {
            Node::Directory(_) => EntryKind::Directory,
            _ => EntryKind::File,
        }))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.may_fail(Target::Create)?;
        let (directory, name) = world.place(path)?;
        if world.state.find(path).is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let node = world.state.nodes.len();
        world.perform(Operation::CreateDirectory { directory, name, node });
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut world = self.world();
        world.may_fail(Target::Read)?;
        let node = world.state.find(directory).ok_or(ErrorKind::NotFound)?;
        let found = world.state.directory(node).ok_or(ErrorKind::NotADirectory)?;
        let mut names: Vec<String> = found.current.keys().cloned().collect();
        world.random.shuffle(&mut names);
        Ok(names)
    }

    fn read(&self, path: &Path) -> io::Result<FileBytes> {
        let mut world = self.world();
        world.may_fail(Target::Read)?;
        let node = world.state.find(path).ok_or(ErrorKind::NotFound)?;
        let file = world.state.file(node).ok_or(ErrorKind::InvalidInput)?;
        Ok(FileBytes::Owned(file.current.clone()))
    }

    fn create_temporary(&self, directory: &Path) -> io::Result<Box<dyn TemporaryFile>> {
        let mut world = self.world();
        world.may_fail(Target::Create)?;
        let tag = world.random.next();
        let name = format!("{TEMPORARY_PREFIX}{tag:016x}{TEMPORARY_SUFFIX}");
        let path = directory.join(&name);
        let (directory, name) = world.place(&path)?;
        let node = world.state.nodes.len();
        world.perform(Operation::CreateFile { directory, name, node });
        Ok(Box::new(SimulatedTemporary { disk: self.clone(), node, path, published: false }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.world().rename(from, to)
    }

    fn shorten(&self, path: &Path, length: u64) -> io::Result<()> {
        let mut world = self.world();
        world.may_fail(Target::Write)?;
        let file = world.state.find(path).ok_or(ErrorKind::NotFound)?;
        world.perform(Operation::SetLength { file, length });
        drop(world);
        SimulatedFile { disk: self.clone(), node: file }.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.may_fail(Target::Remove)?;
        let node = world.state.find(path).ok_or(ErrorKind::NotFound)?;
        if world.state.directory(node).is_some() {
            return Err(ErrorKind::IsADirectory.into());
        }
        let (directory, name) = world.place(path)?;
        world.perform(Operation::Remove { directory, name });
        Ok(())
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.may_fail(Target::Remove)?;
        let node = world.state.find(path).ok_or(ErrorKind::NotFound)?;
        let found = world.state.directory(node).ok_or(ErrorKind::NotADirectory)?;
        if !found.current.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        let (directory, name) = world.place(path)?;
        world.perform(Operation::Remove { directory, name });
        Ok(())
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.may_fail(Target::SyncDirectory)?;
        let directory = world.state.find(directory).ok_or(ErrorKind::NotFound)?;
        world.state.directory(directory).ok_or(ErrorKind::NotADirectory)?;
        world.perform(Operation::SyncDirectory { directory });
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let mut world = self.world();
        world.alive()?;
        let node = match world.state.find(path) {
            Some(node) => node,
            None => {
                let (directory, name) = world.place(path)?;
                let node = world.state.nodes.len();
                world.perform(Operation::CreateFile { directory, name, node });
                node
            }
        };
        if !world.locked.insert(node) {
            return Ok(None);
        }
        Ok(Some(Box::new(SimulatedLock { disk: self.clone(), node })))
    }

    fn now(&self) -> SystemTime {
        let mut world = self.world();
        world.clock_ns += 1_000;
        SystemTime::UNIX_EPOCH + Duration::from_nanos(world.clock_ns)
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        let bytes = self.world().random.bytes(16);
        Ok(bytes.try_into().unwrap())
    }

    fn for_copies(self: Arc<Self>) -> Arc<dyn Storage> {
        self
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    node: NodeId,
}

impl StoredFile for SimulatedFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        let mut world = self.disk.world();
        while world.frozen && !world.dead {
            world.waiting += 1;
            self.disk.0.changed.notify_all();
            world = self.disk.0.changed.wait(world).unwrap();
            world.waiting -= 1;
        }
        world.write(self.node, bytes, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        // A sync does not cover what is written while it runs.
        let upto = self.disk.world().state.changes;
        std::thread::yield_now();
        let mut world = self.disk.world();
        let file = self.node;
        match world.may_fail(Target::Sync) {
            Ok(()) => {
                world.perform(Operation::Sync { file, upto });
                Ok(())
            }
            Err(error) => {
                if !world.dead {
                    let keeps = world.random.once_in(2);
                    world.perform(Operation::SyncFailed { file, upto, keeps });
                }
                Err(error)
            }
        }
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}

struct SimulatedTemporary {
    disk: SimulatedDisk,
    node: NodeId,
    path: std::path::PathBuf,
    published: bool,
}

impl TemporaryFile for SimulatedTemporary {
    fn file(&self) -> Arc<dyn StoredFile> {
        Arc::new(SimulatedFile { disk: self.disk.clone(), node: self.node })
    }

    fn publish(mut self: Box<Self>, target: &Path) -> io::Result<()> {
        self.disk.world().rename(&self.path, target)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for SimulatedTemporary {
    fn drop(&mut self) {
        let mut world = self.disk.world();
        if !self.published
            && !world.dead
            && let Ok((directory, name)) = world.place(&self.path)
            && world.state.find(&self.path).is_some()
        {
            world.perform(Operation::Remove { directory, name });
        }
    }
}

struct SimulatedLock {
    disk: SimulatedDisk,
    node: NodeId,
}

impl Lock for SimulatedLock {
    fn unlock(self: Box<Self>) -> io::Result<()> {
        Ok(()) // the drop unlocks
    }
}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        self.disk.world().locked.remove(&self.node);
    }
}

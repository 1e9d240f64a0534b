//! Owns the simulated disk as the engine meets it: [`Storage`] over a [`State`], with a log, faults
//! that were planned, and a gate at which writers can be held.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use super::faults::{Fault, FaultKind, Faults, Target, error, part_of};
use super::random::Random;
use super::state::{Node, NodeId, Operation, State};
use crate::storage::{
    EntryKind, FileBytes, Lock, Storage, StoredFile, TEMPORARY_PREFIX, TEMPORARY_SUFFIX,
    TemporaryFile,
};

/// Where a simulated clock begins, in seconds since 1970.
pub(crate) const CLOCK_START: u64 = 1_800_000_000;

/// A disk in memory.
#[derive(Clone)]
pub(crate) struct SimulatedDisk(Arc<Inner>);

struct Inner {
    world: Mutex<World>,
    changed: Condvar,
}

struct World {
    state: State,
    log: Vec<Operation>,
    recording: bool,
    random: Random,
    clock_ns: u64,
    locked: BTreeSet<NodeId>,
    faults: Faults,
    /// A write of this file fails next, with this error.
    failing: Option<(NodeId, i32)>,
    /// Writes wait at the gate.
    frozen: bool,
    waiting: usize,
    /// The process is dead: nothing it still does has any effect.
    dead: bool,
}

impl SimulatedDisk {
    pub(crate) fn new(state: State, seed: u64, recording: bool) -> Self {
        let world = World {
            state,
            log: Vec::new(),
            recording,
            random: Random::new(seed),
            clock_ns: CLOCK_START * 1_000_000_000,
            locked: BTreeSet::new(),
            faults: Faults::default(),
            failing: None,
            frozen: false,
            waiting: 0,
            dead: false,
        };
        Self(Arc::new(Inner { world: Mutex::new(world), changed: Condvar::new() }))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.world.lock().unwrap()
    }

    /// What holds now, as after a process kill.
    pub(crate) fn state(&self) -> State {
        self.world().state.clone()
    }

    /// Everything that happened, taken out of the disk.
    pub(crate) fn take_log(&self) -> Vec<Operation> {
        std::mem::take(&mut self.world().log)
    }

    /// Puts something outside the disk into the log. It is numbered under the disk's lock, so that
    /// numbers come in order.
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

    /// How many faults came so far.
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

    /// Waits until somebody waits at the gate, or `otherwise`; at most two seconds.
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

    /// The process dies: from here on nothing it does has an effect.
    pub(crate) fn kill(&self) {
        let mut world = self.world();
        world.dead = true;
        world.frozen = false;
        drop(world);
        self.0.changed.notify_all();
    }

    /// The clock from here on, in seconds after its start; it may go back.
    pub(crate) fn set_clock(&self, seconds: u64) {
        self.world().clock_ns = (CLOCK_START + seconds) * 1_000_000_000;
    }
}

impl World {
    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("this process was killed")) } else { Ok(()) }
    }

    /// Counts an operation that may fail.
    fn may_fail(&mut self, target: Target) -> io::Result<()> {
        self.alive()?;
        match self.faults.next(target) {
            Some(FaultKind::Error(code)) => Err(error(code)),
            _ => Ok(()),
        }
    }

    fn perform(&mut self, operation: Operation) {
        self.state.apply(&operation);
        if self.recording {
            self.log.push(operation);
        }
    }

    /// The directory of a path, and the path's last name.
    fn place(&self, path: &Path) -> io::Result<(NodeId, String)> {
        let parent = path.parent().ok_or(ErrorKind::InvalidInput)?;
        let name =
            path.file_name().and_then(|name| name.to_str()).ok_or(ErrorKind::InvalidInput)?;
        let directory = self.state.find(parent).ok_or(ErrorKind::NotFound)?;
        self.state.directory(directory).ok_or(ErrorKind::NotADirectory)?;
        Ok((directory, name.to_owned()))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.may_fail(Target::Rename)?;
        let (directory, from) = self.place(from)?;
        let (target, to) = self.place(to)?;
        if directory != target {
            return Err(ErrorKind::CrossesDevices.into());
        }
        let entries = &self.state.directory(directory).unwrap().current;
        let node = *entries.get(&from).ok_or(ErrorKind::NotFound)?;
        if let Some(&replaced) = entries.get(&to)
            && let Some(replaced) = self.state.directory(replaced)
        {
            if self.state.directory(node).is_none() {
                return Err(ErrorKind::IsADirectory.into());
            }
            if !replaced.current.is_empty() {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
        }
        self.perform(Operation::Rename { directory, from, to });
        Ok(())
    }

    fn write(&mut self, file: NodeId, bytes: &[u8], position: u64) -> io::Result<usize> {
        self.alive()?;
        if let Some((failing, code)) = self.failing
            && failing == file
        {
            self.failing = None;
            return Err(error(code));
        }
        let fault = self.faults.next(Target::Write);
        let taken = match fault {
            None => bytes.len(),
            Some(FaultKind::Error(code)) => return Err(error(code)),
            Some(_) => part_of(bytes.len(), &mut self.random),
        };
        if taken > 0 {
            let bytes = bytes[..taken].to_vec();
            self.perform(Operation::Write { file, position, bytes });
        }
        match fault {
            Some(FaultKind::ErrorAmidPart(code)) => Err(error(code)),
            Some(FaultKind::ErrorAfterPart(code)) if taken == 0 => Err(error(code)),
            // A regular file takes at least one byte, or says why not.
            Some(FaultKind::Short) if taken == 0 => Err(error(super::faults::EINTR)),
            Some(FaultKind::ErrorAfterPart(code)) => {
                self.failing = Some((file, code));
                Ok(taken)
            }
            _ => Ok(taken),
        }
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
        // What is written while a sync runs is not covered by it.
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
        Ok(()) // dropped, which unlocks
    }
}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        self.disk.world().locked.remove(&self.node);
    }
}

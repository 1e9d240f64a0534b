//! Owns what the lock of a simulated disk protects: state, log, randomness and planned faults; and
//! how each operation uses them. Knows nothing of threads.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::faults::{FaultKind, Faults, Target, error, part_of};
use super::random::Random;
use super::state::{NodeId, Operation, State};

/// Where a simulated clock begins, in seconds since 1970.
pub(super) const CLOCK_START: u64 = 1_800_000_000;

/// The state of a simulated disk, and its behavior.
pub(super) struct World {
    pub(super) state: State,
    pub(super) log: Vec<Operation>,
    pub(super) recording: bool,
    pub(super) random: Random,
    pub(super) clock_ns: u64,
    pub(super) locked: BTreeSet<NodeId>,
    pub(super) faults: Faults,
    /// The next write of this file fails with this error.
    pub(super) failing: Option<(NodeId, i32)>,
    /// Whether writes wait at the gate.
    pub(super) frozen: bool,
    pub(super) waiting: usize,
    /// Whether the process is dead: then nothing that it still does has an effect.
    pub(super) dead: bool,
}

impl World {
    pub(super) fn new(state: State, seed: u64, recording: bool) -> Self {
        Self {
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
        }
    }

    pub(super) fn alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("this process was killed")) } else { Ok(()) }
    }

    /// Counts an operation, and fails it if a fault is due.
    pub(super) fn may_fail(&mut self, target: Target) -> io::Result<()> {
        self.alive()?;
        match self.faults.next(target) {
            Some(FaultKind::Error(code)) => Err(error(code)),
            _ => Ok(()),
        }
    }

    pub(super) fn perform(&mut self, operation: Operation) {
        self.state.apply(&operation);
        if self.recording {
            self.log.push(operation);
        }
    }

    /// Returns the directory of a path, and the path's last name.
    pub(super) fn place(&self, path: &Path) -> io::Result<(NodeId, String)> {
        let parent = path.parent().ok_or(ErrorKind::InvalidInput)?;
        let name =
            path.file_name().and_then(|name| name.to_str()).ok_or(ErrorKind::InvalidInput)?;
        let directory = self.state.find(parent).ok_or(ErrorKind::NotFound)?;
        self.state.directory(directory).ok_or(ErrorKind::NotADirectory)?;
        Ok((directory, name.to_owned()))
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.may_fail(Target::Rename)?;
        let (directory, from) = self.place(from)?;
        let (target, to) = self.place(to)?;
        let entries = &self.state.directory(directory).unwrap().current;
        let node = *entries.get(&from).ok_or(ErrorKind::NotFound)?;
        if let Some(&replaced) = self.state.directory(target).unwrap().current.get(&to)
            && let Some(replaced) = self.state.directory(replaced)
        {
            if self.state.directory(node).is_none() {
                return Err(ErrorKind::IsADirectory.into());
            }
            if !replaced.current.is_empty() {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
        }
        self.perform(if directory == target {
            Operation::Rename { directory, from, to }
        } else {
            Operation::Move { from: (directory, from), to: (target, to) }
        });
        Ok(())
    }

    pub(super) fn write(&mut self, file: NodeId, bytes: &[u8], position: u64) -> io::Result<usize> {
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
            // A write to a regular file takes at least one byte or returns an error.
            Some(FaultKind::Short) if taken == 0 => Err(error(super::faults::EINTR)),
            Some(FaultKind::ErrorAfterPart(code)) => {
                self.failing = Some((file, code));
                Ok(taken)
            }
            _ => Ok(taken),
        }
    }
}

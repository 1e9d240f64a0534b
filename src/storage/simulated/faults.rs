//! Owns which operation of a simulated disk fails, and how. Knows nothing of the consequences.

use std::io;

use super::random::Random;

/// Which operations a fault counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Write,
    Sync,
    SyncDirectory,
    Rename,
    Remove,
    Create,
    Read,
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// The operation fails with this error of the operating system. A failed write writes nothing.
    Error(i32),
    /// A write takes only a part and returns its length. The next operation is not affected.
    Short,
    /// A write takes a part; the next one of that file fails with this error.
    ErrorAfterPart(i32),
    /// A write takes a part and yet fails with this error.
    ErrorAmidPart(i32),
}

/// The plan that an operation fails, after `after` more operations of its target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) target: Target,
    pub(crate) after: u64,
    pub(crate) kind: FaultKind,
}

pub(crate) const EINTR: i32 = 4;
pub(crate) const EIO: i32 = 5;
pub(crate) const EFBIG: i32 = 27;
pub(crate) const ENOSPC: i32 = 28;
pub(crate) const EDQUOT: i32 = 122;

impl Fault {
    /// Makes a random fault.
    pub(crate) fn random(random: &mut Random) -> Self {
        let errors = [ENOSPC, EDQUOT, EIO, EFBIG];
        let targets = [
            Target::Write,
            Target::Write,
            Target::Write,
            Target::Sync,
            Target::Sync,
            Target::SyncDirectory,
            Target::Rename,
            Target::Remove,
            Target::Create,
            Target::Read,
        ];
        let target = random.pick(&targets);
        let error = random.pick(&errors);
        let kind = match (target, random.below(5)) {
            (Target::Write, 0) => FaultKind::Short,
            (Target::Write, 1) => FaultKind::Error(EINTR),
            (Target::Write, 2) => FaultKind::ErrorAfterPart(error),
            (Target::Write, 3) => FaultKind::ErrorAmidPart(error),
            (Target::Write, _) => FaultKind::Error(error),
            (Target::Sync, _) => FaultKind::Error(random.pick(&[EIO, ENOSPC, EDQUOT])),
            _ => FaultKind::Error(EIO),
        };
        Self { target, after: random.below(8) as u64, kind }
    }

    /// Returns whether the engine must continue as if the fault had not happened.
    pub(crate) fn is_harmless(&self) -> bool {
        matches!(self.kind, FaultKind::Short | FaultKind::Error(EINTR))
    }
}

/// The faults that are still to come.
#[derive(Default)]
pub(super) struct Faults {
    planned: Vec<Fault>,
    /// How many faults have happened.
    pub(super) fired: u64,
}

impl Faults {
    pub(super) fn plan(&mut self, fault: Fault) {
        self.planned.push(fault);
    }

    pub(super) fn cancel(&mut self) {
        self.planned.clear();
    }

    /// Counts one operation. Returns how it fails, if it fails.
    pub(super) fn next(&mut self, target: Target) -> Option<FaultKind> {
        let mut due = None;
        self.planned.retain_mut(|fault| {
            if fault.target != target || due.is_some() {
                return true;
            }
            if fault.after > 0 {
                fault.after -= 1;
                return true;
            }
            due = Some(fault.kind);
            false
        });
        self.fired += u64::from(due.is_some());
        due
    }
}

/// Returns how much of a write is taken. Each class of lengths is equally likely.
pub(super) fn part_of(length: usize, random: &mut Random) -> usize {
    let classes = [0, 1, length / 2, length.saturating_sub(1), 511, 512, 513];
    random.pick(&classes).min(length)
}

pub(super) fn error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

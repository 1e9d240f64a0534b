//! Owns what one handle has changed since its parent version. Knows nothing of other handles.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::pool::{Cache, Dead, Lists, NO_LISTS};
use super::super::shape::Kind;
use super::dead::Chunk;

/// After so many dead leaves an open handle looks whether its parent is still needed.
const ADOPT_AFTER: usize = 4096;

/// What a handle has changed since its parent version. A clean handle keeps one for its buffers.
pub(in super::super) struct Changes {
    pub(in super::super) is_open: bool,
    pub(in super::super) floor: u64,
    pub(in super::super) epoch: u64,
    pub(in super::super) dead: Lists,
    /// Dead lists that this handle took over from a version that became its own.
    pub(super) adopted: Vec<Chunk>,
    pub(in super::super) cache: Cache,
    /// With this many dead leaves the handle looks at its family before it changes:
    /// [`Versions::adopt`] is worth a try. 0 in the child of a fork that cloned the handle.
    look_at: AtomicUsize,
}

// SAFETY: as for `Family`.
unsafe impl Send for Changes {}

impl Changes {
    pub(in super::super) fn new() -> Self {
        Self {
            is_open: false,
            floor: 0,
            epoch: 0,
            dead: NO_LISTS,
            adopted: Vec::new(),
            cache: Cache::new(),
            look_at: AtomicUsize::new(ADOPT_AFTER),
        }
    }

    /// Whether the handle may change what is its own without a look at its family.
    #[inline(always)]
    pub(in super::super) fn may_go_on(&mut self) -> bool {
        self.is_open && self.dead[Kind::Leaf].len() < *self.look_at.get_mut()
    }

    /// Makes sure that the handle looks at its family before its next change.
    pub(in super::super) fn look_at_family(&self) {
        if !fault!(InheritedHandleGoesOn) {
            // Whoever changes the handle next has got it from this thread.
            self.look_at.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn begin(&mut self, floor: u64, epoch: u64) {
        debug_assert!(!self.is_open && floor < epoch);
        (self.is_open, self.floor, self.epoch) = (true, floor, epoch);
        *self.look_at.get_mut() = ADOPT_AFTER;
    }

    /// Begins to take pieces for another handle, which has this floor and this epoch.
    pub(in super::super) fn begin_beside(&mut self, (floor, epoch): (u64, u64)) {
        self.begin(floor, epoch);
    }

    /// Begins to count dead leaves after an attempt to adopt.
    pub(super) fn adopt_later(&mut self) {
        *self.look_at.get_mut() = (2 * self.dead[Kind::Leaf].len()).max(ADOPT_AFTER);
    }

    /// Takes all dead pieces out.
    pub(super) fn take_dead(&mut self) -> Vec<Chunk> {
        let mut dead = std::mem::take(&mut self.adopted);
        Chunk::drain(&mut self.dead, &mut dead);
        dead
    }

    pub(in super::super) fn bury(&mut self, kind: Kind, at: *mut u8, born: u64) {
        self.dead[kind].push(Dead { at, born });
    }
}

#[cfg(any(test, fuzzing))]
impl Changes {
    pub(in super::super) fn all_dead(&self) -> impl Iterator<Item = *mut u8> {
        let adopted = self.adopted.iter().flat_map(|it| &it.pieces);
        self.dead.0.iter().flatten().chain(adopted).map(|piece| piece.at)
    }
}

//! Owns what all handles of a family share, and the rules by which they share it. Knows nothing of
//! keys and values.
//!
//! - `versions`: which versions are alive, and how they descend from each other
//! - `changes`: what one handle has changed since its parent version
//! - `dead`: what died between a version and the one it descends from
//!
//! All maps that were cloned from one map are a family. Their versions form a tree. Each version
//! has an *epoch*, each node the epoch in which it was *born*, so no node needs a count of
//! references:
//!
//! - A *handle* (one `Map`) is *clean*, with a version that it may share, or *open*: then it has
//!   changed since its parent version. The parent's epoch is the handle's *floor*.
//! - What was born after the floor is reachable from that handle alone, and may be written in
//!   place. Anything else is copied first. The copy is born in the handle's epoch, and the original
//!   is *dead* for this handle: it goes on the handle's dead list.
//! - A clone makes the open handle a version. Nothing that a version reaches is written again.
//! - `dead(n)` are the pieces that the parent of version `n` reaches, and `n` does not.
//!
//! A version without handles goes away:
//!
//! - If it has no child, nobody reaches what was born after its parent. That is freed.
//! - If it has one child, the two become one. From the child's dead list, what was born after the
//!   parent of the version that goes was reachable from that version alone. It is freed; the rest,
//!   together with the dead list of the version that goes, is what the parent reaches and the child
//!   does not.
//! - If it has several children, it stays until all but one are gone.
//!
//! The dead lists are those of ZFS's snapshots; LMDB frees pages in a similar way.
//!
//! # In the child of a fork
//!
//! The child inherits families whose locks may be held by threads that it does not have, and whose
//! versions and pools those threads may have been changing. So it never looks at what an inherited
//! family's locks guard: [`Family::versions`] and [`Family::pool`] give it nothing. What it reads
//! is whole, because nobody writes it through a shared handle: the nodes, a handle's root, length
//! and height, and the number of the newest epoch. Whoever changes or drops a handle has it alone,
//! and so did the thread that forked; so what this handle has changed is whole, too.
//!
//! - A clone of an inherited handle is one, too: it copies the root, and joins no version.
//! - The next change of an inherited handle that was clean, or was cloned in the child, gives it a
//!   new family. In it the inherited tree is a version that nobody ever lets go, and all of its
//!   pieces were born before the floor: they are copied before they are written, and never freed.
//! - Until then an inherited handle that is open still writes what is its own: no other handle in
//!   the child reaches it. It takes pieces from its own cache. Once that is empty it ends its
//!   change with pieces that belong to no pool, and the next change gives it a new family.
//! - An inherited family, its pool and what died in it are never freed: nobody in the child knows
//!   who reaches them.

mod changes;
mod dead;
mod versions;

use std::alloc::Layout;
use std::any::Any;
use std::mem::ManuallyDrop;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::pool::Pool;
use super::shape::{Kind, Node};
use super::sync::{Mutex, MutexGuard, lock};
use crate::process::OpeningProcess;
pub(super) use changes::Changes;
pub(super) use dead::Chunk;
pub(super) use versions::{NONE, VersionId, Versions};

/// What all handles of a family share.
pub(super) struct Family {
    versions: Mutex<Versions>,
    pool: Mutex<Pool>,
    /// The newest epoch so far. The holder of the versions' lock changes it. A child of a fork
    /// reads it without the lock: no piece that the child reaches was born later.
    epoch: AtomicU64,
    /// What its handles need, and what lives as long as they do.
    attached: OnceLock<Box<dyn Any + Send + Sync>>,
    /// The process whose threads share this family.
    process: OpeningProcess,
    /// What was born in this epoch or before is another family's.
    #[cfg(any(test, fuzzing))]
    pub(super) base: u64,
}

// SAFETY: the pointers in it lead to pieces of the family's slabs. They are followed only by
// handles, which are `Send` or `Sync` only if the keys and values are both.
unsafe impl Send for Family {}
// SAFETY: as for `Send`.
unsafe impl Sync for Family {}

impl Family {
    /// Makes a family of one handle, which is open and has no parent.
    pub(super) fn new(changes: &mut Changes) -> Self {
        changes.begin(0, 1);
        Self::of(Versions::of_one_handle(), 0)
    }

    /// Makes a family for one handle of an inherited family, which goes on from its tree and is
    /// open. Returns the handle's parent, too: that tree.
    pub(super) fn after(
        inherited: &Self,
        tree: (Node, u32),
        changes: &mut Changes,
    ) -> (Self, VersionId) {
        let base = inherited.epoch.load(Ordering::Relaxed);
        changes.begin(base, base + 1);
        let mut versions = Versions::of_one_handle();
        let parent = versions.begin_with(base, tree);
        (Self::of(versions, base), parent)
    }

    fn of(versions: Versions, base: u64) -> Self {
        Self {
            versions: Mutex::new(versions),
            pool: Mutex::default(),
            epoch: AtomicU64::new(base + 1),
            attached: OnceLock::new(),
            process: OpeningProcess::this(),
            #[cfg(any(test, fuzzing))]
            base,
        }
    }

    /// Locks the versions; `None` if this process inherited the family from one that forked it.
    pub(super) fn versions(&self) -> Option<MutexGuard<'_, Versions>> {
        (!self.process.is_forked()).then(|| lock(&self.versions))
    }

    /// Locks the pool; `None` as for [`versions`](Self::versions).
    pub(super) fn pool(&self) -> Option<MutexGuard<'_, Pool>> {
        (!self.process.is_forked()).then(|| lock(&self.pool))
    }

    /// Returns whether this process inherited the family from one that forked it.
    pub(super) fn is_inherited(&self) -> bool {
        self.process.is_forked()
    }

    /// Keeps `attached` as long as the family lives. Only the first call for a family does this.
    pub(super) fn attach(&self, attached: Box<dyn Any + Send + Sync>) {
        self.attached.get_or_init(|| attached);
    }

    /// Returns what was attached.
    #[cfg(any(test, fuzzing))]
    pub(super) fn attached(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.attached.get().map(|attached| &**attached)
    }

    /// Gives an open handle new pieces.
    #[cold]
    #[inline(never)]
    pub(super) fn refill(&self, changes: &mut Changes, kind: Kind, layout: Layout) {
        if let Some(mut pool) = self.pool() {
            return pool.refill(&mut changes.cache, kind, layout);
        }
        // The process was forked since the handle was opened, and maybe since this change began.
        ManuallyDrop::new(Pool::default()).refill(&mut changes.cache, kind, layout);
        changes.look_at_family();
    }

    /// Begins an epoch. The caller holds the lock of the versions.
    fn next_epoch(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::Relaxed) + 1
    }
}

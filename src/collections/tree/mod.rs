//! Owns one handle to a tree: its root, whether it is open, and the pieces that it takes and frees.
//! Knows nothing of the public types.
//!
//! - `place`: the way to a leaf, and where a key is
//! - `open`: makes nodes the handle's own
//! - `put`: a new entry, or a new value
//! - `split`: a full node becomes two
//! - `remove`: the way back
//! - `build`: a tree from entries in their order
//! - `load`: a tree from the parts of an encoding, on several threads
//! - `leaves`: the leaves of such a tree
//! - `cold`, `warm`: a tree whose leaves are made when they are touched, and how that is done
//! - `cursor`: a place between two entries, forward and backward
//! - `sequence`: elements that are found by their position, for vectors
//! - `truncate`: removes the end of a sequence
//! - `diff`: what differs between two versions
//! - `edits`: what makes the entries of one version those of another
//! - `audit`: recomputes the invariants, for tests

#[cfg(any(test, fuzzing))]
mod audit;
mod build;
mod cold;
mod cursor;
mod diff;
mod edits;
mod leaves;
mod load;
mod open;
mod place;
mod put;
mod remove;
mod sequence;
mod split;
mod truncate;
mod warm;

#[cfg(any(test, fuzzing))]
pub(super) use audit::{audit, audit_sequences};
pub(super) use build::{Appender, TreeBuilder};
pub(super) use cursor::Cursor;
pub use diff::Difference;
pub(super) use diff::Differences;
pub(super) use edits::{Edit, edits, sequence_edits};
pub(super) use leaves::DecodeEntry;
pub(super) use place::Place;
pub(super) use sequence::Sequence;

use std::borrow::Borrow;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::needs_drop;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr;
use std::sync::Arc;

use super::family::{Changes, Chunk, Family, NONE, VersionId};
use super::pool::{Dead, Lists, NO_LISTS};
use super::shape::{Cell, Kind, Node, Shape, cold_slice, prefetch, warm_len};
use open::Open;
use place::{Levels, MOST_LEVELS, Path};

/// One handle to a tree of the family. `S` is what inner nodes hold between their children.
pub(super) struct Tree<K, V, S = K> {
    root: Node,
    len: usize,
    height: u32,
    /// Clean: the handle's version. Open: the version that it changes. Guarded by the family's lock
    /// where the handle is shared.
    version: UnsafeCell<VersionId>,
    /// `None` until something is put in.
    pub(super) family: Option<Arc<Family>>,
    changes: UnsafeCell<Option<Box<Changes>>>,
    entries: PhantomData<(K, V, S)>,
}

// SAFETY: a handle reaches keys and values that other handles, on other threads, reach too, and the
// last of them drops them. So, like an `Arc`, it may cross threads if they are both `Send` and
// `Sync`. `version` and `changes` are written through a shared reference only by `share`, under the
// family's lock, and are read through a shared reference only there. In the child of a fork,
// `share` only reads them so, but for an atomic.
unsafe impl<K: Send + Sync, V: Send + Sync, S: Send + Sync> Send for Tree<K, V, S> {}
// SAFETY: as for `Send`.
unsafe impl<K: Send + Sync, V: Send + Sync, S: Send + Sync> Sync for Tree<K, V, S> {}

// What `share` writes through a shared reference is whole again when a user's code can panic. So a
// map is as unwind-safe as a `BTreeMap`.
impl<K: RefUnwindSafe, V: RefUnwindSafe, S: RefUnwindSafe> UnwindSafe for Tree<K, V, S> {}
impl<K: RefUnwindSafe, V: RefUnwindSafe, S: RefUnwindSafe> RefUnwindSafe for Tree<K, V, S> {}

impl<K, V, S> Tree<K, V, S> {
    pub(super) const fn new() -> Self {
        Self {
            root: ptr::null_mut(),
            len: 0,
            height: 0,
            version: UnsafeCell::new(NONE),
            family: None,
            changes: UnsafeCell::new(None),
            entries: PhantomData,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns a number that all clones of this handle have in common while one of them lives;
    /// `None` until something is put in.
    pub(super) fn family_id(&self) -> Option<usize> {
        self.family.as_ref().map(|family| Arc::as_ptr(family).addr())
    }

    /// Returns how much memory the whole family takes, without what keys and values own elsewhere.
    pub(super) fn memory_bytes(&self) -> u64 {
        let pool = self.family.as_ref().and_then(|family| family.pool());
        pool.map_or(0, |pool| pool.used_bytes())
    }

    /// Returns the epoch of a clean handle: everything that it reaches was born then or before.
    fn epoch(&self) -> u64 {
        let Some(family) = &self.family else { return 0 };
        // The child of a fork has nothing to compare, so all is new to it.
        let Some(mut versions) = family.versions() else { return 0 };
        // SAFETY: the family's lock is held, and nobody else writes the cell.
        versions.epoch_of(unsafe { *self.version.get() })
    }

    #[cfg(test)]
    pub(super) fn family(&self) -> &Family {
        self.family.as_ref().expect("something was put in")
    }

    /// Returns a second handle to the same entries. An open handle becomes clean.
    pub(super) fn share(&self) -> Self {
        let Some(family) = &self.family else { return Self::new() };
        let mut garbage = Vec::new();
        let version = self.share_version(family, &mut garbage);
        let shared = Self {
            root: self.root,
            len: self.len,
            height: self.height,
            version: UnsafeCell::new(version),
            family: Some(family.clone()),
            changes: UnsafeCell::new(None),
            entries: PhantomData,
        };
        Self::free(family, garbage);
        shared
    }

    /// Returns the version for a second handle.
    fn share_version(&self, family: &Family, garbage: &mut Vec<Chunk>) -> VersionId {
        let Some(mut versions) = family.versions() else {
            // SAFETY: nobody in this process writes to the cell through a shared reference, and the
            // thread of the parent that did so does not move or free what it points to.
            if let Some(changes) = unsafe { &*self.changes.get() } {
                changes.look_at_family();
            }
            return NONE; // nobody looks at the version of an inherited handle
        };
        // SAFETY: the family's lock is held, so no other thread is here. Nobody has a reference to
        // what these cells hold, since only methods that take the handle mutably keep one. These
        // two are not used after the lock is given back: another thread may share the handle then.
        let (version, changes) = unsafe { (&mut *self.version.get(), &mut *self.changes.get()) };
        if let Some(changes) = changes.as_mut().filter(|changes| changes.is_open) {
            *version = versions.publish(*version, changes, (self.root, self.height), garbage);
        }
        versions.share(*version);
        *version
    }

    /// Makes sure that the handle is open.
    #[inline(always)]
    fn open(&mut self) {
        if !self.changes.get_mut().as_mut().is_some_and(|changes| changes.may_go_on()) {
            self.open_slowly();
        }
    }

    #[cold]
    #[inline(never)]
    fn open_slowly(&mut self) {
        let changes = self.changes.get_mut().get_or_insert_with(|| Box::new(Changes::new()));
        let Some(family) = self.family.clone() else {
            self.family = Some(Arc::new(Family::new(changes)));
            return;
        };
        let mut garbage = Vec::new();
        let version = self.version.get_mut();
        let Some(mut versions) = family.versions() else {
            // The process was forked: the handle goes on in a family of its own.
            **changes = Changes::new();
            let tree = (self.root, self.height);
            let (own, parent) = Family::after(&family, tree, changes);
            *version = parent;
            // What it inherited stays in use, so its family must not go.
            std::mem::forget(self.family.replace(Arc::new(own)));
            return;
        };
        if changes.is_open {
            *version = versions.adopt(*version, changes, &mut garbage);
        } else {
            *version = versions.open(&family, *version, changes);
        }
        drop(versions);
        Self::free(&family, garbage);
    }
}

impl<K, V> Tree<K, V> {
    #[inline]
    pub(super) fn get<Q>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        if self.root.is_null() {
            return None;
        }
        let mut node = self.root;
        // SAFETY: everything below the root lives as long as the handle, and nobody writes it while
        // the handle is borrowed.
        unsafe {
            for height in (1..=self.height).rev() {
                node = Shape::<K, V>::child(node, Shape::<K, V>::child_for(node, key));
                let kind = if height > 1 { Kind::Inner } else { Kind::Leaf };
                prefetch(node.cast(), Shape::<K, V>::LAYOUTS[kind].size());
            }
            let index = Shape::<K, V>::find(node, key).ok()?;
            Some((Shape::<K, V>::key(node, index), Shape::<K, V>::value(node, index)))
        }
    }

    /// Finds the place of a key.
    #[inline]
    pub(super) fn find<Q>(&self, key: &Q) -> Place
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut path = Path::new();
        let mut node = self.root;
        if node.is_null() {
            return Place { path, leaf: node, found: Err(0) };
        }
        // SAFETY: as for `get`.
        unsafe {
            for height in (1..=self.height).rev() {
                let index = Shape::<K, V>::child_for(node, key);
                path.set(height, node, index);
                node = Shape::<K, V>::child(node, index);
                let kind = if height > 1 { Kind::Inner } else { Kind::Leaf };
                prefetch(node.cast(), Shape::<K, V>::LAYOUTS[kind].size());
            }
            Place { path, leaf: node, found: Shape::<K, V>::find(node, key) }
        }
    }

    /// Returns the value at a place.
    ///
    /// # Safety
    /// The place is one of this tree, still valid, and filled.
    pub(super) unsafe fn value_at(&self, place: &Place) -> &V {
        let index = place.found.unwrap_or_else(|index| index);
        // SAFETY: see above.
        unsafe { Shape::<K, V>::value(place.leaf, index) }
    }
}

impl<K, V, S> Tree<K, V, S> {
    /// Collects the pieces below `node` that were born after `floor`.
    ///
    /// # Safety
    /// The caller alone reaches them, and keeps the others alive.
    unsafe fn collect_own(node: Node, height: u32, floor: u64, own: &mut Lists) {
        // SAFETY: see above.
        unsafe {
            if node.is_null() || (*node).born <= floor {
                return;
            }
            // Nothing is below a cold node yet.
            let count = if cold_slice(node).is_some() { 0 } else { warm_len(node) };
            if height > 0 {
                if !Shape::<K, V, S>::SEPARATOR_IS_INLINE {
                    for index in 0..count.saturating_sub(1) {
                        let slot = Shape::<K, V, S>::separator_slot(node, index);
                        let cell = Shape::<K, V, S>::separator_cell(slot);
                        collect_cell(cell, floor, &mut own[Kind::Key]);
                    }
                }
                for index in 0..count {
                    Self::collect_own(Shape::<K, V, S>::child(node, index), height - 1, floor, own);
                }
            } else if !Shape::<K, V>::KEY_IS_INLINE {
                for index in 0..count {
                    let cell = Shape::<K, V>::key_cell(Shape::<K, V>::key_slot(node, index));
                    collect_cell(cell, floor, &mut own[Kind::Key]);
                }
            }
            if height == 0 && !Shape::<K, V>::VALUE_IS_INLINE {
                for index in 0..count {
                    let cell = Shape::<K, V>::value_cell(Shape::<K, V>::value_slot(node, index));
                    collect_cell(cell, floor, &mut own[Kind::Value]);
                }
            }
            let kind = if height > 0 { Kind::Inner } else { Kind::Leaf };
            own[kind].push(Dead { at: node.cast(), born: (*node).born });
        }
    }

    /// Drops the contents of what nobody reaches any more, and gives its memory back.
    ///
    /// A panic of a user's `Drop` leaves the rest as it is: that leaks, until the family's memory
    /// goes with its last handle.
    fn free(family: &Family, garbage: Vec<Chunk>) {
        if garbage.is_empty() {
            return;
        }
        if Shape::<K, V>::DROPS {
            for chunk in &garbage {
                for piece in &chunk.pieces {
                    // SAFETY: nobody reaches the cell, and it is dropped once, since it was on one
                    // list. Contents of nodes own nothing: such keys and values are in cells.
                    unsafe {
                        match chunk.kind {
                            Kind::Leaf | Kind::Inner => {}
                            Kind::Value => drop_cell::<V>(piece.at),
                            Kind::Key => drop_cell::<K>(piece.at),
                        }
                    }
                }
            }
        }
        let Some(mut pool) = family.pool() else { return };
        for chunk in garbage {
            if !chunk.pieces.is_empty() {
                pool.give(chunk.kind, chunk.pieces);
            }
        }
    }
}

/// # Safety
/// The cell is live.
unsafe fn collect_cell<T>(cell: *mut Cell<T>, floor: u64, own: &mut Vec<Dead>) {
    // SAFETY: see above.
    let born = unsafe { (*cell).born };
    if born > floor {
        own.push(Dead { at: cell.cast(), born });
    }
}

/// # Safety
/// The cell is live, nobody else reaches it, and it is not used again.
unsafe fn drop_cell<T>(at: *mut u8) {
    if needs_drop::<T>() {
        // SAFETY: see above.
        unsafe { ptr::drop_in_place(&raw mut (*at.cast::<Cell<T>>()).content) }
    }
}

impl<K, V, S> Drop for Tree<K, V, S> {
    fn drop(&mut self) {
        let Some(family) = self.family.take() else { return };
        let mut garbage = Vec::new();
        let mut own = NO_LISTS;
        let tree = (self.root, self.height);
        let Some(mut versions) = family.versions() else { return std::mem::forget(family) };
        let changes = self.changes.get_mut().as_deref();
        let mut leaving = versions.leave(*self.version.get_mut(), changes, tree, &mut garbage);
        // Without contents to drop, the slabs go as a whole.
        let nothing_to_do = versions.has_no_handle() && !Shape::<K, V>::DROPS;
        drop(versions);
        if nothing_to_do {
            return;
        }
        while let Some(tree) = leaving {
            let mut let_go = || family.versions()?.left(tree.parent, &mut garbage);
            let too_early = fault!(ParentLetGoTooEarly).then(&mut let_go);
            // SAFETY: nobody else reaches what was born after the floor, and the parent, which is
            // pinned, keeps the rest alive.
            unsafe { Self::collect_own(tree.root, tree.height, tree.floor, &mut own) };
            leaving = too_early.unwrap_or_else(let_go);
        }
        if let (Some(changes), Some(mut pool)) = (self.changes.get_mut(), family.pool()) {
            changes.cache.empty(&Shape::<K, V, S>::LAYOUTS, &mut pool);
        }
        Chunk::drain(&mut own, &mut garbage);
        Self::free(&family, garbage);
    }
}

//! Owns one handle to a tree: its root, whether it is open, and the pieces that it takes and frees.
//! Knows nothing of the public types.
//!
//! - `put`: a new entry, or a new value
//! - `remove`: the way back
//! - `build`: a tree from entries in their order
//! - `cursor`: a place between two entries, forward and backward
//! - `sequence`: elements that are found by their position, for vectors
//! - `truncate`: removes the end of a sequence
//! - `diff`: what differs between two versions
//! - `audit`: recomputes the invariants, for tests

#[cfg(any(test, fuzzing))]
mod audit;
mod build;
mod cursor;
mod diff;
mod put;
mod remove;
mod sequence;
mod truncate;

#[cfg(any(test, fuzzing))]
pub(super) use audit::{audit, audit_sequences};
pub(super) use build::{Appender, TreeBuilder};
pub(super) use cursor::Cursor;
pub use diff::Difference;
pub(super) use diff::Differences;
pub(super) use sequence::Sequence;

use std::borrow::Borrow;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::{MaybeUninit, needs_drop};
use std::ops::{Index, IndexMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr;
use std::sync::Arc;

use super::family::{Changes, Chunk, Family, NONE, VersionId};
use super::pool::{Dead, Lists, NO_LISTS};
use super::shape::{Cell, Header, Kind, Node, Separator, Shape, len, prefetch, set_len};
use super::sync::lock;

/// More levels than a tree can have: each level but the highest has at least twelve times as many
/// nodes as the one above it, since two neighbours that fit into one node become one.
const MOST_LEVELS: usize = 20;

/// One value for each level of a tree, from the leaves up.
#[derive(Clone, Copy)]
struct Levels<T>([T; MOST_LEVELS]);

/// Why there is a place for a level.
const IS_A_LEVEL: &str = "no tree has so many levels: a new root asserts it";

impl<T: Copy> Levels<T> {
    const fn of(value: T) -> Self {
        Self([value; MOST_LEVELS])
    }
}

impl<T> Index<u32> for Levels<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, level: u32) -> &T {
        self.0.get(level as usize).expect(IS_A_LEVEL)
    }
}

impl<T> IndexMut<u32> for Levels<T> {
    #[inline(always)]
    fn index_mut(&mut self, level: u32) -> &mut T {
        self.0.get_mut(level as usize).expect(IS_A_LEVEL)
    }
}

/// One handle to a tree of the family. `S` is what inner nodes hold between their children.
pub(super) struct Tree<K, V, S = K> {
    root: Node,
    len: usize,
    height: u32,
    /// Clean: the handle's version. Open: the version that it changes. Guarded by the family's lock
    /// where the handle is shared.
    version: UnsafeCell<VersionId>,
    /// `None` until something is put in.
    family: Option<Arc<Family>>,
    changes: UnsafeCell<Option<Box<Changes>>>,
    entries: PhantomData<(K, V, S)>,
}

// SAFETY: a handle reaches keys and values that other handles, on other threads, reach too, and the
// last of them drops them. So, like an `Arc`, it may cross threads if they are both `Send` and `Sync`.
// `version` and `changes` are written through a shared reference only by `share`, under the family's
// lock, and are read through a shared reference only there.
unsafe impl<K: Send + Sync, V: Send + Sync, S: Send + Sync> Send for Tree<K, V, S> {}
// SAFETY: as for `Send`.
unsafe impl<K: Send + Sync, V: Send + Sync, S: Send + Sync> Sync for Tree<K, V, S> {}

// What `share` writes through a shared reference is whole again when a user's code can panic. So a
// map is as unwind-safe as a `BTreeMap`.
impl<K: RefUnwindSafe, V: RefUnwindSafe, S: RefUnwindSafe> UnwindSafe for Tree<K, V, S> {}
impl<K: RefUnwindSafe, V: RefUnwindSafe, S: RefUnwindSafe> RefUnwindSafe for Tree<K, V, S> {}

/// An open handle, taken apart for changes.
struct Open<'a> {
    changes: &'a mut Changes,
    family: &'a Family,
}

/// The inner nodes from the root to a leaf, by height, with the index of the child that was taken.
/// Only the levels of the tree are there; to fill the others would cost more than a search.
struct Path {
    steps: Levels<MaybeUninit<(Node, usize)>>,
}

/// Where a key is in a tree, or would be. It is valid until the tree is changed in another way.
pub(super) struct Place {
    path: Path,
    /// Null if the tree is empty.
    leaf: Node,
    /// The index in the leaf; `Err` if the key is not there.
    found: Result<usize, usize>,
}

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

    #[cfg(test)]
    pub(super) fn family(&self) -> &Family {
        self.family.as_ref().expect("something was put in")
    }

    /// Returns a second handle to the same entries. An open handle becomes clean.
    pub(super) fn share(&self) -> Self {
        let Some(family) = &self.family else { return Self::new() };
        let mut garbage = Vec::new();
        let mut versions = family.versions();
        // SAFETY: the family's lock is held, so no other thread is here. Nobody has a reference to
        // what these cells hold, since only methods that take the handle mutably keep one. These two
        // are not used after the lock is given back: another thread may share the handle then.
        let (version, changes) = unsafe { (&mut *self.version.get(), &mut *self.changes.get()) };
        if let Some(changes) = changes.as_mut().filter(|changes| changes.is_open) {
            *version = versions.publish(*version, changes, (self.root, self.height), &mut garbage);
        }
        let version = *version;
        versions.share(version);
        drop(versions);
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

    /// Makes sure that the handle is open.
    #[inline(always)]
    fn open(&mut self) {
        let is_open = matches!(self.changes.get_mut(), Some(changes)
            if changes.is_open && changes.dead[Kind::Leaf].len() < changes.adopt_at);
        if !is_open {
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
        let mut versions = family.versions();
        if changes.is_open {
            *version = versions.adopt(*version, changes, &mut garbage);
        } else {
            *version = versions.open(*version, changes);
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
            let count = len(node);
            if height > 0 {
                if !Shape::<K, V, S>::SEPARATOR_IS_INLINE {
                    for index in 0..count - 1 {
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
        let mut pool = lock(&family.pool);
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
        let mut versions = family.versions();
        let changes = self.changes.get_mut().as_deref();
        let mut leaving = versions.leave(*self.version.get_mut(), changes, tree, &mut garbage);
        // Without contents to drop, the slabs go as a whole.
        let nothing_to_do = versions.has_no_handle() && !Shape::<K, V>::DROPS;
        drop(versions);
        if nothing_to_do {
            return;
        }
        while let Some(tree) = leaving {
            let mut let_go = || family.versions().left(tree.parent, &mut garbage);
            let too_early = fault!(ParentLetGoTooEarly).then(&mut let_go);
            // SAFETY: nobody else reaches what was born after the floor, and the parent, which is
            // pinned, keeps the rest alive.
            unsafe { Self::collect_own(tree.root, tree.height, tree.floor, &mut own) };
            leaving = too_early.unwrap_or_else(let_go);
        }
        if let Some(changes) = self.changes.get_mut() {
            changes.cache.empty(&Shape::<K, V, S>::LAYOUTS, &mut lock(&family.pool));
        }
        Chunk::drain(&mut own, &mut garbage);
        Self::free(&family, garbage);
    }
}

impl<'a> Open<'a> {
    /// Takes an open handle apart. Its root stays free for the caller.
    #[inline(always)]
    fn of(changes: &'a mut Option<Box<Changes>>, family: &'a Option<Arc<Family>>) -> Self {
        let changes = changes.as_mut().expect("the handle was opened");
        let family = family.as_ref().expect("an open handle has a family");
        Open { changes, family }
    }

    /// Returns a new piece. Its content is undefined.
    #[inline(always)]
    fn take<K, V, S>(&mut self, kind: Kind) -> *mut u8 {
        let layout = Shape::<K, V, S>::LAYOUTS[kind];
        self.changes.cache.take(kind, layout, &self.family.pool)
    }

    /// Returns a new node without content.
    #[inline(always)]
    fn node<K, V, S>(&mut self, height: u32) -> Node {
        let kind = if height > 0 { Kind::Inner } else { Kind::Leaf };
        let node = self.take::<K, V, S>(kind).cast::<Header>();
        // SAFETY: the piece is new, and large enough for a node.
        unsafe { node.write(Header { born: self.changes.epoch, len: 0, height }) };
        node
    }

    #[inline(always)]
    fn is_own(&self, born: u64) -> bool {
        born > self.changes.floor || fault!(BirthNotCompared)
    }

    /// Frees, or declares dead, a node whose content nobody needs here.
    ///
    /// # Safety
    /// The handle no longer reaches the node.
    unsafe fn drop_node(&mut self, node: Node) {
        // SAFETY: see above.
        let (born, height) = unsafe { ((*node).born, (*node).height) };
        let kind = if height > 0 { Kind::Inner } else { Kind::Leaf };
        if self.is_own(born) {
            self.changes.cache.keep(kind, node.cast());
        } else {
            self.changes.bury(kind, node.cast(), born);
        }
    }

    /// Puts `content` into a new cell.
    #[inline(always)]
    fn cell<K, V, T>(&mut self, kind: Kind, content: T) -> *mut Cell<T> {
        let cell = self.take::<K, V, K>(kind).cast::<Cell<T>>();
        // SAFETY: the piece is new, and of the kind that holds this type.
        unsafe { cell.write(Cell { born: self.changes.epoch, content }) };
        cell
    }

    /// Takes the content out of a cell that the handle no longer reaches; a clone of it if other
    /// versions reach it.
    ///
    /// # Safety
    /// The cell is live, and the handle no longer reaches it, or does so no longer when the caller
    /// is done.
    unsafe fn take_content<T: Clone>(&mut self, kind: Kind, cell: *mut Cell<T>) -> T {
        // SAFETY: see above.
        unsafe {
            let born = (*cell).born;
            if self.is_own(born) {
                let content = ptr::read(&raw const (*cell).content);
                self.changes.cache.keep(kind, cell.cast());
                content
            } else {
                let content = (*cell).content.clone();
                self.changes.bury(kind, cell.cast(), born);
                content
            }
        }
    }
}

impl<K: Clone, V: Clone, S: Separator<K>> Tree<K, V, S> {
    /// Makes the node at `link` one that may be written: itself if it is the handle's own, otherwise
    /// a copy, and the original is dead.
    ///
    /// # Safety
    /// `link` is the root, or a child slot of a node that may be written.
    #[inline(always)]
    unsafe fn own(open: &mut Open<'_>, link: *mut Node, height: u32) -> Node {
        // SAFETY: see above. A copy is linked only when it is complete, so a panic of a user's
        // `Clone` loses one piece of memory and nothing else.
        unsafe {
            let node = *link;
            let born = (*node).born;
            if open.is_own(born) {
                return node;
            }
            let count = len(node);
            let copy = open.node::<K, V, S>(height);
            if height > 0 {
                Self::copy_separators((node, 0), (copy, 0), count - 1);
                let children = Shape::<K, V, S>::child_slot(copy, 0);
                ptr::copy_nonoverlapping(Shape::<K, V, S>::child_slot(node, 0), children, count);
            } else {
                Self::copy_keys((node, 0), (copy, 0), count);
                Self::copy_values((node, 0), (copy, 0), count);
            }
            set_len(copy, count);
            *link = copy;
            let kind = if height > 0 { Kind::Inner } else { Kind::Leaf };
            if fault!(SharedNodeReused) {
                open.changes.cache.keep(kind, node.cast());
                return copy;
            }
            open.changes.bury(kind, node.cast(), born);
            copy
        }
    }

    /// Copies `count` keys. Inline ones are cloned: a type that owns nothing may still give its
    /// clones an identity. Cells are shared.
    ///
    /// # Safety
    /// The slots are there, and those of `to` hold nothing.
    #[inline(always)]
    unsafe fn copy_keys(from: (Node, usize), to: (Node, usize), count: usize) {
        // SAFETY: see above.
        unsafe {
            let from = Shape::<K, V>::key_slot(from.0, from.1);
            let to = Shape::<K, V>::key_slot(to.0, to.1);
            if Shape::<K, V>::KEY_IS_INLINE {
                for index in 0..count {
                    let key = (*from.cast::<K>().add(index)).clone();
                    to.cast::<K>().add(index).write(key);
                }
            } else {
                ptr::copy_nonoverlapping(from, to, count * Shape::<K, V>::KEY_BYTES);
            }
        }
    }

    /// Copies `count` separators, as [`copy_keys`](Self::copy_keys).
    ///
    /// # Safety
    /// The slots are there, and those of `to` hold nothing.
    #[inline(always)]
    unsafe fn copy_separators(from: (Node, usize), to: (Node, usize), count: usize) {
        // SAFETY: see above.
        unsafe {
            let from = Shape::<K, V, S>::separator_slot(from.0, from.1);
            let to = Shape::<K, V, S>::separator_slot(to.0, to.1);
            if Shape::<K, V, S>::SEPARATOR_IS_INLINE {
                for index in 0..count {
                    let separator = (*from.cast::<S>().add(index)).clone();
                    to.cast::<S>().add(index).write(separator);
                }
            } else {
                ptr::copy_nonoverlapping(from, to, count * Shape::<K, V, S>::SEPARATOR_BYTES);
            }
        }
    }

    /// Copies `count` values, as [`copy_keys`](Self::copy_keys).
    ///
    /// # Safety
    /// The slots are there, and those of `to` hold nothing.
    #[inline(always)]
    unsafe fn copy_values(from: (Node, usize), to: (Node, usize), count: usize) {
        // SAFETY: see above.
        unsafe {
            let from = Shape::<K, V>::value_slot(from.0, from.1);
            let to = Shape::<K, V>::value_slot(to.0, to.1);
            if Shape::<K, V>::VALUE_IS_INLINE {
                for index in 0..count {
                    let value = (*from.cast::<V>().add(index)).clone();
                    to.cast::<V>().add(index).write(value);
                }
            } else {
                ptr::copy_nonoverlapping(from, to, count * Shape::<K, V>::VALUE_BYTES);
            }
        }
    }
}

impl Path {
    const fn new() -> Self {
        Self { steps: Levels([const { MaybeUninit::uninit() }; MOST_LEVELS]) }
    }

    #[inline(always)]
    fn set(&mut self, height: u32, node: Node, index: usize) {
        self.steps[height].write((node, index));
    }

    /// # Safety
    /// The path was set at this height.
    #[inline(always)]
    unsafe fn step(&self, height: u32) -> (Node, usize) {
        // SAFETY: see above.
        unsafe { self.steps[height].assume_init() }
    }

    /// Whether it leads to the last leaf of a tree of this height.
    ///
    /// # Safety
    /// The path was set at all these heights, and its nodes are live.
    unsafe fn is_last(&self, height: u32) -> bool {
        (1..=height).all(|level| {
            // SAFETY: see above.
            unsafe {
                let (node, child) = self.step(level);
                child + 1 == len(node)
            }
        })
    }
}

impl Place {
    pub(super) fn is_filled(&self) -> bool {
        self.found.is_ok()
    }
}

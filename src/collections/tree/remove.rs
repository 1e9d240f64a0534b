//! Owns removing an entry from a tree, and writing access to a value. Knows nothing of new entries.
//!
//! A node that becomes small joins a neighbour if both together leave some room in one node:
//! removals and insertions at the same place then do not split and join it again and again.

use std::borrow::Borrow;
use std::ptr;

use super::super::shape::{
    Cell, FAN_OUT, Kind, LEAF_ENTRIES, Node, Separator, Shape, cold_slice, content_of_slot, len,
    remove_slot, set_len, warm_len,
};
use super::{Open, Path, Place, Tree};

/// A node with fewer entries or children than this looks for a neighbour to join.
pub(super) const SMALL: usize = 8;
/// Two neighbours with no more entries or children than this become one.
const JOINED: usize = 24;
const _: () = assert!(SMALL < JOINED && JOINED < LEAF_ENTRIES && JOINED < FAN_OUT);

impl<K: Ord + Clone, V: Clone> Tree<K, V> {
    /// Gives writing access to the value of a key.
    pub(in crate::collections) fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut place = self.find(key);
        // SAFETY: the place was just found. A key that is not there copies nothing.
        place.is_filled().then(|| unsafe { self.value_mut_at(&mut place) })
    }

    /// Gives writing access to the value at a place.
    ///
    /// # Safety
    /// The place is one of this tree, still valid, and filled.
    pub(in crate::collections) unsafe fn value_mut_at(&mut self, place: &mut Place) -> &mut V {
        self.open();
        let index = place.found.unwrap_or_else(|index| index);
        // SAFETY: see above. The leaf may be written after `own_place`, and so may the value after
        // `own_value`. The result borrows the handle.
        unsafe {
            self.own_place(place);
            let mut open = Open::of(self.changes.get_mut(), &self.family);
            &mut *Self::own_value(&mut open, Shape::<K, V>::value_slot(place.leaf, index))
        }
    }

    /// Makes the value of a slot the handle's own.
    ///
    /// # Safety
    /// The slot is that of a leaf that may be written.
    pub(super) unsafe fn own_value(open: &mut Open<'_>, slot: *mut u8) -> *mut V {
        // SAFETY: see above.
        unsafe {
            if Shape::<K, V>::VALUE_IS_INLINE {
                return slot.cast::<V>();
            }
            let cell = Shape::<K, V>::value_cell(slot);
            let born = (*cell).born;
            if open.is_own(born) || fault!(SharedValueWritten) {
                return &raw mut (*cell).content;
            }
            let value = (*cell).content.clone();
            let copy = open.cell::<K, V, V>(Kind::Value, value);
            slot.cast::<*mut Cell<V>>().write(copy);
            open.changes.bury(Kind::Value, cell.cast(), born);
            &raw mut (*copy).content
        }
    }

    /// Removes an entry.
    pub(in crate::collections) fn remove<Q>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let place = self.find(key);
        // SAFETY: the place was just found. A key that is not there copies nothing.
        place.is_filled().then(|| unsafe { self.remove_at(place) })
    }

    /// Removes the entry at a place.
    ///
    /// # Safety
    /// The place is one of this tree, still valid, and filled.
    pub(in crate::collections) unsafe fn remove_at(&mut self, mut place: Place) -> (K, V) {
        self.open();
        let index = place.found.unwrap_or_else(|index| index);
        // SAFETY: see above. All nodes on the path may be written after `own_place`.
        unsafe {
            self.own_place(&mut place);
            let Place { path, leaf, .. } = place;
            let mut open = Open::of(self.changes.get_mut(), &self.family);
            let entry = Self::take_entry(&mut open, leaf, index);
            let count = warm_len(leaf);
            let (keys, values) =
                (Shape::<K, V>::key_slot(leaf, 0), Shape::<K, V>::value_slot(leaf, 0));
            remove_slot(keys, Shape::<K, V>::KEY_BYTES, count, index);
            remove_slot(values, Shape::<K, V>::VALUE_BYTES, count, index);
            set_len(leaf, count - 1);
            self.len -= 1;
            if count - 1 < SMALL {
                // The separators that go away are dropped last, because a user's `Drop` may panic.
                let mut separators = Vec::new();
                Self::join(&mut open, self.height, &path, &mut separators);
                self.lower();
                drop(separators);
            }
            entry
        }
    }

    /// Takes an entry out of a leaf that may be written. The slots still hold it, and must go.
    ///
    /// A user's `Clone` may panic here. Both are cloned, if need be, before either is taken.
    ///
    /// # Safety
    /// The entry is there.
    pub(super) unsafe fn take_entry(open: &mut Open<'_>, leaf: Node, index: usize) -> (K, V) {
        // SAFETY: see above.
        unsafe {
            let key_slot = Shape::<K, V>::key_slot(leaf, index);
            let value_slot = Shape::<K, V>::value_slot(leaf, index);
            let shared_key = !Shape::<K, V>::KEY_IS_INLINE
                && !open.is_own((*Shape::<K, V>::key_cell(key_slot)).born);
            let key_clone = shared_key.then(|| content_of_slot::<K>(key_slot).clone());
            let value = if Shape::<K, V>::VALUE_IS_INLINE {
                ptr::read(value_slot.cast::<V>())
            } else {
                open.take_content(Kind::Value, Shape::<K, V>::value_cell(value_slot))
            };
            let key = Self::take_key(open, key_slot, key_clone);
            (key, value)
        }
    }

    /// Takes a key out of a slot, which must go. `clone` is a clone of it if others reach it.
    ///
    /// # Safety
    /// The slot holds a key, in a node that may be written.
    unsafe fn take_key(open: &mut Open<'_>, slot: *mut u8, clone: Option<K>) -> K {
        // SAFETY: see above.
        unsafe {
            if Shape::<K, V>::KEY_IS_INLINE {
                return ptr::read(slot.cast::<K>());
            }
            let cell = Shape::<K, V>::key_cell(slot);
            let born = (*cell).born;
            if let Some(key) = clone {
                open.changes.bury(Kind::Key, cell.cast(), born);
                return key;
            }
            let key = ptr::read(&raw const (*cell).content);
            open.changes.cache.keep(Kind::Key, cell.cast());
            key
        }
    }
}

impl<K: Ord + Clone, V: Clone, S: Separator<K>> Tree<K, V, S> {
    /// Takes a separator away that nobody needs here. If it is the handle's own, it is pushed.
    ///
    /// # Safety
    /// The slot holds a key, in a node that may be written, and must go.
    unsafe fn drop_separator(open: &mut Open<'_>, slot: *mut u8, separators: &mut Vec<S>) {
        if Shape::<K, V, S>::SEPARATOR_IS_INLINE {
            return; // it owns nothing
        }
        // SAFETY: see above.
        unsafe {
            let cell = Shape::<K, V, S>::separator_cell(slot);
            let born = (*cell).born;
            if open.is_own(born) {
                separators.push(ptr::read(&raw const (*cell).content));
                open.changes.cache.keep(Kind::Key, cell.cast());
            } else {
                open.changes.bury(Kind::Key, cell.cast(), born);
            }
        }
    }

    /// Joins small nodes on the path, from the leaf upwards, with a neighbour.
    ///
    /// # Safety
    /// All nodes of the path may be written.
    pub(super) unsafe fn join(
        open: &mut Open<'_>,
        height: u32,
        path: &Path,
        separators: &mut Vec<S>,
    ) {
        // SAFETY: see above. The neighbour that is written is made the handle's own first.
        unsafe {
            for level in 1..=height {
                let (parent, index) = path.step(level);
                let node = Shape::<K, V, S>::child(parent, index);
                if len(node) >= SMALL {
                    return;
                }
                if len(parent) == 1 {
                    if len(node) == 0 {
                        open.drop_node(node);
                        set_len(parent, 0);
                    }
                    continue;
                }
                let left = index.saturating_sub(1);
                let (a, b) = (
                    Shape::<K, V, S>::child(parent, left),
                    Shape::<K, V, S>::child(parent, left + 1),
                );
                if len(node) == 0 {
                    Self::unlink(open, parent, index, left, Some(separators));
                    open.drop_node(node);
                } else if cold_slice(a).is_some() || cold_slice(b).is_some() {
                    return; // it is not worth making a neighbour warm
                } else if len(a) + len(b) <= JOINED {
                    let link = Shape::<K, V, S>::child_slot(parent, left);
                    let a = Self::own(open, link, level - 1);
                    let kept = Self::move_over(open, (parent, left), a, b, level - 1);
                    Self::unlink(open, parent, left + 1, left, (!kept).then_some(&mut *separators));
                    open.drop_node(b);
                } else {
                    return;
                }
            }
        }
    }

    /// Appends all of `right` to its left neighbour `left`. Returns whether the separator between
    /// them moved into `left`.
    ///
    /// # Safety
    /// `left` may be written and has room for all.
    unsafe fn move_over(
        open: &mut Open<'_>,
        (parent, separator): (Node, usize),
        left: Node,
        right: Node,
        height: u32,
    ) -> bool {
        // SAFETY: see above. If `right` is shared, its inline keys and values are cloned; otherwise
        // they move, since `right` is not read again.
        unsafe {
            let (count, more) = (len(left), len(right));
            let moves = open.is_own((*right).born);
            let is_inner = height > 0;
            if is_inner {
                // An inner node has one separator less than children; theirs stands in the gap.
                let gap = Shape::<K, V, S>::separator_slot(left, count - 1);
                if moves {
                    ptr::copy_nonoverlapping(
                        Shape::<K, V, S>::separator_slot(right, 0),
                        Shape::<K, V, S>::separator_slot(left, count),
                        (more - 1) * Shape::<K, V, S>::SEPARATOR_BYTES,
                    );
                } else {
                    Self::copy_separators((right, 0), (left, count), more - 1);
                }
                ptr::copy_nonoverlapping(
                    Shape::<K, V, S>::separator_slot(parent, separator),
                    gap,
                    Shape::<K, V, S>::SEPARATOR_BYTES,
                );
                ptr::copy_nonoverlapping(
                    Shape::<K, V, S>::child_slot(right, 0),
                    Shape::<K, V, S>::child_slot(left, count),
                    more,
                );
            } else if moves {
                ptr::copy_nonoverlapping(
                    Shape::<K, V>::key_slot(right, 0),
                    Shape::<K, V>::key_slot(left, count),
                    more * Shape::<K, V>::KEY_BYTES,
                );
                ptr::copy_nonoverlapping(
                    Shape::<K, V>::value_slot(right, 0),
                    Shape::<K, V>::value_slot(left, count),
                    more * Shape::<K, V>::VALUE_BYTES,
                );
            } else {
                Self::copy_keys((right, 0), (left, count), more);
                Self::copy_values((right, 0), (left, count), more);
            }
            set_len(left, count + more);
            if is_inner && S::IS_POSITION {
                // What was counted from the beginnings of `parent` and `right` is now counted from
                // that of `left`.
                let start = Shape::<K, V, S>::start(parent, separator);
                let end = Shape::<K, V, S>::start(parent, separator + 1);
                Shape::<K, V, S>::shift(left, count, end);
                Shape::<K, V, S>::shift(left, count - 1, start.wrapping_neg());
            }
            is_inner
        }
    }

    /// Takes the child at `index`, and the separator at `separator`, out of an inner node. The
    /// separator is dropped if there is a list for it.
    ///
    /// # Safety
    /// The node may be written.
    unsafe fn unlink(
        open: &mut Open<'_>,
        node: Node,
        index: usize,
        separator: usize,
        separators: Option<&mut Vec<S>>,
    ) {
        // SAFETY: see above.
        unsafe {
            let count = len(node);
            if let Some(separators) = separators {
                Self::drop_separator(
                    open,
                    Shape::<K, V, S>::separator_slot(node, separator),
                    separators,
                );
            }
            let first = Shape::<K, V, S>::separator_slot(node, 0);
            remove_slot(first, Shape::<K, V, S>::SEPARATOR_BYTES, count - 1, separator);
            let children = Shape::<K, V, S>::child_slot(node, 0).cast::<u8>();
            remove_slot(children, size_of::<Node>(), count, index);
            set_len(node, count - 1);
        }
    }

    /// Takes away roots that have only one child, or nothing.
    pub(super) fn lower(&mut self) {
        let mut open = Open::of(self.changes.get_mut(), &self.family);
        // SAFETY: the root may be written, as may all of the path that a removal took.
        unsafe {
            while !self.root.is_null() {
                let root = self.root;
                // A cold root becomes warm here, because it may have only one child, too.
                match (self.height, len(root)) {
                    (0, 0) => self.root = ptr::null_mut(),
                    (0, _) => return,
                    (_, 0) => (self.root, self.height) = (ptr::null_mut(), 0),
                    (_, 1) => {
                        self.root = Shape::<K, V, S>::child(root, 0);
                        self.height -= 1;
                    }
                    _ => return,
                }
                open.drop_node(root);
            }
        }
    }

    /// Makes everything in the tree the handle's own.
    pub(in crate::collections) fn own_all(&mut self) {
        if self.root.is_null() {
            return;
        }
        self.open();
        let mut open = Open::of(self.changes.get_mut(), &self.family);
        // SAFETY: the root is a tree of this height.
        unsafe { Self::own_below(&mut open, &raw mut self.root, self.height) }
    }

    /// # Safety
    /// `link` is the root, or a child slot of a node that may be written.
    unsafe fn own_below(open: &mut Open<'_>, link: *mut Node, height: u32) {
        // SAFETY: see above.
        unsafe {
            let node = Self::own(open, link, height);
            for index in 0..len(node) {
                if height > 0 {
                    let child = Shape::<K, V, S>::child_slot(node, index);
                    Self::own_below(open, child, height - 1);
                } else {
                    Tree::<K, V>::own_value(open, Shape::<K, V>::value_slot(node, index));
                }
            }
        }
    }
}

//! Owns putting an entry into a tree, and writing a value in its place. Knows nothing of removals.

use std::borrow::Borrow;
use std::ptr;

use super::super::pool::UNKNOWN;
use super::super::shape::{
    Cell, Kind, LEAF_ENTRIES, Node, Separator, Shape, insert_slot, prefetch, set_len, warm_len,
};
use super::split::split;
use super::{Open, Path, Place, Tree};

/// What was in the place of a new value.
pub(super) enum Replaced<V> {
    Nothing,
    Old(V),
    /// Other versions have the old value, and nobody asked for a clone.
    Unread,
}

impl<V> Replaced<V> {
    pub(super) fn old(self) -> Option<V> {
        match self {
            Self::Old(value) => Some(value),
            Self::Nothing | Self::Unread => None,
        }
    }
}

impl<K: Ord + Clone, V: Clone> Tree<K, V> {
    /// Descends to the leaf for `key`, and makes all nodes on the way the handle's own. Returns the
    /// way, the leaf, and whether the leaf was shared before.
    ///
    /// # Safety
    /// `link` is the root of a tree of this height, and not null.
    #[inline(always)]
    pub(super) unsafe fn descend_to_write<Q>(
        mut link: *mut Node,
        tree_height: u32,
        open: &mut Open<'_>,
        key: &Q,
    ) -> (Path, Node, bool)
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut path = Path::new();
        // SAFETY: the links lead through nodes that this handle may write, since each was made its
        // own before its child is looked at.
        unsafe {
            for height in (1..=tree_height).rev() {
                let index = Shape::<K, V>::child_for(*link, key);
                // The child comes while its parent is copied.
                let kind = if height > 1 { Kind::Inner } else { Kind::Leaf };
                let bytes = Shape::<K, V>::LAYOUTS[kind].size();
                prefetch(Shape::<K, V>::child(*link, index).cast(), bytes);
                let node = Self::own(open, link, height);
                path.set(height, node, index);
                link = Shape::<K, V>::child_slot(node, index);
            }
            let shared = *link;
            let leaf = Self::own(open, link, 0);
            (path, leaf, leaf != shared)
        }
    }

    /// Puts an entry into the tree. If the key is there, it stays, and only the value is exchanged.
    /// Returns whether the key was there.
    pub(in crate::collections) fn put(&mut self, key: K, value: V) -> bool {
        !matches!(self.place::<false>(key, value), Replaced::Nothing)
    }

    /// Does the same, and returns the old value.
    pub(in crate::collections) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.place::<true>(key, value).old()
    }

    fn place<const READS: bool>(&mut self, key: K, value: V) -> Replaced<V> {
        self.open();
        let mut open = Open::of(self.changes.get_mut(), &self.family);
        if self.root.is_null() {
            self.put_first(key, value);
            return Replaced::Nothing;
        }
        // SAFETY: the root is a tree of this height. The leaf may be written.
        unsafe {
            let (path, leaf, was_copied) =
                Self::descend_to_write(&raw mut self.root, self.height, &mut open, &key);
            match Shape::<K, V>::find(leaf, &key) {
                Ok(index) => {
                    let slot = Shape::<K, V>::value_slot(leaf, index);
                    Self::replace::<READS>(&mut open, slot, was_copied, value)
                }
                Err(index) => {
                    self.put_new(&path, leaf, index, key, value);
                    Replaced::Nothing
                }
            }
        }
    }

    /// Puts the first entry into an open handle. Returns its leaf.
    pub(super) fn put_first(&mut self, key: K, value: V) -> Node {
        let mut open = Open::of(self.changes.get_mut(), &self.family);
        let leaf = open.node::<K, V, K>(0);
        // SAFETY: the leaf is new, and has room.
        unsafe { Self::put_into(&mut open, leaf, 0, key, value) };
        (self.root, self.len) = (leaf, 1);
        leaf
    }

    /// Puts an entry whose key is not there into an open handle. Returns its leaf and index.
    ///
    /// # Safety
    /// The path leads to the leaf, the key belongs at the index, and all nodes may be written.
    #[inline(always)]
    unsafe fn put_new(
        &mut self,
        path: &Path,
        leaf: Node,
        index: usize,
        key: K,
        value: V,
    ) -> (Node, usize) {
        let mut open = Open::of(self.changes.get_mut(), &self.family);
        // SAFETY: see above.
        unsafe {
            if warm_len(leaf) < LEAF_ENTRIES {
                Self::put_into(&mut open, leaf, index, key, value);
                self.len += 1;
                return (leaf, index);
            }
            // A user's `Clone` may panic, so it is called before anything moves.
            let is_last = path.is_last(self.height);
            let (stays, goes_right) = split(LEAF_ENTRIES, index, is_last);
            let is_first_right = goes_right && index == stays;
            let separator =
                if is_first_right { key.clone() } else { Shape::<K, V>::key(leaf, stays).clone() };
            let right = Self::split_leaf(&mut open, leaf, stays);
            let (into, index) = if goes_right { (right, index - stays) } else { (leaf, index) };
            Self::put_into(&mut open, into, index, key, value);
            let separator = KeySlot::new::<V>(&mut open, separator);
            let tree = (self.root, self.height);
            (self.root, self.height) = Self::link_right(&mut open, tree, path, separator, right);
            self.len += 1;
            (into, index)
        }
    }

    /// Puts an entry at the place of its key, which is not there. Gives writing access to the
    /// value.
    ///
    /// # Safety
    /// The place is the key's place in this tree, still valid, and not filled.
    pub(in crate::collections) unsafe fn put_at(
        &mut self,
        mut place: Place,
        key: K,
        value: V,
    ) -> &mut V {
        self.open();
        // SAFETY: see above. The result borrows the handle, and the value is the handle's own.
        unsafe {
            let (leaf, index) = match place.found {
                _ if self.root.is_null() => (self.put_first(key, value), 0),
                Ok(index) | Err(index) => {
                    self.own_place(&mut place);
                    self.put_new(&place.path, place.leaf, index, key, value)
                }
            };
            &mut *Shape::<K, V>::value_address(leaf, index)
        }
    }

    /// Makes all nodes down to a place the handle's own. The handle is open.
    ///
    /// # Safety
    /// The place is one of this tree, still valid, and the tree is not empty.
    pub(super) unsafe fn own_place(&mut self, place: &mut Place) {
        let mut open = Open::of(self.changes.get_mut(), &self.family);
        let mut link = &raw mut self.root;
        // SAFETY: see above. Copies have the same children, so the same indices lead down.
        unsafe {
            for height in (1..=self.height).rev() {
                let (_, index) = place.path.step(height);
                let node = Self::own(&mut open, link, height);
                place.path.set(height, node, index);
                link = Shape::<K, V>::child_slot(node, index);
            }
            place.leaf = Self::own(&mut open, link, 0);
        }
    }

    /// Exchanges the value in `slot` of a leaf that may be written.
    ///
    /// # Safety
    /// The slot holds a value.
    #[inline(always)]
    pub(super) unsafe fn replace<const READS: bool>(
        open: &mut Open<'_>,
        slot: *mut u8,
        was_copied: bool,
        value: V,
    ) -> Replaced<V> {
        // SAFETY: see above.
        unsafe {
            if Shape::<K, V>::VALUE_IS_INLINE {
                return Replaced::Old(ptr::replace(slot.cast::<V>(), value));
            }
            let cell = Shape::<K, V>::value_cell(slot);
            // What a shared leaf holds is shared, too: that cell need not be touched.
            if !was_copied && open.is_own((*cell).born) {
                return Replaced::Old(ptr::replace(&raw mut (*cell).content, value));
            }
            // A user's `Clone` may panic, so it is called before anything changes.
            let old = READS.then(|| (*cell).content.clone());
            open.changes.bury(Kind::Value, cell.cast(), UNKNOWN);
            let cell = open.cell::<K, V, V>(Kind::Value, value);
            slot.cast::<*mut Cell<V>>().write(cell);
            old.map_or(Replaced::Unread, Replaced::Old)
        }
    }

    /// Puts an entry behind the `count` entries of a leaf that may be written and has room.
    ///
    /// # Safety
    /// See above.
    #[inline(always)]
    pub(super) unsafe fn push_into(
        open: &mut Open<'_>,
        leaf: Node,
        count: usize,
        key: K,
        value: V,
    ) {
        let value_slot = Shape::<K, V>::value_slot;
        let key_slot = Shape::<K, V>::key_slot;
        // SAFETY: see above. Each cell, or the content itself, goes into a slot that holds nothing.
        unsafe {
            if Shape::<K, V>::VALUE_IS_INLINE {
                value_slot(leaf, count).cast::<V>().write(value);
            } else {
                let cell = open.cell::<K, V, V>(Kind::Value, value);
                value_slot(leaf, count).cast::<*mut Cell<V>>().write(cell);
            }
            if Shape::<K, V>::KEY_IS_INLINE {
                key_slot(leaf, count).cast::<K>().write(key);
            } else {
                let cell = open.cell::<K, V, K>(Kind::Key, key);
                key_slot(leaf, count).cast::<*mut Cell<K>>().write(cell);
            }
            set_len(leaf, count + 1);
        }
    }

    /// Puts an entry into a leaf that may be written and has room.
    ///
    /// # Safety
    /// See above.
    #[inline(always)]
    pub(super) unsafe fn put_into(open: &mut Open<'_>, leaf: Node, index: usize, key: K, value: V) {
        // SAFETY: see above. Nothing here can panic once the slots move.
        unsafe {
            let count = warm_len(leaf);
            let value_slot = Shape::<K, V>::value_slot(leaf, 0);
            let bytes = Shape::<K, V>::VALUE_BYTES;
            if Shape::<K, V>::VALUE_IS_INLINE {
                insert_slot(value_slot, bytes, count, index, (&raw const value).cast());
                std::mem::forget(value);
            } else {
                let cell = open.cell::<K, V, V>(Kind::Value, value);
                insert_slot(value_slot, bytes, count, index, (&raw const cell).cast());
            }
            let key = KeySlot::new::<V>(open, key);
            key.insert::<V>(Shape::<K, V>::key_slot(leaf, 0), count, index);
            set_len(leaf, count + 1);
        }
    }
}

/// A key or a separator on its way into a slot: itself, or its cell.
pub(super) enum KeySlot<K> {
    Inline(K),
    Cell(*mut Cell<K>),
}

impl<S> KeySlot<S> {
    #[inline(always)]
    pub(super) fn position<K>(&self) -> usize
    where
        S: Separator<K>,
    {
        match self {
            Self::Inline(separator) => separator.position(),
            Self::Cell(_) => 0,
        }
    }

    #[inline(always)]
    pub(super) fn shift<K>(&mut self, by: usize)
    where
        S: Separator<K>,
    {
        if let Self::Inline(separator) = self {
            separator.shift(by);
        }
    }
}

impl<K> KeySlot<K> {
    #[inline(always)]
    pub(super) fn new<V>(open: &mut Open<'_>, key: K) -> Self {
        if Shape::<K, V>::KEY_IS_INLINE {
            Self::Inline(key)
        } else {
            Self::Cell(open.cell::<K, V, K>(Kind::Key, key))
        }
    }

    /// # Safety
    /// The slot holds a key, and is not read again.
    pub(super) unsafe fn read<V>(slot: *mut u8) -> Self {
        // SAFETY: see above.
        unsafe {
            if Shape::<K, V>::KEY_IS_INLINE {
                Self::Inline(ptr::read(slot.cast::<K>()))
            } else {
                Self::Cell(Shape::<K, V>::key_cell(slot))
            }
        }
    }

    /// # Safety
    /// `first` is the first of `count` key slots with room for one more.
    #[inline(always)]
    pub(super) unsafe fn insert<V>(self, first: *mut u8, count: usize, index: usize) {
        let bytes = Shape::<K, V>::KEY_BYTES;
        // SAFETY: see above.
        unsafe {
            match self {
                Self::Inline(key) => {
                    insert_slot(first, bytes, count, index, (&raw const key).cast());
                    std::mem::forget(key);
                }
                Self::Cell(cell) => {
                    insert_slot(first, bytes, count, index, (&raw const cell).cast());
                }
            }
        }
    }
}

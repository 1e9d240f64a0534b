//! Owns finding, putting and removing elements by their position: a tree without keys. Knows
//! nothing of the public vector.
//!
//! An element that comes or goes moves all that are behind it, so on its path the positions of all
//! children to the right change. Nothing else differs from a map: leaves are the same, and nodes
//! are split and joined in the same way.

use std::ptr;

use super::super::shape::{
    Kind, LEAF_ENTRIES, Node, Shape, len, prefetch, remove_slot, set_len, warm_len,
};
use super::{Levels, Open, Path, Tree, put, remove, split};

/// One handle to a tree whose elements have no keys. Inner nodes hold positions.
pub(in crate::collections) type Sequence<V> = Tree<(), V, usize>;

/// What concerns leaves alone is the same as in a map.
pub(super) type Leaves<V> = Tree<(), V>;

/// Where an element is, or where one is to be put, in a leaf that may be written.
pub(super) struct Slot {
    pub(super) path: Path,
    pub(super) leaf: Node,
    pub(super) index: usize,
    /// The leaf was shared before.
    was_copied: bool,
}

impl<V> Sequence<V> {
    /// Returns the element at `index`.
    #[inline]
    pub(in crate::collections) fn at(&self, mut index: usize) -> Option<&V> {
        if index >= self.len {
            return None;
        }
        let mut node = self.root;
        // SAFETY: everything below the root lives as long as the handle, and nobody writes it while
        // the handle is borrowed. The element is there.
        unsafe {
            for height in (1..=self.height).rev() {
                let child = child_at::<V, false>(node, index);
                index -= Shape::<(), V, usize>::start(node, child);
                node = Shape::<(), V, usize>::child(node, child);
                if height > 1 {
                    // The element's own line is known; an inner node is searched.
                    let inner = Shape::<(), V, usize>::LAYOUTS[Kind::Inner];
                    prefetch(node.cast(), inner.size());
                }
            }
            Some(Shape::<(), V>::value(node, index))
        }
    }

    /// Fills `path` with the way to the element at `index`. Returns its leaf, and its index there.
    ///
    /// # Safety
    /// The node is live, has this height, and has so many elements.
    pub(super) unsafe fn find_at(
        mut node: Node,
        height: u32,
        mut index: usize,
        path: &mut Levels<(Node, usize)>,
    ) -> (Node, usize) {
        // SAFETY: see above.
        unsafe {
            for level in (1..=height).rev() {
                let child = child_at::<V, false>(node, index);
                index -= Shape::<(), V, usize>::start(node, child);
                path[level] = (node, child);
                node = Shape::<(), V, usize>::child(node, child);
            }
        }
        (node, index)
    }
}

/// Returns the child below which the element at `index` is. For a `GAP`: the child that ends there,
/// if there is one, so that what is put behind an element gets into the same leaf.
///
/// # Safety
/// The node is live.
#[inline(always)]
unsafe fn child_at<V, const GAP: bool>(inner: Node, index: usize) -> usize {
    // SAFETY: see above.
    let ends = unsafe { Shape::<(), V, usize>::positions(inner) };
    ends.partition_point(|&end| if GAP { end < index } else { end <= index })
}

impl<V: Clone> Sequence<V> {
    /// Descends to the element, or the gap, at `index`, and makes all nodes on the way the handle's
    /// own.
    ///
    /// # Safety
    /// `link` is the root of a tree of this height, and not null. The element, or the gap, is
    /// there.
    #[inline(always)]
    pub(super) unsafe fn descend_to<const GAP: bool>(
        mut link: *mut Node,
        tree_height: u32,
        open: &mut Open<'_>,
        mut index: usize,
    ) -> Slot {
        let mut path = Path::new();
        // SAFETY: the links lead through nodes that this handle may write, since each was made its
        // own before its child is looked at.
        unsafe {
            for height in (1..=tree_height).rev() {
                let child = child_at::<V, GAP>(*link, index);
                // The child comes while its parent is copied.
                let kind = if height > 1 { Kind::Inner } else { Kind::Leaf };
                let bytes = Shape::<(), V, usize>::LAYOUTS[kind].size();
                prefetch(Shape::<(), V, usize>::child(*link, child).cast(), bytes);
                let node = Self::own(open, link, height);
                index -= Shape::<(), V, usize>::start(node, child);
                path.set(height, node, child);
                link = Shape::<(), V, usize>::child_slot(node, child);
            }
            let shared = *link;
            let leaf = Self::own(open, link, 0);
            Slot { path, leaf, index, was_copied: leaf != shared }
        }
    }

    /// Opens the handle, and descends to the element at `index`, which is there.
    #[inline(always)]
    fn open_at(&mut self, index: usize) -> (Open<'_>, Slot) {
        self.open();
        let mut open = Open::of(self.changes.get_mut(), &self.family);
        // SAFETY: the tree has the element, so it has a root.
        let slot = unsafe {
            let link = &raw mut self.root;
            Self::descend_to::<false>(link, self.height, &mut open, index)
        };
        (open, slot)
    }

    /// Gives writing access to the element at `index`.
    pub(in crate::collections) fn at_mut(&mut self, index: usize) -> Option<&mut V> {
        if index >= self.len {
            return None;
        }
        let (mut open, slot) = self.open_at(index);
        // SAFETY: the leaf may be written, and so may the value after `own_value`. The result
        // borrows the handle.
        unsafe {
            let at = Shape::<(), V>::value_slot(slot.leaf, slot.index);
            Some(&mut *Leaves::<V>::own_value(&mut open, at))
        }
    }

    /// Exchanges the element at `index`, which is there. Returns the old one; without `READS` only
    /// if no other version has it.
    pub(in crate::collections) fn set_at<const READS: bool>(
        &mut self,
        index: usize,
        value: V,
    ) -> Option<V> {
        assert!(index < self.len, "no element {index} in a vector of {}", self.len);
        let (mut open, slot) = self.open_at(index);
        // SAFETY: the leaf may be written.
        unsafe {
            let at = Shape::<(), V>::value_slot(slot.leaf, slot.index);
            Leaves::<V>::replace::<READS>(&mut open, at, slot.was_copied, value).old()
        }
    }

    /// Exchanges two elements, which are there, with each other. Clones neither of them.
    pub(in crate::collections) fn swap_at(&mut self, a: usize, b: usize) {
        let len = self.len;
        assert!(a < len && b < len, "no elements {a} and {b} in a vector of {len}");
        if a == b {
            return;
        }
        self.open();
        let mut open = Open::of(self.changes.get_mut(), &self.family);
        let link = &raw mut self.root;
        // SAFETY: the tree has both, so it has a root. Both leaves may be written, and stay where
        // they are. The slots differ, and each cell keeps its birth.
        unsafe {
            let [a, b] = [a, b].map(|index| {
                let slot = Self::descend_to::<false>(link, self.height, &mut open, index);
                Shape::<(), V>::value_slot(slot.leaf, slot.index)
            });
            ptr::swap_nonoverlapping(a, b, Shape::<(), V>::VALUE_BYTES);
        }
    }

    /// Puts an element in before the one at `index`, or behind all.
    pub(in crate::collections) fn insert_at(&mut self, index: usize, value: V) {
        assert!(index <= self.len, "no place {index} in a vector of {}", self.len);
        self.open();
        let mut open = Open::of(self.changes.get_mut(), &self.family);
        if self.root.is_null() {
            let leaf = open.node::<(), V, usize>(0);
            // SAFETY: the leaf is new, and has room.
            unsafe { Leaves::<V>::put_into(&mut open, leaf, 0, (), value) };
            (self.root, self.len) = (leaf, 1);
            return;
        }
        // SAFETY: the root is a tree of this height. All nodes on the path may be written. A user's
        // `Clone` may panic only until they may.
        unsafe {
            let link = &raw mut self.root;
            let mut slot = Self::descend_to::<true>(link, self.height, &mut open, index);
            if slot.index == LEAF_ENTRIES {
                Self::try_neighbour(&mut open, self.height, &mut slot);
            }
            let Slot { path, leaf, index, .. } = slot;
            self.len += 1;
            if !fault!(PositionsNotMoved) {
                Self::shift_behind(&path, self.height, 1);
            }
            if warm_len(leaf) < LEAF_ENTRIES {
                Leaves::<V>::put_into(&mut open, leaf, index, (), value);
                return;
            }
            // Only what is put before all others is at the beginning of a leaf. More may follow.
            let (stays, goes_right) =
                if index == 0 { (0, false) } else { split::split(LEAF_ENTRIES, index, true) };
            let right = Leaves::<V>::split_leaf(&mut open, leaf, stays);
            let (into, index) = if goes_right { (right, index - stays) } else { (leaf, index) };
            Leaves::<V>::put_into(&mut open, into, index, (), value);
            let end = put::KeySlot::Inline(len(leaf));
            let tree = (self.root, self.height);
            (self.root, self.height) = Self::link_right(&mut open, tree, &path, end, right);
        }
    }

    /// Moves a gap at the end of a full leaf to the beginning of the leaf to the right, if that has
    /// room. So insertions at one place do not make one leaf after another.
    ///
    /// # Safety
    /// The path may be written.
    unsafe fn try_neighbour(open: &mut Open<'_>, height: u32, slot: &mut Slot) {
        if height == 0 {
            return;
        }
        // SAFETY: see above.
        unsafe {
            let (parent, child) = slot.path.step(1);
            if child + 1 == len(parent) {
                return;
            }
            let link = Shape::<(), V, usize>::child_slot(parent, child + 1);
            if len(*link) < LEAF_ENTRIES {
                (slot.leaf, slot.index) = (Self::own(open, link, 0), 0);
                slot.path.set(1, parent, child + 1);
            }
        }
    }

    /// Adds `by` to the positions of all that is to the right of a path.
    ///
    /// # Safety
    /// The path may be written.
    #[inline(always)]
    unsafe fn shift_behind(path: &Path, height: u32, by: usize) {
        for level in 1..=height {
            // SAFETY: see above.
            unsafe {
                let (node, child) = path.step(level);
                Shape::<(), V, usize>::shift(node, child, by);
            }
        }
    }

    /// Removes the element at `index`, if it is there, and returns it; without `READS` only if no
    /// other version has it.
    pub(in crate::collections) fn remove_at<const READS: bool>(
        &mut self,
        index: usize,
    ) -> Option<V> {
        if index >= self.len {
            return None;
        }
        self.open();
        let mut open = Open::of(self.changes.get_mut(), &self.family);
        // SAFETY: the tree has the element, so it has a root. All nodes on the path may be written.
        unsafe {
            let link = &raw mut self.root;
            let Slot { path, leaf, index, .. } =
                Self::descend_to::<false>(link, self.height, &mut open, index);
            let value = Self::take_value::<READS>(&mut open, leaf, index);
            let count = warm_len(leaf);
            let values = Shape::<(), V>::value_slot(leaf, 0);
            remove_slot(values, Shape::<(), V>::VALUE_BYTES, count, index);
            set_len(leaf, count - 1);
            self.len -= 1;
            Self::shift_behind(&path, self.height, 1_usize.wrapping_neg());
            if count - 1 < remove::SMALL {
                Self::join(&mut open, self.height, &path, &mut Vec::new());
                self.lower();
            }
            value
        }
    }

    /// Takes a value out of a leaf that may be written. The slot still holds it, and must go.
    ///
    /// # Safety
    /// The value is there.
    unsafe fn take_value<const READS: bool>(
        open: &mut Open<'_>,
        leaf: Node,
        index: usize,
    ) -> Option<V> {
        // SAFETY: see above.
        unsafe {
            if !READS && !Shape::<(), V>::VALUE_IS_INLINE {
                let cell = Shape::<(), V>::value_cell(Shape::<(), V>::value_slot(leaf, index));
                let born = (*cell).born;
                if !open.is_own(born) {
                    open.changes.bury(Kind::Value, cell.cast(), born);
                    return None;
                }
            }
            Some(Leaves::<V>::take_entry(open, leaf, index).1)
        }
    }
}

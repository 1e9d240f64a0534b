//! Owns splitting full nodes, and the growth of a tree that comes of it. Knows nothing of where an
//! entry belongs.
//!
//! A full node is split in two halves. Where the new entry is the last one, the full node stays as
//! it is and the new one begins with the new entry: entries that come in ascending order fill all
//! nodes.

use std::ptr;

use super::super::shape::{FAN_OUT, Node, Separator, Shape, insert_slot, len, set_len};
use super::put::KeySlot;
use super::{MOST_LEVELS, Open, Path, Tree};

/// How a full node of `capacity` slots is split for a new slot at `index`: how many of the old
/// slots stay, and whether the new one goes to the right half.
///
/// Only where the node `is_last` of its level, and the new slot comes behind all others, the node
/// stays full. Anywhere else, slots that come in descending order would each get a node of their
/// own.
pub(super) const fn split(capacity: usize, index: usize, is_last: bool) -> (usize, bool) {
    if index == capacity && is_last {
        return (capacity, true);
    }
    let half = capacity / 2;
    if index > half { (half + 1, index > half + 1) } else { (half, false) }
}

impl<K: Ord + Clone, V: Clone> Tree<K, V> {
    /// Moves the entries of a full leaf from `stays` on to a new leaf, which is returned.
    ///
    /// # Safety
    /// The leaf may be written.
    pub(super) unsafe fn split_leaf(open: &mut Open<'_>, leaf: Node, stays: usize) -> Node {
        let right = open.node::<K, V, K>(0);
        // SAFETY: see above; the new leaf has room.
        unsafe {
            let moved = len(leaf) - stays;
            ptr::copy_nonoverlapping(
                Shape::<K, V>::key_slot(leaf, stays),
                Shape::<K, V>::key_slot(right, 0),
                moved * Shape::<K, V>::KEY_BYTES,
            );
            ptr::copy_nonoverlapping(
                Shape::<K, V>::value_slot(leaf, stays),
                Shape::<K, V>::value_slot(right, 0),
                moved * Shape::<K, V>::VALUE_BYTES,
            );
            set_len(right, moved);
            set_len(leaf, stays);
        }
        right
    }
}

impl<K: Ord + Clone, V: Clone, S: Separator<K>> Tree<K, V, S> {
    /// Links `right` to the right of the node from which it was split. Returns the root and the
    /// height.
    ///
    /// # Safety
    /// The path leads to that node through nodes that may be written.
    pub(super) unsafe fn link_right(
        open: &mut Open<'_>,
        (root, height): (Node, u32),
        path: &Path,
        mut separator: KeySlot<S>,
        mut right: Node,
    ) -> (Node, u32) {
        // SAFETY: see above.
        unsafe {
            let is_last = path.is_last(height);
            for level in 1..=height {
                let (node, child) = path.step(level);
                let index = child + 1;
                separator.shift::<K>(Shape::<K, V, S>::start(node, child));
                if len(node) < FAN_OUT {
                    Self::insert_child(node, index, separator, right);
                    return (root, height);
                }
                let new = open.node::<K, V, S>(level);
                separator = Self::split_inner((node, new), index, is_last, separator, right);
                right = new;
            }
            let new_root = open.node::<K, V, S>(height + 1);
            assert!(height as usize + 1 < MOST_LEVELS, "a tree of so many levels fits nowhere");
            Shape::<K, V, S>::child_slot(new_root, 0).write(root);
            set_len(new_root, 1);
            Self::insert_child(new_root, 1, separator, right);
            (new_root, height + 1)
        }
    }

    /// Puts a child, and the separator before it, into an inner node with room.
    ///
    /// # Safety
    /// The node may be written; `index` is not 0.
    pub(super) unsafe fn insert_child(
        node: Node,
        index: usize,
        separator: KeySlot<S>,
        child: Node,
    ) {
        // SAFETY: see above.
        unsafe {
            let count = len(node);
            separator.insert::<V>(Shape::<K, V, S>::separator_slot(node, 0), count - 1, index - 1);
            let children = Shape::<K, V, S>::child_slot(node, 0).cast::<u8>();
            insert_slot(children, size_of::<Node>(), count, index, (&raw const child).cast());
            set_len(node, count + 1);
        }
    }

    /// Splits a full inner node, to which `child` comes at `index`. Returns the separator before
    /// the `right` half.
    ///
    /// # Safety
    /// The node may be written, and `right` is new.
    unsafe fn split_inner(
        (node, right): (Node, Node),
        index: usize,
        is_last: bool,
        separator: KeySlot<S>,
        child: Node,
    ) -> KeySlot<S> {
        let (stays, goes_right) = split(FAN_OUT, index, is_last);
        // SAFETY: see above.
        unsafe {
            let moved = FAN_OUT - stays;
            if moved == 0 {
                Shape::<K, V, S>::child_slot(right, 0).write(child);
                set_len(right, 1);
                return separator;
            }
            ptr::copy_nonoverlapping(
                Shape::<K, V, S>::child_slot(node, stays),
                Shape::<K, V, S>::child_slot(right, 0),
                moved,
            );
            // The separator between the halves goes up.
            let up = KeySlot::<S>::read::<V>(Shape::<K, V, S>::separator_slot(node, stays - 1));
            ptr::copy_nonoverlapping(
                Shape::<K, V, S>::separator_slot(node, stays),
                Shape::<K, V, S>::separator_slot(right, 0),
                (moved - 1) * Shape::<K, V, S>::SEPARATOR_BYTES,
            );
            set_len(node, stays);
            set_len(right, moved);
            let (into, index) = if goes_right { (right, index - stays) } else { (node, index) };
            Self::insert_child(into, index, separator, child);
            // What was counted from the beginning of `node` is now counted from that of `right`.
            if !fault!(PositionsKeptAtSplit) {
                Shape::<K, V, S>::shift(right, 0, up.position::<K>().wrapping_neg());
            }
            up
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::shape::LEAF_ENTRIES;
    use super::*;

    #[test]
    fn both_halves_of_a_split_have_room() {
        for capacity in [LEAF_ENTRIES, FAN_OUT] {
            for (index, is_last) in (0..=capacity).flat_map(|it| [(it, false), (it, true)]) {
                let (stays, goes_right) = split(capacity, index, is_last);
                let left = stays + usize::from(!goes_right);
                let right = capacity - stays + usize::from(goes_right);
                assert!(left <= capacity && right <= capacity && right > 0, "{index}");
                assert!(
                    index == capacity && is_last || left.abs_diff(right) <= 3,
                    "{index}: {left}, {right}"
                );
                assert!(if goes_right { index >= stays } else { index <= stays }, "{index}");
            }
        }
    }
}

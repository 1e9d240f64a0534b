//! Owns building a tree from entries in their order: every node but the last of each level is full.
//! Knows nothing of where the entries come from.

use std::ptr;

use super::super::shape::{FAN_OUT, LEAF_ENTRIES, Node, Shape, len, set_len};
use super::put::KeySlot;
use super::sequence::{Leaves, Sequence};
use super::{Levels, MOST_LEVELS, Open, Tree};

/// A tree in the making. At any moment all that was pushed is part of a whole tree, so a panic of a
/// user's code leaves nothing half made.
pub(in crate::collections) struct TreeBuilder<K, V> {
    tree: Tree<K, V>,
    /// The last node of each level, from the leaf up.
    last: Levels<Node>,
}

impl<K: Ord + Clone, V: Clone> TreeBuilder<K, V> {
    pub(in crate::collections) fn new() -> Self {
        Self { tree: Tree::new(), last: Levels::of(ptr::null_mut()) }
    }

    /// Appends an entry. If its key is not greater than the last one, it is given back.
    #[inline]
    pub(in crate::collections) fn push(&mut self, key: K, value: V) -> Result<(), (K, V)> {
        let tree = &mut self.tree;
        let leaf = self.last[0];
        if leaf.is_null() {
            tree.open();
            self.last[0] = tree.put_first(key, value);
            return Ok(());
        }
        // The handle is still open, since nobody else has it.
        let mut open = Open::of(tree.changes.get_mut(), &tree.family);
        // SAFETY: the last node of each level is the tree's own, and belongs to it.
        unsafe {
            let count = len(leaf);
            if Shape::<K, V>::key(leaf, count - 1) >= &key {
                return Err((key, value));
            }
            if count < LEAF_ENTRIES {
                Tree::put_into(&mut open, leaf, count, key, value);
            } else {
                let separator = key.clone();
                let leaf = open.node::<K, V, K>(0);
                Tree::put_into(&mut open, leaf, 0, key, value);
                let separator = KeySlot::new::<V>(&mut open, separator);
                Self::append(
                    tree.height,
                    &mut tree.root,
                    &mut self.last,
                    &mut open,
                    separator,
                    leaf,
                )
                .into_iter()
                .for_each(|height| tree.height = height);
                self.last[0] = leaf;
            }
            tree.len += 1;
        }
        Ok(())
    }

    /// Appends a leaf to the tree. Returns the height if the tree grows.
    ///
    /// # Safety
    /// The last nodes may be written.
    unsafe fn append(
        height: u32,
        root: &mut Node,
        last: &mut Levels<Node>,
        open: &mut Open<'_>,
        separator: KeySlot<K>,
        leaf: Node,
    ) -> Option<u32> {
        let mut right = leaf;
        // SAFETY: see above.
        unsafe {
            for level in 1..=height {
                let node = last[level];
                if len(node) < FAN_OUT {
                    Tree::<K, V>::insert_child(node, len(node), separator, right);
                    return None;
                }
                // The new node has one child, and the separator goes up.
                let new = open.node::<K, V, K>(level);
                Shape::<K, V>::child_slot(new, 0).write(right);
                set_len(new, 1);
                last[level] = new;
                right = new;
            }
            let new_root = open.node::<K, V, K>(height + 1);
            assert!(height as usize + 1 < MOST_LEVELS, "a tree of so many levels fits nowhere");
            Shape::<K, V>::child_slot(new_root, 0).write(*root);
            set_len(new_root, 1);
            Tree::<K, V>::insert_child(new_root, 1, separator, right);
            *root = new_root;
            last[height + 1] = new_root;
        }
        Some(height + 1)
    }

    pub(in crate::collections) fn finish(self) -> Tree<K, V> {
        self.tree
    }
}

/// Appends elements to a sequence, and looks for the last leaf only when one is full. At any moment
/// all that was pushed is part of a whole tree.
pub(in crate::collections) struct Appender<'a, V> {
    tree: &'a mut Sequence<V>,
    /// The last leaf, which is the handle's own; null if it was not looked for.
    leaf: Node,
}

impl<'a, V: Clone> Appender<'a, V> {
    pub(in crate::collections) fn new(tree: &'a mut Sequence<V>) -> Self {
        Self { tree, leaf: ptr::null_mut() }
    }

    #[inline]
    pub(in crate::collections) fn push(&mut self, value: V) {
        // SAFETY: the leaf may be written, since nobody else has had the handle since it was found.
        unsafe {
            if self.leaf.is_null() || len(self.leaf) == LEAF_ENTRIES {
                return self.push_slowly(value);
            }
            let mut open = Open::of(self.tree.changes.get_mut(), &self.tree.family);
            Leaves::<V>::put_into(&mut open, self.leaf, len(self.leaf), (), value);
        }
        self.tree.len += 1;
    }

    #[cold]
    #[inline(never)]
    fn push_slowly(&mut self, value: V) {
        let tree = &mut *self.tree;
        tree.insert_at(tree.len, value);
        let mut leaf = tree.root;
        for _ in 0..tree.height {
            // SAFETY: the tree has an element, so no node is without children.
            leaf = unsafe { Shape::<(), V, usize>::child(leaf, len(leaf) - 1) };
        }
        self.leaf = leaf;
    }
}

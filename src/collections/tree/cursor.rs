//! Owns a place in a tree: an entry, or the end. Moves it forward and backward. Knows nothing of
//! changes.

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::ops::Bound;
use std::ptr;

use super::super::shape::{Node, Shape, len, warm_len};
use super::{Levels, Sequence, Tree};

/// A place in a tree that stays as it is meanwhile.
pub(in crate::collections) struct Cursor<'a, K, V, S = K> {
    root: Node,
    height: u32,
    /// Null at the end.
    leaf: Node,
    index: usize,
    /// The inner nodes above the leaf, by height, with the index of the child that was taken.
    path: Levels<(Node, usize)>,
    tree: PhantomData<&'a (K, V, S)>,
}

// SAFETY: a cursor is a shared reference to a tree, and only gives shared references to entries.
unsafe impl<K: Sync, V: Sync, S: Sync> Send for Cursor<'_, K, V, S> {}
// SAFETY: as for `Send`.
unsafe impl<K: Sync, V: Sync, S: Sync> Sync for Cursor<'_, K, V, S> {}

impl<K, V, S> Clone for Cursor<'_, K, V, S> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<K, V, S> PartialEq for Cursor<'_, K, V, S> {
    fn eq(&self, other: &Self) -> bool {
        (self.leaf, self.index) == (other.leaf, other.index)
    }
}

impl<'a, K, V, S> Cursor<'a, K, V, S> {
    pub(in crate::collections) fn end(tree: &'a Tree<K, V, S>) -> Self {
        Self {
            root: tree.root,
            height: tree.height,
            leaf: ptr::null_mut(),
            index: 0,
            path: Levels::of((ptr::null_mut(), 0)),
            tree: PhantomData,
        }
    }

    pub(in crate::collections) fn first(tree: &'a Tree<K, V, S>) -> Self {
        let mut cursor = Self::end(tree);
        if !cursor.root.is_null() {
            // SAFETY: the root is live, and so is all below it.
            unsafe { cursor.descend_first(cursor.root, cursor.height) };
        }
        cursor
    }
}

impl<'a, K, V> Cursor<'a, K, V> {
    /// Returns the first entry that is not before `bound`, as a lower bound.
    pub(in crate::collections) fn lower<Q>(tree: &'a Tree<K, V>, bound: Bound<&Q>) -> Self
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        match bound {
            Bound::Unbounded => Self::first(tree),
            Bound::Included(key) => Self::at(tree, key, false),
            Bound::Excluded(key) => Self::at(tree, key, true),
        }
    }

    /// Returns the first entry behind `bound`, as an upper bound.
    pub(in crate::collections) fn upper<Q>(tree: &'a Tree<K, V>, bound: Bound<&Q>) -> Self
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        match bound {
            Bound::Unbounded => Self::end(tree),
            Bound::Included(key) => Self::at(tree, key, true),
            Bound::Excluded(key) => Self::at(tree, key, false),
        }
    }

    /// Returns the first entry whose key is not less than `key`, or, `behind` it, greater.
    fn at<Q>(tree: &'a Tree<K, V>, key: &Q, behind: bool) -> Self
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut cursor = Self::end(tree);
        let mut node = cursor.root;
        if node.is_null() {
            return cursor;
        }
        // SAFETY: all below the root is live.
        unsafe {
            for height in (1..=cursor.height).rev() {
                let index = Shape::<K, V>::child_for(node, key);
                cursor.path[height] = (node, index);
                node = Shape::<K, V>::child(node, index);
            }
            cursor.leaf = node;
            cursor.index = match Shape::<K, V>::find(node, key) {
                Ok(index) => index + usize::from(behind),
                Err(index) => index,
            };
            if cursor.index == warm_len(node) {
                cursor.next_leaf();
            }
        }
        cursor
    }
}

impl<'a, K, V, S> Cursor<'a, K, V, S> {
    /// # Safety
    /// The node is live, and has this height.
    #[inline]
    unsafe fn descend_first(&mut self, mut node: Node, height: u32) {
        // SAFETY: see above.
        unsafe {
            for height in (1..=height).rev() {
                self.path[height] = (node, 0);
                len(node); // a cold node becomes warm
                node = Shape::<K, V, S>::child(node, 0);
            }
        }
        (self.leaf, self.index) = (node, 0);
    }

    /// # Safety
    /// As for [`descend_first`](Self::descend_first).
    unsafe fn descend_last(&mut self, mut node: Node, height: u32) {
        // SAFETY: see above.
        unsafe {
            for height in (1..=height).rev() {
                let last = len(node) - 1;
                self.path[height] = (node, last);
                node = Shape::<K, V, S>::child(node, last);
            }
            (self.leaf, self.index) = (node, len(node) - 1);
        }
    }

    /// # Safety
    /// The cursor is not at the end.
    #[cold]
    #[inline(never)]
    unsafe fn next_leaf(&mut self) {
        // SAFETY: the nodes of the path are live.
        unsafe {
            for height in 1..=self.height {
                let (node, index) = self.path[height];
                if index + 1 < len(node) {
                    self.path[height].1 = index + 1;
                    return self
                        .descend_first(Shape::<K, V, S>::child(node, index + 1), height - 1);
                }
            }
        }
        (self.leaf, self.index) = (ptr::null_mut(), 0);
    }

    pub(in crate::collections) fn is_end(&self) -> bool {
        self.leaf.is_null()
    }

    #[inline(always)]
    pub(in crate::collections) fn entry(&self) -> Option<(&'a K, &'a V)> {
        if self.is_end() {
            return None;
        }
        // SAFETY: the entry is there, and stays while the tree is borrowed.
        unsafe {
            Some((
                Shape::<K, V>::key(self.leaf, self.index),
                Shape::<K, V>::value(self.leaf, self.index),
            ))
        }
    }

    /// Returns the entry, with the address of its value.
    pub(in crate::collections) fn slots(&self) -> Option<(&'a K, *mut V)> {
        if self.is_end() {
            return None;
        }
        // SAFETY: as for `entry`. No reference to the value is made.
        unsafe {
            let value = Shape::<K, V>::value_address(self.leaf, self.index);
            Some((Shape::<K, V>::key(self.leaf, self.index), value))
        }
    }

    /// Moves to the next entry, and returns the one before.
    #[inline(always)]
    pub(in crate::collections) fn next(&mut self) -> Option<(&'a K, &'a V)> {
        let entry = self.entry()?;
        self.next_place();
        Some(entry)
    }

    /// Moves to the next entry. The cursor is not at the end.
    #[inline(always)]
    pub(in crate::collections) fn next_place(&mut self) {
        debug_assert!(!self.is_end());
        self.index += 1;
        // SAFETY: the cursor is not at the end.
        unsafe {
            if self.index == warm_len(self.leaf) {
                self.next_leaf();
            }
        }
    }

    /// Moves over `count` entries, which are there.
    pub(in crate::collections) fn forward(&mut self, mut count: usize) {
        // SAFETY: the cursor is not at the end while entries are left.
        unsafe {
            while count > 0 {
                let left = warm_len(self.leaf) - self.index;
                if count < left {
                    self.index += count;
                    return;
                }
                count -= left;
                self.next_leaf();
            }
        }
    }

    /// Moves to the entry before, and returns it.
    pub(in crate::collections) fn back(&mut self) -> Option<(&'a K, &'a V)> {
        if self.back_place() { self.entry() } else { None }
    }

    /// Moves to the entry before. Returns false, and stays, if there is none.
    pub(in crate::collections) fn back_place(&mut self) -> bool {
        // SAFETY: the nodes of the path are live, and so is all below the root.
        unsafe {
            if self.is_end() {
                if self.root.is_null() {
                    return false;
                }
                self.descend_last(self.root, self.height);
                return true;
            }
            if self.index > 0 {
                self.index -= 1;
                return true;
            }
            for height in 1..=self.height {
                let (node, index) = self.path[height];
                if index > 0 {
                    self.path[height].1 = index - 1;
                    self.descend_last(Shape::<K, V, S>::child(node, index - 1), height - 1);
                    return true;
                }
            }
        }
        false
    }
}

impl<'a, V> Cursor<'a, (), V, usize> {
    /// Returns the element at `index`, or the end.
    pub(in crate::collections) fn at_index(tree: &'a Sequence<V>, index: usize) -> Self {
        let mut cursor = Self::end(tree);
        if index < tree.len {
            // SAFETY: the root is live, and has so many elements.
            (cursor.leaf, cursor.index) =
                unsafe { Sequence::<V>::find_at(tree.root, tree.height, index, &mut cursor.path) };
        }
        cursor
    }
}

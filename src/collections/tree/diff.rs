//! Owns what differs between two trees. Skips what both share, so its cost grows with the
//! difference and not with the trees. Knows nothing of versions: it compares addresses.

use std::cmp::Ordering;
use std::marker::PhantomData;

use super::super::shape::{Header, Node, Shape, len, prefetch};
use super::{Levels, Tree};

/// A key that has not the same value in both trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference<'a, K, V> {
    /// Only the newer map has the key.
    Added(&'a K, &'a V),
    /// Only the older map has the key.
    Removed(&'a K, &'a V),
    /// Both have the key, with different values.
    Changed {
        /// The key.
        key: &'a K,
        /// Its value in the older map.
        old: &'a V,
        /// Its value in the newer map.
        new: &'a V,
    },
}

/// The differences between two trees, in the order of the keys.
pub(in crate::collections) struct Differences<'a, K, V> {
    old: Walk<'a, K, V>,
    new: Walk<'a, K, V>,
}

/// A place in a tree: at the beginning of a subtree that was not entered, at an entry, or at the
/// end.
pub(super) struct Walk<'a, K, V, S = K> {
    /// The nodes that were entered, by height, with the index of what comes next in them.
    path: Levels<(Node, usize)>,
    /// The height of the lowest node that was entered. The place is at its child, or its entry.
    level: u32,
    height: u32,
    pub(super) is_end: bool,
    /// The root is not yet entered.
    root: Option<Node>,
    tree: PhantomData<&'a (K, V, S)>,
}

// SAFETY: a walk is a shared reference to a tree, and only gives shared references to entries.
unsafe impl<K: Sync, V: Sync, S: Sync> Send for Walk<'_, K, V, S> {}
// SAFETY: as for `Send`.
unsafe impl<K: Sync, V: Sync, S: Sync> Sync for Walk<'_, K, V, S> {}

impl<'a, K, V, S> Walk<'a, K, V, S> {
    pub(super) fn new(tree: &'a Tree<K, V, S>) -> Self {
        Self {
            path: Levels::of((std::ptr::null_mut(), 0)),
            level: tree.height + 1,
            height: tree.height,
            is_end: tree.root.is_null(),
            root: Some(tree.root),
            tree: PhantomData,
        }
    }

    /// The subtree at whose beginning this is, with its height.
    fn subtree(&self) -> Option<(Node, u32)> {
        if let Some(root) = self.root {
            return Some((root, self.height));
        }
        if self.level == 0 {
            return None;
        }
        let (node, index) = self.path[self.level];
        // SAFETY: the node is live, and has a child at the index.
        Some((unsafe { Shape::<K, V, S>::child(node, index) }, self.level - 1))
    }

    /// Whether a subtree with this root begins here and was entered already.
    fn has_entered(&self, subtree: Node) -> Option<u32> {
        for level in self.level..=self.height {
            let (node, index) = self.path[level];
            if index != 0 {
                return None;
            }
            if node == subtree {
                return Some(level);
            }
        }
        None
    }

    /// Enters the subtree that begins here.
    fn enter(&mut self) {
        if let Some((node, height)) = self.subtree() {
            self.root = None;
            self.level = height;
            self.path[height] = (node, 0);
            // SAFETY: the node is live. A cold one becomes warm.
            let count = unsafe { len(node) };
            if height == 1 {
                // Each of them is looked at, to compare it or to count its entries. They are
                // fetched side by side.
                for index in 0..count {
                    // SAFETY: the node is live, and has these children.
                    let child = unsafe { Shape::<K, V, S>::child(node, index) };
                    prefetch(child.cast(), size_of::<Header>());
                }
            }
        }
    }

    /// Leaves a subtree that begins here, and was entered down from `level`.
    fn skip_entered(&mut self, level: u32) {
        self.level = level + 1;
        if level == self.height {
            self.is_end = true;
        } else {
            self.skip();
        }
    }

    /// Goes from an entry to what follows it. Returns whether that is the next entry of its leaf.
    #[inline(always)]
    pub(super) fn advance(&mut self) -> bool {
        let (leaf, index) = &mut self.path[0];
        // SAFETY: the leaf is live.
        if *index + 1 < unsafe { len(*leaf) } {
            *index += 1;
            return true;
        }
        self.skip();
        false
    }

    /// Goes to what follows the subtree, or the entry, at which this is.
    pub(super) fn skip(&mut self) {
        if self.root.take().is_some() {
            self.is_end = true;
            return;
        }
        while self.level <= self.height {
            let (node, index) = &mut self.path[self.level];
            *index += 1;
            // SAFETY: the node is live.
            if *index < unsafe { len(*node) } {
                return;
            }
            self.level += 1;
        }
        self.is_end = true;
    }

    /// Returns whether this is at the first entry of a subtree whose root `is_wanted`.
    pub(super) fn begins(&self, mut is_wanted: impl FnMut(Node) -> bool) -> bool {
        for level in 0..=self.height {
            let (node, index) = self.path[level];
            if index != 0 {
                return false;
            }
            if is_wanted(node) {
                return true;
            }
        }
        false
    }

    /// The entry at which this is.
    pub(super) fn entry(&self) -> (&'a K, &'a V) {
        let (leaf, index) = self.path[0];
        // SAFETY: the leaf was entered, and has an entry at the index.
        unsafe { (Shape::<K, V>::key(leaf, index), Shape::<K, V>::value(leaf, index)) }
    }
}

impl<'a, K, V> Differences<'a, K, V> {
    pub(in crate::collections) fn new(old: &'a Tree<K, V>, new: &'a Tree<K, V>) -> Self {
        Self { old: Walk::new(old), new: Walk::new(new) }
    }

    fn settle(&mut self) {
        settle(&mut self.old, &mut self.new, |_, _| {});
    }
}

/// Brings both walks to entries, or to their ends, and skips what both share. Each subtree that is
/// skipped is shown to `shared` before, with its height.
pub(super) fn settle<K, V, S>(
    old: &mut Walk<'_, K, V, S>,
    new: &mut Walk<'_, K, V, S>,
    mut shared: impl FnMut(Node, u32),
) {
    loop {
        match (old.is_end, new.is_end) {
            (true, true) => return,
            (true, false) if new.subtree().is_some() => new.enter(),
            (false, true) if old.subtree().is_some() => old.enter(),
            (true, false) | (false, true) => return,
            (false, false) => match (old.subtree(), new.subtree()) {
                (None, None) => return,
                (Some((a, height)), Some((b, _))) if a == b => {
                    shared(a, height);
                    old.skip();
                    new.skip();
                }
                (Some((a, height)), other) if other.is_none_or(|(_, it)| height > it) => {
                    if let Some(level) = new.has_entered(a) {
                        shared(a, height);
                        old.skip();
                        new.skip_entered(level);
                    } else {
                        old.enter();
                    }
                }
                (other, Some((b, height))) if other.is_none_or(|(_, it)| height > it) => {
                    if let Some(level) = old.has_entered(b) {
                        shared(b, height);
                        new.skip();
                        old.skip_entered(level);
                    } else {
                        new.enter();
                    }
                }
                _ => {
                    old.enter();
                    new.enter();
                }
            },
        }
    }
}

impl<'a, K: Ord, V: PartialEq> Iterator for Differences<'a, K, V> {
    type Item = Difference<'a, K, V>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.settle();
            let order = match (self.old.is_end, self.new.is_end) {
                (true, true) => return None,
                (false, true) => Ordering::Less,
                (true, false) => Ordering::Greater,
                (false, false) => self.old.entry().0.cmp(self.new.entry().0),
            };
            match order {
                Ordering::Less => {
                    let (key, value) = self.old.entry();
                    self.old.skip();
                    return Some(Difference::Removed(key, value));
                }
                Ordering::Greater => {
                    let (key, value) = self.new.entry();
                    self.new.skip();
                    return Some(Difference::Added(key, value));
                }
                Ordering::Equal => {
                    let ((key, old), (_, new)) = (self.old.entry(), self.new.entry());
                    self.old.skip();
                    self.new.skip();
                    if !std::ptr::eq(old, new) && old != new {
                        return Some(Difference::Changed { key, old, new });
                    }
                }
            }
        }
    }
}

//! Owns what makes the entries of one tree those of another: which stay, which go, and which come.
//! Skips what both share, but for counting its entries. Knows nothing of what is done with that.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::super::shape::{Header, Node, Shape, cold_slice, len, prefetch};
use super::diff::{Walk, settle};
use super::{Sequence, Tree};

/// What happens next on the way through both trees, in their order.
pub(in crate::collections) enum Edit<'a, K, V> {
    /// So many entries of the old tree stay.
    Keep(u64),
    /// So many entries of the old tree go.
    Drop(u64),
    /// This entry of the new tree comes.
    Insert(&'a K, &'a V),
}

/// The edits that make one tree another. They are right for any two trees, and few if one was made
/// of the other.
pub(in crate::collections) struct Edits<'a, K, V, S, O, E> {
    old: Walk<'a, K, V, S>,
    new: Walk<'a, K, V, S>,
    /// Which of the two entries comes first. Neither does if they may be the same entry.
    order: O,
    /// Whether two entries that are not in the same place are equal.
    are_equal: E,
    /// What comes behind the entries that stay.
    next: Option<Ordering>,
    /// The new entry takes the place of an old one, which goes first.
    replaces: bool,
}

/// Returns the edits between two trees with keys. `are_equal` compares two entries whose keys are
/// equal in their order.
pub(in crate::collections) fn edits<'a, K: Ord, V>(
    old: &'a Tree<K, V>,
    new: &'a Tree<K, V>,
    are_equal: impl FnMut((&K, &V), (&K, &V)) -> bool + 'a,
) -> impl Iterator<Item = Edit<'a, K, V>> {
    let order = |old: &Walk<'_, K, V>, new: &Walk<'_, K, V>| old.entry().0.cmp(new.entry().0);
    Edits::new(old, new, order, are_equal)
}

/// Returns the edits between two sequences.
///
/// Elements have no keys, so a leaf that both share is where both walks must meet again: whichever
/// is at such a leaf first waits for the other. Between two such leaves, elements are compared one
/// by one.
pub(in crate::collections) fn sequence_edits<'a, V>(
    old: &'a Sequence<V>,
    new: &'a Sequence<V>,
    are_equal: impl FnMut((&(), &V), (&(), &V)) -> bool + 'a,
) -> impl Iterator<Item = Edit<'a, (), V>> {
    let last_epoch = old.epoch();
    let mut shared = HashSet::new();
    // SAFETY: the tree lives as long as its handle.
    unsafe { collect_shared::<V>(new.root, new.height, last_epoch, &mut shared) };
    let order = move |old: &Walk<'_, (), V, usize>, new: &Walk<'_, (), V, usize>| {
        // The old tree may no longer have it if the trees have parted before. Then all that is left
        // of it goes, and the rest of the new one comes.
        let new_waits = new.begins(|node| shared.contains(&node));
        let old_waits = old.begins(|node| shared.contains(&node));
        match (old_waits, new_waits) {
            (true, false) => Ordering::Greater,
            (_, true) => Ordering::Less,
            (false, false) => Ordering::Equal,
        }
    };
    Edits::new(old, new, order, are_equal)
}

/// Collects the roots of the subtrees that are not younger than `last_epoch`: the highest of them.
///
/// # Safety
/// The node is live, or null, and not written meanwhile.
unsafe fn collect_shared<V>(node: Node, height: u32, last_epoch: u64, shared: &mut HashSet<Node>) {
    // SAFETY: see above.
    unsafe {
        if node.is_null() {
            return;
        }
        if (*node).born <= last_epoch {
            shared.insert(node);
        } else if height > 0 {
            for index in 0..len(node) {
                let child = Shape::<(), V, usize>::child(node, index);
                collect_shared::<V>(child, height - 1, last_epoch, shared);
            }
        }
    }
}

impl<'a, K, V, S, O, E> Edits<'a, K, V, S, O, E>
where
    O: FnMut(&Walk<'a, K, V, S>, &Walk<'a, K, V, S>) -> Ordering,
    E: FnMut((&K, &V), (&K, &V)) -> bool,
{
    fn new(old: &'a Tree<K, V, S>, new: &'a Tree<K, V, S>, order: O, are_equal: E) -> Self {
        let (old, new) = (Walk::new(old), Walk::new(new));
        Self { old, new, order, are_equal, next: None, replaces: false }
    }

    /// Skips the entries that stay, and counts them. Returns what comes behind them; `None` at the
    /// end of both trees.
    fn skip_kept(&mut self) -> (u64, Option<Ordering>) {
        let mut kept = 0;
        loop {
            settle(&mut self.old, &mut self.new, |node, height| {
                // SAFETY: a subtree that both trees have lives as long as they do.
                kept += unsafe { entries_below::<K, V, S>(node, height) };
            });
            match (self.old.is_end, self.new.is_end) {
                (true, true) => return (kept, None),
                (false, true) => return (kept, Some(Ordering::Less)),
                (true, false) => return (kept, Some(Ordering::Greater)),
                (false, false) => {}
            }
            loop {
                let order = (self.order)(&self.old, &self.new);
                if order.is_ne() || !(self.are_equal)(self.old.entry(), self.new.entry()) {
                    return (kept, Some(order));
                }
                kept += 1;
                // Within their leaves there is nothing to settle.
                if !(self.old.advance() & self.new.advance()) {
                    break;
                }
            }
        }
    }

    fn insert(&mut self) -> Edit<'a, K, V> {
        let (key, value) = self.new.entry();
        self.new.skip();
        Edit::Insert(key, value)
    }
}

impl<'a, K, V, S, O, E> Iterator for Edits<'a, K, V, S, O, E>
where
    O: FnMut(&Walk<'a, K, V, S>, &Walk<'a, K, V, S>) -> Ordering,
    E: FnMut((&K, &V), (&K, &V)) -> bool,
{
    type Item = Edit<'a, K, V>;

    fn next(&mut self) -> Option<Self::Item> {
        if std::mem::take(&mut self.replaces) {
            return Some(self.insert());
        }
        let order = match self.next.take() {
            Some(order) => order,
            None => match self.skip_kept() {
                (0, order) => order?,
                (kept, order) => {
                    self.next = order;
                    return Some(Edit::Keep(kept));
                }
            },
        };
        if order.is_gt() {
            return Some(self.insert());
        }
        self.replaces = order.is_eq();
        self.old.skip();
        Some(Edit::Drop(1))
    }
}

/// Counts the entries of a subtree.
///
/// # Safety
/// The node is live, and not written meanwhile.
unsafe fn entries_below<K, V, S>(node: Node, height: u32) -> u64 {
    // SAFETY: see above.
    unsafe {
        if height == 0 {
            return len(node) as u64;
        }
        if let Some(slice) = cold_slice(node) {
            return u64::from(slice.entries);
        }
        let children = (0..len(node)).map(|index| Shape::<K, V, S>::child(node, index));
        if height == 1 {
            children.clone().for_each(|child| prefetch(child.cast(), size_of::<Header>()));
        }
        children.map(|child| entries_below::<K, V, S>(child, height - 1)).sum()
    }
}

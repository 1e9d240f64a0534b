//! Owns an open handle while it is changed: it takes pieces, and makes nodes the handle's own.
//! Knows nothing of what is changed.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::super::family::{Changes, Family};
use super::super::shape::{
    Cell, Header, Kind, Node, Separator, Shape, copy_slots, len, set_len, warm_len,
};
use super::Tree;

/// An open handle, taken apart for changes.
pub(super) struct Open<'a> {
    pub(super) changes: &'a mut Changes,
    pub(super) family: &'a Family,
}

impl<'a> Open<'a> {
    /// Takes an open handle apart. Its root stays free for the caller.
    #[inline(always)]
    pub(super) fn of(
        changes: &'a mut Option<Box<Changes>>,
        family: &'a Option<Arc<Family>>,
    ) -> Self {
        let changes = changes.as_mut().expect("the handle was opened");
        let family = family.as_ref().expect("an open handle has a family");
        Open { changes, family }
    }

    /// Returns a new piece. Its content is undefined.
    #[inline(always)]
    pub(super) fn take<K, V, S>(&mut self, kind: Kind) -> *mut u8 {
        let layout = Shape::<K, V, S>::LAYOUTS[kind];
        loop {
            if let Some(piece) = self.changes.cache.take(kind, layout) {
                return piece;
            }
            self.family.refill(self.changes, kind, layout);
        }
    }

    /// Returns a new node without content.
    #[inline(always)]
    pub(super) fn node<K, V, S>(&mut self, height: u32) -> Node {
        let kind = if height > 0 { Kind::Inner } else { Kind::Leaf };
        let node = self.take::<K, V, S>(kind).cast::<Header>();
        // SAFETY: the piece is new, and large enough for a node.
        unsafe { node.write(Header { born: self.changes.epoch, len: AtomicU32::new(0), height }) };
        node
    }

    #[inline(always)]
    pub(super) fn is_own(&self, born: u64) -> bool {
        born > self.changes.floor || fault!(BirthNotCompared)
    }

    /// Frees, or declares dead, a node whose content nobody needs here.
    ///
    /// # Safety
    /// The handle no longer reaches the node.
    pub(super) unsafe fn drop_node(&mut self, node: Node) {
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
    pub(super) fn cell<K, V, T>(&mut self, kind: Kind, content: T) -> *mut Cell<T> {
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
    pub(super) unsafe fn take_content<T: Clone>(&mut self, kind: Kind, cell: *mut Cell<T>) -> T {
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
    /// Makes the node at `link` one that may be written: itself if it is the handle's own,
    /// otherwise a copy, and the original is dead.
    ///
    /// # Safety
    /// `link` is the root, or a child slot of a node that may be written.
    #[inline(always)]
    pub(super) unsafe fn own(open: &mut Open<'_>, link: *mut Node, height: u32) -> Node {
        // SAFETY: see above. A copy is linked only when it is complete, so a panic of a user's
        // `Clone` loses one piece of memory and nothing else.
        unsafe {
            let node = *link;
            let born = (*node).born;
            if open.is_own(born) {
                return node;
            }
            let count = if height > 0 { len(node) } else { warm_len(node) };
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

    /// Copies `count` keys; see [`copy_slots`].
    ///
    /// # Safety
    /// The slots are there, and those of `to` hold nothing.
    #[inline(always)]
    pub(super) unsafe fn copy_keys(from: (Node, usize), to: (Node, usize), count: usize) {
        let slot = Shape::<K, V>::key_slot;
        // SAFETY: see above.
        unsafe { copy_slots::<K>(slot(from.0, from.1), slot(to.0, to.1), count) }
    }

    /// Copies `count` separators; see [`copy_slots`].
    ///
    /// # Safety
    /// The slots are there, and those of `to` hold nothing.
    #[inline(always)]
    pub(super) unsafe fn copy_separators(from: (Node, usize), to: (Node, usize), count: usize) {
        let slot = Shape::<K, V, S>::separator_slot;
        // SAFETY: see above.
        unsafe { copy_slots::<S>(slot(from.0, from.1), slot(to.0, to.1), count) }
    }

    /// Copies `count` values; see [`copy_slots`].
    ///
    /// # Safety
    /// The slots are there, and those of `to` hold nothing.
    #[inline(always)]
    pub(super) unsafe fn copy_values(from: (Node, usize), to: (Node, usize), count: usize) {
        let slot = Shape::<K, V>::value_slot;
        // SAFETY: see above.
        unsafe { copy_slots::<V>(slot(from.0, from.1), slot(to.0, to.1), count) }
    }
}

//! Owns removing the end of a sequence. Its subtrees go as a whole: no element is read, and none of
//! another version is cloned. Knows nothing of single elements.

use super::super::family::Chunk;
use super::super::pool::{Dead, Lists, NO_LISTS, UNKNOWN};
use super::super::shape::{Kind, Node, Shape, cold_slice, len, set_len};
use super::Open;
use super::sequence::{Sequence, Slot};

impl<V: Clone> Sequence<V> {
    /// Removes all elements but the first `count`, without reading them.
    pub(in crate::collections) fn truncate(&mut self, count: usize) {
        if count >= self.len {
            return;
        }
        if count == 0 {
            *self = Self::new();
            return;
        }
        self.open();
        let mut open = Open::of(self.changes.get_mut(), &self.family);
        let mut own = NO_LISTS;
        // SAFETY: the tree has elements, so it has a root. All nodes on the path may be written,
        // and nothing panics once they may.
        unsafe {
            let link = &raw mut self.root;
            let Slot { path, leaf, index, .. } =
                Self::descend_to::<false>(link, self.height, &mut open, count - 1);
            // What is below a cold node would be missed when it becomes warm later, for another
            // version. And this may panic, which must not happen once something has changed.
            for level in 1..=self.height {
                let (node, child) = path.step(level);
                for right in child + 1..len(node) {
                    let right = Shape::<(), V, usize>::child(node, right);
                    Self::warm_below(right, level - 1, &mut || !fault!(CutLeavesColdNodes));
                }
            }
            Self::discard_values(&mut open, leaf, index + 1, &mut own);
            set_len(leaf, index + 1);
            for level in 1..=self.height {
                let (node, child) = path.step(level);
                for right in child + 1..len(node) {
                    let right = Shape::<(), V, usize>::child(node, right);
                    Self::discard(&mut open, right, level - 1, &mut own);
                }
                set_len(node, child + 1);
            }
            self.len = count;
            self.lower();
            // A user's `Drop` may panic, and so may the `Clone` of what joins: the tree is whole.
            let mut garbage = Vec::new();
            Chunk::drain(&mut own, &mut garbage);
            let mut open = Open::of(self.changes.get_mut(), &self.family);
            Self::free(open.family, garbage);
            Self::join(&mut open, self.height, &path, &mut Vec::new());
            self.lower();
        }
    }

    /// Lists all below `node`, and itself, as the handle's own or as dead.
    ///
    /// # Safety
    /// The handle no longer reaches it when the caller is done.
    unsafe fn discard(open: &mut Open<'_>, node: Node, height: u32, own: &mut Lists) {
        // SAFETY: see above.
        unsafe {
            if height == 0 {
                Self::discard_values(open, node, 0, own);
            } else {
                let is_cold = fault!(CutLeavesColdNodes) && cold_slice(node).is_some();
                for index in 0..if is_cold { 0 } else { len(node) } {
                    let child = Shape::<(), V, usize>::child(node, index);
                    Self::discard(open, child, height - 1, own);
                }
            }
            let kind = if height > 0 { Kind::Inner } else { Kind::Leaf };
            Self::list(open, kind, node.cast(), (*node).born, own);
        }
    }

    /// Does so with the values of a leaf from `from` on.
    ///
    /// # Safety
    /// As for [`discard`](Self::discard).
    unsafe fn discard_values(open: &mut Open<'_>, leaf: Node, from: usize, own: &mut Lists) {
        if Shape::<(), V>::VALUE_IS_INLINE {
            return;
        }
        // SAFETY: see above.
        unsafe {
            // What a shared leaf holds is shared, too: its cells need not be touched.
            let is_shared = !open.is_own((*leaf).born);
            for index in from..len(leaf) {
                let cell = Shape::<(), V>::value_cell(Shape::<(), V>::value_slot(leaf, index));
                if is_shared {
                    open.changes.bury(Kind::Value, cell.cast(), UNKNOWN);
                } else {
                    Self::list(open, Kind::Value, cell.cast(), (*cell).born, own);
                }
            }
        }
    }

    fn list(open: &mut Open<'_>, kind: Kind, at: *mut u8, born: u64, own: &mut Lists) {
        if open.is_own(born) {
            own[kind].push(Dead { at, born });
        } else {
            open.changes.bury(kind, at, born);
        }
    }
}

//! Owns what stands between the children of an inner node: keys in a map, positions in a vector.
//! Knows nothing of leaves.

use super::{Node, Shape, len};

/// What stands between two children of an inner node, in a tree with the keys `K`.
pub(in super::super) trait Separator<K>: Clone {
    /// Whether it is a number of elements, and not a key.
    const IS_POSITION: bool;

    /// Makes the separator before a child: `first` is the child's first key, and `entries` are in
    /// the children before it.
    fn between(first: &K, entries: usize) -> Self;

    /// Returns that number; 0 for a key.
    fn position(&self) -> usize;

    /// Adds `by` to that number, modulo the size of its type. A key stays as it is.
    fn shift(&mut self, by: usize);
}

/// A map finds its way by its keys.
impl<K: Clone> Separator<K> for K {
    const IS_POSITION: bool = false;

    fn between(first: &K, _entries: usize) -> Self {
        first.clone()
    }

    #[inline(always)]
    fn position(&self) -> usize {
        0
    }

    #[inline(always)]
    fn shift(&mut self, _by: usize) {}
}

/// A vector has no keys, and finds its way by counting.
impl Separator<()> for usize {
    const IS_POSITION: bool = true;

    fn between(_first: &(), entries: usize) -> Self {
        entries
    }

    #[inline(always)]
    fn position(&self) -> usize {
        *self
    }

    #[inline(always)]
    fn shift(&mut self, by: usize) {
        *self = self.wrapping_add(by);
    }
}

impl<K, V, S: Separator<K>> Shape<K, V, S> {
    /// Returns how many elements are below the node's children before `child`; 0 in a map.
    #[inline(always)]
    pub(in super::super) unsafe fn start(inner: Node, child: usize) -> usize {
        if !S::IS_POSITION || child == 0 {
            return 0;
        }
        // SAFETY: see the type.
        unsafe { (*Self::separator_slot(inner, child - 1).cast::<S>()).position() }
    }

    /// Adds `by` to the positions from `from` on. `from` may be the number of separators.
    #[inline(always)]
    pub(in super::super) unsafe fn shift(inner: Node, from: usize, by: usize) {
        if !S::IS_POSITION {
            return;
        }
        // SAFETY: see the type.
        unsafe {
            let first = Self::separator_slot(inner, from).cast::<S>();
            for separator in std::slice::from_raw_parts_mut(first, len(inner) - 1 - from) {
                separator.shift(by);
            }
        }
    }
}

impl<V> Shape<(), V, usize> {
    /// The positions at which the node's children end, but for the last one.
    #[inline(always)]
    pub(in super::super) unsafe fn positions<'a>(inner: Node) -> &'a [usize] {
        // SAFETY: see the type.
        unsafe {
            let first = Self::separator_slot(inner, 0).cast::<usize>();
            std::slice::from_raw_parts(first, len(inner) - 1)
        }
    }
}

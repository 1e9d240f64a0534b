//! Owns the iterators of maps. Knows nothing of nodes.

use std::borrow::Borrow;
use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};

use super::Map;
use crate::collections::tree::{Cursor, Tree};

/// The entries of a map; see [`Map::iter`].
pub struct Iter<'a, K, V> {
    front: Cursor<'a, K, V>,
    back: Cursor<'a, K, V>,
    left: usize,
}

impl<'a, K, V> Iter<'a, K, V> {
    pub(super) fn new(tree: &'a Tree<K, V>) -> Self {
        Self { front: Cursor::first(tree), back: Cursor::end(tree), left: tree.len() }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Iter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<K, V> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        Self { front: self.front.clone(), back: self.back.clone(), left: self.left }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        self.front.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }

    fn last(mut self) -> Option<Self::Item> {
        self.next_back()
    }
}

impl<K, V> DoubleEndedIterator for Iter<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        self.back.back()
    }
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}
impl<K, V> FusedIterator for Iter<'_, K, V> {}

/// The entries in a range of keys; see [`Map::range`].
pub struct Range<'a, K, V> {
    front: Cursor<'a, K, V>,
    back: Cursor<'a, K, V>,
}

impl<'a, K, V> Range<'a, K, V> {
    pub(super) fn new<Q>(tree: &'a Tree<K, V>, range: &impl RangeBounds<Q>) -> Self
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (start, end) = (range.start_bound(), range.end_bound());
        match (start, end) {
            (Bound::Excluded(start), Bound::Excluded(end)) => {
                assert!(
                    start.cmp(end).is_lt(),
                    "a range of excluded keys begins at or behind its end"
                )
            }
            (
                Bound::Included(start) | Bound::Excluded(start),
                Bound::Included(end) | Bound::Excluded(end),
            ) => assert!(start.cmp(end).is_le(), "a range begins behind its end"),
            _ => {}
        }
        Self { front: Cursor::lower(tree, start), back: Cursor::upper(tree, end) }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Range<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<K, V> Clone for Range<'_, K, V> {
    fn clone(&self) -> Self {
        Self { front: self.front.clone(), back: self.back.clone() }
    }
}

impl<'a, K, V> Iterator for Range<'a, K, V> {
    type Item = (&'a K, &'a V);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.front == self.back { None } else { self.front.next() }
    }

    fn last(mut self) -> Option<Self::Item> {
        self.next_back()
    }
}

impl<K, V> DoubleEndedIterator for Range<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.front == self.back { None } else { self.back.back() }
    }
}

impl<K, V> FusedIterator for Range<'_, K, V> {}

/// The entries of a map, with writing access to the values; see [`Map::iter_mut`].
pub struct IterMut<'a, K, V> {
    front: Cursor<'a, K, V>,
    back: Cursor<'a, K, V>,
    left: usize,
    values: PhantomData<&'a mut V>,
}

impl<'a, K, V> IterMut<'a, K, V> {
    /// The tree is the handle's own as a whole.
    pub(super) fn new(tree: &'a mut Tree<K, V>) -> Self {
        let left = tree.len();
        Self { front: Cursor::first(tree), back: Cursor::end(tree), left, values: PhantomData }
    }

    /// Returns the entries that were not given yet, to look at them.
    fn rest(&self) -> Iter<'_, K, V> {
        Iter { front: self.front.clone(), back: self.back.clone(), left: self.left }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for IterMut<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rest().fmt(f)
    }
}

// SAFETY: it gives exclusive references to values, each once, and shared references to keys.
unsafe impl<K: Sync, V: Send> Send for IterMut<'_, K, V> {}

impl<'a, K, V> Iterator for IterMut<'a, K, V> {
    type Item = (&'a K, &'a mut V);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (key, value) = self.front.slots()?;
        self.front.next_place();
        // SAFETY: the tree is borrowed exclusively, its values are its own, and each place is given
        // once: `left` keeps the two ends apart.
        Some((key, unsafe { &mut *value }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<K, V> DoubleEndedIterator for IterMut<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        self.back.back_place();
        let (key, value) = self.back.slots()?;
        // SAFETY: as for `next`.
        Some((key, unsafe { &mut *value }))
    }
}

impl<K, V> ExactSizeIterator for IterMut<'_, K, V> {}
impl<K, V> FusedIterator for IterMut<'_, K, V> {}

/// The entries of a map that is used up. What other versions have, too, is cloned.
pub struct IntoIter<K, V> {
    map: Map<K, V>,
}

impl<K, V> IntoIter<K, V> {
    fn rest(&self) -> Iter<'_, K, V> {
        self.map.iter()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for IntoIter<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rest().fmt(f)
    }
}

impl<K: Ord + Clone, V: Clone> Iterator for IntoIter<K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<Self::Item> {
        self.map.pop_first()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.map.len(), Some(self.map.len()))
    }
}

impl<K: Ord + Clone, V: Clone> DoubleEndedIterator for IntoIter<K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.map.pop_last()
    }
}

impl<K: Ord + Clone, V: Clone> ExactSizeIterator for IntoIter<K, V> {}
impl<K: Ord + Clone, V: Clone> FusedIterator for IntoIter<K, V> {}

impl<K: Ord + Clone, V: Clone> IntoIterator for Map<K, V> {
    type Item = (K, V);
    type IntoIter = IntoIter<K, V>;

    fn into_iter(self) -> IntoIter<K, V> {
        IntoIter { map: self }
    }
}

impl<'a, K, V> IntoIterator for &'a Map<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

impl<'a, K: Ord + Clone, V: Clone> IntoIterator for &'a mut Map<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = IterMut<'a, K, V>;

    fn into_iter(self) -> IterMut<'a, K, V> {
        self.iter_mut()
    }
}

/// Makes an iterator of one part of the entries of another. Behind the `;`: what it shows of those
/// that are left.
macro_rules! part {
    (
        $(#[$doc:meta])*
        $name:ident, $inner:ty, [$($generic:tt)*], [$($bound:tt)*], $item:ty, $map:expr;
        $shown:ident, $rest:ident, $part:expr
    ) => {
        $(#[$doc])*
        pub struct $name<$($generic)*>(pub(in crate::collections) $inner);

        impl<$($generic)*> fmt::Debug for $name<$($generic)*>
        where
            $shown: fmt::Debug,
        {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(self.0.$rest().map($part)).finish()
            }
        }

        impl<$($generic)*> Iterator for $name<$($generic)*>
        where $($bound)*
        {
            type Item = $item;

            #[inline]
            fn next(&mut self) -> Option<Self::Item> {
                self.0.next().map($map)
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                self.0.size_hint()
            }
        }

        impl<$($generic)*> DoubleEndedIterator for $name<$($generic)*>
        where $($bound)*
        {
            fn next_back(&mut self) -> Option<Self::Item> {
                self.0.next_back().map($map)
            }
        }

        impl<$($generic)*> ExactSizeIterator for $name<$($generic)*> where $($bound)* {}
        impl<$($generic)*> FusedIterator for $name<$($generic)*> where $($bound)* {}
    };
}

part!(
    /// The keys of a map; see [`Map::keys`].
    Keys, Iter<'a, K, V>, ['a, K, V], [], &'a K, |(key, _)| key;
    K, clone, |(key, _)| key
);
part!(
    /// The values of a map; see [`Map::values`].
    Values, Iter<'a, K, V>, ['a, K, V], [], &'a V, |(_, value)| value;
    V, clone, |(_, value)| value
);
part!(
    /// The values of a map, with writing access; see [`Map::values_mut`].
    ValuesMut, IterMut<'a, K, V>, ['a, K, V], [], &'a mut V, |(_, value)| value;
    V, rest, |(_, value)| value
);
part!(
    /// The keys of a map that is used up; see [`Map::into_keys`].
    IntoKeys, IntoIter<K, V>, [K, V], [K: Ord + Clone, V: Clone], K, |(key, _)| key;
    K, rest, |(key, _)| key
);
part!(
    /// The values of a map that is used up; see [`Map::into_values`].
    IntoValues, IntoIter<K, V>, [K, V], [K: Ord + Clone, V: Clone], V, |(_, value)| value;
    V, rest, |(_, value)| value
);

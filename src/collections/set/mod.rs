//! Owns the public set: a map without values. Knows nothing of nodes.

mod serde;

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::RangeBounds;

use super::map::{IntoKeys, Keys, Map};
use super::tree::Difference;

/// An ordered set whose clone costs nothing: clones share what is equal.
///
/// See the [module](super) for what differs from a [`BTreeSet`](std::collections::BTreeSet).
///
/// ```
/// use prevalence::collections::Set;
///
/// let mut open: Set<u32> = (0..1000).collect();
/// let before = open.clone();
/// open.remove(&7);
/// assert!(before.contains(&7) && !open.contains(&7));
/// assert_eq!(before.difference(&open).collect::<Vec<_>>(), [&7]);
/// ```
pub struct Set<K> {
    pub(super) map: Map<K, ()>,
}

impl<K> Set<K> {
    /// Makes an empty set. It takes no memory until something is put in.
    #[must_use]
    pub const fn new() -> Self {
        Self { map: Map::new() }
    }

    /// Returns the number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Returns whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Removes all elements. Clones keep theirs.
    pub fn clear(&mut self) {
        self.map.clear();
    }

    /// Returns the elements in their order.
    #[must_use]
    pub fn iter(&self) -> Keys<'_, K, ()> {
        self.map.keys()
    }

    /// Returns the first element.
    #[must_use]
    pub fn first(&self) -> Option<&K> {
        self.map.first_key_value().map(|(key, ())| key)
    }

    /// Returns the last element.
    #[must_use]
    pub fn last(&self) -> Option<&K> {
        self.map.last_key_value().map(|(key, ())| key)
    }

    /// Returns whether the element is there.
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.map.contains_key(key)
    }

    /// Returns the element that is equal to `key`.
    pub fn get<Q>(&self, key: &Q) -> Option<&K>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.map.get_key_value(key).map(|(key, ())| key)
    }

    /// Returns the elements in `range`, in their order.
    ///
    /// # Panics
    /// If the range begins behind its end.
    pub fn range<Q, R>(&self, range: R) -> impl DoubleEndedIterator<Item = &K>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
        R: RangeBounds<Q>,
    {
        self.map.range(range).map(|(key, ())| key)
    }

    /// Returns the elements that only one of the sets has, in their order: those that `newer` lacks
    /// are [`Removed`](Difference::Removed), those that only `newer` has are
    /// [`Added`](Difference::Added). What both share is skipped, as in [`Map::diff`].
    pub fn diff<'a>(
        &'a self,
        newer: &'a Self,
    ) -> impl Iterator<Item = Difference<'a, K, ()>> + use<'a, K>
    where
        K: Ord,
    {
        self.map.diff(&newer.map)
    }
}

impl<K: Ord> Set<K> {
    /// Returns the elements of this set that `other` lacks, in their order.
    pub fn difference<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a K> + use<'a, K> {
        self.diff(other).filter_map(|difference| match difference {
            Difference::Removed(key, ()) => Some(key),
            Difference::Added(..) | Difference::Changed { .. } => None,
        })
    }

    /// Returns the elements that only one of the two sets has, in their order.
    pub fn symmetric_difference<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = &'a K> + use<'a, K> {
        self.diff(other).filter_map(|difference| match difference {
            Difference::Removed(key, ()) | Difference::Added(key, ()) => Some(key),
            Difference::Changed { .. } => None,
        })
    }

    /// Returns the elements that both sets have, in their order.
    pub fn intersection<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a K> + use<'a, K> {
        self.iter().filter(|key| other.contains(*key))
    }

    /// Returns the elements that at least one of the sets has, in their order.
    pub fn union<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a K> + use<'a, K> {
        let (mut left, mut right) = (self.iter().peekable(), other.iter().peekable());
        std::iter::from_fn(move || match (left.peek(), right.peek()) {
            (Some(a), Some(b)) => match a.cmp(b) {
                Ordering::Less => left.next(),
                Ordering::Greater => right.next(),
                Ordering::Equal => {
                    right.next();
                    left.next()
                }
            },
            (Some(_), None) => left.next(),
            (None, _) => right.next(),
        })
    }

    /// Returns whether `other` has all elements of this set.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.len() <= other.len() && self.difference(other).next().is_none()
    }

    /// Returns whether this set has all elements of `other`.
    #[must_use]
    pub fn is_superset(&self, other: &Self) -> bool {
        other.is_subset(self)
    }

    /// Returns whether no element is in both sets.
    #[must_use]
    pub fn is_disjoint(&self, other: &Self) -> bool {
        let (small, large) = if self.len() < other.len() { (self, other) } else { (other, self) };
        !small.iter().any(|key| large.contains(key))
    }
}

impl<K: Ord + Clone> Set<K> {
    /// Makes a set of elements in ascending order, faster than by single insertions. Where an
    /// element is not greater than the one before, it is inserted like any other.
    pub fn from_sorted(elements: impl IntoIterator<Item = K>) -> Self {
        Self { map: Map::from_sorted(elements.into_iter().map(|key| (key, ()))) }
    }

    /// Puts an element in. Returns whether it was not there before.
    pub fn insert(&mut self, key: K) -> bool {
        !self.map.put(key, ())
    }

    /// Removes an element. Returns whether it was there.
    pub fn remove<Q>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.map.remove(key).is_some()
    }

    /// Removes an element, and returns it.
    pub fn take<Q>(&mut self, key: &Q) -> Option<K>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.map.remove_entry(key).map(|(key, ())| key)
    }

    /// Removes the first element, and returns it.
    pub fn pop_first(&mut self) -> Option<K> {
        self.map.pop_first().map(|(key, ())| key)
    }

    /// Removes the last element, and returns it.
    pub fn pop_last(&mut self) -> Option<K> {
        self.map.pop_last().map(|(key, ())| key)
    }

    /// Removes the elements for which `keep` returns false.
    pub fn retain(&mut self, mut keep: impl FnMut(&K) -> bool) {
        self.map.retain(|key, ()| keep(key));
    }

    /// Moves all elements of `other` into this set, and leaves `other` empty.
    pub fn append(&mut self, other: &mut Self) {
        self.map.append(&mut other.map);
    }
}

impl<K> Clone for Set<K> {
    /// Costs the same for every size.
    fn clone(&self) -> Self {
        Self { map: self.map.clone() }
    }
}

impl<K> Default for Set<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug> fmt::Debug for Set<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self).finish()
    }
}

impl<K: PartialEq> PartialEq for Set<K> {
    fn eq(&self, other: &Self) -> bool {
        self.map == other.map
    }
}

impl<K: Eq> Eq for Set<K> {}

impl<K: PartialOrd> PartialOrd for Set<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.iter().partial_cmp(other)
    }
}

impl<K: Ord> Ord for Set<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other)
    }
}

impl<K: Hash> Hash for Set<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.map.hash(state);
    }
}

impl<K: Ord + Clone> Extend<K> for Set<K> {
    fn extend<I: IntoIterator<Item = K>>(&mut self, elements: I) {
        self.map.extend(elements.into_iter().map(|key| (key, ())));
    }
}

impl<'a, K: Ord + Copy> Extend<&'a K> for Set<K> {
    fn extend<I: IntoIterator<Item = &'a K>>(&mut self, elements: I) {
        self.extend(elements.into_iter().copied());
    }
}

impl<K: Ord + Clone> FromIterator<K> for Set<K> {
    fn from_iter<I: IntoIterator<Item = K>>(elements: I) -> Self {
        Self::from_sorted(elements)
    }
}

impl<K: Ord + Clone, const N: usize> From<[K; N]> for Set<K> {
    fn from(elements: [K; N]) -> Self {
        elements.into_iter().collect()
    }
}

impl<K: Ord + Clone> IntoIterator for Set<K> {
    type Item = K;
    type IntoIter = IntoKeys<K, ()>;

    fn into_iter(self) -> IntoKeys<K, ()> {
        self.map.into_keys()
    }
}

impl<'a, K> IntoIterator for &'a Set<K> {
    type Item = &'a K;
    type IntoIter = Keys<'a, K, ()>;

    fn into_iter(self) -> Keys<'a, K, ()> {
        self.iter()
    }
}

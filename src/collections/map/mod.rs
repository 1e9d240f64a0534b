//! Owns the public map. Knows nothing of nodes.

mod entry;
mod iter;
mod serde;
mod traits;

pub use entry::{Entry, OccupiedEntry, VacantEntry};
pub use iter::{IntoIter, IntoKeys, IntoValues, Iter, IterMut, Keys, Range, Values, ValuesMut};

use std::borrow::Borrow;
use std::ops::RangeBounds;

use super::tree::{Cursor, Difference, Differences, Tree, TreeBuilder};

/// An ordered map whose clone costs nothing: clones share what is equal.
///
/// See the [module](super) for what differs from a [`BTreeMap`](std::collections::BTreeMap).
pub struct Map<K, V> {
    pub(super) tree: Tree<K, V>,
}

impl<K, V> Map<K, V> {
    /// Makes an empty map. It takes no memory until something is put in.
    #[must_use]
    pub const fn new() -> Self {
        Self { tree: Tree::new() }
    }

    /// Returns the number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Returns whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all entries. Clones keep theirs.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Returns the entries, in the order of the keys.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter::new(&self.tree)
    }

    /// Returns the keys in their order.
    #[must_use]
    pub fn keys(&self) -> Keys<'_, K, V> {
        Keys(self.iter())
    }

    /// Returns the values, in the order of their keys.
    #[must_use]
    pub fn values(&self) -> Values<'_, K, V> {
        Values(self.iter())
    }

    /// Returns the first entry.
    #[must_use]
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        Cursor::first(&self.tree).entry()
    }

    /// Returns the last entry.
    #[must_use]
    pub fn last_key_value(&self) -> Option<(&K, &V)> {
        Cursor::end(&self.tree).back()
    }

    /// Returns the value of a key.
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.tree.get(key).map(|(_, value)| value)
    }

    /// Returns the entry of a key.
    #[inline]
    pub fn get_key_value<Q>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.tree.get(key)
    }

    /// Returns whether there is an entry with this key.
    #[inline]
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.tree.get(key).is_some()
    }

    /// Returns the entries whose keys are in `range`, in their order.
    ///
    /// # Panics
    /// If the range begins behind its end, as with a [`BTreeMap`](std::collections::BTreeMap).
    pub fn range<Q, R>(&self, range: R) -> Range<'_, K, V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
        R: RangeBounds<Q>,
    {
        Range::new(&self.tree, &range)
    }

    /// Returns the differences between this map and a `newer` one, in the order of the keys.
    ///
    /// What both share is skipped. So this is fast for two clones of one map, whatever their sizes,
    /// and correct for any two maps.
    ///
    /// ```
    /// use prevalence::collections::{Difference, Map};
    ///
    /// let old: Map<u32, &str> = Map::from([(1, "one"), (2, "two")]);
    /// let mut new = old.clone();
    /// new.put(2, "zwei");
    /// new.put(3, "drei");
    /// assert_eq!(
    ///     old.diff(&new).collect::<Vec<_>>(),
    ///     [
    ///         Difference::Changed { key: &2, old: &"two", new: &"zwei" },
    ///         Difference::Added(&3, &"drei"),
    ///     ]
    /// );
    /// ```
    pub fn diff<'a>(
        &'a self,
        newer: &'a Self,
    ) -> impl Iterator<Item = Difference<'a, K, V>> + use<'a, K, V>
    where
        K: Ord,
        V: PartialEq,
    {
        Differences::new(&self.tree, &newer.tree)
    }
}

impl<K: Ord + Clone, V: Clone> Map<K, V> {
    /// Makes a map of entries in ascending order, faster than by single insertions. Where a key is
    /// not greater than the one before, it is inserted like any other: the last of equal keys
    /// counts.
    pub fn from_sorted(entries: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut builder = TreeBuilder::new();
        let mut entries = entries.into_iter();
        for (key, value) in entries.by_ref() {
            if let Err((key, value)) = builder.push(key, value) {
                let mut map = Self { tree: builder.finish() };
                map.put(key, value);
                map.extend(entries);
                return map;
            }
        }
        Self { tree: builder.finish() }
    }

    /// Puts an entry in, and returns the value that the key had before. The key itself stays, if it
    /// was there.
    ///
    /// If another version has the old value, too, it is cloned for the caller. [`put`](Self::put)
    /// does not need that.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.tree.insert(key, value)
    }

    /// Puts an entry in, and returns whether the key was there before. The old value is not read.
    pub fn put(&mut self, key: K, value: V) -> bool {
        self.tree.put(key, value)
    }

    /// Returns writing access to the value of a key. If another version has this value, too, it is
    /// cloned first.
    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.tree.get_mut(key)
    }

    /// Removes an entry, and returns its value.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.tree.remove(key).map(|(_, value)| value)
    }

    /// Removes an entry, and returns it.
    pub fn remove_entry<Q>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.tree.remove(key)
    }

    /// Removes the first entry, and returns it.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        let key = self.first_key_value()?.0.clone();
        self.tree.remove(&key)
    }

    /// Removes the last entry, and returns it.
    pub fn pop_last(&mut self) -> Option<(K, V)> {
        let key = self.last_key_value()?.0.clone();
        self.tree.remove(&key)
    }

    /// Returns the place of a key, to look at it and to fill it.
    pub fn entry(&mut self, key: K) -> Entry<'_, K, V> {
        Entry::new(self, key)
    }

    /// Removes the entries for which `keep` returns false.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        let gone: Vec<K> = self
            .iter()
            .filter(|(key, value)| !keep(key, value))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.tree.remove(&key);
        }
    }

    /// Returns the entries with writing access to the values. What other versions have, too, is
    /// copied first: all of the map, if it was just cloned.
    pub fn iter_mut(&mut self) -> IterMut<'_, K, V> {
        self.tree.own_all();
        IterMut::new(&mut self.tree)
    }

    /// Returns the values with writing access, in the order of their keys. See
    /// [`iter_mut`](Self::iter_mut).
    pub fn values_mut(&mut self) -> ValuesMut<'_, K, V> {
        ValuesMut(self.iter_mut())
    }

    /// Moves all entries of `other` into this map, and leaves `other` empty.
    pub fn append(&mut self, other: &mut Self) {
        self.extend(std::mem::take(other));
    }
}

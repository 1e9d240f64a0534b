//! Owns the place of a key in a map, filled or not. Knows nothing of nodes.

use std::fmt;

use super::Map;
use crate::collections::tree::Place;

/// The place of a key; see [`Map::entry`].
pub enum Entry<'a, K, V> {
    /// The key is there.
    Occupied(OccupiedEntry<'a, K, V>),
    /// The key is not there.
    Vacant(VacantEntry<'a, K, V>),
}

/// The place of a key that is there.
pub struct OccupiedEntry<'a, K, V> {
    map: &'a mut Map<K, V>,
    key: K,
    /// The key's place. It stays valid, since the map is borrowed and changes only here.
    place: Place,
}

/// The place of a key that is not there.
pub struct VacantEntry<'a, K, V> {
    map: &'a mut Map<K, V>,
    key: K,
    /// The key's place. It stays valid, since the map is borrowed and changes only here.
    place: Place,
}

impl<'a, K: Ord + Clone, V: Clone> Entry<'a, K, V> {
    pub(super) fn new(map: &'a mut Map<K, V>, key: K) -> Self {
        let place = map.tree.find(&key);
        if place.is_filled() {
            Self::Occupied(OccupiedEntry { map, key, place })
        } else {
            Self::Vacant(VacantEntry { map, key, place })
        }
    }

    /// Returns the key.
    pub fn key(&self) -> &K {
        match self {
            Self::Occupied(entry) => &entry.key,
            Self::Vacant(entry) => &entry.key,
        }
    }

    /// Fills the place with `value` if it is empty. Returns writing access to the value.
    pub fn or_insert(self, value: V) -> &'a mut V {
        self.or_insert_with(|| value)
    }

    /// Fills the place with what `value` returns if it is empty.
    pub fn or_insert_with(self, value: impl FnOnce() -> V) -> &'a mut V {
        self.or_insert_with_key(|_| value())
    }

    /// Fills the place with what `value` makes of the key if it is empty.
    pub fn or_insert_with_key(self, value: impl FnOnce(&K) -> V) -> &'a mut V {
        match self {
            Self::Occupied(entry) => entry.into_mut(),
            Self::Vacant(entry) => {
                let value = value(&entry.key);
                entry.insert(value)
            }
        }
    }

    /// Fills the place with the default value if it is empty.
    pub fn or_default(self) -> &'a mut V
    where
        V: Default,
    {
        self.or_insert_with(V::default)
    }

    /// Changes the value if the place is filled.
    #[must_use]
    pub fn and_modify(mut self, change: impl FnOnce(&mut V)) -> Self {
        if let Self::Occupied(entry) = &mut self {
            change(entry.get_mut());
        }
        self
    }
}

impl<'a, K: Ord + Clone, V: Clone> OccupiedEntry<'a, K, V> {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &K {
        &self.key
    }

    /// Returns the value.
    #[must_use]
    pub fn get(&self) -> &V {
        // SAFETY: the place is valid, and filled.
        unsafe { self.map.tree.value_at(&self.place) }
    }

    /// Returns writing access to the value.
    pub fn get_mut(&mut self) -> &mut V {
        // SAFETY: the place is valid, and filled.
        unsafe { self.map.tree.value_mut_at(&mut self.place) }
    }

    /// Returns writing access to the value, for as long as the map is borrowed.
    #[must_use]
    pub fn into_mut(mut self) -> &'a mut V {
        // SAFETY: the place is valid, and filled.
        unsafe { self.map.tree.value_mut_at(&mut self.place) }
    }

    /// Exchanges the value.
    pub fn insert(&mut self, value: V) -> V {
        std::mem::replace(self.get_mut(), value)
    }

    /// Removes the entry, and returns its value.
    #[must_use]
    pub fn remove(self) -> V {
        self.remove_entry().1
    }

    /// Removes the entry, and returns it.
    #[must_use]
    pub fn remove_entry(self) -> (K, V) {
        // SAFETY: the place is valid, and filled.
        unsafe { self.map.tree.remove_at(self.place) }
    }
}

impl<'a, K: Ord + Clone, V: Clone> VacantEntry<'a, K, V> {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &K {
        &self.key
    }

    /// Returns the key, and fills nothing.
    #[must_use]
    pub fn into_key(self) -> K {
        self.key
    }

    /// Fills the place. Returns writing access to the value.
    pub fn insert(self, value: V) -> &'a mut V {
        // SAFETY: the place is the key's, valid, and not filled.
        unsafe { self.map.tree.put_at(self.place, self.key, value) }
    }
}

impl<K: fmt::Debug + Ord + Clone, V: fmt::Debug + Clone> fmt::Debug for Entry<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Occupied(entry) => f.debug_tuple("Entry").field(entry).finish(),
            Self::Vacant(entry) => f.debug_tuple("Entry").field(entry).finish(),
        }
    }
}

impl<K: fmt::Debug + Ord + Clone, V: fmt::Debug + Clone> fmt::Debug for OccupiedEntry<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OccupiedEntry").field("key", self.key()).field("value", self.get()).finish()
    }
}

impl<K: fmt::Debug + Ord + Clone, V: Clone> fmt::Debug for VacantEntry<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VacantEntry").field(self.key()).finish()
    }
}

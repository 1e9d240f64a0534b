//! Owns what a map looks like to serde: as a `BTreeMap`. Knows nothing of nodes.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::super::elements::{self, are_equal, write_entries};
use super::super::tree::{DecodeEntry, Edit, Tree, edits};
use super::{Map, TreeBuilder};
use crate::codec::{
    BeforeReading, BeforeWriting, Collection, Comparison, DecodeError, Entries, PartDecoder,
    StoredEntries,
};

impl<K, V> Serialize for Map<K, V>
where
    K: Serialize + Ord + Send + Sync + 'static,
    V: Serialize + Send + Sync + 'static,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let before = BeforeWriting::new();
        let mut target = serializer.serialize_map(Some(self.len()))?;
        write_entries(self, before, |key, value| target.serialize_entry(key, value))?;
        target.end()
    }
}

impl<K, V> Collection for Map<K, V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn family(&self) -> Option<usize> {
        self.tree.family_id()
    }

    fn memory_bytes(&self) -> u64 {
        self.tree.memory_bytes()
    }

    fn load_all(&self, goes_on: &mut dyn FnMut() -> bool) -> bool {
        self.tree.warm_all(goes_on)
    }
}

impl<K, V> elements::Entries for Map<K, V>
where
    K: Serialize + Ord + Send + Sync + 'static,
    V: Serialize + Send + Sync + 'static,
{
    type Key = K;
    type Value = V;

    fn len(&self) -> usize {
        self.tree.len()
    }

    fn entries(&self) -> impl Iterator<Item = (&K, &V)> {
        self.iter()
    }

    fn edits<'a>(
        &'a self,
        base: &'a Self,
        comparison: &'a mut Comparison,
    ) -> impl Iterator<Item = Edit<'a, K, V>> {
        edits(&base.tree, &self.tree, |old, new| are_equal(old, new, comparison))
    }
}

impl<'de, K, V> Deserialize<'de> for Map<K, V>
where
    K: DeserializeOwned + Ord + Clone + Send + Sync + 'static,
    V: DeserializeOwned + Clone + Send + Sync + 'static,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MapVisitor { before: BeforeReading::new(), map: PhantomData })
    }
}

struct MapVisitor<K, V> {
    before: BeforeReading,
    map: PhantomData<(K, V)>,
}

impl<'de, K, V> Visitor<'de> for MapVisitor<K, V>
where
    K: DeserializeOwned + Ord + Clone + Send + Sync + 'static,
    V: DeserializeOwned + Clone + Send + Sync + 'static,
{
    type Value = Map<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    /// Entries in ascending order, as a map writes them, are appended; others are inserted.
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Map<K, V>, A::Error> {
        match self.before.entries(entries.size_hint()).map_err(A::Error::custom)? {
            Entries::OneByOne => {}
            Entries::InParts(stored) => return load(stored).map_err(A::Error::custom),
            Entries::NotKept(count) => {
                for _ in 0..count {
                    entries.next_entry::<K, V>()?;
                }
                return Ok(Map::new());
            }
        }
        let mut builder = TreeBuilder::new();
        while let Some((key, value)) = entries.next_entry()? {
            if let Err((key, value)) = builder.push(key, value) {
                let mut map = Map { tree: builder.finish() };
                map.put(key, value);
                while let Some((key, value)) = entries.next_entry()? {
                    map.put(key, value);
                }
                return Ok(map);
            }
        }
        Ok(Map { tree: builder.finish() })
    }
}

/// Loads a map on several threads.
fn load<K, V>(stored: StoredEntries) -> Result<Map<K, V>, String>
where
    K: DeserializeOwned + Ord + Clone + Send + Sync + 'static,
    V: DeserializeOwned + Clone + Send + Sync + 'static,
{
    let (tree, is_ordered) = Tree::load::<Entry>(stored.parts())?;
    let map = Map { tree };
    if is_ordered {
        stored.skip(&map);
        return Ok(map);
    }
    stored.skip_rebuilt();
    // The map cannot find its keys if their order has changed since they were written.
    Ok(map.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// An entry of a map: a key, then a value.
struct Entry;

impl<K, V> DecodeEntry<K, V> for Entry
where
    K: DeserializeOwned + Ord + 'static,
    V: DeserializeOwned + 'static,
{
    #[inline(always)]
    fn key<const LIMIT: usize>(decoder: &mut PartDecoder<'_, LIMIT>) -> Result<K, DecodeError> {
        decoder.decode()
    }

    #[inline(always)]
    fn value<const LIMIT: usize>(decoder: &mut PartDecoder<'_, LIMIT>) -> Result<V, DecodeError> {
        decoder.decode()
    }

    #[inline(always)]
    fn are_ordered(first: &K, second: &K) -> bool {
        first < second
    }

    #[inline(always)]
    fn are_same(first: &K, second: &K) -> bool {
        first.cmp(second).is_eq()
    }
}

//! Owns what a map looks like to serde: as a `BTreeMap`. Knows nothing of nodes.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::super::tree::{DecodeEntry, Tree};
use super::{Map, TreeBuilder};
use crate::codec::{
    BeforeReading, BeforeWriting, DecodeError, Entries, PartDecoder, StoredEntries,
};

impl<K: Serialize, V: Serialize> Serialize for Map<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let before = BeforeWriting::new();
        let mut target = serializer.serialize_map(Some(self.len()))?;
        let mut written = before.begin(self.len());
        for (key, value) in self {
            target.serialize_entry(key, value)?;
            written.count();
        }
        written.end();
        target.end()
    }
}

impl<'de, K, V> Deserialize<'de> for Map<K, V>
where
    K: DeserializeOwned + Ord + Clone + Send,
    V: DeserializeOwned + Clone + Send,
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
    K: DeserializeOwned + Ord + Clone + Send,
    V: DeserializeOwned + Clone + Send,
{
    type Value = Map<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    /// Entries in ascending order, as a map writes them, are appended; others are inserted.
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Map<K, V>, A::Error> {
        match self.before.entries(entries.size_hint()) {
            Entries::OneByOne => {}
            Entries::InParts(stored) => return load(stored).map_err(A::Error::custom),
            Entries::NotKept => {
                while entries.next_entry::<K, V>()?.is_some() {}
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
    K: DeserializeOwned + Ord + Clone + Send,
    V: DeserializeOwned + Clone + Send,
{
    let (tree, is_ordered) = Tree::load::<Entry>(&stored.parts())?;
    stored.skip();
    let map = Map { tree };
    if is_ordered {
        return Ok(map);
    }
    // The map cannot find its keys if their order has changed since they were written.
    Ok(map.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// An entry of a map: a key, then a value.
struct Entry;

impl<K, V> DecodeEntry<K, V> for Entry
where
    K: DeserializeOwned + Ord,
    V: DeserializeOwned,
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
}

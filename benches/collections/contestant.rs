//! The maps that are compared, under one trait.

use std::collections::BTreeMap;

use imbl::OrdMap;
use prevalence::collections::Map;
use serde::{Deserialize, Serialize};

/// A value of the benches.
pub trait Value: Clone + PartialEq + 'static {
    fn of(number: u64) -> Self;
    fn number(&self) -> u64;
}

impl Value for u64 {
    fn of(number: u64) -> Self {
        number
    }

    fn number(&self) -> u64 {
        *self
    }
}

/// 100 bytes that own nothing.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes([u32; 25]);

impl Value for Bytes {
    #[allow(clippy::cast_possible_truncation)]
    fn of(number: u64) -> Self {
        let mut words = [7; 25];
        (words[0], words[1]) = (number as u32, (number >> 32) as u32);
        Self(words)
    }

    fn number(&self) -> u64 {
        u64::from(self.0[0]) | u64::from(self.0[1]) << 32
    }
}

pub trait Contestant {
    type Value: Value;
    const NAME: &'static str;

    /// Puts ascending keys in, in the fastest way.
    fn load(entries: impl Iterator<Item = (u64, Self::Value)>) -> Self;
    fn empty() -> Self;
    fn put(&mut self, key: u64, value: Self::Value);
    fn get(&self, key: u64) -> Option<&Self::Value>;
    fn sum(&self) -> u64;
    /// A second version. A map that cannot have one has no bench with versions.
    fn version(&self) -> Self;
}

impl<V: Value> Contestant for Map<u64, V> {
    type Value = V;
    const NAME: &'static str = "collections::Map";

    fn load(entries: impl Iterator<Item = (u64, V)>) -> Self {
        Map::from_sorted(entries)
    }

    fn empty() -> Self {
        Map::new()
    }

    fn put(&mut self, key: u64, value: V) {
        Map::put(self, key, value);
    }

    fn get(&self, key: u64) -> Option<&V> {
        Map::get(self, &key)
    }

    fn sum(&self) -> u64 {
        self.iter().fold(0, |sum, (key, value)| sum.wrapping_add(key ^ value.number()))
    }

    fn version(&self) -> Self {
        self.clone()
    }
}

impl<V: Value> Contestant for OrdMap<u64, V> {
    type Value = V;
    const NAME: &'static str = "imbl::OrdMap";

    fn load(entries: impl Iterator<Item = (u64, V)>) -> Self {
        entries.collect()
    }

    fn empty() -> Self {
        OrdMap::new()
    }

    fn put(&mut self, key: u64, value: V) {
        self.insert(key, value);
    }

    fn get(&self, key: u64) -> Option<&V> {
        OrdMap::get(self, &key)
    }

    fn sum(&self) -> u64 {
        self.iter().fold(0, |sum, (key, value)| sum.wrapping_add(key ^ value.number()))
    }

    fn version(&self) -> Self {
        self.clone()
    }
}

impl<V: Value> Contestant for BTreeMap<u64, V> {
    type Value = V;
    const NAME: &'static str = "BTreeMap";

    fn load(entries: impl Iterator<Item = (u64, V)>) -> Self {
        entries.collect()
    }

    fn empty() -> Self {
        Self::new()
    }

    fn put(&mut self, key: u64, value: V) {
        self.insert(key, value);
    }

    fn get(&self, key: u64) -> Option<&V> {
        Self::get(self, &key)
    }

    fn sum(&self) -> u64 {
        self.iter().fold(0, |sum, (key, value)| sum.wrapping_add(key ^ value.number()))
    }

    fn version(&self) -> Self {
        unreachable!("this map is measured without versions")
    }
}

//! Owns the keys and values of every workload. They are the same for all engines and all runs.
//! Knows nothing of engines.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

/// One entry to store.
#[derive(Clone, Copy)]
pub struct Put {
    pub key: u64,
    pub value: &'static [u8],
}

const POOL_BYTES: usize = 1 << 20;
pub const LONGEST_VALUE_BYTES: usize = 100;
const TEXT: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The text from which values are cut, so that making values costs almost nothing. It is text
/// because airomem writes JSON, in which other bytes would take up to four times as much space.
static POOL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random(7);
    let text = |_| TEXT[random.below(TEXT.len() as u64) as usize];
    (0..POOL_BYTES + LONGEST_VALUE_BYTES).map(text).collect()
});

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// An endless sequence of puts, the same for the same seed.
pub struct Puts {
    random: Random,
    first_key: u64,
    keys: u64,
    sequential: bool,
    value_bytes: RangeInclusive<usize>,
}

impl Puts {
    /// Makes small values under random keys, from a range of keys that only this caller uses.
    pub fn small(caller: u64) -> Self {
        const KEYS: u64 = 4096;
        Self {
            random: Random(caller),
            first_key: caller * KEYS,
            keys: KEYS,
            sequential: false,
            value_bytes: 8..=56,
        }
    }

    /// Makes 100-byte values under the keys from 0, one after the other.
    pub fn preload() -> Self {
        let value_bytes = LONGEST_VALUE_BYTES..=LONGEST_VALUE_BYTES;
        Self { random: Random(1), first_key: 0, keys: u64::MAX, sequential: true, value_bytes }
    }

    /// Makes 100-byte values under random keys among `keys` preloaded ones.
    pub fn values(keys: u64) -> Self {
        Self { random: Random(2), keys, sequential: false, ..Self::preload() }
    }
}

impl Iterator for Puts {
    type Item = Put;

    fn next(&mut self) -> Option<Put> {
        let key = if self.sequential {
            self.first_key += 1;
            self.first_key - 1
        } else {
            self.first_key + self.random.below(self.keys)
        };
        let lengths = (self.value_bytes.end() - self.value_bytes.start() + 1) as u64;
        let bytes = self.value_bytes.start() + self.random.below(lengths) as usize;
        let begin = self.random.below(POOL_BYTES as u64) as usize;
        Some(Put { key, value: &POOL[begin..begin + bytes] })
    }
}

/// Returns `count` random keys below `keys`.
pub fn random_keys(seed: u64, count: usize, keys: u64) -> Vec<u64> {
    let mut random = Random(seed);
    (0..count).map(|_| random.below(keys)).collect()
}

/// The entries that must be stored after some puts.
#[derive(Default)]
pub struct Expected(HashMap<u64, &'static [u8]>);

impl Expected {
    pub fn after(&mut self, puts: impl Iterator<Item = Put>) {
        self.0.extend(puts.map(|put| (put.key, put.value)));
    }

    pub fn keys(&self) -> Vec<u64> {
        self.0.keys().copied().collect()
    }

    /// Returns the sum of [`digest`] over the values of `keys`. All of them must have been put.
    pub fn digest(&self, keys: &[u64]) -> u64 {
        keys.iter().fold(0, |sum, key| sum.wrapping_add(digest(self.0[key])))
    }
}

/// Reads a value, so that the compiler cannot remove the read.
pub fn digest(value: &[u8]) -> u64 {
    let last = value.last_chunk::<8>().expect("no value is shorter than eight bytes");
    u64::from_le_bytes(*last).wrapping_mul(value.len() as u64)
}

//! Tests of the collections. `life` is also the body of a fuzz target.
//!
//! - `laws`: one suite for every collection
//! - `cold`: collections whose entries are decoded later, to begin with
//! - `lives`: random lives beside a `BTreeMap`, with an audit after every step
//! - `panics`: a user's code panics at any call
//! - `memory`: memory goes back
//! - `sets`: the algebra of sets
//! - `types`: keys and values at the edge of what a type can be
//! - `vector`: what only vectors do
//! - `processes`: what a child of a fork inherits
//! - `planted`: deliberate faults are caught

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test must stop at the first unexpected result"
)]

mod cold;
mod compare;
mod content;
#[cfg(test)]
mod laws;
mod life;
#[cfg(test)]
mod lives;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod panics;
#[cfg(test)]
mod planted;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod sets;
#[cfg(test)]
mod types;
#[cfg(test)]
mod vector;

pub(crate) use life::live_bytes;

#[cfg(test)]
use std::fmt::Debug;

#[cfg(test)]
use super::{Map, tree::audit};

/// Checks all invariants of some families, and that no memory was lost.
#[cfg(test)]
fn assert_sound<K: Ord + Debug, V>(maps: &[&Map<K, V>]) {
    let trees: Vec<_> = maps.iter().map(|map| &map.tree).collect();
    assert_eq!(audit(&trees), 0, "pieces of memory were lost");
}

/// A generator of numbers that is the same on every run.
#[cfg(test)]
struct Random(u64);

#[cfg(test)]
impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

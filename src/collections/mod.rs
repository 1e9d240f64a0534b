//! Collections whose clone costs nothing: the maps, sets and vectors of a model.
//!
//! A model is cloned once for every batch of commands, and old versions of it live on in readers
//! and snapshots. So its collections must share what is equal. [`Map`], [`Set`] and [`Vector`] do:
//! a clone takes the same time for ten entries as for ten million, and a change copies only the
//! path to the entry that changes, and only if another version has it, too.
//!
//! ```
//! use prevalence::collections::Map;
//!
//! let mut accounts: Map<u32, i64> = (0..1000).map(|account| (account, 100)).collect();
//! let before = accounts.clone();
//! *accounts.entry(7).or_default() += 50;
//! accounts.remove(&8);
//! assert_eq!((before[&7], before.len()), (100, 1000));
//! assert_eq!((accounts[&7], accounts.len()), (150, 999));
//! let changed: Vec<_> = before.diff(&accounts).collect();
//! assert_eq!(changed.len(), 2);
//! ```
//!
//! They behave as [`BTreeMap`](std::collections::BTreeMap),
//! [`BTreeSet`](std::collections::BTreeSet), and [`Vec`] with the two ends of a
//! [`VecDeque`](std::collections::VecDeque), with these differences:
//!
//! - Changes need `K: Clone` and `V: Clone`, because a value that another version has, too, is
//!   cloned before it is changed, and a value that is removed is cloned for the caller.
//! - [`Map::retain`] and [`Set::retain`] only look at what they keep or remove.
//! - Clones share their keys and values. So these must have no interior mutability that anybody
//!   relies on: a change through a `Cell` in one clone may or may not be seen in another.
//! - What no version has any more is dropped soon, but not at once: a map that changes keeps what
//!   it replaced until it is cloned, or until there are a few thousand such nodes. A map keeps the
//!   memory of what it removed for its next insertions; a dropped or cleared one gives it back.
//! - Keys and values are `Send` and `Sync` if the map is to cross threads, as with
//!   [`Arc`](std::sync::Arc).
//! - [`Map::put`] is an `insert`, and [`Vector::set`] a [`replace`](Vector::replace), that does not
//!   return the old value. It is faster: it need not read it.
//! - A vector inserts and removes in the middle as fast as at its ends, up to a logarithm of its
//!   length. It has no slices: [`Vector::range`] iterates over a part of it.
//! - [`Vector::append`] and [`Vector::split_off`] take time for each element that moves to the
//!   other vector, but none for those that stay.
//!
//! A child of a fork has the collections that it inherits, with their values. It can use them as
//! its parent can, but what it drops or replaces of them keeps its memory until the child ends.
//!
//! serde writes and reads them as a `BTreeMap`, a `BTreeSet` and a `Vec`: a model can change from
//! these to one of ours without a migration. The other way takes one, because a snapshot may hold
//! only what has changed of ours: decode them in [`Model::migrate`](crate::Model::migrate), and
//! convert them there. The thread that writes snapshots keeps the collections of the last one, so
//! they can be serialised only if keys and values are [`Send`], [`Sync`] and `'static`. When a
//! database is opened, the entries of large ones are decoded on several threads. So they can be
//! deserialised only if keys and values are [`DeserializeOwned`](serde::de::DeserializeOwned),
//! [`Send`], [`Sync`] and `'static`. With [`LoadModel::OnDemand`](crate::LoadModel::OnDemand) the
//! entries are decoded when they are touched, by whichever thread that does.
//!
//! If a user's `Clone`, `Drop` or `Ord` panics, memory may leak, but nothing is lost or freed
//! twice. If an `Ord` is inconsistent, the order is unspecified, and nothing else.
//!
//! # How it works
//!
//! A map is a B+tree. Its nodes have no count of references; each states the epoch in which it was
//! born, and each version lists what died since the version before it. A vector is such a tree
//! without keys. Where the inner nodes of a map hold the keys between their children, those of a
//! vector hold positions: how many elements are below the children to the left. So an element is
//! found by its index, and an insertion changes the positions on one path. The folder's parts:
//!
//! - `map`, `set`, `vector`: what a user sees
//! - `tree`: one handle to a tree, and all that is done with it
//! - `family`: the versions of a tree, and what they own; it states the invariants
//! - `pool`: memory for nodes and for large keys and values
//! - `shape`: what a node looks like in memory
//!
//! This folder has `unsafe` code. Each block says why it is sound, and `audit` in the tests
//! recomputes the invariants after every step of random lives.

#![allow(unsafe_code)]

mod elements;
mod family;
mod map;
mod pool;
mod set;
mod shape;
#[cfg(test)]
mod shuttled;
mod sync;
#[cfg(any(test, fuzzing))]
mod tests;
mod tree;
mod vector;

pub use map::{
    Entry, IntoIter, IntoKeys, IntoValues, Iter, IterMut, Keys, Map, OccupiedEntry, Range,
    VacantEntry, Values, ValuesMut,
};
pub use set::Set;
pub use tree::Difference;
pub use vector::{Vector, VectorIntoIter, VectorIter, VectorIterMut};

/// The body of a fuzz target.
#[cfg(any(test, fuzzing))]
pub(crate) use tests::live_bytes;

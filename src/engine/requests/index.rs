//! Owns where a request is found by its id: whether it is in flight, and the sequence at which it
//! was accepted. The writer, the callers and those who ask share it. Knows nothing of the order in
//! which requests are forgotten.

use std::collections::HashMap;
use std::sync::Mutex;

use crossbeam_utils::CachePadded;

use super::key::{KeyHasher, RequestKey};
use crate::mutex::lock;
use crate::process::OpeningProcess;

/// How many parts the index has. Each has a lock of its own, and grows by itself: a table that
/// grows is copied, and meanwhile the writer waits.
const SHARDS: u32 = 64;

pub(super) struct RequestIndex {
    /// In the child of a fork the locks may stay locked for ever, so nothing is looked at there.
    process: OpeningProcess,
    shards: Box<[CachePadded<Mutex<Shard>>]>,
}

#[derive(Default)]
struct Shard {
    /// The sequence at which the newest command with each remembered id was accepted.
    accepted: HashMap<RequestKey, u64, KeyHasher>,
    /// How many commands with each id are on their way.
    in_flight: HashMap<RequestKey, u32, KeyHasher>,
}

impl RequestIndex {
    pub(super) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| CachePadded::default()).collect();
        Self { process: OpeningProcess::this(), shards }
    }

    fn with<R: Default>(&self, key: &RequestKey, look: impl FnOnce(&mut Shard) -> R) -> R {
        if self.process.is_forked() {
            return R::default();
        }
        let number = usize::try_from(key.place_among(SHARDS));
        let shard = number.ok().and_then(|number| self.shards.get(number));
        look(&mut lock(shard.expect("there are as many shards as remainders")))
    }

    /// Notes that a command is on its way.
    pub(super) fn enter(&self, key: &RequestKey) {
        self.with(key, |shard| *shard.in_flight.entry(key.clone()).or_default() += 1);
    }

    /// Notes that a command was answered.
    pub(super) fn leave(&self, key: &RequestKey) {
        self.with(key, |shard| match shard.in_flight.get_mut(key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(shard.in_flight.remove(key)),
        });
    }

    /// Returns whether a command is on its way, and the sequence at which one was accepted, as they
    /// are at one moment.
    pub(super) fn look(&self, key: &RequestKey) -> (bool, Option<u64>) {
        self.with(key, |shard| {
            (shard.in_flight.contains_key(key), shard.accepted.get(key).copied())
        })
    }

    pub(super) fn accept(&self, key: &RequestKey, sequence: u64) {
        self.with(key, |shard| {
            shard.accepted.insert(key.clone(), sequence);
        });
    }

    /// Notes that an id was accepted, unless it was accepted later, too.
    pub(super) fn accept_again(&self, key: &RequestKey, sequence: u64) {
        self.with(key, |shard| {
            let known = shard.accepted.entry(key.clone()).or_insert(sequence);
            *known = sequence.max(*known);
        });
    }

    /// Forgets that the id was accepted at this sequence.
    pub(super) fn forget(&self, key: &RequestKey, sequence: u64) {
        self.with(key, |shard| {
            if shard.accepted.get(key) == Some(&sequence) {
                shard.accepted.remove(key);
            }
        });
    }
}

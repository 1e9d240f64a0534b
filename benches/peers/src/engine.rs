//! Owns the trait of an engine for the workloads, and the list of all engines. Knows nothing of how
//! an engine works.

use std::error::Error;
use std::path::Path;

use crate::engines::{airomem, fjall, floor, lmdb, okaywal, prevalence, redb, redis, sqlite};
use crate::load::Put;

pub type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// How many puts share one sync in the workload `values`, and how many are in flight if each is
/// acknowledged separately.
pub const WINDOW: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Workload {
    Lone,
    Blocked,
    Values,
    Reads,
}

impl Workload {
    pub const ALL: [Self; 4] = [Self::Lone, Self::Blocked, Self::Values, Self::Reads];

    pub fn name(self) -> &'static str {
        match self {
            Self::Lone => "lone",
            Self::Blocked => "blocked64",
            Self::Values => "values",
            Self::Reads => "reads",
        }
    }
}

/// An open, empty store.
pub trait Engine: Sync {
    /// Makes a caller for one thread.
    fn caller(&self) -> Outcome<Box<dyn Caller + '_>>;

    /// Stores all of `puts`, with one sync for each [`WINDOW`] of them, or with as many in flight.
    /// All of them are on stable storage when this returns.
    fn put_stream(&self, puts: &mut dyn Iterator<Item = Put>) -> Outcome;

    /// Stores all of `puts` in any fast way, before the measurement.
    fn preload(&self, puts: &mut dyn Iterator<Item = Put>) -> Outcome {
        self.put_stream(puts)
    }

    /// Returns `None` for an engine whose data cannot be read.
    fn readable(&self) -> Option<&dyn Readable> {
        None
    }
}

pub trait Caller {
    /// Stores one entry. It is on stable storage when this returns.
    fn put(&mut self, put: Put) -> Outcome;
}

/// Both sum up [`digest`](crate::load::digest) over the values of `keys`.
pub trait Readable {
    /// Makes separate reads, each of the newest state.
    fn read_each(&self, keys: &[u64]) -> Outcome<u64>;

    /// Makes all reads on one version. Returns `None` for an engine without versions.
    fn read_pinned(&self, keys: &[u64]) -> Outcome<Option<u64>>;
}

/// Sums up the results of `get` over all keys.
pub fn sum(keys: &[u64], mut get: impl FnMut(u64) -> Outcome<Option<u64>>) -> Outcome<u64> {
    let mut sum = 0_u64;
    for &key in keys {
        sum = sum.wrapping_add(get(key)?.ok_or_else(|| format!("key {key} is missing"))?);
    }
    Ok(sum)
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Floor,
    Prevalence,
    /// Keeps no data that can be read: a log without a store.
    Log,
    Store,
}

pub struct Entry {
    pub name: &'static str,
    pub kind: Kind,
    pub workloads: &'static [Workload],
    /// How the engine is used, for the notes below the tables.
    pub setting: &'static str,
    pub open: fn(&Path, Workload) -> Outcome<Box<dyn Engine>>,
}

const ALL: &[Workload] = &Workload::ALL;
const WRITES: &[Workload] = &[Workload::Lone, Workload::Blocked, Workload::Values];
const ON_A_MILLION: &[Workload] = &[Workload::Values, Workload::Reads];

/// Every engine, in the order in which the first round runs them.
pub const ENTRIES: &[Entry] = &[
    Entry {
        name: "prevalence",
        kind: Kind::Prevalence,
        workloads: ALL,
        setting: prevalence::ORDERED,
        open: prevalence::ordered,
    },
    Entry {
        name: "prevalence-hash",
        kind: Kind::Prevalence,
        workloads: ON_A_MILLION,
        setting: prevalence::HASHED,
        open: prevalence::hashed,
    },
    Entry {
        name: "prevalence-batch",
        kind: Kind::Prevalence,
        workloads: &[Workload::Values],
        setting: prevalence::BATCHED,
        open: prevalence::batched,
    },
    Entry {
        name: "floor-write",
        kind: Kind::Floor,
        workloads: &[Workload::Lone, Workload::Values],
        setting: floor::WRITE,
        open: floor::write,
    },
    Entry {
        name: "floor-group",
        kind: Kind::Floor,
        workloads: &[Workload::Lone, Workload::Blocked],
        setting: floor::GROUP,
        open: floor::group,
    },
    Entry {
        name: "floor-map",
        kind: Kind::Floor,
        workloads: ON_A_MILLION,
        setting: floor::MAP,
        open: floor::map,
    },
    Entry {
        name: "okaywal",
        kind: Kind::Log,
        workloads: WRITES,
        setting: okaywal::SETTING,
        open: okaywal::open,
    },
    Entry {
        name: "fjall",
        kind: Kind::Store,
        workloads: ALL,
        setting: fjall::SETTING,
        open: fjall::open,
    },
    Entry {
        name: "redb",
        kind: Kind::Store,
        workloads: ALL,
        setting: redb::SETTING,
        open: redb::open,
    },
    Entry {
        name: "sqlite",
        kind: Kind::Store,
        workloads: ALL,
        setting: sqlite::SETTING,
        open: sqlite::open,
    },
    Entry {
        name: "lmdb",
        kind: Kind::Store,
        workloads: ALL,
        setting: lmdb::SETTING,
        open: lmdb::open,
    },
    Entry {
        name: "airomem",
        kind: Kind::Store,
        workloads: ALL,
        setting: airomem::SETTING,
        open: airomem::each,
    },
    Entry {
        name: "airomem-batch",
        kind: Kind::Store,
        workloads: &[Workload::Values],
        setting: airomem::BATCH_SETTING,
        open: airomem::batched,
    },
    Entry {
        name: "redis",
        kind: Kind::Store,
        workloads: ALL,
        setting: redis::SETTING,
        open: redis::open,
    },
];

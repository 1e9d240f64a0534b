//! Owns the trait of an engine for the workloads. Knows nothing of single engines.

use std::error::Error;

use crate::load::Put;

pub type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// How many puts share one sync in the workload `values`, and how many are in flight if each is
/// acknowledged separately.
pub const WINDOW: usize = 4096;

/// How many puts share one transaction in the workload `thousands`.
pub const THOUSAND: usize = 1000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Workload {
    Lone,
    Blocked,
    Values,
    Thousands,
    Reads,
}

impl Workload {
    pub const ALL: [Self; 5] =
        [Self::Lone, Self::Blocked, Self::Values, Self::Thousands, Self::Reads];

    pub fn name(self) -> &'static str {
        match self {
            Self::Lone => "lone",
            Self::Blocked => "blocked64",
            Self::Values => "values",
            Self::Thousands => "thousands",
            Self::Reads => "reads",
        }
    }
}

/// An open, empty store.
pub trait Engine: Sync {
    /// Makes a caller for one thread.
    fn caller(&self) -> Outcome<Box<dyn Caller + '_>>;

    /// Stores all of `puts`, with one sync for each `window` of them, or with as many in flight.
    /// All of them are on stable storage when this returns.
    fn put_stream(&self, puts: &mut dyn Iterator<Item = Put>, window: usize) -> Outcome;

    /// Stores all of `puts` in any fast way, before the measurement.
    fn preload(&self, puts: &mut dyn Iterator<Item = Put>) -> Outcome {
        self.put_stream(puts, WINDOW)
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

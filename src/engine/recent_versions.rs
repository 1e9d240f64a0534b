//! Owns the versions that were the newest a short while ago, so that a reader can still get the
//! version at a sequence that has passed. Knows nothing of what a version holds.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::mutex::lock;
use crate::options::RecentVersions;

/// The shortest time between two searches for old versions while no commands come.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// Why [`Database::at`](crate::Database::at) returns no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AtError {
    /// This process was forked from the one that opened the database.
    #[error("{}", crate::execute_error::FORKED)]
    Forked,
    /// There is no command with that sequence yet, or it is not durable yet.
    #[error(
        "sequence {wanted} is not reached yet: the newest version is {newest}. Wait with \
         wait_for({wanted}, ..)"
    )]
    NotYet {
        /// The sequence asked for.
        wanted: u64,
        /// The sequence of the newest version.
        newest: u64,
    },
    /// The version is older than the versions that are kept.
    #[error(
        "the version at sequence {wanted} is no longer kept in memory: the versions from {oldest} \
         to {newest} are. Make it from the files with history().at({wanted}), or keep more \
         versions with the option recent_versions"
    )]
    Forgotten {
        /// The sequence asked for.
        wanted: u64,
        /// The sequence of the oldest version that is kept.
        oldest: u64,
        /// The sequence of the newest version.
        newest: u64,
    },
    /// The sequence lies inside a batch of commands. Versions exist only at the end of a batch.
    #[error(
        "there is no version at sequence {wanted}: it lies inside a batch, and versions exist only \
         at the end of a batch. The nearest are {before} and {after}; or make the version from the \
         files with history().at({wanted})"
    )]
    AmidBatch {
        /// The sequence asked for.
        wanted: u64,
        /// The sequence of the nearest version before it.
        before: u64,
        /// The sequence of the nearest version after it.
        after: u64,
    },
}

/// The newest versions, oldest first. The current version is among them once it was added.
pub(crate) struct Recent<V> {
    limits: RecentVersions,
    kept: Mutex<VecDeque<Kept<V>>>,
}

struct Kept<V> {
    sequence: u64,
    since: Instant,
    version: V,
}

impl<V: Clone> Recent<V> {
    pub(crate) fn new(limits: RecentVersions, sequence: u64, version: V) -> Self {
        let recent = Self { limits, kept: Mutex::default() };
        recent.push(sequence, version, Instant::now(), &mut Vec::new());
        recent
    }

    /// Adds the version that became the newest. Adds the versions that are now beyond the limits to
    /// `old`: freeing them takes time, so the caller does it.
    pub(crate) fn push(&self, sequence: u64, version: V, since: Instant, old: &mut Vec<V>) {
        if self.limits.count == 0 {
            return;
        }
        let mut kept = self.lock();
        if kept.back().is_none_or(|newest| newest.sequence < sequence) {
            kept.push_back(Kept { sequence, since, version });
        }
        forget(&mut kept, old, |kept| is_beyond(kept, 0, self.limits, since));
    }

    /// Takes out the versions that have become too old, for the caller to drop.
    #[must_use]
    pub(crate) fn forget_old(&self, now: Instant) -> Vec<V> {
        let mut old = Vec::new();
        forget(&mut self.lock(), &mut old, |kept| is_beyond(kept, 0, self.limits, now));
        old
    }

    /// Takes out every version but the newest.
    #[must_use]
    pub(crate) fn forget_all(&self) -> Vec<V> {
        let mut old = Vec::new();
        forget(&mut self.lock(), &mut old, |kept| kept.len() > 1);
        old
    }

    /// Returns the time until the next search for old versions while no commands come. `None`: no
    /// versions are kept, so there is nothing to search for.
    pub(crate) fn pause(&self) -> Option<Duration> {
        (self.limits.count > 0).then(|| self.limits.age.max(LEAST_PAUSE))
    }

    /// Returns the version at `wanted`, which is older than the version at `current`, if it is
    /// within the limits now.
    pub(crate) fn at(&self, wanted: u64, current: u64, now: Instant) -> Result<V, AtError> {
        let kept = self.lock();
        // Some versions may be beyond the limits and not yet taken out.
        let beyond = |place: &usize| is_beyond(&kept, *place, self.limits, now);
        let first = (0..kept.len()).take_while(beyond).count();
        let newest = kept.back().map_or(current, |newest| newest.sequence.max(current));
        let sequence = |place: usize| kept.get(place).map_or(newest, |one| one.sequence);
        if wanted < sequence(first) {
            return Err(AtError::Forgotten { wanted, oldest: sequence(first), newest });
        }
        match kept.binary_search_by_key(&wanted, |one| one.sequence) {
            Ok(place) => {
                let found = kept.get(place).expect("the search found it under the same lock");
                Ok(found.version.clone())
            }
            Err(place) => {
                let (before, after) = (sequence(place.saturating_sub(1)), sequence(place));
                Err(AtError::AmidBatch { wanted, before, after })
            }
        }
    }

    /// Returns how many versions are kept besides the current one, and the oldest one's sequence.
    pub(crate) fn state(&self, current: u64) -> (usize, u64) {
        let kept = self.lock();
        let older = kept.iter().take_while(|one| one.sequence < current).count();
        (older, kept.front().map_or(current, |oldest| oldest.sequence.min(current)))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept<V>>> {
        lock(&self.kept)
    }
}

fn forget<V>(
    kept: &mut VecDeque<Kept<V>>,
    old: &mut Vec<V>,
    goes: impl Fn(&VecDeque<Kept<V>>) -> bool,
) {
    while goes(kept) {
        old.extend(kept.pop_front().map(|oldest| oldest.version));
    }
}

/// Whether the version at `place` is beyond the limits once all versions before it are gone.
fn is_beyond<V>(
    kept: &VecDeque<Kept<V>>,
    place: usize,
    limits: RecentVersions,
    now: Instant,
) -> bool {
    let (Some(one), Some(newest)) = (kept.get(place), kept.back()) else { return false };
    // The newest version is always kept: no version has taken its place.
    let Some(next) = kept.get(place + 1) else { return false };
    kept.len() - 1 - place > limits.count
        || newest.sequence - one.sequence > limits.commands
        || now.saturating_duration_since(next.since) > limits.age
}

#[cfg(test)]
#[path = "tests/recent_versions.rs"]
mod tests;

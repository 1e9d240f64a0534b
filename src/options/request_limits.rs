//! Owns the rules for what is remembered of requests and of refused commands: how many, for how
//! long, and how much memory. Knows nothing of the commands.

use std::time::{Duration, SystemTime};

/// The bytes that ids with their actors may take on average. All together may take this many bytes
/// times the number of ids that may be kept.
pub(crate) const BYTES_PER_ID: usize = 64;

/// The largest number of ids that any option allows.
pub(crate) const MOST_IDS: usize = 1 << 24;

/// The most bytes of an answer that any option lets be kept with an id.
pub(crate) const MOST_OUTPUT_BYTES: usize = 1 << 20;

/// What is remembered of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestLimits {
    /// With 0, none are remembered.
    pub(crate) most_ids: usize,
    /// So long after its command, in journaled time, an id is not forgotten.
    pub(crate) promised_ns: u64,
    /// An output of at most so many bytes of JSON is kept with the id. With 0, none is.
    pub(crate) output_bytes: usize,
    /// Whether each actor has ids of their own.
    pub(crate) by_actor: bool,
}

impl RequestLimits {
    /// Keeps at most so many ids, and promises no time.
    pub(crate) fn of(most_ids: usize) -> Self {
        Self { most_ids: most_ids.min(MOST_IDS), ..Self::default() }
    }

    pub(crate) fn most_bytes(self) -> usize {
        self.most_ids * BYTES_PER_ID
    }

    /// Returns whether the newest `ids` ids, which take `bytes` bytes, are all kept. One id is
    /// always kept; otherwise a long id would have no effect.
    pub(crate) fn allow(self, ids: usize, bytes: usize) -> bool {
        ids <= self.most_ids && (bytes <= self.most_bytes() || ids <= 1)
    }

    /// Returns for how long a command of that time is still remembered, whatever follows.
    pub(crate) fn promised_still_ns(self, time_ns: u64, now_ns: u64) -> u64 {
        time_ns.saturating_add(self.promised_ns).saturating_sub(now_ns)
    }

    /// Returns limits that keep everything that either of the two keeps.
    pub(crate) fn widest(self, other: Self) -> Self {
        Self {
            most_ids: self.most_ids.max(other.most_ids),
            promised_ns: self.promised_ns.max(other.promised_ns),
            output_bytes: self.output_bytes.max(other.output_bytes),
            by_actor: self.by_actor || other.by_actor,
        }
    }
}

/// How many rejections are kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RejectionLimits {
    pub(crate) most: usize,
    pub(crate) time_to_live: Duration,
}

impl RejectionLimits {
    /// Returns whether a rejection of that time is too old now.
    pub(crate) fn is_over(self, time: SystemTime, now: SystemTime) -> bool {
        // Should the clock be set back, the number alone is the limit.
        now.duration_since(time).is_ok_and(|age| age > self.time_to_live)
    }
}

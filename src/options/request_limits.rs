//! Owns how many request ids are remembered, and how much room they may take. Knows nothing of what
//! was requested.

/// The bytes that ids may take together, for each one that may be kept.
pub(crate) const BYTES_PER_ID: usize = 64;

/// More ids than that are not kept, whatever an option says.
pub(crate) const MOST_IDS: usize = 1 << 24;

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestLimits {
    /// 0: nothing is.
    pub(crate) most_ids: usize,
}

impl RequestLimits {
    pub(crate) fn of(most_ids: usize) -> Self {
        Self { most_ids: most_ids.min(MOST_IDS) }
    }

    pub(crate) fn most_bytes(self) -> usize {
        self.most_ids * BYTES_PER_ID
    }

    /// Whether a run of so many ids is kept. One always is: else a long id would not count at all.
    pub(crate) fn allow(self, ids: usize, bytes: usize) -> bool {
        ids <= self.most_ids && (bytes <= self.most_bytes() || ids <= 1)
    }
}

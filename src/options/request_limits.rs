//! Owns the limits on remembered request ids: how many, and how much memory. Knows nothing of the
//! requests.

/// The bytes that ids may take on average. All ids together may take this many bytes times the
/// number of ids that may be kept.
pub(crate) const BYTES_PER_ID: usize = 64;

/// The largest number of ids that any option allows.
pub(crate) const MOST_IDS: usize = 1 << 24;

/// How many ids are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestLimits {
    /// With 0, none are remembered.
    pub(crate) most_ids: usize,
}

impl RequestLimits {
    pub(crate) fn of(most_ids: usize) -> Self {
        Self { most_ids: most_ids.min(MOST_IDS) }
    }

    pub(crate) fn most_bytes(self) -> usize {
        self.most_ids * BYTES_PER_ID
    }

    /// Returns whether the newest `ids` ids, which take `bytes` bytes, are all kept. One id is
    /// always kept; otherwise a long id would have no effect.
    pub(crate) fn allow(self, ids: usize, bytes: usize) -> bool {
        ids <= self.most_ids && (bytes <= self.most_bytes() || ids <= 1)
    }
}

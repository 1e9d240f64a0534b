//! What readers do to a map.

use std::hint::black_box;

use crate::ledger::{Ledger, random_key};

/// Entries of one short scan.
const SCANNED: usize = 1_000;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// How many entries there are: next to nothing, so what is left is the way to the map.
    Length,
    /// One key, which depends on what the last read found: a processor cannot have several under
    /// way at a time.
    Point,
    /// One key, whatever was found before: a processor overlaps several, where nothing between
    /// them keeps it from that.
    OverlappingPoint,
    /// 1,000 entries in order, from a key on.
    Scan,
    /// All values.
    Sum,
}

impl Operation {
    pub fn name(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Point => "point read",
            Self::OverlappingPoint => "overlapping point read",
            Self::Scan => "scan of 1,000",
            Self::Sum => "sum of all",
        }
    }

    /// Whether each read has to wait for what the one before it found.
    pub fn is_chained(self) -> bool {
        self != Self::OverlappingPoint
    }

    /// Read number `index`, after one that gave `last`. Gives 0, in a way that no compiler and no
    /// processor can foresee.
    pub fn read(self, ledger: &Ledger, last: u64, index: u64, entries: u64) -> u64 {
        let key = random_key(index + last, entries);
        let found = match self {
            Self::Length => black_box(&ledger.0).len() as i64,
            Self::Point | Self::OverlappingPoint => ledger.0.get(&key).copied().unwrap_or_default(),
            Self::Scan => ledger.0.range(key..).take(SCANNED).map(|(_, amount)| amount).sum(),
            Self::Sum => ledger.0.values().sum(),
        };
        let found = black_box(found);
        // Amounts are never negative.
        u64::from(found < 0)
    }
}

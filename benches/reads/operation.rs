//! The operations that readers do on a map.

use std::hint::black_box;

use crate::ledger::{Ledger, random_key};

/// The number of entries in one short scan.
const SCANNED: usize = 1_000;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Reads the number of entries. This takes almost no time, so the rest is the access to the
    /// map.
    Length,
    /// Reads one key, which depends on the result of the last read. So a processor cannot overlap
    /// several reads.
    Point,
    /// Reads one key, which does not depend on earlier results. A processor overlaps several reads,
    /// unless an instruction between them prevents this.
    OverlappingPoint,
    /// Reads 1,000 entries in order, beginning at a key.
    Scan,
    /// Reads all values.
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

    /// Returns whether each read must wait for the result of the read before it.
    pub fn is_chained(self) -> bool {
        self != Self::OverlappingPoint
    }

    /// Makes read number `index`, after one that returned `last`. Returns 0, in a way that no
    /// compiler and no processor can predict.
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

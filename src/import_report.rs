//! Owns what an import tells: how many lines it read, and what became of them. It is also the JSON
//! with which a service answers an import. Knows nothing of commands and databases.

use serde::{Deserialize, Serialize};

/// A line of an import whose command was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RefusedLine {
    /// Its number, counted from 1.
    pub line: u64,
    /// Why.
    pub reason: String,
}

/// What became of an import. Its JSON is what `prevalence import` expects of a service: see
/// [`docs::async_service`](crate::docs::async_service#imports).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImportReport {
    /// How many lines were read. Empty ones count.
    pub lines: u64,
    /// How many commands were accepted and are durable.
    pub accepted: u64,
    /// How many were not applied because their request id had been accepted before.
    pub duplicates: u64,
    /// How many lines were of commands that a purge has erased: nothing is left to import.
    pub redacted: u64,
    /// How many commands were not accepted for another reason.
    pub refused: u64,
    /// The first 1,000 of these.
    pub refused_lines: Vec<RefusedLine>,
}

impl ImportReport {
    /// How long a line may be, with its end: JSON takes several times the bytes of a command.
    pub const MAX_LINE_BYTES: u64 = 512 << 20;
    /// How many refused lines are kept.
    pub const MAX_REFUSED_LINES: usize = 1000;
}

//! Owns the memory of request ids: under which sequence each was accepted, as far back as the
//! limits allow. Knows nothing of what was requested.
//!
//! At every sequence the memory is a function of the commands up to it, so that a replay gives the
//! same: it holds the longest run of the newest ids that is within both limits, and the newest id
//! always. What a smaller limit would have kept follows from what a larger one has.
//!
//! - `log`: the ids in their order, frozen with each version
//! - `section`: a log as it stands in a snapshot

mod log;
mod section;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use log::{Remembered, RequestLog};
pub(crate) use section::{read_limits, read_section, section_bytes, write_section};

use crate::model::request_id;

/// The memory ahead of what is durable; belongs to the writer.
pub(crate) struct RequestMemory {
    log: RequestLog,
    sequences: HashMap<Arc<str>, u64>,
}

impl RequestMemory {
    pub(crate) fn of(log: &RequestLog) -> Self {
        let mut sequences = HashMap::new();
        for Remembered { sequence, id } in log.iter() {
            // The later one counts, where an id was forgotten and accepted again.
            sequences.insert(id.clone(), *sequence);
        }
        Self { log: log.clone(), sequences }
    }

    /// The request id in a command's encoded metadata, where ids are remembered at all.
    pub(crate) fn id_in<'a>(&self, metadata: &'a [u8]) -> Option<&'a str> {
        if self.log.is_off() { None } else { request_id(metadata) }
    }

    /// Under which sequence the id was accepted.
    pub(crate) fn sequence_of(&self, id: &str) -> Option<u64> {
        self.sequences.get(id).copied()
    }

    /// Notes that a command with this id was accepted.
    pub(crate) fn remember(&mut self, sequence: u64, id: &str) {
        if self.log.is_off() {
            return;
        }
        let id: Arc<str> = id.into();
        self.sequences.insert(id.clone(), sequence);
        let sequences = &mut self.sequences;
        self.log.push(Remembered { sequence, id }, |forgotten| {
            if sequences.get(&forgotten.id) == Some(&forgotten.sequence) {
                sequences.remove(&forgotten.id);
            }
        });
    }

    /// As it is now, for a version.
    pub(crate) fn freeze(&self) -> RequestLog {
        self.log.clone()
    }
}

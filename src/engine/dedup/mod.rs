//! Owns the memory of request ids. If a client retries a request, the writer finds its id here and
//! answers with the sequence at which it was accepted, instead of applying the command again. The
//! memory goes back as far as the limits allow. Knows nothing of what was requested.
//!
//! At every sequence the memory depends only on the commands up to that sequence, so that a replay
//! makes the same memory. It holds the longest run of the newest ids that is within both limits,
//! and it always holds the newest id. From the memory of a larger limit, the memory of a smaller
//! limit can be computed.
//!
//! - `log`: the ids in their order, frozen with each version
//! - `section`: the layout of a log in a snapshot

mod log;
mod section;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use log::{Remembered, RequestLog};
pub(crate) use section::{read_limits, read_section, section_bytes, write_section};

use crate::model::request_id;

/// The memory of the working version, which may be ahead of what is durable. Only the writer has
/// it.
pub(crate) struct RequestMemory {
    log: RequestLog,
    sequences: HashMap<Arc<str>, u64>,
}

impl RequestMemory {
    pub(crate) fn of(log: &RequestLog) -> Self {
        let mut sequences = HashMap::new();
        for Remembered { sequence, id } in log.iter() {
            // An id may have been forgotten and accepted again: the later sequence replaces the
            // earlier one.
            sequences.insert(id.clone(), *sequence);
        }
        Self { log: log.clone(), sequences }
    }

    /// Returns the request id in a command's encoded metadata, if ids are remembered at all.
    pub(crate) fn id_in<'a>(&self, metadata: &'a [u8]) -> Option<&'a str> {
        if self.log.is_off() { None } else { request_id(metadata) }
    }

    /// Returns the sequence at which the id was accepted.
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

    /// Returns a log that does not change any more, for a version.
    pub(crate) fn freeze(&self) -> RequestLog {
        self.log.clone()
    }
}

//! Owns what is known of requests by their ids: which were accepted, which are on their way, and
//! which were refused a short while ago. If a client sends a request again, the writer finds its id
//! here and answers with the sequence at which it was accepted, instead of applying the command
//! again. Knows nothing of what was requested.
//!
//! What is remembered of accepted requests at a sequence depends only on the commands up to that
//! sequence, so that a replay makes the same memory. It holds the longest run of the newest ids
//! that is within the limits, it always holds the newest id, and it forgets none within the
//! promised time: the writer refuses a command that would need that. From the memory of wider
//! limits, the memory of narrower ones can be computed.
//!
//! - `key`: what makes two requests the same
//! - `log`: the accepted ids in their order, frozen with each version
//! - `index`: where an id is found
//! - `rejections`: the newest commands that were refused
//! - `reason`: why, in a bounded text
//! - `tracked`: a command that can be asked for while it is on its way
//! - `section`: the layout of a log in a snapshot

mod index;
mod key;
mod log;
mod reason;
mod rejections;
mod section;
#[cfg(test)]
mod tests;
mod tracked;

use std::sync::Arc;
use std::time::SystemTime;

pub use rejections::{Rejection, Rejections};

pub(crate) use key::RequestKey;
pub(crate) use log::{Remembered, RequestLog};
pub(crate) use reason::{beginning, reason_of};
pub(crate) use section::{read_limits, read_section, section_bytes, write_section};
pub(crate) use tracked::Tracked;

use crate::options::{RejectionLimits, RequestLimits};
use crate::storage::Storage;
use index::RequestIndex;
use rejections::RecentRejections;

/// What became of a request; see [`Database::status`](crate::Database::status).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestStatus {
    /// It was accepted, and is as durable as [`Durability`](crate::Durability) promises.
    Accepted {
        /// The sequence of its command.
        sequence: u64,
    },
    /// Its last try was refused, and left no trace. It may be tried again.
    Rejected {
        /// Why; see [`Rejection::reason`].
        reason: String,
        /// When it was answered.
        time: SystemTime,
    },
    /// It is on its way, and not answered yet.
    InFlight,
    /// Nothing is known of it: it was never asked for, or it is forgotten. The same after the
    /// database has failed, if the next open must find out whether the command is durable; and in
    /// the child of a fork.
    Unknown,
}

/// What all threads of one open database know of requests.
pub(crate) struct Requests {
    limits: RequestLimits,
    index: RequestIndex,
    rejections: RecentRejections,
    /// Only for its clock.
    storage: Arc<dyn Storage>,
}

impl Requests {
    pub(crate) fn new(
        limits: RequestLimits,
        rejections: RejectionLimits,
        storage: Arc<dyn Storage>,
    ) -> Arc<Self> {
        let (index, rejections) = (RequestIndex::new(), RecentRejections::new(rejections));
        Arc::new(Self { limits, index, rejections, storage })
    }

    /// For what runs without a database: nothing is remembered.
    #[cfg(any(test, fuzzing, feature = "laboratory"))]
    pub(crate) fn none() -> Arc<Self> {
        let none = RejectionLimits { most: 1, time_to_live: std::time::Duration::ZERO };
        Self::new(RequestLimits::of(0), none, Arc::new(crate::storage::Disk))
    }

    pub(crate) fn limits(&self) -> RequestLimits {
        self.limits
    }

    /// Begins to track a command, if anybody may ask for it.
    #[inline]
    pub(crate) fn track(
        self: &Arc<Self>,
        metadata: &[u8],
        command: fn() -> &'static str,
    ) -> Option<Box<Tracked>> {
        if metadata.is_empty() && !self.rejections.is_listened_to() {
            return None;
        }
        self.track_now(metadata, command)
    }

    fn track_now(
        self: &Arc<Self>,
        metadata: &[u8],
        command: fn() -> &'static str,
    ) -> Option<Box<Tracked>> {
        let key = RequestKey::in_metadata(metadata, self.limits.by_actor);
        match key {
            Some(key) => Some(Tracked::new(self.clone(), key, command)),
            None if self.rejections.is_listened_to() => {
                let actor = crate::model::Metadata::decode(metadata).unwrap_or_default().actor;
                Some(Tracked::new(self.clone(), RequestKey::new(&actor, "", true), command))
            }
            None => None,
        }
    }

    /// Returns what became of a request. `newest` returns the sequence of the newest version that
    /// readers see.
    pub(crate) fn status(&self, key: &RequestKey, newest: impl FnOnce() -> u64) -> RequestStatus {
        // A command leaves the flight last, behind the publication of its version or the note of
        // its refusal. So whoever does not find it there finds its end.
        let (mut is_in_flight, accepted) = self.index.look(key);
        if let Some(sequence) = accepted.filter(|&sequence| sequence <= newest()) {
            // The sequence may be that of a batch that was refused. Then it was taken back before
            // another command could get it, and a second look does not find it.
            match self.index.look(key) {
                (_, again) if again == accepted => return RequestStatus::Accepted { sequence },
                (is_still, _) => is_in_flight = is_still,
            }
        }
        if is_in_flight {
            return RequestStatus::InFlight;
        }
        match self.rejections.of(key, self.storage.now()) {
            Some((reason, time)) => RequestStatus::Rejected { reason, time },
            None => RequestStatus::Unknown,
        }
    }

    /// Tells those who listen that nothing is refused any more.
    pub(crate) fn close(&self) {
        self.rejections.close();
    }
}

/// No further id can be remembered for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryFull {
    pub(crate) remembered: usize,
    /// For how long the oldest id is still promised.
    pub(crate) still_ns: u64,
}

/// The memory of the working version, which may be ahead of what is durable. Only the writer has
/// it.
#[derive(Clone)]
pub(crate) struct RequestMemory {
    log: RequestLog,
    requests: Arc<Requests>,
}

impl RequestMemory {
    pub(crate) fn of(log: &RequestLog, requests: &Arc<Requests>) -> Self {
        for Remembered { sequence, key, .. } in log.iter() {
            // An id may have been forgotten and accepted again: the later sequence replaces the
            // earlier one.
            requests.index.accept(key, *sequence);
        }
        Self { log: log.clone(), requests: requests.clone() }
    }

    /// Whether ids are remembered at all.
    pub(crate) fn is_on(&self) -> bool {
        !self.log.is_off()
    }

    /// The most bytes of an output that is remembered; 0 if none is.
    pub(crate) fn output_bytes(&self) -> usize {
        self.log.limits().output_bytes
    }

    /// Returns what is remembered of a request that was accepted.
    pub(crate) fn accepted(&self, key: &RequestKey) -> Option<&Remembered> {
        let (_, sequence) = self.requests.index.look(key);
        self.log.at(sequence?)
    }

    /// Returns why a request of this time cannot be remembered, if none may be forgotten for it.
    pub(crate) fn is_full_for(&self, key: &RequestKey, now_ns: u64) -> Option<MemoryFull> {
        let still_ns = self.log.is_full_for(key.bytes(), now_ns)?;
        Some(MemoryFull { remembered: self.log.ids(), still_ns })
    }

    /// Notes an accepted request.
    pub(crate) fn remember(&mut self, newest: Remembered) {
        if self.log.is_off() {
            return;
        }
        let index = &self.requests.index;
        index.accept(&newest.key, newest.sequence);
        self.log.push(newest, |forgotten| index.forget(&forgotten.key, forgotten.sequence));
    }

    /// Goes back to the log of a version that readers see. What was accepted since was refused.
    pub(crate) fn rewind(&mut self, published: &RequestLog) {
        let index = &self.requests.index;
        let newest = published.newest_first().next().map_or(0, |newest| newest.sequence);
        for refused in self.log.newest_first().take_while(|one| one.sequence > newest) {
            index.forget(&refused.key, refused.sequence);
        }
        // What was forgotten for that is remembered again.
        let kept = self.log.iter().next().map_or(u64::MAX, |oldest| oldest.sequence);
        for forgotten in published.iter().take_while(|one| one.sequence < kept) {
            index.accept_again(&forgotten.key, forgotten.sequence);
        }
        self.log = published.clone();
    }

    /// Returns a log that does not change any more, for a version.
    pub(crate) fn freeze(&self) -> RequestLog {
        self.log.clone()
    }
}

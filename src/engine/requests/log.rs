//! Owns request ids in the order in which they were accepted. A log is cheap to clone, so that each
//! version has its own. It costs nothing if no command has an id.

use std::collections::VecDeque;
use std::sync::Arc;

use super::key::RequestKey;
use crate::model::REDACTED_TAG;
use crate::options::{MOST_IDS, RequestLimits};

/// How many ids a chunk has when it is sealed. After a clone, the first push copies the chunk that
/// is not sealed yet, and the first sealing copies the list of sealed chunks.
const CHUNK_IDS: usize = 256;
/// How many bytes a chunk has when it is sealed, if that comes first.
pub(super) const CHUNK_BYTES: usize = 16 << 10;

/// An accepted command's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) sequence: u64,
    pub(crate) time_ns: u64,
    /// The command's tag; [`Self::NO_TAG`] if it is not known.
    pub(crate) tag: u16,
    pub(crate) key: RequestKey,
    /// The command's output as JSON, if it is kept.
    pub(crate) output: Option<Arc<str>>,
}

impl Remembered {
    /// The tag of a request that was stored before this crate stored tags. Commands without content
    /// have it, and these have no request ids.
    pub(crate) const NO_TAG: u16 = REDACTED_TAG;

    fn bytes(&self) -> usize {
        self.key.bytes()
    }

    fn output_bytes(&self) -> usize {
        self.output.as_ref().map_or(0, |output| output.len())
    }
}

/// The newest request ids, as many as the limits allow.
#[derive(Clone, Debug)]
pub(crate) struct RequestLog {
    limits: RequestLimits,
    /// `None` before the first id.
    entries: Option<Arc<Entries>>,
}

#[derive(Clone, Debug, Default)]
struct Entries {
    /// Oldest first.
    sealed: Arc<VecDeque<Arc<Vec<Remembered>>>>,
    newest: Vec<Remembered>,
    newest_bytes: usize,
    /// How many ids of the oldest chunk are forgotten already.
    forgotten: usize,
    ids: usize,
    bytes: usize,
    output_bytes: usize,
}

impl RequestLog {
    pub(crate) fn new(limits: RequestLimits) -> Self {
        Self { limits, entries: None }
    }

    pub(crate) fn limits(&self) -> RequestLimits {
        self.limits
    }

    /// Whether the limits are such that no id is ever remembered.
    pub(crate) fn is_off(&self) -> bool {
        self.limits.most_ids == 0
    }

    /// Returns the log that smaller limits would have kept.
    pub(crate) fn within(&self, limits: RequestLimits) -> Self {
        let mut log = Self::new(limits);
        self.iter().for_each(|remembered| log.push(remembered.clone(), |_| {}));
        log
    }

    /// Returns the number of ids.
    pub(crate) fn ids(&self) -> usize {
        self.entries.as_ref().map_or(0, |entries| entries.ids)
    }

    /// Returns the length of all ids together, with their actors.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.as_ref().map_or(0, |entries| entries.bytes)
    }

    /// Returns the length of all outputs together.
    pub(crate) fn output_bytes(&self) -> usize {
        self.entries.as_ref().map_or(0, |entries| entries.output_bytes)
    }

    /// Iterates over the ids, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Remembered> {
        self.entries.iter().flat_map(|entries| {
            let sealed = entries.sealed.iter().flat_map(|chunk| chunk.iter());
            sealed.chain(&entries.newest).skip(entries.forgotten)
        })
    }

    /// Iterates over the ids, newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Remembered> {
        self.entries.iter().flat_map(|entries| {
            let sealed = entries.sealed.iter().rev().flat_map(|chunk| chunk.iter().rev());
            entries.newest.iter().rev().chain(sealed).take(entries.ids)
        })
    }

    /// Returns what is remembered of the command with this sequence.
    pub(crate) fn at(&self, sequence: u64) -> Option<&Remembered> {
        let entries = self.entries.as_ref()?;
        let begins_behind =
            |chunk: &Vec<Remembered>| chunk.first().is_some_and(|first| first.sequence > sequence);
        let chunk = entries.sealed.partition_point(|chunk| !begins_behind(chunk));
        let chunk = match begins_behind(&entries.newest) || entries.newest.is_empty() {
            true => entries.sealed.get(chunk.checked_sub(1)?)?,
            false => &entries.newest,
        };
        let at = chunk.binary_search_by_key(&sequence, |remembered| remembered.sequence).ok()?;
        chunk.get(at)
    }

    /// Returns what is remembered of a request. Searches all ids.
    pub(crate) fn find(&self, key: &RequestKey) -> Option<&Remembered> {
        self.newest_first().find(|remembered| remembered.key == *key)
    }

    /// Returns for how long no further id of that length can be remembered without forgetting one
    /// too early; `None` if one can.
    pub(crate) fn is_full_for(&self, bytes: usize, now_ns: u64) -> Option<u64> {
        if self.limits.promised_ns == 0 {
            return None;
        }
        let (mut ids, mut bytes) = (self.ids() + 1, self.bytes() + bytes);
        for oldest in self.iter() {
            if self.limits.allow(ids, bytes) {
                return None;
            }
            match self.limits.promised_still_ns(oldest.time_ns, now_ns) {
                0 => (ids, bytes) = (ids - 1, bytes - oldest.bytes()),
                still_ns => return Some(still_ns),
            }
        }
        None
    }

    /// Adds the newest id. Calls `forget` for each id that is beyond the limits now and is removed.
    pub(crate) fn push(&mut self, newest: Remembered, mut forget: impl FnMut(&Remembered)) {
        if self.is_off() {
            return;
        }
        let limits = self.limits;
        let key = newest.key.scoped(limits.by_actor);
        let output = newest.output.filter(|output| output.len() <= limits.output_bytes);
        let now_ns = newest.time_ns;
        let entries = Arc::make_mut(self.entries.get_or_insert_default());
        entries.push(Remembered { key, output, ..newest });
        while !limits.allow(entries.ids, entries.bytes) {
            let oldest = entries.oldest();
            // A replay under a promise that was not given then may meet more than can be kept.
            let is_promised = limits.promised_still_ns(oldest.time_ns, now_ns) > 0;
            if is_promised && entries.ids <= MOST_IDS {
                break;
            }
            forget(oldest);
            entries.forget_oldest();
        }
    }
}

impl Entries {
    fn push(&mut self, newest: Remembered) {
        let (bytes, output_bytes) = (newest.bytes(), newest.output_bytes());
        self.newest.push(newest);
        self.ids += 1;
        self.bytes += bytes;
        self.output_bytes += output_bytes;
        self.newest_bytes += bytes + output_bytes;
        if self.newest.len() >= CHUNK_IDS || self.newest_bytes >= CHUNK_BYTES {
            let chunk = std::mem::take(&mut self.newest);
            Arc::make_mut(&mut self.sealed).push_back(Arc::new(chunk));
            self.newest_bytes = 0;
        }
    }

    fn oldest(&self) -> &Remembered {
        let oldest = self.sealed.front().map_or(&self.newest, |chunk| chunk);
        oldest.get(self.forgotten).expect("the limits keep the newest id")
    }

    fn forget_oldest(&mut self) {
        let (bytes, output_bytes) = (self.oldest().bytes(), self.oldest().output_bytes());
        self.ids -= 1;
        self.bytes -= bytes;
        self.output_bytes -= output_bytes;
        self.forgotten += 1;
        if self.sealed.front().is_some_and(|chunk| chunk.len() == self.forgotten) {
            Arc::make_mut(&mut self.sealed).pop_front();
            self.forgotten = 0;
        }
    }
}

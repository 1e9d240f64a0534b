//! Owns request ids in the order in which they were accepted. A log is cheap to clone, so that each
//! version has its own. It costs nothing if no command has an id.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::model::request_id;
use crate::options::RequestLimits;

/// How many ids a chunk has when it is sealed. After a clone, the first push copies the chunk that
/// is not sealed yet, and the first sealing copies the list of sealed chunks.
const CHUNK_IDS: usize = 256;
/// How many bytes of ids a chunk has when it is sealed, if that comes first.
pub(super) const CHUNK_BYTES: usize = 16 << 10;

/// An accepted command's request id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) sequence: u64,
    pub(crate) id: Arc<str>,
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

    /// Returns the length of all ids together.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.as_ref().map_or(0, |entries| entries.bytes)
    }

    /// Iterates over the ids, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Remembered> {
        self.entries.iter().flat_map(|entries| {
            let sealed = entries.sealed.iter().flat_map(|chunk| chunk.iter());
            sealed.chain(&entries.newest).skip(entries.forgotten)
        })
    }

    /// Returns the sequence at which the id in a command's metadata was accepted. Searches all ids.
    pub(crate) fn sequence_in(&self, metadata: &[u8]) -> Option<u64> {
        let id = request_id(metadata)?;
        let found = self.iter().filter(|remembered| *remembered.id == *id).last();
        found.map(|remembered| remembered.sequence)
    }

    /// Adds the id in an accepted command's metadata, if there is one.
    pub(crate) fn note(&mut self, sequence: u64, metadata: &[u8]) {
        if let (false, Some(id)) = (self.is_off(), request_id(metadata)) {
            self.push(Remembered { sequence, id: id.into() }, |_| {});
        }
    }

    /// Adds the newest id. Calls `forget` for each id that is beyond the limits now and is removed.
    pub(crate) fn push(&mut self, newest: Remembered, mut forget: impl FnMut(&Remembered)) {
        if self.is_off() {
            return;
        }
        let entries = Arc::make_mut(self.entries.get_or_insert_default());
        entries.push(newest);
        while !self.limits.allow(entries.ids, entries.bytes) {
            entries.forget_oldest(&mut forget);
        }
    }
}

impl Entries {
    fn push(&mut self, newest: Remembered) {
        let bytes = newest.id.len();
        self.newest.push(newest);
        self.ids += 1;
        self.bytes += bytes;
        self.newest_bytes += bytes;
        if self.newest.len() >= CHUNK_IDS || self.newest_bytes >= CHUNK_BYTES {
            let chunk = std::mem::take(&mut self.newest);
            Arc::make_mut(&mut self.sealed).push_back(Arc::new(chunk));
            self.newest_bytes = 0;
        }
    }

    fn forget_oldest(&mut self, forget: &mut impl FnMut(&Remembered)) {
        let oldest = self.sealed.front().map_or(&self.newest, |chunk| chunk);
        let remembered = oldest.get(self.forgotten).expect("the limits keep the newest id");
        forget(remembered);
        self.ids -= 1;
        self.bytes -= remembered.id.len();
        self.forgotten += 1;
        if self.sealed.front().is_some_and(|chunk| chunk.len() == self.forgotten) {
            Arc::make_mut(&mut self.sealed).pop_front();
            self.forgotten = 0;
        }
    }
}

//! Owns making leaves of the entries of an encoding, and dividing these among threads. Knows
//! nothing of files, and of how an entry is encoded.

use super::super::shape::{LEAF_ENTRIES, Node, Separator, Shape, warm_len};
use super::{Open, Tree};
use crate::codec::{
    self, DecodeError, EntryCursor, LARGE_PART, Part, PartDecoder, Run, SMALL_PART,
};

/// How an entry is decoded: as key and value, or one of them alone.
pub(in crate::collections) trait DecodeEntry<K, V> {
    /// Decodes the key of the next entry.
    fn key<const LIMIT: usize>(decoder: &mut PartDecoder<'_, LIMIT>) -> Result<K, DecodeError>;

    /// Decodes the value of the entry whose key was decoded.
    fn value<const LIMIT: usize>(decoder: &mut PartDecoder<'_, LIMIT>) -> Result<V, DecodeError>;

    /// Returns whether `first` may stand before `second`.
    fn are_ordered(first: &K, second: &K) -> bool;

    /// Returns whether both keys are the same in their order.
    fn are_same(first: &K, second: &K) -> bool;
}

/// What was made of a part.
pub(super) struct LoadedPart {
    pub(super) leaves: Vec<Node>,
    pub(super) is_ordered: bool,
}

// SAFETY: the nodes belong to whoever has this, and hold keys and values that may change threads:
// only `load` makes one, and it requires that.
unsafe impl Send for LoadedPart {}

/// How many pieces of the result each thread takes. Each piece reads a part of every snapshot twice
/// as often as one thread alone would.
const TASKS_PER_THREAD: u64 = 8;

/// The least entries of a piece.
fn least_entries() -> u64 {
    size!(1 << 12, small: 32)
}

/// A piece of the result, for one thread.
pub(super) struct Task<'a> {
    /// The first of these may begin before the piece, and the last may end behind it.
    runs: &'a [Run],
    skipped: u64,
    entries: u64,
}

/// Divides the entries into pieces whose leaves are full, but for the last one.
pub(super) fn tasks(mut runs: &[Run], threads: usize) -> Vec<Task<'_>> {
    let threads = u64::try_from(threads).unwrap_or(1);
    let mut left: u64 = runs.iter().map(|run| run.entries).sum();
    let piece = (left / (threads * TASKS_PER_THREAD)).max(least_entries());
    let piece = piece.next_multiple_of(LEAF_ENTRIES as u64);
    let (mut tasks, mut skipped) = (Vec::new(), 0);
    while left > 0 {
        let entries = piece.min(left);
        tasks.push(Task { runs, skipped, entries });
        left -= entries;
        skipped += entries;
        while let Some((run, rest)) = runs.split_first()
            && let Some(behind) = skipped.checked_sub(run.entries)
        {
            (runs, skipped) = (rest, behind);
        }
    }
    tasks
}

impl<'a> Task<'a> {
    pub(super) fn new(runs: &'a [Run], skipped: u64, entries: u64) -> Self {
        Self { runs, skipped, entries }
    }

    pub(super) fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        let (mut skipped, mut left) = (self.skipped, self.entries);
        self.runs.iter().map_while(move |run| {
            let from = std::mem::take(&mut skipped);
            let entries = (run.entries - from).min(left);
            left -= entries;
            (entries > 0).then(|| Run { first: run.first + from, entries, ..*run })
        })
    }
}

/// Decodes a part into `loaded`.
pub(super) fn decode<K: Ord + Clone, V: Clone, S: Separator<K>, D: DecodeEntry<K, V>>(
    open: &mut Open<'_>,
    part: Part,
    bytes: &[u8],
    loaded: &mut LoadedPart,
) -> Result<(), String> {
    let unused = if part.is_small() {
        fill::<K, V, S, D, SMALL_PART>(open, part.entries, &mut PartDecoder::new(bytes), loaded)
    } else {
        fill::<K, V, S, D, LARGE_PART>(open, part.entries, &mut PartDecoder::new(bytes), loaded)
    };
    check_end(unused?)
}

fn check_end(unused: usize) -> Result<(), String> {
    if unused == 0 || fault!(PartEndNotChecked) {
        return Ok(());
    }
    Err("a part of a collection has bytes behind its last entry".to_owned())
}

/// Decodes the entries of a run, which `cursor` reads, into `loaded`.
pub(super) fn decode_run<K: Ord + Clone, V: Clone, S: Separator<K>, D: DecodeEntry<K, V>>(
    open: &mut Open<'_>,
    cursor: &mut EntryCursor<'_>,
    run: Run,
    loaded: &mut LoadedPart,
) -> Result<(), String> {
    let (mut first, mut left) = (run.first, run.entries);
    while left > 0 {
        let entries = cursor.entries(first, left).ok_or("entries of a collection are missing")?;
        let (bytes, skipped, wanted) = (entries.bytes, entries.skipped, entries.wanted);
        let unused = if entries.part.is_small() {
            let mut decoder = PartDecoder::<SMALL_PART>::new(bytes);
            skip::<K, V, D, SMALL_PART>(skipped, &mut decoder)?;
            fill::<K, V, S, D, SMALL_PART>(open, wanted, &mut decoder, loaded)?
        } else {
            let mut decoder = PartDecoder::<LARGE_PART>::new(bytes);
            skip::<K, V, D, LARGE_PART>(skipped, &mut decoder)?;
            fill::<K, V, S, D, LARGE_PART>(open, wanted, &mut decoder, loaded)?
        };
        if entries.is_end {
            check_end(unused)?;
        }
        let used = bytes.len() - unused;
        cursor.used(used);
        first += wanted;
        left -= wanted;
    }
    Ok(())
}

/// Decodes entries that are not wanted.
fn skip<K, V, D: DecodeEntry<K, V>, const LIMIT: usize>(
    entries: u64,
    decoder: &mut PartDecoder<'_, LIMIT>,
) -> Result<(), String> {
    let why = |error| codec::why_not_decoded(&error);
    for _ in 0..entries {
        drop(D::key(decoder).map_err(why)?);
        drop(D::value(decoder).map_err(why)?);
    }
    Ok(())
}

/// Decodes so many entries into the last leaf and new ones. Returns how many bytes are left.
fn fill<K: Ord + Clone, V: Clone, S: Separator<K>, D: DecodeEntry<K, V>, const LIMIT: usize>(
    open: &mut Open<'_>,
    entries: u64,
    decoder: &mut PartDecoder<'_, LIMIT>,
    loaded: &mut LoadedPart,
) -> Result<usize, String> {
    let mut last = loaded.leaves.last().copied();
    for _ in 0..entries {
        // Key and value go one by one: a large value is moved as rarely as possible.
        let key = match D::key(decoder) {
            Ok(key) => key,
            Err(error) => return Err(codec::why_not_decoded(&error)),
        };
        let value = match D::value(decoder) {
            Ok(value) => value,
            Err(error) => return Err(codec::why_not_decoded(&error)),
        };
        // SAFETY: the leaves are new, and only this thread has them. None is listed before it has
        // an entry.
        unsafe {
            if let Some(leaf) = last {
                let count = warm_len(leaf);
                let before = Shape::<K, V>::key(leaf, count - 1);
                loaded.is_ordered = loaded.is_ordered && D::are_ordered(before, &key);
                if count < LEAF_ENTRIES {
                    Tree::<K, V>::push_into(open, leaf, count, key, value);
                    continue;
                }
            }
            let leaf = open.node::<K, V, S>(0);
            Tree::<K, V>::push_into(open, leaf, 0, key, value);
            loaded.leaves.push(leaf);
            last = Some(leaf);
        }
    }
    Ok(decoder.unused())
}

//! Owns reading the parts of a collection, by several threads at once, and long after the open.
//! Knows nothing of what an entry is, and of where an encoding is stored.

use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::parts::{Extent, FirstKeys, Part};
use super::script::{Run, Runs};
use super::slices::{self, Slice, Slices};
use super::unpacked::UnpackedParts;

/// An encoding that can be read from any position, by several threads at once.
pub(crate) trait Encoded: Send + Sync {
    fn reader(&self) -> Box<dyn ReadRange + '_>;

    /// Returns why a reader has failed, once.
    fn take_failure(&self) -> Option<String>;
}

/// Who is told of entries that are decoded after the open.
pub(crate) trait LateObserver: Send + Sync {
    /// Notes that a slice was decoded, and how long that took.
    fn loaded(&self, took: Duration);

    /// Notes why entries could not be decoded. Whoever calls this panics then.
    fn failed(&self, reason: &str);
}

/// A reader of an encoding.
pub(crate) trait ReadRange {
    /// Returns the bytes from `begin` to `end`; `None` if that fails. The owner of the encoding
    /// knows of the failure.
    fn read(&mut self, begin: u64, end: u64) -> Option<&[u8]>;
}

/// Parts of a collection that can be read by several threads at once.
pub(crate) struct StoredParts {
    pub(super) sources: Vec<Source>,
    /// Which entries of which source make the collection; `None` if it is all of the only source.
    pub(super) runs: Option<Runs>,
    pub(crate) starts_threads: bool,
    /// Who is told of failures, if the entries may be decoded later.
    pub(super) late: Option<Arc<dyn LateObserver>>,
    pub(super) unpacked: UnpackedParts,
}

/// The parts of a collection that one snapshot holds.
pub(super) struct Source {
    pub(super) encoded: Arc<dyn Encoded>,
    /// Each part with its position, and the number of its first entry.
    pub(super) parts: Vec<(u64, u64, Part)>,
    pub(super) first_keys: FirstKeys,
    /// Where each of them is, once somebody has asked.
    pub(super) key_places: OnceLock<Vec<u32>>,
}

impl Source {
    pub(super) fn new(encoded: Arc<dyn Encoded>, extent: &Extent) -> Self {
        let begins = extent.parts.iter().scan((extent.begin, 0_u64), |(begin, first), part| {
            let this = (*begin, *first, *part);
            *begin = begin.saturating_add(part.bytes);
            *first = first.saturating_add(part.entries);
            Some(this)
        });
        Self {
            parts: begins.collect(),
            first_keys: extent.first_keys.clone(),
            key_places: OnceLock::new(),
            encoded,
        }
    }

    fn key_places(&self) -> &[u32] {
        self.key_places.get_or_init(|| self.first_keys.places())
    }
}

impl StoredParts {
    /// Returns which entries make the collection, if it is not simply all parts in their order.
    pub(crate) fn runs(&self) -> Option<&[Run]> {
        self.runs.as_ref().map(Runs::runs)
    }

    /// Returns who is told of failures, if the entries may be decoded when they are touched.
    pub(crate) fn late(&self) -> Option<&Arc<dyn LateObserver>> {
        self.late.as_ref()
    }

    /// Returns why a part could not be read.
    pub(crate) fn take_failure(&self) -> Option<String> {
        self.sources.iter().find_map(|source| source.encoded.take_failure())
    }

    /// Returns how many bytes the parts have, in all snapshots.
    pub(crate) fn bytes(&self) -> u64 {
        let parts = self.sources.iter().flat_map(|source| &source.parts);
        parts.fold(0, |sum, (_, _, part)| sum.saturating_add(part.bytes))
    }

    /// Returns the slices that can be decoded alone; `None` if first keys are not known.
    pub(crate) fn slices(&self) -> Option<Slices> {
        let has_keys = |it: &Source| it.key_places().len() == it.parts.len();
        if !self.sources.iter().all(has_keys) {
            return None;
        }
        let Some(runs) = &self.runs else {
            return Some(Slices::Parts(self.sources.first()?.parts.len()));
        };
        let first_entries =
            |source: &Source| source.parts.iter().map(|&(_, first, _)| first).collect::<Vec<_>>();
        let first_entries: Vec<_> = self.sources.iter().map(first_entries).collect();
        slices::of_runs(runs.runs(), &first_entries).map(Slices::Others)
    }

    /// Returns the slice with this number.
    pub(crate) fn slice(&self, slices: &Slices, number: usize) -> Option<Slice> {
        match slices {
            Slices::Parts(_) => {
                let (_, _, part) = self.sources.first()?.parts.get(number)?;
                Some(slices::of_part(number, part.entries))
            }
            Slices::Others(slices) => slices.get(number).copied(),
        }
    }

    /// Returns the encoded first key of a slice; `None` if it is not known.
    pub(crate) fn first_key(&self, slice: &Slice) -> Option<&[u8]> {
        let place = slice.key?;
        let source = self.sources.get(place.source)?;
        source.first_keys.at(*source.key_places().get(place.part)?)
    }

    /// Returns how many parts there are, in all snapshots.
    pub(crate) fn count(&self) -> usize {
        self.sources.iter().map(|source| source.parts.len()).sum()
    }

    /// Returns a reader of the only source's parts, for one thread.
    pub(crate) fn reader(&self) -> Option<PartsReader<'_>> {
        let source = self.sources.first()?;
        Some(PartsReader { inner: source.encoded.reader(), parts: &source.parts })
    }

    /// Returns a reader of the entries of each source, for one thread.
    pub(crate) fn cursors(&self) -> Vec<EntryCursor<'_>> {
        self.sources.iter().map(|source| EntryCursor::new(source, None)).collect()
    }

    /// Returns a reader of the entries of each source, for one slice.
    pub(crate) fn cursors_of_slice(&self) -> Vec<EntryCursor<'_>> {
        let unpacked = |source| (source > 0).then_some((&self.unpacked, source));
        let sources = self.sources.iter().enumerate();
        sources.map(|(number, source)| EntryCursor::new(source, unpacked(number))).collect()
    }
}

/// Reads parts of a collection.
pub(crate) struct PartsReader<'a> {
    inner: Box<dyn ReadRange + 'a>,
    parts: &'a [(u64, u64, Part)],
}

impl PartsReader<'_> {
    /// Returns part `number` with its bytes; without them if they cannot be read.
    pub(crate) fn read(&mut self, number: usize) -> Option<(Part, Option<&[u8]>)> {
        let &(begin, _, part) = self.parts.get(number)?;
        Some((part, self.inner.read(begin, begin.saturating_add(part.bytes))))
    }
}

/// Reads entries of a collection in ascending order, with pauses between them. What is read of a
/// part must be decoded to know where the next entry begins.
pub(crate) struct EntryCursor<'a> {
    source: &'a Source,
    /// Made when it is needed.
    reader: Option<Box<dyn ReadRange + 'a>>,
    /// Where unpacked parts are kept, and the number of the source there.
    unpacked: Option<(&'a UnpackedParts, usize)>,
    /// The part whose bytes are read.
    part: Option<Part>,
    /// Behind that part.
    next_part: usize,
    bytes: PartBytes,
    used: usize,
    /// The number of the next entry.
    next: u64,
    /// How many entries of the part are left.
    left: u64,
}

/// The bytes of a part.
enum PartBytes {
    Own(Vec<u8>),
    Kept(Arc<[u8]>),
}

impl PartBytes {
    fn from(&self, begin: usize) -> Option<&[u8]> {
        match self {
            Self::Own(bytes) => bytes.get(begin..),
            Self::Kept(bytes) => bytes.get(begin..),
        }
    }
}

/// Entries of one part that follow each other.
pub(crate) struct PartEntries<'b> {
    pub(crate) part: Part,
    /// From the first of them to the end of the part.
    pub(crate) bytes: &'b [u8],
    /// How many of them are not wanted, and how many are wanted behind these.
    pub(crate) skipped: u64,
    pub(crate) wanted: u64,
    /// Whether the part ends with them.
    pub(crate) is_end: bool,
}

impl<'a> EntryCursor<'a> {
    fn new(source: &'a Source, unpacked: Option<(&'a UnpackedParts, usize)>) -> Self {
        Self {
            source,
            reader: None,
            unpacked,
            part: None,
            next_part: 0,
            bytes: PartBytes::Own(Vec::new()),
            used: 0,
            next: 0,
            left: 0,
        }
    }

    /// Returns some of the entries from `first` on, and `most` at most. `None` if they cannot be
    /// read. The caller must decode them, and tell [`used`](Self::used) how many bytes they have.
    pub(crate) fn entries(&mut self, first: u64, most: u64) -> Option<PartEntries<'_>> {
        if self.part.is_none() || first >= self.next.saturating_add(self.left) {
            self.read_part(first)?;
        }
        let skipped = first.checked_sub(self.next)?;
        let wanted = most.min(self.left.checked_sub(skipped)?);
        self.next += skipped + wanted;
        self.left -= skipped + wanted;
        let bytes = self.bytes.from(self.used)?;
        Some(PartEntries { part: self.part?, bytes, skipped, wanted, is_end: self.left == 0 })
    }

    /// Notes that the last entries had so many bytes.
    pub(crate) fn used(&mut self, bytes: usize) {
        self.used = self.used.saturating_add(bytes);
    }

    /// Reads the part that holds the entry `first`, which is behind the current one.
    fn read_part(&mut self, first: u64) -> Option<()> {
        let rest = self.source.parts.get(self.next_part..)?;
        let before = rest.partition_point(|&(_, begin, _)| begin <= first).checked_sub(1)?;
        let &(begin, next, part) = rest.get(before)?;
        let number = self.next_part + before;
        self.read_bytes(number, begin..begin.saturating_add(part.bytes))?;
        self.next_part = number + 1;
        (self.part, self.used, self.next, self.left) = (Some(part), 0, next, part.entries);
        Some(())
    }

    /// Gets the bytes of a part, which are in this range of the encoding.
    fn read_bytes(&mut self, part: usize, range: Range<u64>) -> Option<()> {
        let kept = self.unpacked.and_then(|(unpacked, source)| unpacked.get((source, part)));
        if let Some(kept) = kept {
            self.bytes = PartBytes::Kept(kept);
            return Some(());
        }
        let reader = self.reader.get_or_insert_with(|| self.source.encoded.reader());
        let bytes = reader.read(range.start, range.end)?;
        match (self.unpacked, &mut self.bytes) {
            (Some((unpacked, source)), _) => {
                let bytes = Arc::from(bytes);
                unpacked.keep((source, part), &bytes);
                self.bytes = PartBytes::Kept(bytes);
            }
            (None, PartBytes::Own(own)) => {
                own.clear();
                own.extend_from_slice(bytes);
            }
            (None, other) => *other = PartBytes::Own(bytes.to_vec()),
        }
        Some(())
    }
}

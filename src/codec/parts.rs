//! Owns what a collection and the codec tell each other while a model is encoded or decoded: at
//! which bytes of the encoding the parts of a large collection begin. So the parts can be decoded
//! on several threads. Knows nothing of collections and files.
//!
//! serde passes nothing from the codec to a collection but the data. So the codec notes for the
//! current thread that it encodes or decodes a model, and the collection asks. A collection may
//! also meet another serializer in the meantime, when a user's type writes itself as JSON into a
//! string, say. So it asks before and after the length of the collection was written or read: only
//! if the codec has come forward by exactly the bytes of that length, the collection is the codec's.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::blocks::Place;

/// A part ends at a multiple of so many entries, as many as a leaf holds.
const PART_ENTRIES: u64 = 32;

/// The size that a part has at most, unless these entries are larger. zstd packs numbers much better
/// in pieces up to this size, where it uses other parameters.
#[inline]
fn part_bytes() -> u64 {
    size!(16 << 10, small: 64)
}

/// Some consecutive entries of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

/// A collection in an encoding, in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The position of the first entry, behind the collection's length.
    pub(crate) begin: u64,
    pub(crate) parts: Vec<Part>,
}

impl Extent {
    pub(crate) fn end(&self) -> u64 {
        self.parts.iter().fold(self.begin, |end, part| end.saturating_add(part.bytes))
    }

    pub(crate) fn entries(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.entries))
    }
}

/// An encoding that is being written.
#[derive(Default)]
pub(crate) struct Encoding {
    position: Cell<u64>,
    extents: RefCell<Vec<Extent>>,
    /// Where parts end: a new chunk should begin there.
    ends: RefCell<VecDeque<u64>>,
}

impl Encoding {
    /// Notes that bytes were encoded.
    #[inline(always)]
    pub(super) fn advance(&self, bytes: usize) {
        self.position.set(self.position.get() + bytes as u64);
    }

    /// Returns the next end of a part that is at most at `position`, once.
    pub(crate) fn take_end(&self, position: u64) -> Option<u64> {
        let mut ends = self.ends.borrow_mut();
        if *ends.front()? <= position { ends.pop_front() } else { None }
    }

    /// Returns the collections that have more than one part, in their order. One may be inside
    /// another.
    pub(crate) fn take_extents(&self) -> Vec<Extent> {
        let mut extents = std::mem::take(&mut *self.extents.borrow_mut());
        extents.sort_by_key(|extent| extent.begin);
        extents
    }
}

/// An encoding that can be read from any position, by several threads at once.
pub(crate) trait Encoded: Send + Sync {
    fn reader(&self) -> Box<dyn ReadRange + '_>;
}

/// A reader of an encoding.
pub(crate) trait ReadRange {
    /// Returns the bytes from `begin` to `end`; `None` if that fails. The owner of the encoding
    /// knows of the failure.
    fn read(&mut self, begin: u64, end: u64) -> Option<&[u8]>;
}

/// An encoding that is being decoded.
pub(crate) struct Decoding {
    /// `None` if it is only to be seen whether it can be decoded.
    encoded: Option<Arc<dyn Encoded>>,
    /// In ascending order.
    extents: Vec<Extent>,
    place: Rc<Place>,
}

/// A collection with more entries is not kept when it is only to be seen whether it can be decoded.
const MOST_KEPT: usize = 1024;

impl Decoding {
    pub(crate) fn new(
        encoded: Arc<dyn Encoded>,
        extents: Vec<Extent>,
        place: Rc<Place>,
    ) -> Rc<Self> {
        Rc::new(Self { encoded: Some(encoded), extents, place })
    }

    /// Makes the decoding of a model that is thrown away: large collections drop each entry as soon
    /// as it was decoded, and are empty.
    pub(crate) fn only_to_see(place: Rc<Place>) -> Rc<Self> {
        Rc::new(Self { encoded: None, extents: Vec::new(), place })
    }
}

thread_local! {
    static ENCODING: RefCell<Option<Rc<Encoding>>> = const { RefCell::new(None) };
    static DECODING: RefCell<Option<Rc<Decoding>>> = const { RefCell::new(None) };
}

/// Sets what the current thread encodes or decodes, and sets it back when it is dropped.
struct Noted<T: 'static> {
    slot: &'static std::thread::LocalKey<RefCell<Option<Rc<T>>>>,
    before: Option<Rc<T>>,
}

impl<T> Noted<T> {
    fn new(
        slot: &'static std::thread::LocalKey<RefCell<Option<Rc<T>>>>,
        now: Option<Rc<T>>,
    ) -> Self {
        Self { slot, before: slot.replace(now) }
    }
}

impl<T> Drop for Noted<T> {
    fn drop(&mut self) {
        self.slot.set(self.before.take());
    }
}

/// Runs `encode` while collections on this thread tell `encoding` of their parts.
pub(super) fn while_encoding<R>(encoding: &Rc<Encoding>, encode: impl FnOnce() -> R) -> R {
    let _noted = Noted::new(&ENCODING, Some(encoding.clone()));
    encode()
}

/// Runs `decode` while collections on this thread can take their parts from `decoding`.
pub(super) fn while_decoding<R>(decoding: Option<&Rc<Decoding>>, decode: impl FnOnce() -> R) -> R {
    let _noted = Noted::new(&DECODING, decoding.cloned());
    decode()
}

/// Returns how many bytes the codec writes for a length.
fn length_bytes(length: u64) -> u64 {
    match length {
        0..=250 => 1,
        251..=0xFFFF => 3,
        0x1_0000..=0xFFFF_FFFF => 5,
        _ => 9,
    }
}

/// The moment before a collection writes its length.
pub(crate) struct BeforeWriting(Option<(Rc<Encoding>, u64)>);

impl BeforeWriting {
    pub(crate) fn new() -> Self {
        let encoding = ENCODING.with_borrow(Clone::clone);
        Self(encoding.map(|encoding| {
            let position = encoding.position.get();
            (encoding, position)
        }))
    }

    /// Begins the entries, after the length was written.
    pub(crate) fn begin(self, length: usize) -> WrittenEntries {
        let begun = self.0.and_then(|(encoding, before)| {
            let begin = encoding.position.get();
            let is_codec = begin - before == length_bytes(length as u64);
            let extent = Extent { begin, parts: Vec::new() };
            let (part_begin, looked_at) = (begin, begin);
            is_codec.then_some(Begun { encoding, extent, part_begin, looked_at })
        });
        WrittenEntries { begun, entries: 0 }
    }
}

struct Begun {
    encoding: Rc<Encoding>,
    extent: Extent,
    part_begin: u64,
    /// Where the last look at the position was.
    looked_at: u64,
}

/// The entries of a collection while they are written one after the other.
pub(crate) struct WrittenEntries {
    begun: Option<Begun>,
    /// The entries of the part that is being written.
    entries: u64,
}

impl WrittenEntries {
    /// Notes that an entry was written.
    #[inline(always)]
    pub(crate) fn count(&mut self) {
        self.entries += 1;
        if self.entries.is_multiple_of(PART_ENTRIES) {
            self.look();
        }
    }

    fn look(&mut self) {
        let Some(begun) = &mut self.begun else { return };
        let position = begun.encoding.position.get();
        let expected = position - begun.looked_at;
        begun.looked_at = position;
        if position - begun.part_begin + expected > part_bytes() {
            begun.end_part(position, std::mem::take(&mut self.entries));
            begun.encoding.ends.borrow_mut().push_back(position);
        }
    }

    /// Notes that all entries were written.
    pub(crate) fn end(mut self) {
        let Some(begun) = &mut self.begun else { return };
        if self.entries > 0 {
            begun.end_part(begun.encoding.position.get(), self.entries);
        }
        if begun.extent.parts.len() > 1 {
            let parts = std::mem::take(&mut begun.extent.parts);
            let extent = Extent { begin: begun.extent.begin, parts };
            begun.encoding.extents.borrow_mut().push(extent);
        }
    }
}

impl Begun {
    fn end_part(&mut self, position: u64, entries: u64) {
        self.extent.parts.push(Part { bytes: position - self.part_begin, entries });
        self.part_begin = position;
    }
}

/// The moment before a collection reads its length.
pub(crate) struct BeforeReading(Option<(Rc<Decoding>, u64)>);

impl BeforeReading {
    pub(crate) fn new() -> Self {
        let decoding = DECODING.with_borrow(Clone::clone);
        Self(decoding.map(|decoding| {
            let position = decoding.place.position();
            (decoding, position)
        }))
    }

    /// Returns how to decode the entries, after the length was read.
    pub(crate) fn entries(self, length: Option<usize>) -> Entries {
        self.known(length).unwrap_or(Entries::OneByOne)
    }

    fn known(self, length: Option<usize>) -> Option<Entries> {
        let (decoding, before) = self.0?;
        let (begin, length) = (decoding.place.position(), length?);
        if begin.checked_sub(before) != Some(length_bytes(length as u64)) {
            return None;
        }
        let Some(encoded) = decoding.encoded.clone() else {
            return (length > MOST_KEPT).then_some(Entries::NotKept);
        };
        let number = decoding.extents.binary_search_by_key(&begin, |it| it.begin).ok()?;
        let is_whole = |it: &&Extent| it.entries() == length as u64 || fault!(EntriesNotCompared);
        let fits = |it: &&Extent| is_whole(it) && it.parts.iter().all(Part::fits);
        let extent = decoding.extents.get(number).filter(fits)?.clone();
        Some(Entries::InParts(StoredEntries { encoded, extent, place: decoding }))
    }
}

/// How the entries of a collection are to be decoded.
pub(crate) enum Entries {
    OneByOne,
    InParts(StoredEntries),
    /// One by one, and each of them is dropped.
    NotKept,
}

/// The entries of a collection that can be read part by part.
pub(crate) struct StoredEntries {
    encoded: Arc<dyn Encoded>,
    extent: Extent,
    place: Rc<Decoding>,
}

impl StoredEntries {
    /// Returns the parts, which other threads can read, too.
    pub(crate) fn parts(&self) -> StoredParts {
        let begins = self.extent.parts.iter().scan(self.extent.begin, |begin, part| {
            let this = *begin;
            *begin += part.bytes;
            Some((this, *part))
        });
        StoredParts { encoded: self.encoded.clone(), parts: begins.collect() }
    }

    /// Lets the decoder go on behind the entries.
    pub(crate) fn skip(self) {
        self.place.place.jump(self.extent.end());
    }
}

/// Parts of a collection that can be read by several threads at once.
pub(crate) struct StoredParts {
    encoded: Arc<dyn Encoded>,
    parts: Vec<(u64, Part)>,
}

impl StoredParts {
    pub(crate) fn count(&self) -> usize {
        self.parts.len()
    }

    /// Returns a reader for one thread.
    pub(crate) fn reader(&self) -> PartsReader<'_> {
        PartsReader { inner: self.encoded.reader(), parts: &self.parts }
    }
}

/// Reads parts of a collection.
pub(crate) struct PartsReader<'a> {
    inner: Box<dyn ReadRange + 'a>,
    parts: &'a [(u64, Part)],
}

impl PartsReader<'_> {
    /// Returns part `number` with its bytes; without them if they cannot be read.
    pub(crate) fn read(&mut self, number: usize) -> Option<(Part, Option<&[u8]>)> {
        let &(begin, part) = self.parts.get(number)?;
        Some((part, self.inner.read(begin, begin.saturating_add(part.bytes))))
    }
}

/// Runs `decode` while collections on this thread decode themselves one entry after the other.
pub(crate) fn alone<R>(decode: impl FnOnce() -> R) -> R {
    while_decoding(None, decode)
}

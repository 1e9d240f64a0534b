//! Owns what a part of a collection is, and the mark on a thread that it encodes or decodes a
//! model. Knows nothing of collections and files.
//!
//! A large collection is encoded in parts, so that several threads can decode it. serde passes
//! nothing from the codec to a collection but the data. So the codec notes for the current thread
//! that it encodes or decodes a model, and the collection asks. A collection may also meet another
//! serializer in the meantime, when a user's type writes itself as JSON into a string, say. So it
//! asks before and after the length of the collection was written or read: only if the codec has
//! come forward by exactly the bytes of that length, the collection is the codec's.

use std::cell::RefCell;
use std::rc::Rc;
use std::thread::LocalKey;

use serde::Serialize;

use super::encode_onto;
use super::stored::Decoding;
use super::written::Encoding;

/// A part ends at a multiple of so many entries, as many as a leaf holds.
pub(super) const PART_ENTRIES: u64 = 32;

/// The size that a part has at most, unless these entries are larger. zstd packs numbers much
/// better in pieces up to this size, where it uses other parameters.
#[inline]
pub(super) fn part_bytes() -> u64 {
    size!(16 << 10, small: 64)
}

/// How many entries a part has at most: as many as 32 leaves hold, so that one node can stand above
/// them.
pub(crate) const MOST_PART_ENTRIES: u64 = 384;

/// A longer first key of a part is not noted.
const LONGEST_KEY_BYTES: usize = 1 << 10;
/// The size of the length before a key.
const KEY_LENGTH_BYTES: usize = 2;

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
    /// The first key of each part.
    pub(crate) first_keys: FirstKeys,
    /// If the parts hold only the entries that are new since an earlier snapshot.
    pub(crate) change: Option<Change>,
}

/// The encoded first key of each part of a collection, each behind its length; empty if they are
/// not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FirstKeys(Vec<u8>);

impl FirstKeys {
    /// Returns the keys of a collection of so many parts; `None` if there are more or fewer.
    pub(crate) fn decode(bytes: &[u8], parts: usize) -> Option<Self> {
        let keys = Self(bytes.to_vec());
        let places = keys.places();
        let last = places.last().and_then(|&place| Some((place, keys.at(place)?)));
        let end = last.map(|(place, key)| place as usize + KEY_LENGTH_BYTES + key.len());
        let is_whole = end == Some(bytes.len()) && places.len() == parts;
        (is_whole || bytes.is_empty()).then_some(keys)
    }

    pub(crate) fn encoded(&self) -> &[u8] {
        &self.0
    }

    /// Returns where each key is.
    pub(super) fn places(&self) -> Vec<u32> {
        let mut at = 0;
        let place = || {
            let place = u32::try_from(at).ok()?;
            at += KEY_LENGTH_BYTES + self.at(place)?.len();
            Some(place)
        };
        std::iter::from_fn(place).collect()
    }

    /// Returns the key at a place.
    pub(super) fn at(&self, place: u32) -> Option<&[u8]> {
        let rest = self.0.get(usize::try_from(place).ok()?..)?;
        let (length, behind) = rest.split_first_chunk::<KEY_LENGTH_BYTES>()?;
        behind.get(..usize::from(u16::from_le_bytes(*length)))
    }
}

/// Collects the first keys while they are written.
#[derive(Default)]
pub(super) struct FirstKeysWriter {
    keys: Vec<u8>,
    /// Whether a key was too long, or cannot be encoded.
    has_failed: bool,
}

impl FirstKeysWriter {
    pub(super) fn push<K: Serialize>(&mut self, key: &K) {
        if self.has_failed {
            return;
        }
        let begin = self.keys.len();
        self.keys.extend_from_slice(&[0; KEY_LENGTH_BYTES]);
        let behind = begin + KEY_LENGTH_BYTES;
        let most = behind + LONGEST_KEY_BYTES;
        self.has_failed = encode_onto(key, &mut self.keys, most).is_err();
        let length = u16::try_from(self.keys.len() - behind).unwrap_or(0);
        if let Some(place) = self.keys.get_mut(begin..behind) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }

    pub(super) fn finish(&mut self) -> FirstKeys {
        let Self { keys, has_failed } = std::mem::take(self);
        FirstKeys(if has_failed { Vec::new() } else { keys })
    }
}

/// How a collection follows from the same collection in an earlier snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The number of the collection among the extents of that snapshot.
    pub(crate) of: u32,
    /// The size of the script that says which entries stay, and where the new ones are.
    pub(crate) script_bytes: u64,
}

impl Extent {
    pub(crate) fn end(&self) -> u64 {
        self.parts.iter().fold(self.begin, |end, part| end.saturating_add(part.bytes))
    }

    pub(crate) fn entries(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.entries))
    }

    /// Returns whether all parts can be decoded on their own.
    pub(super) fn fits(&self) -> bool {
        self.parts.iter().all(Part::fits)
    }
}

thread_local! {
    pub(super) static ENCODING: RefCell<Option<Rc<Encoding>>> = const { RefCell::new(None) };
    pub(super) static DECODING: RefCell<Option<Rc<Decoding>>> = const { RefCell::new(None) };
}

/// Sets what the current thread encodes or decodes, and sets it back when it is dropped.
struct Noted<T: 'static> {
    slot: &'static LocalKey<RefCell<Option<Rc<T>>>>,
    before: Option<Rc<T>>,
}

impl<T> Noted<T> {
    fn new(slot: &'static LocalKey<RefCell<Option<Rc<T>>>>, now: Option<Rc<T>>) -> Self {
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
pub(crate) fn while_decoding<R>(decoding: Option<&Rc<Decoding>>, decode: impl FnOnce() -> R) -> R {
    let _noted = Noted::new(&DECODING, decoding.cloned());
    decode()
}

/// Runs `decode` while collections on this thread decode themselves one entry after the other.
pub(crate) fn alone<R>(decode: impl FnOnce() -> R) -> R {
    while_decoding(None, decode)
}

/// Returns how many bytes the codec writes for a length.
pub(super) fn length_bytes(length: u64) -> u64 {
    match length {
        0..=250 => 1,
        251..=0xFFFF => 3,
        0x1_0000..=0xFFFF_FFFF => 5,
        _ => 9,
    }
}

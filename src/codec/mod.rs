//! Owns the encoding of values (bincode 2, little-endian, variable-length integers) and the limits
//! on encoding and decoding: size, memory and depth. Knows nothing of frames or files.

mod blocks;
mod comparison;
#[cfg(any(test, fuzzing))]
mod in_memory;
mod numbers;
mod parts;
mod script;
mod slices;
mod source;
mod stored;
mod unpacked;
pub(crate) mod varint;
mod written;

use std::any::Any;
use std::rc::Rc;

use bincode::config::{self, Configuration, Limit, LittleEndian, Varint};
use bincode::de::read::{BorrowReader, Reader};
use bincode::de::{BorrowDecode, Decoder, DecoderImpl};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use bincode::serde::BorrowCompat;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::process::{Floor, stack};
#[cfg(any(test, fuzzing))]
pub(crate) use blocks::OneBlock;
pub(crate) use blocks::{BlockSource, Blocks};
pub(crate) use comparison::Comparison;
pub(crate) use parts::{Change, Extent, FirstKeys, MOST_PART_ENTRIES, Part, alone, while_decoding};
pub(crate) use script::Run;
pub(crate) use slices::{Slice, SliceBegin, Slices};
pub(crate) use source::{Encoded, EntryCursor, LateObserver, ReadRange, StoredParts};
pub(crate) use stored::{BeforeReading, DecodeHow, Decoding, Entries, Link, StoredEntries};
pub(crate) use written::{BeforeWriting, Collection, Encoding, KnownCollections, WrittenEntries};

/// Why bytes were not decoded.
pub(crate) use bincode::error::DecodeError;

/// Every file header holds it, so that a successor of bincode stays possible.
pub(crate) const CODEC_ID: u32 = 1;

/// bincode counts decoded values by their size in memory. That is at most 16 bytes (a `u128`) for
/// each encoded byte, so a limit of 16 times the encoded size never refuses a valid encoding.
const MEMORY_PER_ENCODED_BYTE: usize = 16;

/// Encodings up to this size are decoded with a small limit, so that a wrong length cannot reserve
/// much memory.
const SMALL_ENCODING_BYTES: usize = 64 << 10;

/// A nested value takes at least one byte for each level. So an encoding up to this size needs no
/// stack check on a thread whose stack is known to be large.
const SHALLOW_BYTES: usize = 1 << 10;

/// The same for a stack of unknown size. Of what may be used of that, each level has 4 KiB.
const SHALLOW_ANYWHERE_BYTES: usize = 64;

/// A nested value begins with the tag of an option, the number of a variant, or a length. The
/// encoder writes the first byte of each of these by itself, so checking the stack at one-byte
/// writes is enough. A check at every write made the encoding of a map of numbers take 1.4 times as
/// long.
const LEVEL_BYTES: usize = 1;

/// The error for a value that needs too much stack.
const TOO_DEEP: &str = "it is nested too deep: its levels need more stack than the thread has. \
                        Keep the value flat, or keep its parts in a collection under keys";

/// The largest encoded command that any value of `max_command_bytes` allows.
pub(crate) const LARGEST_COMMAND_BYTES: usize = 64 << 20;

type Bounded<const LIMIT: usize> = Configuration<LittleEndian, Varint, Limit<LIMIT>>;

const SMALL: Bounded<{ SMALL_ENCODING_BYTES * MEMORY_PER_ENCODED_BYTE }> =
    config::standard().with_limit();
const LARGE: Bounded<{ LARGEST_COMMAND_BYTES * MEMORY_PER_ENCODED_BYTE }> =
    config::standard().with_limit();

/// Why a value was not encoded.
#[derive(Debug)]
pub(crate) enum EncodeFailure {
    TooLarge { bytes: usize },
    Failed(String),
}

/// Appends the encoding of `value` to `buffer`. The buffer must not grow beyond `limit` bytes.
pub(crate) fn encode_onto<T: Serialize>(
    value: &T,
    buffer: &mut Vec<u8>,
    limit: usize,
) -> Result<(), EncodeFailure> {
    let mut writer = LimitedWriter { buffer, limit, refused: None, floor: Floor::of_encoding() };
    let result = bincode::serde::encode_into_writer(value, &mut writer, LARGE);
    match (writer.refused, result) {
        (Some(bytes), _) => Err(EncodeFailure::TooLarge { bytes }),
        (None, Err(error)) => Err(EncodeFailure::Failed(why_not_encoded(&error))),
        (None, Ok(())) => Ok(()),
    }
}

fn why_not_encoded(error: &EncodeError) -> String {
    match error {
        EncodeError::Other(reason) => (*reason).to_owned(),
        EncodeError::OtherString(reason) => reason.clone(),
        other => other.to_string(),
    }
}

/// Returns the reason of a failure as text.
pub(crate) fn why_not_decoded(error: &DecodeError) -> String {
    match error {
        DecodeError::Other(reason) => (*reason).to_owned(),
        DecodeError::OtherString(reason) => reason.clone(),
        other => other.to_string(),
    }
}

/// Decodes a value that must use all of `bytes`.
pub(crate) fn decode_exact<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let is_shallow =
        bytes.len() <= SHALLOW_ANYWHERE_BYTES || bytes.len() <= SHALLOW_BYTES && stack::is_known();
    let decoded = if is_shallow {
        bincode::serde::decode_from_slice(bytes, SMALL)
    } else {
        decode_within(bytes, Floor::of_decoding())
    };
    match decoded {
        Ok((value, used)) if used == bytes.len() => Ok(value),
        Ok((_, used)) => Err(format!("the value ends after {used} of {} bytes", bytes.len())),
        Err(error) => Err(why_not_decoded(&error)),
    }
}

/// Decodes a value, and returns it with the number of bytes that it used.
fn decode_within<T: DeserializeOwned>(
    bytes: &[u8],
    floor: Floor,
) -> Result<(T, usize), DecodeError> {
    let mut rest = Rest(bytes);
    let reader = Guarded { inner: &mut rest, floor };
    let value = if bytes.len() <= SMALL_ENCODING_BYTES {
        bincode::serde::decode_from_reader(reader, SMALL)
    } else {
        bincode::serde::decode_from_reader(reader, LARGE)
    };
    value.map(|value| (value, bytes.len() - rest.0.len()))
}

/// Decodes a value at the beginning of `bytes`, from which it borrows. Returns `None` if decoding
/// fails.
pub(crate) fn decode_first<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    bincode::serde::borrow_decode_from_slice(bytes, SMALL).ok().map(|(value, _)| value)
}

/// Streams the encoding of a model. Only memory limits the size of a model.
pub(crate) fn encode_stream<T: Serialize>(
    value: &T,
    target: &mut impl std::io::Write,
) -> Result<(), String> {
    encode(value, target, &Encoding::default())
}

/// Does the same, and notes in `encoding` where the parts of large collections are.
pub(crate) fn encode_in_parts<T: Serialize>(
    value: &T,
    target: &mut impl std::io::Write,
    encoding: &Rc<Encoding>,
) -> Result<(), String> {
    parts::while_encoding(encoding, || encode(value, target, encoding))?;
    encoding.check_end()
}

fn encode<T: Serialize>(
    value: &T,
    target: &mut impl std::io::Write,
    encoding: &Encoding,
) -> Result<(), String> {
    let writer = StreamWriter { target, floor: Floor::of_encoding(), encoding };
    bincode::serde::encode_into_writer(value, writer, config::standard())
        .map_err(|error| why_not_encoded(&error))
}

/// Decodes a model from a stream of `raw_bytes` bytes that were verified before. The limit matters
/// if the model's type is no longer the type that was encoded.
pub(crate) fn decode_stream<T: DeserializeOwned>(
    source: impl Reader,
    raw_bytes: u64,
) -> Result<T, String> {
    let source = Guarded { inner: source, floor: Floor::of_decoding() };
    decode_limited(source, raw_bytes).map_err(|error| why_not_decoded(&error))
}

/// Does the same with the blocks whose place `decoding` has. Large collections decode their parts
/// on several threads.
pub(crate) fn decode_in_parts<T: DeserializeOwned>(
    blocks: &mut Blocks<'_>,
    raw_bytes: u64,
    decoding: &Rc<Decoding>,
) -> Result<T, String> {
    parts::while_decoding(Some(decoding), || decode_stream(blocks, raw_bytes))
}

/// An encoded part up to this size is decoded with a small limit.
const SMALL_PART_BYTES: usize = 1 << 20;

/// A collection with a larger part than this is decoded one entry after the other, within the limit
/// of the whole encoding. A limit for such a part would let a wrong length reserve more memory than
/// there is.
const LARGE_PART_BYTES: usize = 256 << 20;

/// The limit for the small parts of a collection, and that for others.
pub(crate) const SMALL_PART: usize = SMALL_PART_BYTES * MEMORY_PER_ENCODED_BYTE;
pub(crate) const LARGE_PART: usize = LARGE_PART_BYTES * MEMORY_PER_ENCODED_BYTE;

impl Part {
    /// Returns whether the part is to be decoded with [`SMALL_PART`].
    pub(crate) fn is_small(&self) -> bool {
        self.bytes <= SMALL_PART_BYTES as u64
    }

    /// Returns whether the part can be decoded with [`LARGE_PART`].
    fn fits(&self) -> bool {
        self.bytes <= size!(LARGE_PART_BYTES as u64, small: 2 << 10)
    }
}

/// Decodes the values of a part of a collection, one after the other. They may borrow from the
/// part's bytes while they are decoded.
pub(crate) struct PartDecoder<'a, const LIMIT: usize>(
    DecoderImpl<GuardedSlice<'a>, Bounded<LIMIT>, ()>,
);

impl<'a, const LIMIT: usize> PartDecoder<'a, LIMIT> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let reader = GuardedSlice { rest: bytes, floor: Floor::of_decoding() };
        Self(DecoderImpl::new(reader, config::standard().with_limit(), ()))
    }

    #[inline(always)]
    pub(crate) fn decode<T: DeserializeOwned + Any>(&mut self) -> Result<T, DecodeError> {
        if let Some(number) = numbers::decode(&mut self.0.reader().rest) {
            return Ok(number);
        }
        match BorrowCompat::<T>::borrow_decode(&mut self.0) {
            Ok(BorrowCompat(value)) => Ok(value),
            Err(error) => Err(error),
        }
    }

    /// Returns how many bytes were not used.
    pub(crate) fn unused(&mut self) -> usize {
        self.0.reader().rest.len()
    }
}

fn decode_limited<T: DeserializeOwned>(
    source: impl Reader,
    raw_bytes: u64,
) -> Result<T, DecodeError> {
    // bincode takes limits as constants, so there are a few classes, each compiled once.
    macro_rules! within {
        ($($class:literal),*) => {
            $(if raw_bytes <= $class {
                const LIMIT: Bounded<{ $class * MEMORY_PER_ENCODED_BYTE }> =
                    config::standard().with_limit();
                return bincode::serde::decode_from_reader(source, LIMIT);
            })*
        };
    }
    within!(0x10_0000, 0x100_0000, 0x1000_0000, 0x1_0000_0000);
    const HUGE: Bounded<{ 1 << 46 }> = config::standard().with_limit();
    bincode::serde::decode_from_reader(source, HUGE)
}

/// Decodes a model from its whole encoding. No bytes may follow it.
pub(crate) fn decode_model<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut rest = Rest(bytes);
    let raw_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let model = decode_stream(&mut rest, raw_bytes)?;
    if rest.0.is_empty() {
        Ok(model)
    } else {
        Err(format!("the model ends before its {} bytes do", bytes.len()))
    }
}

/// The rest of a slice that is being read.
struct Rest<'a>(&'a [u8]);

impl Reader for Rest<'_> {
    #[inline]
    fn read(&mut self, target: &mut [u8]) -> Result<(), DecodeError> {
        let Some((taken, rest)) = self.0.split_at_checked(target.len()) else {
            let additional = target.len() - self.0.len();
            return Err(DecodeError::UnexpectedEnd { additional });
        };
        target.copy_from_slice(taken);
        self.0 = rest;
        Ok(())
    }

    #[inline]
    fn peek_read(&mut self, length: usize) -> Option<&[u8]> {
        self.0.get(..length)
    }

    #[inline]
    fn consume(&mut self, length: usize) {
        self.0 = self.0.get(length..).unwrap_or_default();
    }
}

/// A reader that refuses to read once the stack has reached its floor.
struct Guarded<R> {
    inner: R,
    floor: Floor,
}

impl<R: Reader> Reader for Guarded<R> {
    #[inline]
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), DecodeError> {
        if self.floor.is_reached() {
            return Err(DecodeError::Other(TOO_DEEP));
        }
        self.inner.read(bytes)
    }

    #[inline]
    fn peek_read(&mut self, length: usize) -> Option<&[u8]> {
        // After `None`, bincode calls `read`, which returns the error.
        if self.floor.is_reached() { None } else { self.inner.peek_read(length) }
    }

    #[inline]
    fn consume(&mut self, length: usize) {
        self.inner.consume(length);
    }
}

/// A slice that is read until the stack has reached its floor.
struct GuardedSlice<'a> {
    rest: &'a [u8],
    floor: Floor,
}

impl Reader for GuardedSlice<'_> {
    #[inline(always)]
    fn read(&mut self, target: &mut [u8]) -> Result<(), DecodeError> {
        target.copy_from_slice(self.take_bytes(target.len())?);
        Ok(())
    }

    #[inline(always)]
    fn peek_read(&mut self, length: usize) -> Option<&[u8]> {
        // After `None`, bincode calls `read`, which returns the error.
        if self.floor.is_reached() { None } else { self.rest.get(..length) }
    }

    #[inline(always)]
    fn consume(&mut self, length: usize) {
        self.rest = self.rest.get(length..).unwrap_or_default();
    }
}

impl<'a> BorrowReader<'a> for GuardedSlice<'a> {
    #[inline(always)]
    fn take_bytes(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        if self.floor.is_reached() {
            return Err(DecodeError::Other(TOO_DEEP));
        }
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            let additional = length - self.rest.len();
            return Err(DecodeError::UnexpectedEnd { additional });
        };
        self.rest = rest;
        Ok(taken)
    }
}

struct StreamWriter<'a, W> {
    target: &'a mut W,
    floor: Floor,
    encoding: &'a Encoding,
}

impl<W: std::io::Write> Writer for StreamWriter<'_, W> {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        if bytes.len() == LEVEL_BYTES && self.floor.is_reached() {
            return Err(EncodeError::Other(TOO_DEEP));
        }
        self.encoding.advance(bytes.len());
        // The index is of no use, because the reader of the error knows the target.
        self.target.write_all(bytes).map_err(|inner| EncodeError::Io { inner, index: 0 })
    }
}

struct LimitedWriter<'a> {
    buffer: &'a mut Vec<u8>,
    limit: usize,
    refused: Option<usize>,
    floor: Floor,
}

impl Writer for LimitedWriter<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let grown = self.buffer.len().saturating_add(bytes.len());
        if grown > self.limit {
            self.refused = Some(grown);
            return Err(EncodeError::UnexpectedEnd);
        }
        if bytes.len() == LEVEL_BYTES && self.floor.is_reached() {
            return Err(EncodeError::Other(TOO_DEEP));
        }
        match bytes {
            // Most writes are of one byte, and a call to copy it takes longer than that.
            [byte] => self.buffer.push(*byte),
            _ => self.buffer.extend_from_slice(bytes),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

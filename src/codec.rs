//! Owns how values become bytes (bincode 2, little-endian, variable-length integers) and the
//! limits on both ways: size, memory and depth. Knows nothing of frames or files.

use bincode::config::{self, Configuration, Limit, LittleEndian, Varint};
use bincode::de::read::Reader;
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::process::{Floor, stack};

/// Stands in every file header, so that a successor of bincode stays possible.
pub(crate) const CODEC_ID: u32 = 1;

/// bincode counts what it decodes by its size in memory, at most 16 bytes (a `u128`) for each
/// encoded byte; a limit of 16 times the encoded size never refuses an honest encoding.
const MEMORY_PER_ENCODED_BYTE: usize = 16;

/// Encodings up to this size are decoded under a small limit, so that a length that does not
/// belong there cannot reserve much.
const SMALL_ENCODING_BYTES: usize = 64 << 10;

/// A nested value takes a byte for each level at least. So an encoding up to this size needs no
/// look at the stack where that is known to be large.
const SHALLOW_BYTES: usize = 1 << 10;

/// What is nested begins with the tag of an option, the number of a variant or a length; of any of
/// these the first byte is written by itself. To look at the stack at every write made encoding a
/// map of numbers 1.4 times as slow.
const LEVEL_BYTES: usize = 1;

/// Why a value is refused that takes too much of the stack.
const TOO_DEEP: &str = "it is nested too deep: values within values take more stack than there is \
                        for them; keep it flat, or parts of it in a collection under a key";

/// No command may be larger, whatever `max_command_bytes` says.
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

/// Appends the encoding of `value` to `buffer`, which may not grow beyond `limit` bytes.
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
    if let EncodeError::Other(reason) = error { (*reason).to_owned() } else { error.to_string() }
}

fn why_not_decoded(error: &DecodeError) -> String {
    if let DecodeError::Other(reason) = error { (*reason).to_owned() } else { error.to_string() }
}

/// Decodes a value that must take up exactly `bytes`.
pub(crate) fn decode_exact<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let decoded = if bytes.len() <= SHALLOW_BYTES && stack::is_known() {
        bincode::serde::decode_from_slice(bytes, SMALL)
    } else {
        decode_within(bytes, Floor::of_decoding())
    };
    match decoded {
        Ok((value, used)) if used == bytes.len() => Ok(value),
        Ok((_, used)) => Err(format!("it ends after {used} of {} bytes", bytes.len())),
        Err(error) => Err(why_not_decoded(&error)),
    }
}

/// Decodes a value, and says how many of the bytes it took.
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

/// Decodes a value that borrows from `bytes` and stands at their beginning; `None` when it does not.
pub(crate) fn decode_first<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    bincode::serde::borrow_decode_from_slice(bytes, SMALL).ok().map(|(value, _)| value)
}

/// Streams the encoding of a model; the size of a model is bounded only by memory.
pub(crate) fn encode_stream<T: Serialize>(
    value: &T,
    target: &mut impl std::io::Write,
) -> Result<(), String> {
    let writer = StreamWriter { target, floor: Floor::of_encoding() };
    bincode::serde::encode_into_writer(value, writer, config::standard())
        .map_err(|error| why_not_encoded(&error))
}

/// Decodes a model from a stream of `raw_bytes` bytes that were verified beforehand. The limit
/// matters when the model's type is no longer the one that was encoded.
pub(crate) fn decode_stream<T: DeserializeOwned>(
    source: impl Reader,
    raw_bytes: u64,
) -> Result<T, String> {
    let source = Guarded { inner: source, floor: Floor::of_decoding() };
    decode_limited(source, raw_bytes).map_err(|error| why_not_decoded(&error))
}

fn decode_limited<T: DeserializeOwned>(
    source: impl Reader,
    raw_bytes: u64,
) -> Result<T, DecodeError> {
    // Limits are constants to bincode, so there are classes of them, each compiled once.
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

/// Decodes a model from its whole encoding, which nothing may follow.
pub(crate) fn decode_model<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut rest = Rest(bytes);
    let raw_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let model = decode_stream(&mut rest, raw_bytes)?;
    if rest.0.is_empty() {
        Ok(model)
    } else {
        Err(format!("it ends before its {} bytes do", bytes.len()))
    }
}

/// What is left of a slice.
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

/// A reader that is asked for nothing more once the stack has come to its floor.
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
        // Then bincode reads, and is told why not.
        if self.floor.is_reached() { None } else { self.inner.peek_read(length) }
    }

    #[inline]
    fn consume(&mut self, length: usize) {
        self.inner.consume(length);
    }
}

struct StreamWriter<'a, W> {
    target: &'a mut W,
    floor: Floor,
}

impl<W: std::io::Write> Writer for StreamWriter<'_, W> {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        if bytes.len() == LEVEL_BYTES && self.floor.is_reached() {
            return Err(EncodeError::Other(TOO_DEEP));
        }
        // How far it came is of no use: whoever reads the error knows the target.
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
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let grown = self.buffer.len().saturating_add(bytes.len());
        if grown > self.limit {
            self.refused = Some(grown);
            return Err(EncodeError::UnexpectedEnd);
        }
        if bytes.len() == LEVEL_BYTES && self.floor.is_reached() {
            return Err(EncodeError::Other(TOO_DEEP));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

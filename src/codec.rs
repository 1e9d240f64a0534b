//! Owns how values become bytes (bincode 2, little-endian, variable-length integers) and the
//! limits on both ways: size, memory and depth. Knows nothing of frames or files.

use bincode::config::{self, Configuration, Limit, LittleEndian, Varint};
use bincode::de::read::Reader;
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::stack::{self, Floor};

/// Stands in every file header, so that a successor of bincode stays possible.
pub(crate) const CODEC_ID: u32 = 1;

/// bincode counts what it decodes by its size in memory, at most 16 bytes (a `u128`) for each
/// encoded byte; a limit of 16 times the encoded size never refuses an honest encoding.
const MEMORY_PER_ENCODED_BYTE: usize = 16;

/// Encodings up to this size are decoded under a small limit, so that a length that does not
/// belong there cannot reserve much.
const SMALL_ENCODING_BYTES: usize = 64 << 10;

/// A nested value takes a byte for each level at least. So an encoding up to this size needs no look
/// at the stack where that is known to be large.
const SHALLOW_BYTES: usize = 1 << 10;

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
    let writer = StreamWriter { target, written: 0, floor: Floor::of_encoding() };
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
    written: usize,
    floor: Floor,
}

impl<W: std::io::Write> Writer for StreamWriter<'_, W> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        if self.floor.is_reached() {
            return Err(EncodeError::Other(TOO_DEEP));
        }
        let index = self.written;
        self.target.write_all(bytes).map_err(|inner| EncodeError::Io { inner, index })?;
        self.written += bytes.len();
        Ok(())
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
        if self.floor.is_reached() {
            return Err(EncodeError::Other(TOO_DEEP));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
        let mut buffer = Vec::new();
        encode_onto(value, &mut buffer, LARGEST_COMMAND_BYTES).unwrap();
        buffer
    }

    #[test]
    fn size_limit_counts_what_stands_in_the_buffer_already() {
        let mut buffer = vec![0; 16];
        let refused = encode_onto(&[7u8; 9], &mut buffer, 24).unwrap_err();
        assert!(matches!(refused, EncodeFailure::TooLarge { bytes: 25 }), "{refused:?}");
        buffer.truncate(16);
        encode_onto(&[7u8; 8], &mut buffer, 24).unwrap();
    }

    #[test]
    fn a_length_that_does_not_belong_reserves_little() {
        // u64::MAX as a length: refused by the limit before anything is reserved.
        let bytes = [253, 255, 255, 255, 255, 255, 255, 255, 255];
        assert!(decode_exact::<String>(&bytes).is_err());
        assert!(decode_exact::<Vec<u64>>(&bytes).is_err());
    }

    /// Values nested in the ways that Rust and serde have; each can be made one level deeper.
    mod nested {
        use std::collections::BTreeMap;

        use serde::{Deserialize, Serialize};

        #[derive(Default, Serialize, Deserialize)]
        pub(super) struct Boxed(pub(super) Option<Box<Boxed>>);

        #[derive(Default, Serialize, Deserialize)]
        pub(super) struct Listed {
            pub(super) inner: Vec<Listed>,
            pub(super) name: String,
        }

        #[derive(Default, Serialize, Deserialize)]
        pub(super) struct Mapped(pub(super) BTreeMap<u8, Mapped>);

        #[derive(Default, Serialize, Deserialize)]
        pub(super) enum Formula {
            #[default]
            One,
            Both {
                left: Box<Formula>,
                right: Box<Formula>,
            },
        }

        /// Takes 2 KiB of the stack by itself wherever it is moved.
        #[derive(Default, Serialize, Deserialize)]
        pub(super) struct Large {
            pub(super) ballast: [[u64; 32]; 8],
            pub(super) inner: Option<Box<Large>>,
        }
    }

    /// The deepest value that is encoded as `encode` does it; it may be encoded in part.
    fn deepest<T: Serialize>(
        empty: fn() -> T,
        deeper: fn(T) -> T,
        encode: fn(&T) -> Result<Vec<u8>, String>,
    ) -> (usize, Vec<u8>) {
        let (mut value, mut levels, mut encoding) = (empty(), 1, Vec::new());
        let refused = loop {
            match encode(&value) {
                Ok(encoded) => encoding = encoded,
                Err(refused) => break refused,
            }
            // In small steps relative to the whole, so that the last one is near the bound.
            for _ in 0..levels / 16 + 1 {
                value = deeper(value);
                levels += 1;
            }
        };
        assert_eq!(refused, TOO_DEEP);
        (levels, encoding)
    }

    fn assert_decodes<T: Serialize + DeserializeOwned>(empty: fn() -> T, deeper: fn(T) -> T) {
        let (levels, encoding) = deepest(empty, deeper, |value| {
            let mut bytes = Vec::new();
            encode_stream(value, &mut bytes)?;
            Ok(bytes)
        });
        assert!(levels > 500, "{levels} levels are nothing");
        let decoded: T = decode_model(&encoding).unwrap();
        let mut again = Vec::new();
        encode_stream(&decoded, &mut again).unwrap();
        assert!(again == encoding);
        drop(decode_exact::<T>(&encoding).unwrap());
    }

    /// In every build, since frames are largest where nothing is optimised.
    #[test]
    fn the_deepest_value_that_is_encoded_is_decoded() {
        use nested::{Boxed, Formula, Listed, Mapped};
        stack::run(|| {
            assert_decodes(Boxed::default, |inner| Boxed(Some(Box::new(inner))));
            assert_decodes(Listed::default, |inner| Listed {
                inner: vec![inner],
                name: "level".to_owned(),
            });
            assert_decodes(Mapped::default, |inner| Mapped([(1, inner)].into()));
            assert_decodes(Formula::default, |inner| {
                let (left, right) = (Box::new(inner), Box::new(Formula::One));
                Formula::Both { left, right }
            });
        })
        .unwrap();
    }

    /// What takes much more of the stack decoded than encoded is an error, and not the process's end.
    #[test]
    fn what_is_decoded_beyond_the_stack_is_refused() {
        use nested::Large;
        stack::run(|| {
            let deeper = |inner| Large { ballast: [[7; 32]; 8], inner: Some(Box::new(inner)) };
            let mut value = Large::default();
            for _ in 0..50_000 {
                value = deeper(value);
            }
            // Encoded level by level, since it is too deep to be encoded at once.
            let mut bytes = Vec::new();
            let mut level = Some(&value);
            while let Some(Large { ballast, inner }) = level {
                encode_stream(&(ballast, inner.is_some()), &mut bytes).unwrap();
                level = inner.as_deref();
            }
            while let Some(inner) = value.inner.take() {
                value = *inner;
            }
            let refused = decode_model::<Large>(&bytes).err().unwrap();
            assert_eq!(refused, TOO_DEEP);
            assert_eq!(decode_exact::<Large>(&bytes).err().unwrap(), TOO_DEEP);
        })
        .unwrap();
    }

    /// The test harness has made this thread, so nothing is known of its stack.
    #[test]
    fn on_a_thread_of_unknown_size_little_is_used() {
        use nested::Boxed;
        let deeper = |inner| Boxed(Some(Box::new(inner)));
        let (levels, encoding) = deepest(Boxed::default, deeper, |value| {
            let mut bytes = Vec::new();
            match encode_onto(value, &mut bytes, LARGEST_COMMAND_BYTES) {
                Ok(()) => Ok(bytes),
                Err(EncodeFailure::Failed(reason)) => Err(reason),
                Err(EncodeFailure::TooLarge { .. }) => unreachable!("a few levels"),
            }
        });
        assert!(levels > 200, "{levels} levels are nothing");
        // Where the database decodes commands, all of it is.
        stack::run(|| drop(decode_exact::<Boxed>(&encoding).unwrap())).unwrap();
        let deep = vec![1; 1 << 20];
        assert_eq!(decode_exact::<Boxed>(&deep).err().unwrap(), TOO_DEEP);
        assert_eq!(decode_model::<Boxed>(&deep).err().unwrap(), TOO_DEEP);
    }

    proptest! {
        #[test]
        fn round_trip(value: (u8, i64, String, Vec<u128>, Option<Vec<bool>>)) {
            let bytes = encoded(&value);
            prop_assert_eq!(decode_exact::<(u8, i64, String, Vec<u128>, Option<Vec<bool>>)>(&bytes), Ok(value));
        }

        #[test]
        fn every_trailing_or_missing_byte_is_noticed(value: (String, Vec<u16>)) {
            let mut bytes = encoded(&value);
            bytes.push(0);
            prop_assert!(decode_exact::<(String, Vec<u16>)>(&bytes).is_err());
            bytes.truncate(bytes.len() - 2);
            prop_assert!(decode_exact::<(String, Vec<u16>)>(&bytes).is_err());
        }
    }
}

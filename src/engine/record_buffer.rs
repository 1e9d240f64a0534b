//! Owns one encoded record on its way from the caller's thread to the writer's thread. Knows
//! nothing of the record's content.
//!
//! Most records are small, so small records travel by value. Allocating each of them on one thread
//! and freeing it on another was measured: it took a quarter of the time that the engine spends on
//! a small command.
//!
//! `smallvec` cannot replace this buffer. It keeps a length of eight bytes beside its inline bytes,
//! so a `SmallVec` of 128 bytes holds 120 bytes inline. A put of a 100-byte value is a record of
//! 122 bytes, and it would be allocated again.

use std::cell::Cell;
use std::ops::Deref;

/// Records up to this size are not allocated. An [`EncodedRecord`] then takes 128 bytes of the
/// queue. With 64 bytes, puts of 100 bytes were a tenth slower and the smallest commands a tenth
/// faster.
const SMALL_BYTES: usize = 126;

/// A buffer with a larger capacity than this is freed after its record.
const KEPT_BYTES: usize = 64 << 10;

thread_local! {
    /// The buffer in which this thread encodes. It is taken out during the encoding, because a
    /// `Serialize` may itself submit a command.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A record as its caller encoded it.
pub(crate) struct EncodedRecord(Bytes);

enum Bytes {
    Small { length: u8, bytes: [u8; SMALL_BYTES] },
    Large(Vec<u8>),
}

impl EncodedRecord {
    /// Calls `encode` with an empty buffer, and makes a record of what it wrote there.
    pub(crate) fn encode<E>(encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<Self, E> {
        let mut buffer = BUFFER.take();
        buffer.clear();
        let encoded = encode(&mut buffer);
        let record = encoded.map(|()| Self::copy_of(&buffer));
        if buffer.capacity() <= KEPT_BYTES {
            BUFFER.set(buffer);
        }
        record
    }

    /// Copies a record's bytes.
    pub(crate) fn copy_of(record: &[u8]) -> Self {
        let mut bytes = [0; SMALL_BYTES];
        match (bytes.get_mut(..record.len()), u8::try_from(record.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(record);
                Self(Bytes::Small { length, bytes })
            }
            _ => Self(Bytes::Large(record.to_vec())),
        }
    }
}

impl Deref for EncodedRecord {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Small { length, bytes } => {
                bytes.get(..usize::from(*length)).expect("`copy_of` made it fit")
            }
            Bytes::Large(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_every_size_arrive_as_they_were() {
        for length in (0..200).chain([KEPT_BYTES, KEPT_BYTES + 1]) {
            let sent: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let record = EncodedRecord::encode(|buffer| {
                assert!(buffer.is_empty());
                buffer.extend_from_slice(&sent);
                Ok::<_, ()>(())
            });
            assert_eq!(*record.unwrap(), *sent);
        }
    }

    #[test]
    fn a_record_may_be_encoded_while_another_one_is() {
        let inner = |buffer: &mut Vec<u8>| {
            buffer.push(2);
            Ok::<_, ()>(())
        };
        let outer = EncodedRecord::encode(|buffer| {
            buffer.push(1);
            assert_eq!(*EncodedRecord::encode(inner)?, [2]);
            buffer.push(3);
            Ok::<_, ()>(())
        });
        assert_eq!(*outer.unwrap(), [1, 3]);
    }

    #[test]
    fn a_record_takes_two_cache_lines() {
        assert_eq!(size_of::<EncodedRecord>(), 128);
    }
}

//! Owns one encoded record on its way from the caller's thread to the writer's. Knows nothing of what
//! it says.
//!
//! Most records are small. To allocate each on one thread and free it on another was measured as a
//! quarter of all that the engine costs a small command; so these travel by value.

use std::cell::Cell;
use std::ops::Deref;

/// Records up to this size are not allocated. A whole one of these takes 128 bytes of the queue:
/// with 64, puts of 100 bytes were a tenth slower, and the smallest commands a tenth faster.
const SMALL_BYTES: usize = 126;

/// A buffer that grew beyond this is not kept for the next record.
const KEPT_BYTES: usize = 64 << 10;

thread_local! {
    /// Where this thread encodes; taken out meanwhile, since a `Serialize` may submit a command.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A record as its caller encoded it.
pub(crate) struct EncodedRecord(Bytes);

enum Bytes {
    Small { length: u8, bytes: [u8; SMALL_BYTES] },
    Large(Vec<u8>),
}

impl EncodedRecord {
    /// Whatever `encode` leaves in the buffer, which it gets empty.
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
                bytes.get(..usize::from(*length)).expect("made no longer than its place")
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
    fn one_may_be_encoded_while_another_is() {
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
    fn small_ones_take_two_cache_lines() {
        assert_eq!(size_of::<EncodedRecord>(), 128);
    }
}

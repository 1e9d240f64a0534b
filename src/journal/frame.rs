//! Owns the layout of one frame: the bytes of one group-commit batch. Knows nothing of files.
//!
//! ```text
//! 0  magic "PVFR"
//! 4  payload length u32    bounded by LARGEST_PAYLOAD_BYTES
//! 8  first sequence u64
//! 16 durable sequence u64  the highest sequence known durable when the frame was built
//! 24 count u32             of commands; 0 in a commit marker
//! 28 header checksum u32   CRC-32C of bytes 0..28, seeded with the segment's salt
//! 32 payload               `count` records of commands, and those of their events
//! …  body checksum u32     CRC-32C of bytes 0..28 and the payload, continuing the chain
//! …  zeros to a multiple of 8
//! ```
//!
//! The body checksum is the chain value after the frame. It does not cover the header checksum: a
//! CRC over data *and* the data's own CRC no longer depends on the data, so the chain would prove
//! nothing about the header.

use std::path::Path;

use super::record::{RECORD_HEADER_BYTES, Record, events_header};
use crate::files::{FieldReader, StoreError, align_up};

pub(crate) const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"PVFR");
pub(crate) const FRAME_HEADER_BYTES: usize = 32;
/// The part of the header that both checksums cover.
const COVERED_HEADER_BYTES: usize = 28;
const BODY_CHECKSUM_BYTES: usize = 4;
pub(crate) const FRAME_ALIGNMENT: usize = 8;
/// The largest payload: room for the largest command with its metadata, and for a batch that ends
/// with it.
pub(crate) const LARGEST_PAYLOAD_BYTES: usize = 128 << 20;

/// A frame's header, after its checksum was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) payload_length: usize,
    pub(crate) first_sequence: u64,
    pub(crate) durable_sequence: u64,
    pub(crate) count: u32,
}

/// With what the checksums of a file's frame headers begin. A reader of many frames makes it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Salted(u32);

impl Salted {
    pub(crate) fn with(salt: u64) -> Self {
        Self(crc32c::crc32c(&salt.to_le_bytes()))
    }
}

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrameFault {
    /// Byte position relative to the frame's start.
    pub(crate) at: usize,
    pub(crate) expected: String,
    pub(crate) found: String,
}

impl FrameHeader {
    /// Returns the number of bytes from this frame's start to the next frame's start.
    pub(crate) fn frame_bytes(&self) -> usize {
        frame_bytes(self.payload_length)
    }

    /// Returns how far the body checksum is from the frame's start.
    pub(crate) fn body_checksum_at(&self) -> usize {
        FRAME_HEADER_BYTES + self.payload_length
    }

    /// Returns the sequence after the last record. It saturates, and such a frame then fails the
    /// sequence check.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.first_sequence.saturating_add(self.count.into())
    }

    fn encode(&self, salt: u64) -> [u8; FRAME_HEADER_BYTES] {
        let payload_length = u32::try_from(self.payload_length).expect("bounded by the caller");
        let mut covered = [0; COVERED_HEADER_BYTES];
        let mut put = |at: usize, field: &[u8]| {
            covered
                .get_mut(at..at + field.len())
                .expect("field positions are constants inside the header")
                .copy_from_slice(field);
        };
        put(0, &FRAME_MAGIC.to_le_bytes());
        put(4, &payload_length.to_le_bytes());
        put(8, &self.first_sequence.to_le_bytes());
        put(16, &self.durable_sequence.to_le_bytes());
        put(24, &self.count.to_le_bytes());
        let mut bytes = [0; FRAME_HEADER_BYTES];
        let (head, checksum) = bytes.split_at_mut(COVERED_HEADER_BYTES);
        head.copy_from_slice(&covered);
        let computed = header_checksum(&covered, Salted::with(salt));
        checksum.copy_from_slice(&computed.to_le_bytes());
        bytes
    }

    /// Reads and verifies the header at the start of `bytes`. `salted` is that of the file's salt.
    pub(crate) fn decode(bytes: &[u8], salted: Salted) -> Result<Self, FrameFault> {
        let fault = |at, expected: String, found: String| FrameFault { at, expected, found };
        let end = || {
            let found = format!("the file's end after {} bytes", bytes.len());
            fault(bytes.len(), "a whole frame header".to_owned(), found)
        };
        let mut fields = FieldReader::new(bytes);
        let magic = fields.u32().ok_or_else(end)?;
        if magic != FRAME_MAGIC {
            let found = format!("{magic:08x}");
            return Err(fault(0, format!("frame magic {FRAME_MAGIC:08x}"), found));
        }
        let payload_length = fields.length().ok_or_else(end)?;
        let first_sequence = fields.u64().ok_or_else(end)?;
        let durable_sequence = fields.u64().ok_or_else(end)?;
        let count = fields.u32().ok_or_else(end)?;
        let stored = fields.u32().ok_or_else(end)?;
        let covered = bytes.get(..COVERED_HEADER_BYTES).ok_or_else(end)?;
        let computed = header_checksum(covered, salted);
        if stored != computed && !fault!(FrameHeaderChecksumNotChecked) {
            let expected = format!("frame header checksum {computed:08x}");
            return Err(fault(COVERED_HEADER_BYTES, expected, format!("{stored:08x}")));
        }
        if payload_length > LARGEST_PAYLOAD_BYTES {
            let expected = format!("a payload of at most {LARGEST_PAYLOAD_BYTES} bytes");
            return Err(fault(4, expected, payload_length.to_string()));
        }
        Ok(Self { payload_length, first_sequence, durable_sequence, count })
    }

    /// Returns the chain value after the frame at the start of `bytes`, which has this header, if
    /// its payload is undamaged; `None` if it is cut.
    pub(crate) fn computed_chain(&self, bytes: &[u8], chain: u32) -> Option<u32> {
        let covered = bytes.get(..COVERED_HEADER_BYTES)?;
        let payload = bytes.get(FRAME_HEADER_BYTES..self.body_checksum_at())?;
        Some(body_checksum(covered, payload, chain))
    }

    /// Verifies the body of the frame at the start of `bytes`, which has this header. Returns the
    /// payload and the chain value after it.
    pub(crate) fn verify_body<'a>(
        &self,
        bytes: &'a [u8],
        chain: u32,
    ) -> Result<(&'a [u8], u32), FrameFault> {
        let end = || FrameFault {
            at: bytes.len(),
            expected: format!("a frame of {} bytes", self.frame_bytes()),
            found: format!("the file's end after {} bytes", bytes.len()),
        };
        let checksum_at = self.body_checksum_at();
        let covered = bytes.get(..COVERED_HEADER_BYTES).ok_or_else(end)?;
        let payload = bytes.get(FRAME_HEADER_BYTES..checksum_at).ok_or_else(end)?;
        let rest = bytes.get(checksum_at..self.frame_bytes()).ok_or_else(end)?;
        let (stored, padding) = rest.split_at(BODY_CHECKSUM_BYTES);
        let computed = body_checksum(covered, payload, chain);
        if stored != computed.to_le_bytes() && !fault!(FrameChecksumNotChecked) {
            return Err(FrameFault {
                at: checksum_at,
                expected: format!("body checksum {:02x?}", computed.to_le_bytes()),
                found: format!("{stored:02x?}"),
            });
        }
        if padding.iter().any(|&byte| byte != 0) {
            return Err(FrameFault {
                at: checksum_at + BODY_CHECKSUM_BYTES,
                expected: "zeros up to the next frame".to_owned(),
                found: format!("{padding:02x?}"),
            });
        }
        Ok((payload, computed))
    }
}

/// Returns the whole size of a frame with a payload of that length.
pub(crate) const fn frame_bytes(payload_length: usize) -> usize {
    align_up(FRAME_HEADER_BYTES + payload_length + BODY_CHECKSUM_BYTES, FRAME_ALIGNMENT)
}

fn header_checksum(covered: &[u8], salted: Salted) -> u32 {
    crc32c::crc32c_append(salted.0, covered)
}

fn body_checksum(covered: &[u8], payload: &[u8], chain: u32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(chain, covered), payload)
}

/// A buffer that collects the records of one batch and then becomes a frame. It is reused from
/// batch to batch.
pub(crate) struct FrameBuffer {
    bytes: Vec<u8>,
}

impl FrameBuffer {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; FRAME_HEADER_BYTES] }
    }

    /// Empties the buffer. It releases memory beyond `keep_bytes` that one huge batch needed.
    pub(crate) fn clear(&mut self, keep_bytes: usize) {
        self.bytes.truncate(FRAME_HEADER_BYTES);
        self.bytes.shrink_to(keep_bytes);
    }

    pub(crate) fn payload(&self) -> &[u8] {
        self.bytes.get(FRAME_HEADER_BYTES..).expect("the header's room is never removed")
    }

    pub(crate) fn payload_length(&self) -> usize {
        self.bytes.len() - FRAME_HEADER_BYTES
    }

    /// Appends an encoded record, and writes its time.
    pub(crate) fn push_record(&mut self, record: &[u8], time_ns: u64) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(record);
        let appended = self.bytes.get_mut(start..).expect("just appended");
        super::record::stamp_time(appended, time_ns);
    }

    /// Appends a record with the events of the last command. `encode` appends the encoded events to
    /// its argument. If it fails, the buffer is as it was before.
    pub(crate) fn push_events<E>(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        let body = self.bytes.len();
        let encoded = encode(&mut self.bytes);
        if encoded.is_err() {
            self.bytes.truncate(start);
            return encoded;
        }
        let length =
            u32::try_from(self.bytes.len() - body).expect("events are limited to far less");
        let header = events_header(length).encode();
        self.bytes.get_mut(start..body).expect("just appended").copy_from_slice(&header);
        Ok(())
    }

    /// Removes everything behind the first `payload_length` bytes of the payload.
    pub(crate) fn truncate(&mut self, payload_length: usize) {
        self.bytes.truncate(FRAME_HEADER_BYTES + payload_length);
    }

    /// Appends the records of another frame's payload.
    pub(crate) fn push_payload(&mut self, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
    }

    /// Makes the buffer a whole frame. Returns its bytes and the chain value after it. The buffer
    /// must be cleared before its next use.
    pub(crate) fn seal(
        &mut self,
        first_sequence: u64,
        count: u32,
        durable_sequence: u64,
        salt: u64,
        chain: u32,
    ) -> (&[u8], u32) {
        let payload_length = self.payload_length();
        assert!(payload_length <= LARGEST_PAYLOAD_BYTES, "the reader would refuse this frame");
        let header = FrameHeader { payload_length, first_sequence, durable_sequence, count };
        let encoded = header.encode(salt);
        let (covered, _) = encoded.split_at(COVERED_HEADER_BYTES);
        let chain = body_checksum(covered, self.payload(), chain);
        self.bytes
            .get_mut(..FRAME_HEADER_BYTES)
            .expect("the header's room is never removed")
            .copy_from_slice(&encoded);
        self.bytes.extend_from_slice(&chain.to_le_bytes());
        self.bytes.resize(frame_bytes(payload_length), 0);
        (&self.bytes, chain)
    }
}

/// A verified frame.
#[derive(Clone, Copy)]
pub(crate) struct FrameRef<'a> {
    /// Byte position in the segment.
    pub(crate) position: u64,
    pub(crate) header: FrameHeader,
    pub(crate) payload: &'a [u8],
    /// The chain value before the frame.
    pub(crate) chain_before: u32,
}

impl<'a> FrameRef<'a> {
    /// Calls `take` with each record and its sequence. `path` is the frame's file.
    ///
    /// # Errors
    /// Fails when the payload does not hold the records that the header states, or when `take`
    /// fails.
    pub(crate) fn each_record<E: From<StoreError>>(
        &self,
        path: &Path,
        mut take: impl FnMut(u64, &Record<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut at, mut sequence) = (0, self.header.first_sequence);
        while at < self.payload.len() {
            let (record, next) = self.record_at(path, at)?;
            take(sequence, &record)?;
            (at, sequence) = (next, sequence + 1);
        }
        Ok(self.check_count(path, sequence)?)
    }

    /// Reads the record that begins at byte `at` of the payload. Also returns where the next one
    /// begins.
    pub(crate) fn record_at(
        &self,
        path: &Path,
        at: usize,
    ) -> Result<(Record<'a>, usize), StoreError> {
        let rest = self.payload.get(at..).unwrap_or(&[]);
        let record = Record::read(rest).ok_or_else(|| {
            let found = format!("bytes that are not a record, from byte {at} of its payload on");
            StoreError::corrupt(path, self.position, "a frame of whole records", found)
        })?;
        Ok((record, at + record.bytes()))
    }

    /// Checks that the frame holds as many records as it states. `sequence` is the one after its
    /// last record.
    pub(crate) fn check_count(&self, path: &Path, sequence: u64) -> Result<(), StoreError> {
        if sequence == self.header.next_sequence() {
            return Ok(());
        }
        let expected = format!("{} records in the frame", self.header.count);
        let found = (sequence - self.header.first_sequence).to_string();
        Err(StoreError::corrupt(path, self.position, expected, found))
    }
}

#[cfg(test)]
#[path = "tests/frame.rs"]
mod tests;

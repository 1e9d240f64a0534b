//! Owns the layout of one record: a command with its tag, time and metadata. Knows nothing of the
//! frame around it, and not what a command means.
//!
//! ```text
//! 0  length u32            of everything behind this header: metadata and command
//! 4  tag u16
//! 6  metadata length u16
//! 8  time u64              nanoseconds since 1970
//! 16 metadata, then the command
//! ```

use crate::files::FieldReader;

pub(crate) const RECORD_HEADER_BYTES: usize = 16;
const TIME_AT: usize = 8;

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    /// The length of metadata and command together, in bytes.
    pub(crate) length: u32,
    pub(crate) tag: u16,
    pub(crate) metadata_length: u16,
    pub(crate) time_ns: u64,
}

impl RecordHeader {
    pub(crate) fn encode(&self) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        let (length, rest) = bytes.split_at_mut(4);
        let (tag, rest) = rest.split_at_mut(2);
        let (metadata_length, time) = rest.split_at_mut(2);
        length.copy_from_slice(&self.length.to_le_bytes());
        tag.copy_from_slice(&self.tag.to_le_bytes());
        metadata_length.copy_from_slice(&self.metadata_length.to_le_bytes());
        time.copy_from_slice(&self.time_ns.to_le_bytes());
        bytes
    }

    fn decode(fields: &mut FieldReader<'_>) -> Option<Self> {
        Some(Self {
            length: fields.u32()?,
            tag: fields.u16()?,
            metadata_length: fields.u16()?,
            time_ns: fields.u64()?,
        })
    }
}

/// One command, as a frame holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) tag: u16,
    pub(crate) time_ns: u64,
    /// The metadata; empty when the caller gave none.
    pub(crate) metadata: &'a [u8],
    pub(crate) command: &'a [u8],
}

impl<'a> Record<'a> {
    /// How long the record is in the payload.
    pub(crate) fn bytes(&self) -> usize {
        RECORD_HEADER_BYTES + self.metadata.len() + self.command.len()
    }

    fn read(fields: &mut FieldReader<'a>) -> Option<Self> {
        let header = RecordHeader::decode(fields)?;
        let length = usize::try_from(header.length).ok()?;
        let body = fields.bytes(length)?;
        let (metadata, command) = body.split_at_checked(header.metadata_length.into())?;
        Some(Self { tag: header.tag, time_ns: header.time_ns, metadata, command })
    }
}

/// Splits an encoded record into metadata and command.
pub(crate) fn record_parts(record: &[u8], metadata_length: usize) -> (&[u8], &[u8]) {
    let body = record.get(RECORD_HEADER_BYTES..).unwrap_or(&[]);
    body.split_at(metadata_length.min(body.len()))
}

/// Writes the time into an encoded record. Only the writer knows the time.
pub(crate) fn stamp_time(record: &mut [u8], time_ns: u64) {
    record
        .get_mut(TIME_AT..RECORD_HEADER_BYTES)
        .expect("a record begins with its header")
        .copy_from_slice(&time_ns.to_le_bytes());
}

/// An iterator over the records of a payload. When the bytes are no record, the last item is
/// `Err(position in the payload)`.
pub(crate) struct Records<'a> {
    fields: FieldReader<'a>,
    length: usize,
    failed: bool,
}

impl<'a> Records<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self { fields: FieldReader::new(payload), length: payload.len(), failed: false }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, usize>;

    fn next(&mut self) -> Option<Self::Item> {
        let position = self.fields.position();
        if self.failed || position == self.length {
            return None;
        }
        let record = Record::read(&mut self.fields).ok_or(position);
        self.failed = record.is_err();
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Parts = (u16, u64, Vec<u8>, Vec<u8>);

    fn encode(parts: &[Parts]) -> Vec<u8> {
        let mut payload = Vec::new();
        for (tag, time_ns, metadata, command) in parts {
            let header = RecordHeader {
                length: u32::try_from(metadata.len() + command.len()).unwrap(),
                tag: *tag,
                metadata_length: u16::try_from(metadata.len()).unwrap(),
                time_ns: 0,
            };
            let start = payload.len();
            payload.extend_from_slice(&header.encode());
            stamp_time(&mut payload[start..], *time_ns);
            payload.extend_from_slice(metadata);
            payload.extend_from_slice(command);
        }
        payload
    }

    proptest! {
        #[test]
        fn round_trip(parts: Vec<Parts>) {
            let payload = encode(&parts);
            let decoded: Vec<Parts> = Records::new(&payload)
                .map(|record| record.unwrap())
                .map(|r| (r.tag, r.time_ns, r.metadata.to_vec(), r.command.to_vec()))
                .collect();
            prop_assert_eq!(decoded, parts);
        }

        #[test]
        fn arbitrary_bytes_end_the_iteration_without_a_panic(payload: Vec<u8>) {
            let items: Vec<_> = Records::new(&payload).collect();
            prop_assert!(items.iter().rev().skip(1).all(Result::is_ok));
        }
    }
}

//! Owns the layout of one record: a command with its tag, time and metadata, and the record behind
//! it with the events of the command. Knows nothing of the frame around it, and not what a command
//! means.
//!
//! ```text
//! 0  length u32            of everything behind this header: metadata and command
//! 4  tag u16
//! 6  metadata length u16
//! 8  time u64              nanoseconds since 1970
//! 16 metadata, then the command
//! ```
//!
//! If the command emitted events, a record with the tag [`EVENTS_TAG`] follows. It has no metadata
//! and no time. It has no sequence of its own, and no frame counts it.

use crate::model::EVENTS_TAG;

pub(crate) const RECORD_HEADER_BYTES: usize = 16;
const TAG_AT: usize = 4;
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

    fn decode(bytes: [u8; RECORD_HEADER_BYTES]) -> Self {
        let [l0, l1, l2, l3, t0, t1, m0, m1, time_ns @ ..] = bytes;
        Self {
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            tag: u16::from_le_bytes([t0, t1]),
            metadata_length: u16::from_le_bytes([m0, m1]),
            time_ns: u64::from_le_bytes(time_ns),
        }
    }
}

/// Returns the tag of an encoded record; `None` if that is too short.
pub(crate) fn tag_of(record: &[u8]) -> Option<u16> {
    record.first_chunk().map(|&header| RecordHeader::decode(header).tag)
}

/// One command, as a frame holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) tag: u16,
    pub(crate) time_ns: u64,
    /// The metadata; empty when the caller gave none.
    pub(crate) metadata: &'a [u8],
    pub(crate) command: &'a [u8],
    /// The encoded events; `None` if the command emitted none, or they are not stored.
    pub(crate) events: Option<&'a [u8]>,
}

impl<'a> Record<'a> {
    /// How long the record is in the payload, with its events.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        let events = self.events.map_or(0, |events| RECORD_HEADER_BYTES + events.len());
        RECORD_HEADER_BYTES + self.metadata.len() + self.command.len() + events
    }

    /// Reads a command and its events from the beginning of `payload`.
    #[inline]
    pub(crate) fn read(payload: &'a [u8]) -> Option<Self> {
        let (header, body, behind) = read_one(payload)?;
        if header.tag == EVENTS_TAG {
            return None; // events without a command
        }
        let (metadata, command) = body.split_at_checked(header.metadata_length.into())?;
        let is_events = behind.get(TAG_AT..TAG_AT + 2) == Some(&EVENTS_TAG.to_le_bytes());
        let events = match is_events {
            false => None,
            true => {
                let (header, events, _) = read_one(behind)?;
                (header == events_header(header.length)).then_some(Some(events))?
            }
        };
        Some(Self { tag: header.tag, time_ns: header.time_ns, metadata, command, events })
    }

    /// Appends the record to a payload, with its events.
    ///
    /// # Panics
    /// If it is larger than a record can be. What was read from a record is not.
    pub(crate) fn push_onto(&self, payload: &mut Vec<u8>) {
        let length = self.metadata.len() + self.command.len();
        let header = RecordHeader {
            length: u32::try_from(length).expect("a command is limited to far less"),
            tag: self.tag,
            metadata_length: u16::try_from(self.metadata.len()).expect("it is limited to 16 bits"),
            time_ns: self.time_ns,
        };
        payload.extend_from_slice(&header.encode());
        payload.extend_from_slice(self.metadata);
        payload.extend_from_slice(self.command);
        if let Some(events) = self.events {
            let length = u32::try_from(events.len()).expect("events are limited to far less");
            payload.extend_from_slice(&events_header(length).encode());
            payload.extend_from_slice(events);
        }
    }
}

/// Returns the header of a record at the beginning of `payload`, its body, and what is behind it.
#[inline]
fn read_one(payload: &[u8]) -> Option<(RecordHeader, &[u8], &[u8])> {
    let (header, rest) = payload.split_first_chunk()?;
    let header = RecordHeader::decode(*header);
    let (body, behind) = rest.split_at_checked(usize::try_from(header.length).ok()?)?;
    Some((header, body, behind))
}

/// Returns the header of a record that holds events.
pub(super) fn events_header(length: u32) -> RecordHeader {
    RecordHeader { length, tag: EVENTS_TAG, metadata_length: 0, time_ns: 0 }
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

/// An iterator over the commands of a payload, each with its events. When the bytes are no record,
/// the last item is `Err(position in the payload)`.
pub(crate) struct Records<'a> {
    payload: &'a [u8],
    position: usize,
    failed: bool,
}

impl<'a> Records<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self { payload, position: 0, failed: false }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, usize>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.payload.get(self.position..).unwrap_or(&[]);
        if self.failed || rest.is_empty() {
            return None;
        }
        let record = Record::read(rest).ok_or(self.position);
        match &record {
            Ok(record) => self.position += record.bytes(),
            Err(_) => self.failed = true,
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Parts = (u16, u64, Vec<u8>, Vec<u8>, Option<Vec<u8>>);

    fn encode(parts: &[Parts]) -> Vec<u8> {
        let mut payload = Vec::new();
        for (tag, time_ns, metadata, command, events) in parts {
            let start = payload.len();
            let record =
                Record { tag: *tag, time_ns: 0, metadata, command, events: events.as_deref() };
            record.push_onto(&mut payload);
            assert_eq!(payload.len() - start, record.bytes());
            stamp_time(&mut payload[start..], *time_ns);
        }
        payload
    }

    fn parts() -> impl Strategy<Value = Vec<Parts>> {
        let one = (
            0..EVENTS_TAG,
            any::<u64>(),
            any::<Vec<u8>>(),
            any::<Vec<u8>>(),
            any::<Option<Vec<u8>>>(),
        );
        proptest::collection::vec(one, 0..20)
    }

    #[test]
    fn events_belong_to_the_command_before_them() {
        let command = (7, 3, vec![1], vec![2, 3], Some(vec![4]));
        let sound = encode(&[command]);
        assert!(Records::new(&sound).all(|it| it.is_ok()));
        let (head, events) = sound.split_at(RECORD_HEADER_BYTES + 3);
        let wrong = |payload: Vec<u8>| Records::new(&payload).last().unwrap().unwrap_err();
        assert_eq!(wrong(events.to_vec()), 0, "without a command");
        assert_eq!(wrong([head, events, events].concat()), sound.len(), "twice");
        assert_eq!(wrong([head, &events[..events.len() - 1]].concat()), 0, "cut");
        for byte in [6, TIME_AT] {
            let mut changed = sound.clone();
            changed[head.len() + byte] = 1;
            assert_eq!(wrong(changed), 0, "with metadata, or a time");
        }
    }

    proptest! {
        #[test]
        fn round_trip(parts in parts()) {
            let payload = encode(&parts);
            let decoded: Vec<Parts> = Records::new(&payload)
                .map(|record| record.unwrap())
                .map(|r| {
                    let events = r.events.map(<[u8]>::to_vec);
                    (r.tag, r.time_ns, r.metadata.to_vec(), r.command.to_vec(), events)
                })
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

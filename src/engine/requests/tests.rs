use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::error::Error;
use crate::files::{Cuts, FileHeader, PackedFile, Packing, SNAPSHOT_MAGIC, write_chunks};
use crate::model::{LARGEST_METADATA_BYTES, Metadata};
use crate::options::{BYTES_PER_ID, RequestLimits};
use crate::storage::{Memory, Pace};
use crate::test_support;

/// Applies the rule in plain words: the longest run of the newest ids that is within both limits,
/// and at least one id.
fn reference(accepted: &[(u64, String)], limit: usize) -> Vec<(u64, String)> {
    let mut kept: VecDeque<(u64, String)> = VecDeque::new();
    for one in accepted.iter().rev() {
        let bytes: usize = kept.iter().map(|(_, id)| id.len()).sum();
        let fits = kept.len() < limit && bytes + one.1.len() <= limit * BYTES_PER_ID;
        if !fits && (limit == 0 || !kept.is_empty()) {
            break;
        }
        kept.push_front(one.clone());
    }
    kept.into()
}

fn content(log: &RequestLog) -> Vec<(u64, String)> {
    log.iter().map(|one| (one.sequence, one.key.id().to_owned())).collect()
}

fn memory(limit: usize) -> RequestMemory {
    memory_with(&RequestLog::new(RequestLimits::of(limit)))
}

fn memory_with(log: &RequestLog) -> RequestMemory {
    let rejections = RejectionLimits { most: 1, time_to_live: std::time::Duration::ZERO };
    let requests = Requests::new(log.limits(), rejections, Arc::new(Memory::default()));
    RequestMemory::of(log, &requests)
}

impl RequestMemory {
    /// Remembers a request of nobody, of a time that is the sequence in seconds.
    fn remember_id(&mut self, sequence: u64, id: &str) {
        let key = RequestKey::new("", id, self.log.limits().by_actor);
        self.remember(Remembered {
            sequence,
            time_ns: sequence * SECOND_NS,
            tag: 3,
            key,
            output: None,
        });
    }

    fn sequence_of(&self, id: &str) -> Option<u64> {
        let key = RequestKey::new("", id, self.log.limits().by_actor);
        self.accepted(&key).map(|remembered| remembered.sequence)
    }
}

const SECOND_NS: u64 = 1_000_000_000;

fn header(log: &RequestLog) -> FileHeader {
    FileHeader {
        packing: 1,
        sequence: 1_000_000,
        salt: 0,
        appendix_bytes: section_bytes(log),
        chain: 0,
        model_name: "None".to_owned(),
        base_sequence: 1_000_000,
        ..test_support::header(SNAPSHOT_MAGIC)
    }
}

/// Writes a file with these bytes behind its content, and reads them as a log.
fn through_file(section: &[u8], limit: usize) -> Result<RequestLog, Error> {
    through_file_within(section, RequestLimits::of(limit))
}

fn through_file_within(section: &[u8], limits: RequestLimits) -> Result<RequestLog, Error> {
    let path = std::path::Path::new("x");
    let packing = Packing { compression_level: 1, compression_threads: 0 };
    let header = FileHeader {
        packing: packing.chunks_code(),
        appendix_bytes: section.len() as u64,
        ..header(&RequestLog::new(RequestLimits::of(0)))
    };
    let (content, pace) = (b"content", Pace::full());
    let written: PackedFile = write_chunks(
        &Memory::default(),
        path,
        &header,
        (1_000_000, 0),
        packing,
        &pace,
        &Cuts::Every(64),
        |target| Ok(target.write_all(content)?),
        |target| Ok(target.write_all(section)?),
    )?;
    assert_eq!(written.footer.raw_bytes, content.len() as u64);
    assert_eq!(written.footer.digest, xxhash_rust::xxh3::xxh3_128(content).to_le_bytes());
    let take = |blocks: &mut crate::codec::Blocks<'_>| {
        let mut taken = [0; 7];
        assert_eq!((blocks.fill(&mut taken), &taken), (Ok(()), content));
        assert_eq!(blocks.fill(&mut taken), Err(7), "the content ends before the section");
        Ok(())
    };
    let ((), log) = written.unpack_with(take, |blocks| {
        let newest = (header.sequence, header.sequence * SECOND_NS);
        read_section(blocks, section.len() as u64, newest, limits)
            .map_err(|(expected, found)| written.corrupt_content(expected, found))
    })?;
    Ok(log)
}

fn section(log: &RequestLog) -> Vec<u8> {
    let mut section = Vec::new();
    write_section(log, &mut section).unwrap();
    assert_eq!(section.len() as u64, section_bytes(log));
    section
}

/// Draws ids of such lengths that each limit is reached, and each reason to seal a chunk.
fn ids() -> impl Strategy<Value = Vec<(u64, String)>> {
    let length = prop_oneof![8 => 1..20_usize, 2 => 60..70_usize, 1 => 4000..9000_usize];
    let one = (1..4_u64, 0..30_u32, length);
    proptest::collection::vec(one, 0..700).prop_map(|ones| {
        let mut sequence = 0;
        let mut ids = Vec::new();
        for (step, name, length) in ones {
            sequence += step;
            ids.push((sequence, format!("{name:0length$}")));
        }
        ids
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]
    /// The log may be frozen, written and read with any limit on the way.
    #[test]
    fn what_is_remembered_is_a_function_of_what_was_accepted(
        ids in ids(),
        limit in prop_oneof![Just(0_usize), Just(1), 2..40_usize, 200..600_usize],
        frozen_at in any::<prop::sample::Index>(),
        reopened_at in any::<prop::sample::Index>(),
    ) {
        let mut memory = memory(limit);
        let (frozen_at, reopened_at) = (frozen_at.index(701), reopened_at.index(701));
        let mut frozen = None;
        for (number, (sequence, id)) in ids.iter().enumerate() {
            if number == frozen_at {
                frozen = Some(memory.freeze());
            }
            if number == reopened_at && limit > 0 {
                let read = through_file(&section(&memory.freeze()), limit).unwrap();
                memory = memory_with(&read);
            }
            memory.remember_id(*sequence, id);
            prop_assert_eq!(memory.freeze().ids(), memory.freeze().iter().count());
        }
        let expected = reference(&ids, limit);
        prop_assert_eq!(&content(&memory.freeze()), &expected);
        for (_, id) in &ids {
            let known = expected.iter().rev().find(|(_, known)| known == id);
            prop_assert_eq!(memory.sequence_of(id), known.map(|(sequence, _)| *sequence));
        }
        if let Some(frozen) = frozen {
            prop_assert_eq!(content(&frozen), reference(&ids[..frozen_at], limit));
        }
        // A smaller limit keeps what it would have kept from the start.
        let smaller = limit.div_ceil(3);
        let read = through_file(&section(&memory.freeze()), smaller).unwrap();
        prop_assert_eq!(content(&read), reference(&ids, smaller));
    }
}

#[test]
fn the_newest_id_is_kept_however_long_it_is() {
    let longest = "x".repeat(LARGEST_METADATA_BYTES);
    let mut memory = memory(1023);
    for sequence in 1..=1000 {
        memory.remember_id(sequence, &sequence.to_string());
    }
    memory.remember_id(1001, &longest);
    assert_eq!(content(&memory.freeze()), [(1001, longest.clone())]);
    assert_eq!((memory.sequence_of("1000"), memory.sequence_of(&longest)), (None, Some(1001)));
    let read = through_file(&section(&memory.freeze()), 1023).unwrap();
    assert_eq!(content(&read), [(1001, longest)]);
    memory.remember_id(1002, "y");
    assert_eq!(content(&memory.freeze()), [(1002, "y".to_owned())]);
}

/// Forgotten ids must not stay in memory because their chunk is still used.
#[test]
fn what_is_forgotten_is_freed() {
    let mut memory = memory(64);
    let mut ids = Vec::new();
    for sequence in 1..=500_u64 {
        memory.remember_id(sequence, &format!("{sequence:02000}"));
        let newest: Vec<_> =
            memory.freeze().iter().map(|one| Arc::downgrade(one.key.text())).collect();
        ids.extend(newest.last().cloned());
    }
    let alive = ids.iter().filter(|id| id.strong_count() > 0).count();
    assert_eq!(memory.freeze().ids(), 2);
    assert!(alive <= 2 + log::CHUNK_BYTES / 2000 + 1, "{alive} of 500");
}

#[test]
fn no_ids_take_no_bytes() {
    let memory = memory(10);
    assert!(section(&memory.freeze()).is_empty());
    assert_eq!(content(&through_file(&[], 10).unwrap()), []);
    let metadata = Metadata { request_id: "one".to_owned(), ..Metadata::default() };
    let encoded = metadata.encode().unwrap();
    assert_eq!(RequestKey::in_metadata(&encoded, false).unwrap().id(), "one");
    assert!(!super::tests::memory(0).is_on() && memory.is_on());
}

fn remembered(sequence: u64, actor: &str, id: &str, output: Option<&str>) -> Remembered {
    let key = RequestKey::new(actor, id, false);
    Remembered { sequence, time_ns: 7, tag: 0x0201, key, output: output.map(Arc::from) }
}

#[test]
fn the_section_is_what_the_format_says() {
    let limits = RequestLimits {
        promised_ns: 0x0a0b,
        output_bytes: 77,
        by_actor: true,
        ..RequestLimits::of(300)
    };
    let mut memory = memory_with(&RequestLog::new(limits));
    memory.remember(remembered(5, "", "a", Some("[1]")));
    memory.remember(remembered(0x0102, "me", "bc", None));
    let mut expected = b"PREVREQ2\x2c\x01\0\0\0\0\0\0\x02\0\0\0\0\0\0\0".to_vec();
    expected.extend_from_slice(b"\x0b\x0a\0\0\0\0\0\0\x4d\0\0\0\x01\0\0\0");
    expected.extend_from_slice(b"\x05\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x01\x02");
    expected.extend_from_slice(b"\0\0\x01\0\x03\0\0\0a[1]");
    expected.extend_from_slice(b"\x02\x01\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x01\x02");
    expected.extend_from_slice(b"\x02\0\x02\0\xff\xff\xff\xffmebc");
    expected.extend_from_slice(&crc32c::crc32c(&expected).to_le_bytes());
    assert_eq!(section(&memory.freeze()), expected);
    let read = through_file_within(&expected, limits).unwrap();
    assert_eq!(section(&read), expected);
}

/// Sections of earlier versions of this crate are read, and what they do not say is not known.
#[test]
fn a_section_without_times_is_read() {
    let mut old = b"PREVRQID\x2c\x01\0\0\0\0\0\0\x02\0\0\0\0\0\0\0".to_vec();
    old.extend_from_slice(b"\x05\0\0\0\0\0\0\0\x01\0a");
    old.extend_from_slice(b"\x02\x01\0\0\0\0\0\0\x02\0bc");
    old.extend_from_slice(&crc32c::crc32c(&old).to_le_bytes());
    let read = through_file(&old, 300).unwrap();
    assert_eq!(content(&read), [(5, "a".to_owned()), (0x0102, "bc".to_owned())]);
    for one in read.iter() {
        // Nothing in a snapshot is younger than it, so what is promised is kept long enough.
        assert_eq!((one.tag, one.time_ns), (Remembered::NO_TAG, 1_000_000 * SECOND_NS));
        assert_eq!((one.key.actor(), &one.output), ("", &None));
    }
    let mut many = old[..old.len() - 4].to_vec();
    many[16] = 0xff;
    many[17] = 0xff;
    many.extend_from_slice(&crc32c::crc32c(&many).to_le_bytes());
    assert!(through_file(&many, 300).is_err(), "more ids than its limit");
    for length in 1..old.len() {
        assert!(through_file(&old[..length], 2).is_err(), "{length} bytes");
    }
}

/// Every wrong section is an error, even if its checksum is right.
#[test]
fn a_wrong_section_is_an_error() {
    let mut memory = memory(2);
    memory.remember(remembered(5, "", "a", None));
    memory.remember(remembered(9, "me", "bc", None));
    let right = section(&memory.freeze());
    through_file(&right, 2).unwrap();
    // The second entry begins behind the header, and behind the first one and its one letter.
    let second = 40 + 26 + 1;
    let sealed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = right[..right.len() - 4].to_vec();
        change(&mut bytes);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    };
    for (what, bytes) in [
        ("magic", sealed(&|bytes| bytes[0] = b'x')),
        ("at most 16777216 request ids", sealed(&|bytes| bytes[12] = 1)),
        ("at most 1 request ids of 64 bytes together", sealed(&|bytes| bytes[8] = 1)),
        ("an output of at most 1048576 bytes", sealed(&|bytes| bytes[35] = 1)),
        ("known flags", sealed(&|bytes| bytes[36] = 2)),
        ("more bytes", sealed(&|bytes| bytes.truncate(second))),
        ("behind 0 and", sealed(&|bytes| bytes[40] = 0)),
        ("behind 9 and", sealed(&|bytes| bytes[40] = 9)),
        ("up to 1000000", sealed(&|bytes| bytes[second + 3] = 1)),
        ("with a time from 7 ns", sealed(&|bytes| bytes[second + 8] = 6)),
        ("to 1000000000000000 ns", sealed(&|bytes| bytes[second + 15] = 1)),
        ("UTF-8", sealed(&|bytes| bytes[second - 1] = 0xff)),
        ("an output of at most 0 bytes", sealed(&|bytes| bytes[62..66].fill(1))),
        ("a request id", sealed(&|bytes| bytes[60] = 0)),
        ("at most 2 request ids of 128 bytes together", {
            sealed(&|bytes| {
                bytes[second + 20] = 200;
                bytes.extend_from_slice(&[b'x'; 198]);
            })
        }),
        ("checksum", {
            let mut bytes = right.clone();
            bytes[second - 1] = b'b';
            bytes
        }),
        ("no bytes behind", [&right[..], b"x"].concat()),
    ] {
        let error = through_file(&bytes, 2).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(what), "{what}: {error}");
    }
    for length in 1..right.len() {
        assert!(through_file(&right[..length], 2).is_err(), "{length} bytes");
    }
}

/// What is promised is not forgotten, neither for a further id nor under a smaller limit.
#[test]
fn what_is_promised_is_not_forgotten() {
    let promised = |most_ids, seconds| RequestLimits {
        promised_ns: seconds * SECOND_NS,
        ..RequestLimits::of(most_ids)
    };
    let mut memory = memory_with(&RequestLog::new(promised(3, 10)));
    for (sequence, id) in [(1, "a"), (4, "b"), (8, "c")] {
        memory.remember_id(sequence, id);
    }
    let full = |memory: &RequestMemory, seconds: u64, id: &str| {
        let key = RequestKey::new("", id, false);
        memory.is_full_for(&key, seconds * SECOND_NS).map(|full| full.still_ns)
    };
    assert_eq!(full(&memory, 10, "d"), Some(SECOND_NS));
    assert_eq!(full(&memory, 11, "d"), None, "the oldest may be forgotten");
    assert_eq!(full(&memory, 11, &"d".repeat(191)), Some(3 * SECOND_NS), "not the second one");
    assert_eq!(full(&memory, 14, &"d".repeat(191)), None);
    // Under a smaller limit, what is promised stays, and it is read so.
    let fewer = through_file_within(&section(&memory.freeze()), promised(1, 10)).unwrap();
    assert_eq!(fewer.ids(), 3);
    assert_eq!(through_file_within(&section(&fewer), promised(1, 10)).unwrap().ids(), 3);
    assert_eq!(content(&fewer.within(promised(2, 4))), [(4, "b".to_owned()), (8, "c".to_owned())]);
    memory.remember_id(11, "d");
    assert_eq!(memory.sequence_of("a"), None);
    assert_eq!(content(&memory.freeze()).len(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]
    /// What is accepted after a version, and refused then, leaves nothing: neither in the log nor
    /// where ids are found.
    #[test]
    fn going_back_to_a_version_leaves_what_it_had(
        before in ids(),
        since in proptest::collection::vec(0..30_u32, 0..300),
        limit in prop_oneof![1..40_usize, 200..600_usize],
    ) {
        let mut memory = memory(limit);
        before.iter().for_each(|(sequence, id)| memory.remember_id(*sequence, id));
        let published = memory.freeze();
        let fresh = memory_with(&published);
        for (number, name) in since.iter().enumerate() {
            let id = format!("{name:010}");
            // The writer asks first.
            if memory.sequence_of(&id).is_none() {
                memory.remember_id(10_000 + number as u64, &id);
            }
        }
        memory.rewind(&published);
        prop_assert_eq!(content(&memory.freeze()), content(&published));
        let named = since.iter().map(|name| format!("{name:010}"));
        for id in before.iter().map(|(_, id)| id.clone()).chain(named) {
            prop_assert_eq!(memory.sequence_of(&id), fresh.sequence_of(&id), "{}", id);
        }
    }
}

#[test]
fn actors_have_ids_of_their_own_or_share_them() {
    for (by_actor, other) in [(false, Some(1)), (true, None)] {
        let limits = RequestLimits { by_actor, ..RequestLimits::of(10) };
        let mut memory = memory_with(&RequestLog::new(limits));
        let key = |actor: &str, id: &str| RequestKey::new(actor, id, by_actor);
        memory.remember(Remembered { key: key("ann", "7"), ..remembered(1, "", "", None) });
        let found = |actor, id| memory.accepted(&key(actor, id)).map(|one| one.sequence);
        assert_eq!(found("ann", "7"), Some(1));
        assert_eq!(found("bob", "7"), other);
        assert_eq!(found("an", "n7"), None, "actor and id are no single text");
        // The option may change at an open.
        let changed = RequestLimits { by_actor: !by_actor, ..limits };
        let read = through_file_within(&section(&memory.freeze()), changed).unwrap();
        let bob = RequestKey::new("bob", "7", !by_actor);
        assert_eq!(memory_with(&read).accepted(&bob).is_some(), by_actor);
    }
}

/// Only what somebody may ask for is tracked, and it is in flight until it is answered.
#[test]
fn a_request_is_in_flight_until_it_is_answered() {
    let rejections = RejectionLimits { most: 2, time_to_live: std::time::Duration::MAX };
    let storage = Arc::new(Memory::default());
    let requests = Requests::new(RequestLimits::of(10), rejections, storage);
    let metadata = |id: &str| {
        let metadata = Metadata { request_id: id.to_owned(), ..Metadata::default() };
        metadata.encode().unwrap()
    };
    let status = |id: &str| requests.status(&RequestKey::new("", id, false), || 5);
    assert!(requests.track(&metadata(""), || "Add").is_none());
    let (one, again) =
        (requests.track(&metadata("one"), || "Add"), requests.track(&metadata("one"), || "Add"));
    assert_eq!(status("one"), RequestStatus::InFlight);
    drop(again);
    assert_eq!(status("one"), RequestStatus::InFlight, "the first one is still on its way");
    one.unwrap().refused("no".to_owned());
    assert!(matches!(status("one"), RequestStatus::Rejected { reason, .. } if reason == "no"));
}

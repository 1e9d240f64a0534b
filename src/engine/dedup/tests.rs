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
    log.iter().map(|one| (one.sequence, one.id.to_string())).collect()
}

fn memory(limit: usize) -> RequestMemory {
    RequestMemory::of(&RequestLog::new(RequestLimits::of(limit)))
}

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
        let (bytes, newest) = (section.len() as u64, header.sequence);
        read_section(blocks, bytes, newest, RequestLimits::of(limit))
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
                memory = RequestMemory::of(&read);
            }
            memory.remember(*sequence, id);
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
        memory.remember(sequence, &sequence.to_string());
    }
    memory.remember(1001, &longest);
    assert_eq!(content(&memory.freeze()), [(1001, longest.clone())]);
    assert_eq!((memory.sequence_of("1000"), memory.sequence_of(&longest)), (None, Some(1001)));
    let read = through_file(&section(&memory.freeze()), 1023).unwrap();
    assert_eq!(content(&read), [(1001, longest)]);
    memory.remember(1002, "y");
    assert_eq!(content(&memory.freeze()), [(1002, "y".to_owned())]);
}

/// Forgotten ids must not stay in memory because their chunk is still used.
#[test]
fn what_is_forgotten_is_freed() {
    let mut memory = memory(64);
    let mut ids = Vec::new();
    for sequence in 1..=500_u64 {
        memory.remember(sequence, &format!("{sequence:02000}"));
        let newest: Vec<_> = memory.freeze().iter().map(|one| Arc::downgrade(&one.id)).collect();
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
    assert_eq!(memory.id_in(&encoded), Some("one"));
    assert_eq!(super::tests::memory(0).id_in(&encoded), None, "ids are not remembered");
}

#[test]
fn the_section_is_what_the_format_says() {
    let mut memory = memory(300);
    memory.remember(5, "a");
    memory.remember(0x0102, "bc");
    let mut expected = b"PREVRQID\x2c\x01\0\0\0\0\0\0\x02\0\0\0\0\0\0\0".to_vec();
    expected.extend_from_slice(b"\x05\0\0\0\0\0\0\0\x01\0a");
    expected.extend_from_slice(b"\x02\x01\0\0\0\0\0\0\x02\0bc");
    expected.extend_from_slice(&crc32c::crc32c(&expected).to_le_bytes());
    assert_eq!(section(&memory.freeze()), expected);
}

/// Every wrong section is an error, even if its checksum is right.
#[test]
fn a_wrong_section_is_an_error() {
    let mut memory = memory(2);
    memory.remember(5, "a");
    memory.remember(9, "bc");
    let right = section(&memory.freeze());
    through_file(&right, 2).unwrap();
    let sealed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = right[..right.len() - 4].to_vec();
        change(&mut bytes);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    };
    for (what, bytes) in [
        ("magic", sealed(&|bytes| bytes[0] = b'x')),
        ("at most 16777216 request ids", sealed(&|bytes| bytes[12] = 1)),
        ("at most 1 request ids", sealed(&|bytes| bytes[8] = 1)),
        ("more bytes", sealed(&|bytes| bytes.truncate(45))),
        ("behind 0 and", sealed(&|bytes| bytes[24] = 0)),
        ("behind 9 and", sealed(&|bytes| bytes[24] = 9)),
        ("up to 1000000", sealed(&|bytes| bytes[39] = 1)),
        ("UTF-8", sealed(&|bytes| bytes[34] = 0xff)),
        ("at most 128 bytes", {
            sealed(&|bytes| {
                bytes.truncate(45);
                bytes[43] = 200;
                bytes.extend_from_slice(&[b'x'; 200]);
            })
        }),
        ("checksum", {
            let mut bytes = right.clone();
            bytes[34] = b'b';
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

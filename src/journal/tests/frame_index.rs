//! Tests that an index says what is right, and that a wrong one is noticed.

use super::*;
use crate::files::ARCHIVE_MAGIC;
use crate::test_support;

fn header() -> FileHeader {
    FileHeader { sequence: 10, chain: 7, ..test_support::header(ARCHIVE_MAGIC) }
}

fn footer() -> Footer {
    Footer { sequence: 99, raw_bytes: 1 << 20, packed_bytes: 0, digest: [0; 16], chain: 1 }
}

/// Makes an index by pushing frames with these sequences and offsets.
fn index(spacing: u64, most: usize, frames: impl Iterator<Item = (u64, u64)>) -> FrameIndex {
    let mut index = FrameIndex { spacing, most, ..FrameIndex::new(&header()) };
    for (sequence, offset) in frames {
        index.push_entry(IndexEntry { sequence, offset, chain: offset as u32 ^ 7 });
    }
    index
}

fn offsets(index: &FrameIndex) -> Vec<u64> {
    index.entries.iter().map(|entry| entry.offset).collect()
}

#[test]
fn entries_are_so_far_from_each_other() {
    let frames = || (0..40).map(|number| (10 + number, number * 56));
    assert_eq!(
        offsets(&index(200, 100, frames())),
        [0, 224, 448, 672, 896, 1120, 1344, 1568, 1792, 2016]
    );
    // One frame is larger than that.
    let large = [(10, 0), (11, 56), (12, 5000), (13, 5056), (14, 5200)];
    assert_eq!(offsets(&index(200, 100, large.into_iter())), [0, 5000, 5200]);
}

#[test]
fn a_long_archive_has_no_more_entries_but_fewer() {
    for frames in 0..200 {
        let made = index(56, 8, (0..frames).map(|number| (10 + number, number * 56)));
        assert!(made.entries.len() <= 8, "{frames}: {made:?}");
        assert!(made.entries.len() as u64 >= frames.min(8) / 2, "{frames}: {made:?}");
        let gaps = made.entries.windows(2).map(|pair| pair[1].offset - pair[0].offset);
        assert!(gaps.clone().all(|gap| gap >= made.spacing), "{frames}: {made:?}");
        let bytes = made.encode();
        assert_eq!(
            decode(&bytes, &header(), &Footer { sequence: 999, ..footer() }),
            Ok(made.entries)
        );
    }
}

#[test]
fn the_last_entry_at_or_before_a_sequence_is_found() {
    let frames = [(10, 0), (13, 200), (20, 400)];
    let entries = index(1, 100, frames.into_iter()).entries;
    let found = |sequence| find(&entries, sequence);
    assert_eq!([9, 10, 12, 13, 19, 20, 1000].map(found), [0, 0, 0, 1, 1, 2, 2]);
    assert_eq!(find(&[], 5), 0);
}

#[test]
fn a_hostile_index_is_refused() {
    let frames = [(10, 0), (13, 200), (20, 400)];
    let made = index(1, 100, frames.into_iter());
    let bytes = made.encode();
    let read = |bytes: &[u8]| decode(bytes, &header(), &footer());
    assert_eq!(read(&bytes), Ok(made.entries));
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "cut to {length}");
    }
    assert!(read(&[&bytes[..], &[0]].concat()).is_err());
    let put = |at: usize, field: &[u8]| {
        let mut changed = bytes.clone();
        changed[at..at + field.len()].copy_from_slice(field);
        read(&changed).expect_err("a wrong field is noticed").0
    };
    let entry = |number: usize| HEAD_BYTES + number * ENTRY_BYTES;
    assert!(put(0, b"Q").starts_with("index magic"));
    for count in [0_u32, 2, 4, u32::MAX] {
        assert!(put(8, &count.to_le_bytes()).contains("1 to 65536 entries"));
    }
    for (at, field) in [(0, 11_u64), (8, 8)] {
        assert!(put(entry(0) + at, &field.to_le_bytes()).contains("begins with sequence 10"));
    }
    assert!(put(entry(0) + 16, &[8]).contains("begins with sequence 10"));
    // Sequences and offsets that do not ascend, or are outside.
    for sequence in [0_u64, 10, 20, 100, u64::MAX] {
        put(entry(1), &sequence.to_le_bytes());
    }
    for offset in [0_u64, 204, 400, 1 << 20, u64::MAX - 7] {
        put(entry(1) + 8, &offset.to_le_bytes());
    }
    assert!(put(entry(2), &100_u64.to_le_bytes()).contains("before sequence 100 and byte 1048576"));
    put(entry(2) + 8, &(1_u64 << 20).to_le_bytes());
}

#[test]
fn the_largest_index_is_read() {
    let frames = || (0..MOST_ENTRIES as u64 + 1).map(|number| (10 + number, number * 8));
    let end = Footer { sequence: 1 << 20, ..footer() };
    let made = index(1, MOST_ENTRIES + 1, frames());
    assert!(decode(&made.encode(), &header(), &end).is_err());
    let made = index(1, MOST_ENTRIES, frames().take(MOST_ENTRIES));
    assert_eq!(made.entries.len(), MOST_ENTRIES);
    assert_eq!(decode(&made.encode(), &header(), &end), Ok(made.entries));
}

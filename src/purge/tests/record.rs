//! A record of a purge is read as it was written, and a damaged one is an error.

use proptest::prelude::*;

use super::*;

fn any_record() -> impl Strategy<Value = PurgeRecord> {
    let lists = proptest::collection::vec(proptest::collection::vec(any::<u64>(), 0..5), 3);
    (any::<([u8; 16], u64, u64, u64, u64, u32, u32)>(), lists).prop_map(|(numbers, lists)| {
        PurgeRecord {
            database: DatabaseId(numbers.0),
            number: numbers.1,
            time: system_time(numbers.2),
            sequence: numbers.3,
            kept: numbers.4,
            chain_before: numbers.5,
            chain_after: numbers.6,
            replaced: lists[0].clone(),
            redacted: lists[1].clone(),
            metadata_dropped: lists[2].clone(),
        }
    })
}

proptest! {
    #[test]
    fn round_trip_and_every_flipped_bit_and_every_cut(record in any_record()) {
        let bytes = record.encode();
        let decode = |bytes: &[u8]| PurgeRecord::decode(Path::new("x"), bytes, record.number);
        prop_assert_eq!(decode(&bytes).unwrap(), record.clone());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(&flipped).is_err(), "bit {}", bit);
        }
        for length in 0..bytes.len() {
            prop_assert!(decode(&bytes[..length]).is_err());
        }
    }
}

#[test]
fn the_content_is_checked_even_if_the_checksum_is_right() {
    let record = PurgeRecord {
        database: DatabaseId([7; 16]),
        number: 2,
        time: system_time(5),
        sequence: 9,
        kept: 7,
        chain_before: 1,
        chain_after: 2,
        replaced: vec![3],
        redacted: vec![4],
        metadata_dropped: vec![],
    };
    // The format, the length, the number, the count of replaced commands, and the zeros.
    for (at, right, wrong) in
        [(8, 1, 2), (16, 124, 125), (40, 2, 3), (72, 1, 2), (72, 1, 0), (100, 0, 1), (103, 0, 9)]
    {
        for (value, sound) in [(right, true), (wrong, false)] {
            let mut bytes = record.encode();
            bytes[at] = value;
            let covered = bytes.len() - CHECKSUM_BYTES;
            let checksum = crc32c::crc32c(&bytes[..covered]);
            bytes[covered..].copy_from_slice(&checksum.to_le_bytes());
            let decoded = PurgeRecord::decode(Path::new("x"), &bytes, 2);
            assert_eq!(decoded.is_ok(), sound, "{value} at {at}");
        }
    }
}

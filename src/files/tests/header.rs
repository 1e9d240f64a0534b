//! Headers are read as they were written, and damaged ones are errors.

use proptest::prelude::*;

use super::*;
use crate::test_support;

fn any_header() -> impl Strategy<Value = FileHeader> {
    (
        any::<([u8; 16], u32, u32, u64, u64, u64, u64, u32, u8)>(),
        ".{0,40}",
        proptest::collection::vec((any::<u16>(), ".{0,20}"), 0..20),
        ".{0,40}",
        any::<[u8; 16]>(),
    )
        .prop_map(|(numbers, model_name, commands, shape, schemas)| FileHeader {
            magic: SEGMENT_MAGIC,
            database: DatabaseId(numbers.0),
            packing: numbers.1,
            model_version: numbers.2,
            sequence: numbers.3,
            time_ns: numbers.4,
            salt: numbers.5,
            file_bytes: numbers.6,
            chain: numbers.7,
            model_name,
            commands,
            appendix_bytes: 0,
            base_sequence: numbers.3,
            shape,
            schemas: SchemasDigest(schemas),
            events: numbers.8,
        })
}

proptest! {
    #[test]
    fn round_trip(header in any_header(), tail: Vec<u8>) {
        let mut bytes = header.encode().unwrap();
        let length = bytes.len();
        bytes.extend_from_slice(&tail);
        let decoded = FileHeader::decode(Path::new("x"), SEGMENT_MAGIC, &bytes).unwrap();
        prop_assert_eq!(decoded, (header, length));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_an_error(header in any_header(), at: prop::sample::Index) {
        let bytes = header.encode().unwrap();
        let bit = at.index(bytes.len() * 8);
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(FileHeader::decode(Path::new("x"), SEGMENT_MAGIC, &flipped).is_err());
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert!(FileHeader::decode(Path::new("x"), SEGMENT_MAGIC, cut).is_err());
    }
}

fn plain_header() -> FileHeader {
    let commands = vec![(1, "Deposit".to_owned())];
    FileHeader { commands, ..test_support::header(SEGMENT_MAGIC) }
}

/// Puts `bytes` at `at` of an encoded header, and makes its checksum right again.
fn forged(at: usize, bytes: &[u8]) -> Result<(FileHeader, usize), StoreError> {
    let mut header = plain_header().encode().unwrap();
    header[at..at + bytes.len()].copy_from_slice(bytes);
    let covered = header.len() - CHECKSUM_BYTES;
    let checksum = crc32c::crc32c(&header[..covered]);
    header[covered..].copy_from_slice(&checksum.to_le_bytes());
    FileHeader::decode(Path::new("x"), SEGMENT_MAGIC, &header)
}

#[test]
fn what_a_right_checksum_covers_is_still_looked_at() {
    forged(0, &SEGMENT_MAGIC).unwrap();
    let codec = forged(32, &(CODEC_ID + 1).to_le_bytes()).unwrap_err();
    assert!(matches!(codec, StoreError::UnsupportedCodec { found, .. } if found == CODEC_ID + 1));
    let one_more_command = forged(80, &2u16.to_le_bytes()).unwrap_err();
    assert!(one_more_command.to_string().contains("fields cut off"), "{one_more_command}");
}

#[test]
fn a_header_is_not_written_larger_than_it_is_read() {
    let with_commands = |count| {
        let commands = (0..count).map(|tag| (tag, "x".repeat(60_000))).collect();
        FileHeader { commands, ..plain_header() }.encode()
    };
    assert!(with_commands(17).is_some());
    assert!(with_commands(18).is_none());
}

/// Puts `behind` behind the last field of an encoded header, with the right length and checksum.
fn with_end(header: &FileHeader, cut: usize, behind: &[u8]) -> Result<FileHeader, StoreError> {
    let mut bytes = header.encode().unwrap();
    bytes.truncate(bytes.len() - CHECKSUM_BYTES - cut);
    bytes.extend_from_slice(behind);
    let length = u32::try_from(bytes.len() + CHECKSUM_BYTES).unwrap();
    bytes[12..16].copy_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    FileHeader::decode(Path::new("x"), SEGMENT_MAGIC, &bytes).map(|(header, _)| header)
}

#[test]
fn a_shape_is_all_that_may_follow_and_need_not_be_there() {
    let without = plain_header();
    let with = FileHeader { shape: "1[us]".to_owned(), ..plain_header() };
    assert_eq!(with.encode().unwrap().len(), without.encode().unwrap().len() + 7);
    assert_eq!(with_end(&with, 0, &[]).unwrap(), with);
    assert_eq!(with_end(&with, 7, &[]).unwrap(), without);
    assert_eq!(with_end(&without, 0, b"\x05\x001[us]").unwrap(), with);
    for behind in [&b"\x05"[..], b"\x00\x00", b"\x05\x001[us", b"\x05\x001[us]u", b"\x01\x00\xff"] {
        let error = with_end(&without, 0, behind).unwrap_err();
        assert!(error.to_string().contains("fields cut off"), "{error}");
    }
    assert!(FileHeader { shape: "u".repeat(1 << 16), ..plain_header() }.encode().is_none());
}

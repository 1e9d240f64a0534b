//! Tests of snapshot files alone: every bit, every length, every packing.

use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use serde::de::DeserializeOwned;

use super::*;
use crate::codec::DecodeHow;
use crate::files::list_snapshots;
use crate::stats::Counters;
use crate::storage::{Disk, FileBytes, Room};
use crate::test_support;

fn header(packing: Packing) -> FileHeader {
    FileHeader {
        packing: packing.chunks_code(),
        sequence: 42,
        time_ns: 5,
        salt: 0,
        chain: 0xabcd,
        base_sequence: 42,
        ..test_support::header(SNAPSHOT_MAGIC)
    }
}

type TestModel = Vec<(u64, String)>;

fn decode<T: DeserializeOwned>(file: &PackedFile) -> Result<T, Error> {
    let decoded = file.unpack(|blocks| {
        let decoding = file.decoding(DecodeHow::InParallel, blocks);
        let mut reader = SnapshotReader::new(blocks.take(), file.footer.raw_bytes, decoding);
        let decoded = reader.decode().map_err(|error| file.undecodable(error.to_string()));
        *blocks = reader.into_blocks();
        decoded
    })?;
    Ok(decoded)
}

fn written(model: &TestModel, compression_level: i32) -> Vec<u8> {
    written_by(model, Packing { compression_level, compression_threads: 0 })
}

fn written_by(model: &TestModel, packing: Packing) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let (header, pace) = (header(packing), Pace::full());
    let file = write_snapshot(&Disk, directory.path(), &header, model, packing, &pace).unwrap();
    let read = open_snapshot(&Disk, directory.path(), 42).unwrap();
    assert_eq!(&decode::<TestModel>(&read).unwrap(), model);
    assert_eq!(list_snapshots(&Disk, directory.path()).unwrap(), [42]);
    std::fs::read(file.path).unwrap()
}

fn read(bytes: Vec<u8>) -> Result<TestModel, Error> {
    let file = PackedFile::from_bytes("x".into(), FileBytes::Owned(bytes), SNAPSHOT_MAGIC)?;
    decode(&check(file, 42)?)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn round_trip_and_every_flipped_bit(
        model in proptest::collection::vec(any::<(u64, String)>(), 0..4),
        level in 0..4,
        seed in proptest::collection::vec(any::<prop::sample::Index>(), 64),
    ) {
        let bytes = written(&model, level);
        prop_assert_eq!(read(bytes.clone()).unwrap(), model);
        for index in seed {
            let bit = index.index(bytes.len() * 8);
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(read(flipped).is_err(), "bit {} was not noticed", bit);
        }
        for length in 0..bytes.len() {
            prop_assert!(read(bytes[..length].to_vec()).is_err());
        }
    }
}

#[test]
fn models_of_many_chunks_and_blocks_survive() {
    let model: TestModel = (0..90_000)
        .map(|i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15), format!("{i:x}")))
        .collect();
    for level in [0, 1, 3] {
        let bytes = written(&model, level);
        assert!(bytes.len() > 600_000, "{} bytes at level {level}", bytes.len());
    }
    let packing = Packing { compression_level: 1, compression_threads: 2 };
    assert!(written_by(&model, packing).len() > 600_000);
}

#[test]
fn another_type_is_an_error_not_a_panic() {
    let bytes = written(&vec![(u64::MAX, "x".to_owned())], 0);
    let bytes = FileBytes::Owned(bytes);
    let file = PackedFile::from_bytes("x".into(), bytes, SNAPSHOT_MAGIC).unwrap();
    assert!(matches!(decode::<String>(&file), Err(Error::Undecodable { .. })));
    assert!(matches!(decode::<u8>(&file), Err(Error::Undecodable { .. })));
}

#[test]
fn a_cancelled_snapshot_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let packing = Packing { compression_level: 0, compression_threads: 0 };
    let model: TestModel = vec![(1, "x".repeat(1 << 20))];
    let (counters, cancelled) = (Counters::default(), AtomicBool::new(true));
    let room = Room::default();
    let pace = Pace::beside(&counters, &cancelled, (&room, 0));
    let result = write_snapshot(&Disk, directory.path(), &header(packing), &model, packing, &pace);
    assert!(result.is_err());
    assert!(Disk.list(directory.path()).unwrap().is_empty());
}

/// A model that serde cannot encode.
struct Unencodable;

impl Serialize for Unencodable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("on purpose"))
    }
}

const PLAIN: Packing = Packing { compression_level: 0, compression_threads: 0 };

#[test]
fn a_model_that_cannot_be_encoded_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (header, pace) = (header(PLAIN), Pace::full());
    let written = write_snapshot(&Disk, directory.path(), &header, &Unencodable, PLAIN, &pace);
    let error = written.err().unwrap();
    let told = matches!(&error, Error::Encode { reason, .. } if reason.contains("on purpose"));
    assert!(told, "{error}");
    assert!(Disk.list(directory.path()).unwrap().is_empty());
}

/// Makes an intact packed file with this content: a snapshot whose footer states `chain`.
fn with_content(content: &[u8], chain: u32) -> Result<PackedFile, Error> {
    let directory = tempfile::tempdir().unwrap();
    let path = snapshot_path(directory.path(), 42);
    let header = FileHeader { packing: PLAIN.code(), ..header(PLAIN) };
    let pace = Pace::full();
    crate::files::write_packed(&Disk, &path, &header, (42, chain), PLAIN, &pace, |target| {
        let mut target = ErrorCapturingWriter { inner: target, failed: None };
        target.write_all(content)?;
        Ok(target.flush()?)
    })?;
    open_snapshot(&Disk, directory.path(), 42)
}

#[test]
fn a_footer_of_another_version_is_noticed() {
    with_content(b"x", 0xabcd).unwrap();
    let error = with_content(b"x", 0xabce).err().unwrap();
    assert!(matches!(error, Error::Corrupt { position: 76, .. }), "{error}");
}

#[test]
fn content_that_ends_within_a_value_is_an_error_not_a_panic() {
    // This is the marker of a `u64` without the number.
    let file = with_content(&[253], 0xabcd).unwrap();
    assert!(matches!(decode::<u64>(&file), Err(Error::Undecodable { .. })));
}

#[test]
fn a_reader_says_how_much_there_is() {
    let file = with_content(b"x", 0xabcd).unwrap();
    let told = file.unpack(|blocks| {
        let decoding = file.decoding(DecodeHow::OneThread, blocks);
        let mut reader = SnapshotReader::new(blocks.take(), file.footer.raw_bytes, decoding);
        let told = format!("{reader:?}");
        reader.decode::<u8>().unwrap();
        *blocks = reader.into_blocks();
        Ok(told)
    });
    assert_eq!(told.unwrap(), "SnapshotReader { raw_bytes: 1, .. }");
}

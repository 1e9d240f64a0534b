//! Tests of collections that are decoded part by part, on several threads.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::file::{open_snapshot, write_snapshot};
use crate::codec::{self, DecodeHow};
use crate::collections::{Map, Set, Vector};
use crate::error::Error;
use crate::files::{FileHeader, PackedFile, Packing, SNAPSHOT_MAGIC, snapshot_path};
use crate::laboratory::Sizes;
use crate::model::SnapshotReader;
use crate::panics::told_of_panics;
use crate::storage::{Disk, Pace};
use crate::test_support;

const MANY: u64 = 40_000;
const ZSTD: Packing = Packing { compression_level: 1, compression_threads: 0 };
const PLAIN: Packing = Packing { compression_level: 0, compression_threads: 0 };
const THREADS: Packing = Packing { compression_level: 1, compression_threads: 2 };

fn write_into<T: Serialize>(directory: &Path, model: &T, packing: Packing) -> PackedFile {
    let _sizes = Sizes::usual();
    let header = FileHeader {
        packing: packing.chunks_code(),
        sequence: 42,
        base_sequence: 42,
        salt: 0,
        ..test_support::header(SNAPSHOT_MAGIC)
    };
    write_snapshot(&Disk, directory, &header, model, packing, &Pace::full()).unwrap()
}

/// Decodes a snapshot, and returns whether it was decoded in parts, too.
fn read<T: DeserializeOwned>(file: &PackedFile) -> Result<(T, bool), Error> {
    let in_parts = Cell::new(false);
    let decoded = file.unpack(|blocks| {
        let place = blocks.place().clone();
        let decoding = file.decoding(DecodeHow::InParallel, blocks);
        let mut reader = SnapshotReader::new(blocks.take(), file.footer.raw_bytes, decoding);
        let decoded = told_of_panics("Deserialize", || reader.decode());
        *blocks = reader.into_blocks();
        in_parts.set(place.has_jumped());
        decoded
            .map_err(|reason| file.undecodable(reason))?
            .map_err(|error| file.undecodable(error.to_string()))
    })?;
    Ok((decoded, in_parts.get()))
}

fn bytes<T: Serialize>(model: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode_stream(model, &mut bytes).unwrap();
    bytes
}

/// Writes `model`, reads it as a `T`, and compares the encodings. Returns whether parts were used.
fn through<M: Serialize, T: DeserializeOwned + Serialize>(model: &M, packing: Packing) -> bool {
    let directory = tempfile::tempdir().unwrap();
    write_into(directory.path(), model, packing);
    let file = open_snapshot(&Disk, directory.path(), 42).unwrap();
    file.verify_content(&Pace::full()).unwrap();
    let (read, in_parts) = read::<T>(&file).unwrap();
    assert!(bytes(&read) == bytes(model), "the encodings differ");
    in_parts
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Shop {
    name: String,
    stock: Map<u64, String>,
    small: Map<u8, u8>,
    closed: Set<String>,
    log: Vector<(u64, Option<String>)>,
    opened: u64,
}

fn shop(entries: u64) -> Shop {
    Shop {
        name: "corner".to_owned(),
        stock: (0..entries).map(|key| (key * 3, format!("good number {key}"))).collect(),
        small: (0..9).map(|key| (key, key)).collect(),
        closed: (0..entries).map(|key| format!("{:09}", key * 7)).collect(),
        log: (0..entries).map(|key| (key, (key % 3 == 0).then(|| key.to_string()))).collect(),
        opened: 7,
    }
}

#[test]
fn every_collection_comes_back_in_parts_with_every_packing() {
    for packing in [PLAIN, ZSTD, THREADS] {
        assert!(through::<_, Shop>(&shop(MANY), packing));
        assert!(!through::<_, Shop>(&shop(100), packing), "small ones have no parts");
        assert!(!through::<_, Shop>(&Shop::default(), packing));
    }
}

/// What was loaded is a tree like any other.
#[test]
fn what_was_loaded_can_be_changed() {
    let directory = tempfile::tempdir().unwrap();
    let mut expected = shop(MANY);
    let file = write_into(directory.path(), &expected, ZSTD);
    let (mut loaded, _) = read::<Shop>(&file).unwrap();
    let before = loaded.clone();
    for shop in [&mut loaded, &mut expected] {
        for key in 0..2_000 {
            shop.stock.remove(&(key * 15));
            shop.stock.put(key * 11 + 1, "new".to_owned());
            shop.closed.remove(&format!("{:09}", key * 21));
            shop.log.insert(17 * usize::try_from(key).unwrap(), (key, None));
            shop.log.pop_front();
        }
    }
    assert!(bytes(&loaded) == bytes(&expected));
    assert!(bytes(&before) == bytes(&shop(MANY)));
}

/// A field may change between our collections and others that serde writes in the same way.
#[test]
fn other_types_read_what_was_written_in_parts_and_the_other_way_round() {
    let map: Map<u64, String> = (0..MANY).map(|key| (key, format!("value {key}"))).collect();
    let tree: BTreeMap<u64, String> = map.clone().into_iter().collect();
    assert!(!through::<_, BTreeMap<u64, String>>(&map, ZSTD));
    assert!(!through::<_, Map<u64, String>>(&tree, ZSTD));
    assert!(through::<_, Vector<(u64, String)>>(&map, ZSTD), "pairs look like entries");
    let set: Set<u64> = (0..MANY * 4).collect();
    assert!(!through::<_, BTreeSet<u64>>(&set, ZSTD));
    assert!(through::<_, Vector<u64>>(&set, PLAIN));
}

/// A map as large as a part, in each of several fields, options and other collections.
#[test]
fn collections_inside_others_come_back() {
    type Inner = Map<u64, String>;
    let inner =
        |from: u64| -> Inner { (from..from + 9_000).map(|it| (it, "x".repeat(9))).collect() };
    let few: Map<u8, Option<Inner>> = (0..5).map(|it| (it, Some(inner(it.into())))).collect();
    assert!(through::<_, Map<u8, Option<Inner>>>(&few, ZSTD));
    let many: Vector<Inner> = (0..70).map(inner).collect();
    assert!(through::<_, Vector<Inner>>(&many, ZSTD));
    let tree: BTreeMap<u8, Inner> = (0..5).map(|it| (it, inner(0))).collect();
    assert!(through::<_, BTreeMap<u8, Inner>>(&tree, PLAIN));
}

/// Values of which each is larger than a chunk.
#[test]
fn large_values_come_back() {
    let map: Map<u64, String> = (0..70).map(|key| (key, "large".repeat(70_000))).collect();
    assert!(through::<_, Map<u64, String>>(&map, PLAIN));
    assert!(through::<_, Map<u64, String>>(&map, THREADS));
}

/// A number that another program takes for the length of a string, in a part that is not small.
#[test]
fn a_length_that_nothing_has_room_for_is_an_error() {
    let map: Map<u64, (u64, String)> =
        (0..70).map(|key| (key, (1 << 44, "large".repeat(10_000)))).collect();
    let directory = tempfile::tempdir().unwrap();
    let file = write_into(directory.path(), &map, PLAIN);
    let error = read::<Map<u64, String>>(&file).err().unwrap();
    assert!(matches!(&error, Error::Undecodable { .. }), "{error}");
}

#[test]
fn values_without_bytes_come_back() {
    let vector: Vector<()> = (0..MANY).map(|_| ()).collect();
    assert!(!through::<_, Vector<()>>(&vector, ZSTD));
}

/// A map that a type writes as text, while a snapshot is written.
#[derive(Clone, Default)]
struct AsText(Map<u64, u64>);

impl Serialize for AsText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = serde_json::to_string(&self.0).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for AsText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Self(serde_json::from_str(&text).map_err(D::Error::custom)?))
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct WithText(AsText, Map<u64, u64>, AsText);

#[test]
fn a_map_that_meets_another_serializer_writes_itself_there() {
    let map: Map<u64, u64> = (0..MANY).map(|key| (key, key * key)).collect();
    let model = WithText(AsText(map.clone()), map.clone(), AsText(map));
    assert!(through::<_, WithText>(&model, ZSTD));
}

/// A number whose order can change between two programs.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Reversed(u64);

impl Ord for Reversed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.0.cmp(&self.0)
    }
}

impl PartialOrd for Reversed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[test]
fn keys_in_another_order_are_sorted() {
    let directory = tempfile::tempdir().unwrap();
    let map: Map<u64, u64> = (0..MANY).map(|key| (key, key + 1)).collect();
    let file = write_into(directory.path(), &map, ZSTD);
    let (read, in_parts) = read::<Map<Reversed, u64>>(&file).unwrap();
    assert!(in_parts);
    let expected: Map<Reversed, u64> = map.iter().map(|(&key, &it)| (Reversed(key), it)).collect();
    assert!(bytes(&read) == bytes(&expected));
    assert_eq!(read.first_key_value().map(|(key, _)| key.0), Some(MANY - 1));
}

/// A value that refuses one number, or panics at another.
#[derive(Clone, Serialize)]
struct Picky(u64);

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            31_000 => Err(D::Error::custom("not this one")),
            32_000 => panic!("never this one"),
            number => Ok(Self(number)),
        }
    }
}

#[test]
fn what_one_thread_cannot_decode_is_an_error() {
    for (bad, expected) in [(31_000, "not this one"), (32_000, "never this one")] {
        let directory = tempfile::tempdir().unwrap();
        let numbers = (0..MANY).map(|it| if it == MANY / 2 { bad } else { it % 1000 });
        let map: Map<u64, Picky> = (0..).zip(numbers.map(Picky)).collect();
        let file = write_into(directory.path(), &map, ZSTD);
        let error = read::<Map<u64, Picky>>(&file).err().unwrap();
        assert!(matches!(&error, Error::Undecodable { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        // The bytes themselves are fine.
        assert!(read::<Map<u64, u64>>(&file).is_ok());
        let shorter = read::<Map<u64, u8>>(&file).err().unwrap();
        assert!(matches!(&shorter, Error::Undecodable { .. }), "{shorter}");
    }
}

/// Damage in a chunk that a part needs is told as damage, whatever the decoder makes of it.
#[test]
fn damage_in_any_chunk_is_told() {
    for packing in [PLAIN, ZSTD] {
        let directory = tempfile::tempdir().unwrap();
        let whole = write_into(directory.path(), &shop(MANY), packing);
        drop(whole);
        let path = snapshot_path(directory.path(), 42);
        let intact = std::fs::read(&path).unwrap();
        for at in (0..intact.len()).step_by(intact.len() / 61) {
            let mut damaged = intact.clone();
            damaged[at] ^= 0x10;
            std::fs::write(&path, &damaged).unwrap();
            let file = open_snapshot(&Disk, directory.path(), 42);
            let told = file.and_then(|file| read::<Shop>(&file).map(drop));
            let error = told.err().unwrap_or_else(|| panic!("byte {at} was not noticed"));
            assert!(matches!(error, Error::Corrupt { .. }), "byte {at}: {error}");
        }
    }
}

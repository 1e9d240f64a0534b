//! Tests of snapshots that hold only what has changed since an earlier one.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::chain::{Base, Chain};
use super::super::file::{Written, open_snapshot, write};
use crate::codec::{self, DecodeHow};
use crate::collections::{Map, Set, Vector};
use crate::engine::RequestLog;
use crate::error::Error;
use crate::files::{FileHeader, PackedFile, Packing, SNAPSHOT_MAGIC, snapshot_path};
use crate::laboratory::Sizes;
use crate::model::{MigrationError, SnapshotReader};
use crate::options::RequestLimits;
use crate::storage::{Disk, Pace};
use crate::test_support;

const ZSTD: Packing = Packing { compression_level: 1, compression_threads: 0 };

pub(super) fn bytes<T: Serialize>(model: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode_stream(model, &mut bytes).unwrap();
    bytes
}

/// A directory in which each snapshot rests on the one before.
pub(super) struct Rests {
    directory: tempfile::TempDir,
    sequence: u64,
    base: Option<Base>,
    packing: Packing,
}

impl Rests {
    pub(super) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), sequence: 0, base: None, packing: ZSTD }
    }

    /// Stores everything as it is, so that a test can change it.
    pub(super) fn plain() -> Self {
        let packing = Packing { compression_level: 0, compression_threads: 0 };
        Self { packing, ..Self::new() }
    }

    pub(super) fn path(&self, sequence: u64) -> PathBuf {
        snapshot_path(self.directory.path(), sequence)
    }

    /// Makes the header of the next snapshot.
    fn header(&mut self) -> FileHeader {
        self.sequence += 1;
        let base_sequence = self.base.as_ref().map_or(self.sequence, |base| base.sequence);
        FileHeader {
            packing: self.packing.chunks_code(),
            sequence: self.sequence,
            base_sequence,
            salt: 0,
            ..test_support::header(SNAPSHOT_MAGIC)
        }
    }

    /// Writes the next snapshot. Returns the size of its encoding.
    pub(super) fn write<T: Serialize>(&mut self, model: &T) -> u64 {
        self.try_write(model).unwrap()
    }

    fn try_write<T: Serialize>(&mut self, model: &T) -> Result<u64, Error> {
        let header = self.header();
        let none = RequestLog::new(RequestLimits::of(0));
        let path = self.path(self.sequence);
        let (model, base) = ((model, &none), self.base.as_ref());
        let Written { file, known } =
            write(&Disk, &path, &header, model, base, self.packing, &Pace::full())?;
        self.base = Some(Base {
            sequence: self.sequence,
            footer_digest: file.footer_digest().unwrap(),
            known: Arc::new(known),
        });
        Ok(file.footer.raw_bytes)
    }

    fn open(&self) -> Result<PackedFile, Error> {
        open_snapshot(&Disk, self.directory.path(), self.sequence)
    }

    pub(super) fn read<T: DeserializeOwned>(&self, how: DecodeHow) -> Result<T, Error> {
        let file = self.open()?;
        let decoded = file.unpack(|blocks| {
            let decoding = file.decoding(how, blocks);
            let mut reader = SnapshotReader::new(blocks.take(), file.footer.raw_bytes, decoding);
            let decoded = reader.decode();
            let decoded = reader.checked(decoded);
            *blocks = reader.into_blocks();
            decoded.map_err(|error: MigrationError| file.undecodable(error.to_string()))
        })?;
        Ok(decoded)
    }

    /// Reads the newest snapshot in every way, and compares it with `model`.
    fn check<T: Serialize + DeserializeOwned>(&self, model: &T) {
        for how in [DecodeHow::InParallel, DecodeHow::OneThread] {
            let read: T = self.read(how).unwrap();
            assert!(bytes(&read) == bytes(model), "snapshot {} {how:?}", self.sequence);
        }
        self.read::<T>(DecodeHow::OnlyToSee).unwrap();
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Shop {
    name: String,
    stock: Map<u64, String>,
    prices: Map<u64, u32>,
    /// Fewer than 32, so changes inside of each are written.
    by_region: Map<u8, Vector<u16>>,
    closed: Set<u64>,
    log: Vector<(u32, Option<String>)>,
    queue: Vector<u64>,
    others: Vec<Map<u64, u64>>,
    opened: u64,
}

fn shop(entries: u64) -> Shop {
    let number = |key| u32::try_from(key).unwrap();
    Shop {
        name: "corner".to_owned(),
        stock: (0..entries).map(|key| (key * 3, format!("good number {key}"))).collect(),
        prices: (0..entries).map(|key| (key * 3, number(key))).collect(),
        by_region: (0..3)
            .map(|region| (region, (0..entries).map(|key| (key % 1000) as u16).collect()))
            .collect(),
        closed: (0..entries).map(|key| key * 7).collect(),
        log: (0..entries)
            .map(|key| (number(key), (key % 3 == 0).then(|| key.to_string())))
            .collect(),
        queue: (0..entries).collect(),
        others: (0..2).map(|other| (0..entries).map(|key| (key + other, key)).collect()).collect(),
        opened: 7,
    }
}

/// A change of a shop.
#[derive(Clone, Debug)]
enum Change {
    Put(u64, String),
    Price(u64, u32),
    Remove(u64),
    RemoveSome(u64, u64),
    Region(u8, usize, u16),
    Close(u64),
    Reopen(u64),
    Log(u32),
    LogAt(usize, u32),
    Unlog(usize),
    Move(u64),
    PushFront(u64),
    Cut(usize),
    Swap(usize, usize),
    Other(usize, u64, u64),
    Exchange,
    Clear,
    Opened(u64),
}

fn change() -> impl Strategy<Value = Change> {
    let key = || 0..1500_u64;
    prop_oneof![
        6 => (key(), "[a-z]{0,20}").prop_map(|(key, value)| Change::Put(key, value)),
        6 => (key(), any::<u32>()).prop_map(|(key, price)| Change::Price(key, price)),
        4 => key().prop_map(Change::Remove),
        1 => (key(), 2..40_u64).prop_map(|(key, count)| Change::RemoveSome(key, count)),
        3 => (0..5_u8, 0..600_usize, any::<u16>()).prop_map(|(a, b, c)| Change::Region(a, b, c)),
        2 => key().prop_map(Change::Close),
        2 => key().prop_map(Change::Reopen),
        3 => any::<u32>().prop_map(Change::Log),
        3 => (0..600_usize, any::<u32>()).prop_map(|(at, number)| Change::LogAt(at, number)),
        2 => (0..600_usize).prop_map(Change::Unlog),
        4 => key().prop_map(Change::Move),
        2 => key().prop_map(Change::PushFront),
        1 => (0..600_usize).prop_map(Change::Cut),
        2 => (0..600_usize, 0..600_usize).prop_map(|(a, b)| Change::Swap(a, b)),
        2 => (0..2_usize, key(), key()).prop_map(|(a, b, c)| Change::Other(a, b, c)),
        1 => Just(Change::Exchange),
        1 => Just(Change::Clear),
        1 => any::<u64>().prop_map(Change::Opened),
    ]
}

fn apply(shop: &mut Shop, change: &Change) {
    let queued = shop.queue.len();
    match change.clone() {
        Change::Put(key, value) => drop(shop.stock.insert(key, value)),
        Change::Price(key, price) => drop(shop.prices.insert(key, price)),
        Change::Remove(key) => drop((shop.stock.remove(&key), shop.prices.remove(&key))),
        Change::RemoveSome(from, count) => {
            shop.stock.retain(|key, _| !(from..from + count).contains(key));
        }
        Change::Region(region, at, value) => {
            if !shop.by_region.contains_key(&region) {
                shop.by_region.insert(region, Vector::new());
            }
            let values = shop.by_region.get_mut(&region).unwrap();
            if at < values.len() {
                values.set(at, value);
            } else {
                values.push_back(value);
            }
        }
        Change::Close(key) => drop(shop.closed.insert(key)),
        Change::Reopen(key) => drop(shop.closed.remove(&key)),
        Change::Log(number) => shop.log.push_back((number, Some(number.to_string()))),
        Change::LogAt(at, number) => shop.log.insert(at.min(shop.log.len()), (number, None)),
        Change::Unlog(at) if at < shop.log.len() => drop(shop.log.remove(at)),
        Change::Move(number) => {
            shop.queue.pop_front();
            shop.queue.push_back(number);
        }
        Change::PushFront(number) => shop.queue.push_front(number),
        Change::Cut(length) => {
            let mut behind = shop.queue.split_off(length.min(queued));
            shop.queue.push_back(1);
            shop.queue.append(&mut behind);
        }
        Change::Swap(a, b) if a < queued && b < queued => shop.queue.swap(a, b),
        Change::Other(other, key, value) => drop(shop.others[other].insert(key, value)),
        Change::Exchange => shop.others[0] = shop.others[1].clone(),
        Change::Clear => shop.closed.clear(),
        Change::Opened(number) => (shop.opened, shop.name) = (number, number.to_string()),
        Change::Unlog(_) | Change::Swap(..) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever is changed: base and changes together give the model.
    #[test]
    fn base_and_changes_are_the_model(
        entries in prop_oneof![0..40_u64, 100..500_u64],
        rounds in proptest::collection::vec(
            proptest::collection::vec(change(), 0..40), 1..6),
    ) {
        let _sizes = Sizes::small();
        let mut model = shop(entries);
        let mut rests = Rests::new();
        rests.write(&model);
        for changes in &rounds {
            // Readers keep the versions before, as in a database.
            let _before = model.clone();
            for change in changes {
                apply(&mut model, change);
            }
            rests.write(&model);
            rests.check(&model);
        }
    }
}

const MANY: u64 = 20_000;

fn with_usual_sizes<R>(run: impl FnOnce() -> R) -> R {
    let _sizes = Sizes::usual();
    run()
}

#[test]
fn only_what_has_changed_is_written() {
    with_usual_sizes(|| {
        let mut model = shop(MANY);
        let mut rests = Rests::new();
        let whole = rests.write(&model);
        rests.check(&model);
        let nothing = rests.write(&model);
        assert!(nothing < 100, "{nothing} bytes of {whole} when nothing has changed");
        for round in 0..3 {
            for step in 0..100 {
                let key = step * 173 + round;
                model.stock.put(key, "changed".to_owned());
                model.prices.put(key, 7);
                model.closed.remove(&(step * 700));
                model.log.push_back((1, None));
                model.log.set(step as usize * 30, (round as u32, None));
                model.queue.pop_front();
                model.queue.push_back(round);
                model.by_region.get_mut(&1).unwrap().set(step as usize * 101, 1);
                model.others[1].remove(&(key * 2));
            }
            let changes = rests.write(&model);
            assert!(changes < whole / 50, "{changes} bytes of {whole} in round {round}");
            rests.check(&model);
        }
    });
}

/// An element that comes to the front of a vector moves all others, and changes none.
#[test]
fn elements_that_move_are_not_written_again() {
    with_usual_sizes(|| {
        let mut model: Vector<u64> = (0..MANY).map(|it| it * 1_000_003).collect();
        let mut rests = Rests::new();
        rests.write(&model);
        for at in [0, 10_000, 20_001, 33, 0] {
            model.insert(at, 7);
            let bytes = rests.write(&model);
            assert!(bytes < 700, "{bytes} bytes for an element at {at}");
            rests.check(&model);
        }
        for at in [0, 10_000, 19_000, 33, 0] {
            model.remove(at);
            let bytes = rests.write(&model);
            assert!(bytes < 700, "{bytes} bytes without an element at {at}");
            rests.check(&model);
        }
        let mut behind = model.split_off(5_000);
        let bytes = rests.write(&model);
        assert!(bytes < 700, "{bytes} bytes without the end");
        rests.check(&model);
        model.append(&mut behind);
        rests.write(&model);
        rests.check(&model);
    });
}

/// Keys may be equal in their order and differ all the same.
#[test]
fn a_key_that_is_only_equal_in_its_order_is_written() {
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Name(u32, u8);
    impl PartialEq for Name {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }
    impl Eq for Name {}
    impl PartialOrd for Name {
        fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
            Some(self.cmp(other))
        }
    }
    impl Ord for Name {
        fn cmp(&self, other: &Self) -> std::cmp::Ordering {
            self.0.cmp(&other.0)
        }
    }
    with_usual_sizes(|| {
        let names = (0..20_000).map(|number| Name(number, 0));
        let mut model: (Map<Name, u8>, Set<Name>) =
            (names.clone().map(|name| (name, 1)).collect(), names.collect());
        let mut rests = Rests::new();
        rests.write(&model);
        model.0.remove(&Name(500, 0));
        model.0.insert(Name(500, 9), 1);
        model.1.remove(&Name(600, 0));
        model.1.insert(Name(600, 9));
        rests.write(&model);
        rests.check(&model);
    });
}

/// A `BTreeMap` would take the new entries for all of them.
#[test]
fn changes_are_not_decoded_as_another_type() {
    with_usual_sizes(|| {
        let mut model: (Map<u64, u64>, u64) = ((0..MANY).map(|key| (key, key)).collect(), 3);
        let mut rests = Rests::new();
        rests.write(&model);
        type Other = (BTreeMap<u64, u64>, u64);
        rests.read::<Other>(DecodeHow::InParallel).unwrap();
        for key in 0..10 {
            model.0.put(key, 1);
        }
        rests.write(&model);
        rests.check(&model);
        let error = rests.read::<Other>(DecodeHow::InParallel).unwrap_err().to_string();
        assert!(error.contains("Model::migrate"), "{error}");
        // The changes are all that is left to decode, so nothing else fails.
        let mut model: (u64, Map<u64, u64>) = (3, (0..MANY).map(|key| (key, key)).collect());
        let mut rests = Rests::new();
        rests.write(&model);
        model.1.retain(|_, _| false);
        rests.write(&model);
        rests.check(&model);
        let read = rests.read::<(u64, BTreeMap<u64, u64>)>(DecodeHow::InParallel);
        let error = read.unwrap_err().to_string();
        assert!(error.contains("Model::migrate"), "{error}");
        // A vector of pairs has the same entries as a map.
        let pairs: (u64, Vector<(u64, u64)>) = rests.read(DecodeHow::InParallel).unwrap();
        assert!(pairs.1.is_empty());
    });
}

#[test]
fn a_base_that_is_missing_or_another_is_an_error_that_names_it() {
    with_usual_sizes(|| {
        let written = |first: u64| {
            let mut model: Map<u64, u64> = (0..MANY).map(|key| (key, key + first)).collect();
            let mut rests = Rests::new();
            rests.write(&model);
            for key in 0..2 {
                model.put(key, 1);
                rests.write(&model);
            }
            rests.check(&model);
            rests
        };
        let (rests, other) = (written(0), written(1));
        for sequence in [1, 2] {
            let path = rests.path(sequence);
            let right = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            let error = rests.open().err().unwrap();
            assert!(matches!(&error, Error::Missing { path: of, .. } if *of == path), "{error}");
            fs::copy(other.path(sequence), &path).unwrap();
            let error = rests.open().err().unwrap();
            // Either of the two may be the wrong one, so the error names both.
            assert!(matches!(error, Error::Corrupt { .. }), "{error}");
            for path in [rests.path(sequence), path.clone()] {
                assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            }
            fs::write(&path, right).unwrap();
            rests.open().unwrap();
        }
        // It has the same content, and only the chain value differs.
        let mut same = Rests::new();
        same.write(&(0..MANY).map(|key| (key, key)).collect::<Map<u64, u64>>());
        fs::copy(same.path(1), rests.path(1)).unwrap();
        rests.open().unwrap();
    });
}

/// A large part can be decoded only with all that is before it, and changes have not got that.
#[test]
fn changes_that_are_too_large_to_be_decoded_are_not_written() {
    let _sizes = Sizes::small();
    let mut model: Map<u64, String> = (0..100).map(|key| (key, key.to_string())).collect();
    let mut rests = Rests::new();
    rests.write(&model);
    model.put(7, "x".repeat(3 << 10));
    let error = rests.try_write(&model).unwrap_err();
    assert!(matches!(error, Error::Encode { .. }), "{error}");
    rests.base = None;
    rests.write(&model);
    rests.check(&model);
    assert!(rests.base.as_ref().unwrap().known.is_empty(), "nothing may rest on it");
}

/// The scripts are behind all that a decoder of the content reads.
#[test]
fn scripts_are_verified_when_a_snapshot_is_read_back() {
    with_usual_sizes(|| {
        let mut model: Map<u64, u64> = (0..MANY).map(|key| (key, key)).collect();
        let mut rests = Rests::new();
        rests.write(&model);
        for key in 0..MANY / 2 {
            model.remove(&(key * 2));
        }
        rests.write(&model);
        rests.check(&model);
        let path = rests.path(2);
        let mut bytes = fs::read(&path).unwrap();
        let (index, _) = crate::laboratory::sealed::index(&bytes).unwrap();
        rests.open().unwrap().verify_content(&Pace::full()).unwrap();
        bytes[index - 5] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(rests.open().unwrap().verify_content(&Pace::full()).is_err());
    });
}

fn first(model: &impl Serialize) -> Written {
    let (mut rests, none) = (Rests::new(), RequestLog::new(RequestLimits::of(0)));
    let header = rests.header();
    let path = rests.path(rests.sequence);
    write(&Disk, &path, &header, (model, &none), None, ZSTD, &Pace::full()).unwrap()
}

/// Otherwise a base could keep any amount of memory and of journal.
#[test]
fn a_chain_ends_when_the_journal_has_grown_and_when_much_memory_is_kept() {
    with_usual_sizes(|| {
        let mut model: Map<u64, u64> = (0..1_400_000).map(|key| (key, key)).collect();
        let chain = Chain::after(None, first(&model), 1000).unwrap();
        let most = 1000 + (64 << 20);
        assert!(chain.base(most).is_some() && !chain.is_too_old(most));
        assert!(chain.base(most + 1).is_none() && chain.is_too_old(most + 1));
        for key in 0..300_000 {
            model.put(key, 1);
        }
        assert!(!chain.is_too_old(1000), "less than half has changed");
        for key in (300_000..1_400_000).step_by(20) {
            model.put(key, 1);
        }
        assert!(chain.is_too_old(1000), "every leaf has changed");
        let small: Map<u64, u64> = (0..9_000).map(|key| (key, key)).collect();
        assert!(Chain::after(None, first(&small), 0).is_none(), "it is written as fast whole");
    });
}

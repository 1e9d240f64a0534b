//! What the tests of purges share: a house with guests, one of whom must be forgotten.

#![allow(dead_code)] // every test file uses a part of it

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use imbl::OrdMap;
use prevalence::{
    Command, Context, Database, HistoryRecord, Metadata, Model, PurgeAction, Retention,
    SnapshotPolicy,
};
use serde::{Deserialize, Serialize};

use crate::common::content;

pub const SECRET: &str = "Zaphod Beeblebrox";

/// The guests, each with the command of the arrival, and a number that depends on the order of all
/// commands.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct House {
    pub guests: OrdMap<String, u64>,
    pub mixed: u64,
}

impl Model for House {
    type Event = ();
}

impl House {
    pub fn bytes(&self) -> Vec<u8> {
        bincode::serde::encode_to_vec(self, bincode::config::standard()).unwrap()
    }

    pub fn mix(&mut self, value: u64) {
        self.mixed = self.mixed.wrapping_mul(0x0100_0000_01b3) ^ value;
    }

    pub fn arrive(&mut self, name: &str, sequence: u64) {
        self.guests.insert(name.to_owned(), sequence);
        self.mix(name.len() as u64);
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Arrive {
    pub name: String,
}

impl Command<House> for Arrive {
    type Output = ();
    type Rejection = ();

    fn apply(self, house: &mut House, cx: &mut Context<'_, House>) -> Result<(), ()> {
        house.arrive(&self.name, cx.sequence());
        Ok(())
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Leave {
    pub name: String,
}

#[derive(Debug)]
pub struct Absent;

impl Command<House> for Leave {
    type Output = ();
    type Rejection = Absent;

    fn apply(self, house: &mut House, _: &mut Context<'_, House>) -> Result<(), Absent> {
        house.guests.remove(&self.name).ok_or(Absent)?;
        house.mix(1);
        Ok(())
    }
}

/// A command that takes room, so that the journal leaves segments for the next.
#[derive(Clone, Serialize, Deserialize)]
pub struct Party {
    pub noise: Vec<u8>,
}

impl Command<House> for Party {
    type Output = ();
    type Rejection = ();

    fn apply(self, house: &mut House, cx: &mut Context<'_, House>) -> Result<(), ()> {
        house.mix(self.noise.len() as u64 ^ cx.random());
        Ok(())
    }
}

prevalence::commands! { House { 1 => Arrive, 2 => Leave, 3 => Party } }

pub fn builder() -> prevalence::Builder<House> {
    Database::<House>::builder()
        .segment_bytes(64 << 10)
        .keep_snapshots(1)
        .snapshots(SnapshotPolicy::manual())
        .retention(Retention::Archive)
}

pub fn arrive(house: &Database<House>, name: &str) {
    house.execute(Arrive { name: name.to_owned() }).unwrap();
}

pub fn by(house: &Database<House>, actor: &str) -> Database<House> {
    let metadata = Metadata { actor: actor.to_owned(), ..Metadata::default() };
    house.with_metadata(&metadata).unwrap()
}

pub fn requesting(house: &Database<House>, request_id: &str) -> Database<House> {
    let request_id = request_id.to_owned();
    house.with_metadata(&Metadata { request_id, ..Metadata::default() }).unwrap()
}

/// Makes noise that does not compress, so that what is packed beside it stands in the file
/// unchanged.
pub fn noise(seed: u64) -> Party {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 56) as u8
    };
    Party { noise: std::iter::repeat_with(next).take(15 << 10).collect() }
}

/// Makes a history of three rounds and a tail. Each round makes at least an archive and a snapshot.
/// The secret arrives in the first and in the last round, and asks for something in the second.
pub fn party(path: &Path) -> Database<House> {
    let house = builder().open(path).unwrap();
    for round in 0..3 {
        arrive(&house, &format!("guest {round}"));
        match round {
            0 => arrive(&house, SECRET),
            1 => {
                let request_id = format!("{SECRET}, 1");
                let asked =
                    Metadata { actor: SECRET.to_owned(), request_id, ..Metadata::default() };
                arrive(&house.with_metadata(&asked).unwrap(), "a friend");
            }
            _ => arrive(&requesting(&house, "request 2"), "another friend"),
        }
        for seed in 0..4 {
            house.execute(noise(round * 10 + seed)).unwrap();
        }
        house.snapshot().unwrap();
    }
    arrive(&house, SECRET);
    arrive(&house, "the last guest");
    house
}

/// Redacts commands that name the secret, and forgets those in which it asked.
pub fn erase(record: &HistoryRecord<House>) -> PurgeAction<House> {
    match record.command::<Arrive>() {
        Some(Ok(arrive)) if arrive.name == SECRET => PurgeAction::Redact,
        _ if record.metadata().actor == SECRET => PurgeAction::DropMetadata,
        _ => PurgeAction::Keep,
    }
}

/// Returns the files of a directory as they are, and packed files also unpacked.
pub fn readable(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = content(path);
    for (name, bytes) in files.clone() {
        if name.extension().is_some_and(|suffix| suffix == "archive" || suffix == "snapshot") {
            files.insert(name.with_extension("unpacked"), unpacked(&bytes));
        }
    }
    files
}

/// Returns the content of a packed file, decoded as `docs::format` says.
pub fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let mut at = number(12);
    let packing = number(36);
    let mut content = Vec::new();
    while number(at) > 0 {
        let chunk = &bytes[at + 8..at + 8 + number(at)];
        match packing {
            // A chunk that packing would not make smaller is stored as it is.
            3 => content.extend(zstd::decode_all(chunk).unwrap_or(chunk.to_vec())),
            _ => content.extend_from_slice(chunk),
        }
        at += 8 + number(at);
    }
    if packing == 1 { zstd::decode_all(&content[..]).unwrap() } else { content }
}

/// Returns the suffixes of the files that hold the secret.
pub fn holding_secret(path: &Path) -> Vec<String> {
    let found = readable(path)
        .into_iter()
        .filter(|(_, bytes)| String::from_utf8_lossy(bytes).contains(SECRET));
    let suffix =
        |name: PathBuf| name.extension().unwrap_or_default().to_string_lossy().into_owned();
    let mut suffixes: Vec<String> = found.map(|(name, _)| suffix(name)).collect();
    suffixes.sort();
    suffixes.dedup();
    suffixes
}

pub fn states(house: &Database<House>) -> Vec<Vec<u8>> {
    let history = house.history();
    (0..=history.newest()).map(|sequence| history.at(sequence).unwrap().bytes()).collect()
}

pub fn records(house: &Database<House>) -> Vec<HistoryRecord<House>> {
    house.history().records(..).unwrap().map(Result::unwrap).collect()
}

/// Returns the number in the state. A party changes it in a way that depends on the database's
/// identity.
pub fn mixed_of(state: &[u8]) -> u64 {
    let (house, _): (House, usize) =
        bincode::serde::decode_from_slice(state, bincode::config::standard()).unwrap();
    house.mixed
}

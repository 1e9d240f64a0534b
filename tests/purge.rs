//! Legal erasure: what is purged from a stored history is nowhere any more, the rest is as it was,
//! and a purge that cannot be changes nothing.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{content, copy_directory, temporary};
use imbl::OrdMap;
use prevalence::{
    Command, Context, Database, Error, ExecuteError, HistoryRecord, Metadata, Model, PurgeAction,
    Replacement, Retention, SnapshotPolicy, View, purge, purge_records, purge_unverified,
    verify_history,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

const SECRET: &str = "Zaphod Beeblebrox";

/// Who is there, and since which command; a number that depends on the order of all commands.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
struct House {
    guests: OrdMap<String, u64>,
    mixed: u64,
}

impl Model for House {
    type Event = ();
}

impl House {
    fn bytes(&self) -> Vec<u8> {
        bincode::serde::encode_to_vec(self, bincode::config::standard()).unwrap()
    }

    fn mix(&mut self, value: u64) {
        self.mixed = self.mixed.wrapping_mul(0x0100_0000_01b3) ^ value;
    }

    fn arrive(&mut self, name: &str, sequence: u64) {
        self.guests.insert(name.to_owned(), sequence);
        self.mix(name.len() as u64);
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Arrive {
    name: String,
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
struct Leave {
    name: String,
}

#[derive(Debug)]
struct Absent;

impl Command<House> for Leave {
    type Output = ();
    type Rejection = Absent;

    fn apply(self, house: &mut House, _: &mut Context<'_, House>) -> Result<(), Absent> {
        house.guests.remove(&self.name).ok_or(Absent)?;
        house.mix(1);
        Ok(())
    }
}

/// Takes room, so that segments are left for the next.
#[derive(Clone, Serialize, Deserialize)]
struct Party {
    noise: Vec<u8>,
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

fn builder() -> prevalence::Builder<House> {
    Database::<House>::builder()
        .segment_bytes(64 << 10)
        .keep_snapshots(1)
        .snapshots(SnapshotPolicy::manual())
        .retention(Retention::Archive)
}

fn arrive(house: &Database<House>, name: &str) {
    house.execute(Arrive { name: name.to_owned() }).unwrap();
}

fn by(house: &Database<House>, actor: &str) -> Database<House> {
    let metadata = Metadata { actor: actor.to_owned(), ..Metadata::default() };
    house.with_metadata(&metadata).unwrap()
}

fn requesting(house: &Database<House>, request_id: &str) -> Database<House> {
    let request_id = request_id.to_owned();
    house.with_metadata(&Metadata { request_id, ..Metadata::default() }).unwrap()
}

/// Noise that packs badly, so that what is packed beside it stands in the file as it is.
fn noise(seed: u64) -> Party {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 56) as u8
    };
    Party { noise: std::iter::repeat_with(next).take(15 << 10).collect() }
}

/// Three rounds, each of them an archive and a snapshot at least, and a tail; the secret arrives in
/// the first and in the last, and asks for something in the second.
fn party(path: &Path) -> Database<House> {
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

/// Redacts what names the secret, and forgets where it asked.
fn erase(record: &HistoryRecord<House>) -> PurgeAction<House> {
    match record.command::<Arrive>() {
        Some(Ok(arrive)) if arrive.name == SECRET => PurgeAction::Redact,
        _ if record.metadata().actor == SECRET => PurgeAction::DropMetadata,
        _ => PurgeAction::Keep,
    }
}

/// What stands in a directory: the files as they are, and packed ones unpacked besides.
fn readable(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = content(path);
    for (name, bytes) in files.clone() {
        if name.extension().is_some_and(|suffix| suffix == "archive" || suffix == "snapshot") {
            files.insert(name.with_extension("unpacked"), unpacked(&bytes));
        }
    }
    files
}

/// The content of a packed file, by what `docs::format` says.
fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let mut at = number(12);
    let mut packed = Vec::new();
    while number(at) > 0 {
        packed.extend_from_slice(&bytes[at + 8..at + 8 + number(at)]);
        at += 8 + number(at);
    }
    if number(36) == 0 { packed } else { zstd::decode_all(&packed[..]).unwrap() }
}

/// The files in which the secret is found, by their suffixes.
fn holding_secret(path: &Path) -> Vec<String> {
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

fn states(house: &Database<House>) -> Vec<Vec<u8>> {
    let history = house.history();
    (0..=history.newest()).map(|sequence| history.at(sequence).unwrap().bytes()).collect()
}

fn records(house: &Database<House>) -> Vec<HistoryRecord<House>> {
    house.history().records(..).unwrap().map(Result::unwrap).collect()
}

#[test]
fn what_is_erased_is_nowhere_and_the_rest_is_as_it_was() {
    let (_directory, path) = temporary();
    let house = party(&path);
    let (before, then) = (records(&house), states(&house));
    house.close().unwrap();
    std::fs::write(path.join(".prevalence-left.tmp"), SECRET).unwrap();
    assert_eq!(holding_secret(&path), ["archive", "journal", "snapshot", "tmp", "unpacked"]);
    let snapshots = || content(&path).into_keys().filter(|n| n.to_str().unwrap().ends_with("shot"));
    let (stood, newest) = (snapshots().collect::<Vec<_>>(), before.len() as u64);

    let report = purge::<House>(&path, erase).unwrap();
    assert_eq!((report.redacted, report.replaced, report.metadata_dropped), (2, 0, 1));
    assert_eq!((report.sequence, report.kept), (newest, newest - 3));
    assert_eq!(report.snapshots_recomputed, 3);
    assert_eq!(holding_secret(&path), [""; 0]);
    assert_eq!(snapshots().collect::<Vec<_>>(), stood, "they stand where they stood");
    assert!(content(&path).keys().all(|name| !name.to_str().unwrap().contains(".purg/")));
    for left in ["journal.purging", "journal.purged", "archive.purged", "snapshots.purged"] {
        assert!(!path.join(left).exists());
    }

    let verified = verify_history::<House>(&path).unwrap();
    assert_eq!((verified.divergence, verified.begins, verified.sequence), (None, 0, newest));
    assert_eq!((verified.commands_redacted, verified.snapshots_compared), (2, 3));
    let house = builder().open(&path).unwrap();
    assert!(house.recovery().clean);
    let after = records(&house);
    let mut model = House::default();
    for (sequence, state) in (0usize..).zip(states(&house)) {
        // Without the two, all is as if nobody had come then.
        if let Some(record) = sequence.checked_sub(1).map(|at| &before[at]) {
            let (now, sequence) = (&after[sequence - 1], sequence as u64);
            assert_eq!((now.sequence(), now.time()), (record.sequence(), record.time()));
            match record.command::<Arrive>().map(Result::unwrap) {
                Some(arrive) if arrive.name == SECRET => {
                    assert!(now.is_redacted() && now.command::<Arrive>().is_none());
                    assert_eq!((now.command_name(), now.metadata()), <_>::default_redacted());
                    assert_eq!(now.command_json().unwrap(), "null");
                }
                Some(arrive) => {
                    model.arrive(&arrive.name, sequence);
                    assert_eq!(now.command_json().unwrap(), record.command_json().unwrap());
                    let forgotten = record.metadata().actor == SECRET;
                    let expected = if forgotten { Metadata::default() } else { record.metadata() };
                    assert_eq!(now.metadata(), expected);
                }
                None => {
                    assert_eq!(now.command_json().unwrap(), record.command_json().unwrap());
                    model.mixed = mixed_of(&state);
                }
            }
        }
        assert_eq!(model.bytes(), state, "at {sequence}");
        assert_eq!(sequence < 2, state == then[sequence], "at {sequence}");
    }
    // What was asked for is remembered as far as it is not erased.
    let again = |id: &str| requesting(&house, id).execute(Arrive { name: "a fan".to_owned() });
    assert!(matches!(again("request 2"), Err(ExecuteError::Duplicate { sequence: 14, .. })));
    again(&format!("{SECRET}, 1")).unwrap();
    house.execute(Leave { name: "a fan".to_owned() }).unwrap();
    house.close().unwrap();
    purge::<House>(&path, erase_requests).unwrap();
    let house = builder().open(&path).unwrap();
    assert_eq!(house.query(|house| house.guests.len()), 6);
    goes_on(house, &path);
}

/// Forgets the secret in request ids, too.
fn erase_requests(record: &HistoryRecord<House>) -> PurgeAction<House> {
    if record.metadata().request_id.contains(SECRET) {
        return PurgeAction::DropMetadata;
    }
    erase(record)
}

trait Redacted {
    fn default_redacted() -> Self;
}

impl Redacted for (&str, Metadata) {
    fn default_redacted() -> Self {
        ("(redacted)", Metadata::default())
    }
}

/// What a party makes of the number depends on the database's identity.
fn mixed_of(state: &[u8]) -> u64 {
    let (house, _): (House, usize) =
        bincode::serde::decode_from_slice(state, bincode::config::standard()).unwrap();
    house.mixed
}

/// That a purged database is one like any other, and that nothing is left to be purged.
fn goes_on(house: Database<House>, path: &Path) {
    let at = house.sequence();
    arrive(&house, "a new guest");
    house.snapshot().unwrap();
    arrive(&house, "one more");
    let now = states(&house);
    assert_eq!((now.len() as u64, house.sequence()), (at + 3, at + 2));
    house.close().unwrap();
    let house = builder().open(path).unwrap();
    assert_eq!(states(&house), now);
    let project: View<House> = house.history().project().unwrap();
    assert_eq!(project.bytes(), now[now.len() - 1]);
    house.close().unwrap();
    let stands = content(path);
    let report = purge::<House>(path, erase).unwrap();
    assert_eq!((report.kept + 2, report.record), (at + 4, None));
    assert_eq!(content(path), stands);
}

#[test]
fn a_replacement_counts_from_its_place_on() {
    for drops in [false, true] {
        let (_directory, path) = temporary();
        let house = party(&path);
        let then = records(&house);
        house.close().unwrap();
        let report = purge::<House>(&path, |record| match record.command::<Arrive>() {
            // Another type of command, too.
            Some(Ok(arrive)) if arrive.name == "guest 1" => {
                PurgeAction::replace(Party { noise: vec![1] })
            }
            Some(Ok(arrive)) if arrive.name.ends_with("friend") => {
                let replacement = Replacement::of(Arrive { name: "a fan".to_owned() });
                PurgeAction::Replace(if drops {
                    replacement.without_metadata()
                } else {
                    replacement
                })
            }
            _ => PurgeAction::Keep,
        })
        .unwrap();
        assert_eq!((report.replaced, report.redacted), (3, 0));
        assert_eq!(report.metadata_dropped, if drops { 2 } else { 0 });
        let house = builder().open(&path).unwrap();
        let places: Vec<u64> = records(&house)
            .iter()
            .zip(&then)
            .filter(|(now, then)| now.command_json().unwrap() != then.command_json().unwrap())
            .map(|(now, then)| {
                assert_eq!((now.sequence(), now.time()), (then.sequence(), then.time()));
                let expected = if drops { Metadata::default() } else { then.metadata() };
                assert_eq!(now.metadata(), expected);
                now.sequence()
            })
            .collect();
        assert_eq!(places, [7, 8, 14]);
        let names = |house: &House| house.guests.keys().cloned().collect::<Vec<_>>();
        let history = house.history();
        assert_eq!(names(&history.at(6).unwrap()), [SECRET, "guest 0"]);
        assert_eq!(names(&history.at(8).unwrap()), [SECRET, "a fan", "guest 0"]);
        let expected = [SECRET, "a fan", "guest 0", "guest 2", "the last guest"];
        assert_eq!(house.query(names), expected);
        assert_eq!(house.query(|house| house.guests["a fan"]), 14);
    }
}

#[test]
fn a_purge_that_a_later_command_cannot_bear_changes_nothing() {
    let (_directory, path) = temporary();
    let house = party(&path);
    house.execute(Leave { name: SECRET.to_owned() }).unwrap();
    let leaves = house.sequence();
    house.close().unwrap();
    let before = content(&path);
    let error = purge::<House>(&path, erase).unwrap_err();
    let told = matches!(&error, Error::PurgeRefused { sequence, command, .. }
        if *sequence == leaves && command == "Leave");
    assert!(told, "{error}");
    let refused = |_: &HistoryRecord<House>| PurgeAction::replace(Leave { name: "x".to_owned() });
    let error = purge::<House>(&path, refused).unwrap_err();
    assert!(matches!(&error, Error::PurgeRefused { sequence: 1, .. }), "{error}");
    assert_eq!(content(&path), before);
    assert!(!path.join("journal.purging").exists() && !path.join("purges.purging").exists());
}

#[test]
fn what_cannot_be_purged_is_told_and_left() {
    let (_directory, path) = temporary();
    let house = party(&path);
    let error = purge::<House>(&path, erase).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    house.close().unwrap();
    for name in ["archive/notes.txt", "journal/7.journal", ".prevalence-bank.db-1.tmp/x"] {
        let unknown = path.join(name);
        std::fs::create_dir_all(unknown.parent().unwrap()).unwrap();
        std::fs::write(&unknown, "x").unwrap();
        let before = content(&path);
        let error = purge::<House>(&path, erase).unwrap_err();
        let told = matches!(&error, Error::UnknownFile { path } if unknown.starts_with(path));
        assert!(told, "{error}");
        assert_eq!(content(&path), before);
        std::fs::remove_file(&unknown).unwrap();
        std::fs::remove_dir(unknown.parent().unwrap()).ok();
    }
    std::fs::write(path.join("notes.txt"), "its owner's").unwrap();
    purge::<House>(&path, erase).unwrap();
    assert!(path.join("notes.txt").exists());
    let error = purge::<House>(path.join("elsewhere"), erase).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    assert!(!path.join("elsewhere").exists());
}

#[test]
fn a_truncated_history_cannot_be_purged() {
    let (_directory, path) = temporary();
    let truncate = || builder().retention(Retention::Truncate);
    let house = truncate().open(&path).unwrap();
    arrive(&house, SECRET);
    house.close().unwrap();
    // The initial model and all commands are there yet.
    assert_eq!(purge::<House>(&path, erase).unwrap().redacted, 1);
    assert_eq!(holding_secret(&path), [""; 0]);
    let house = truncate().open(&path).unwrap();
    assert!(house.query(|house| house.guests.is_empty()));
    arrive(&house, SECRET);
    let oldest = house.snapshot().unwrap().sequence;
    arrive(&house, SECRET);
    house.close().unwrap();
    let before = content(&path);
    let error = purge::<House>(&path, erase).unwrap_err();
    assert!(
        matches!(error, Error::HistoryTruncated { wanted: 0, oldest: o, .. } if o == oldest),
        "{error}"
    );
    assert_eq!(content(&path), before);
}

#[test]
fn every_purge_is_written_down() {
    let (_directory, path) = temporary();
    party(&path).close().unwrap();
    assert_eq!(purge_records(&path).unwrap(), []);
    let first = purge::<House>(&path, erase).unwrap();
    let only = |record: &HistoryRecord<House>| match record.sequence() {
        1 => PurgeAction::replace(Arrive { name: "nobody".to_owned() }),
        _ => PurgeAction::Keep,
    };
    let second = purge::<House>(&path, only).unwrap();
    let records = purge_records(&path).unwrap();
    let [one, two] = &records[..] else { panic!("{records:#?}") };
    assert_eq!((one.number, two.number), (1, 2));
    assert_eq!((&one.redacted[..], &one.metadata_dropped[..]), (&[2, 19][..], &[8][..]));
    assert_eq!((&two.replaced[..], two.redacted.len(), two.kept), (&[1][..], 0, 19));
    assert_eq!((one.sequence, one.kept, one.database), (20, 17, two.database));
    assert!(one.chain_before != one.chain_after && one.chain_after == two.chain_before);
    assert!(one.time <= two.time && one.replaced.is_empty());
    for (report, record) in [(first, one), (second, two)] {
        let name = format!("purges/{:020}.purge", record.number);
        assert_eq!(report.record.unwrap(), path.join(name));
    }
    let damaged = path.join("purges/00000000000000000001.purge");
    let mut bytes = std::fs::read(&damaged).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    let before = content(&path);
    for error in [
        purge_records(&path).unwrap_err(),
        purge::<House>(&path, |_| PurgeAction::Redact).unwrap_err(),
    ] {
        assert!(matches!(&error, Error::Corrupt { path, .. } if *path == damaged), "{error}");
    }
    assert_eq!(content(&path), before);
    std::fs::remove_file(&damaged).unwrap();
    let error = purge_records(&path).unwrap_err();
    assert!(matches!(&error, Error::Missing { path, .. } if *path == damaged), "{error}");
}

#[test]
fn a_killed_database_is_purged_too() {
    let (directory, path) = temporary();
    let house = party(&path);
    house.execute(Leave { name: "guest 0".to_owned() }).unwrap();
    let killed = directory.path().join("killed.db");
    copy_directory(&path, &killed);
    // A batch that the kill has cut short.
    let newest = common::segments(&killed).pop().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() / 8 * 8 + 8;
    bytes[end..end + 4].copy_from_slice(b"PVFR");
    bytes[end + 40..end + 40 + SECRET.len()].copy_from_slice(SECRET.as_bytes());
    std::fs::write(&newest, bytes).unwrap();
    assert_eq!(purge::<House>(&killed, erase).unwrap().redacted, 2);
    assert_eq!(holding_secret(&killed), [""; 0]);
    let killed = builder().open(&killed).unwrap();
    assert_eq!(killed.sequence(), house.sequence());
    assert!(killed.recovery().torn_tail.is_none() && killed.recovery().clean);
    let names: Vec<_> = killed.query(|house| house.guests.keys().cloned().collect());
    assert_eq!(names, ["a friend", "another friend", "guest 1", "guest 2", "the last guest"]);
}

#[test]
fn a_directory_on_another_disk_comes_home() {
    let (directory, path) = temporary();
    party(&path).close().unwrap();
    let elsewhere = directory.path().join("elsewhere");
    std::fs::rename(path.join("archive"), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, path.join("archive")).unwrap();
    purge::<House>(&path, erase).unwrap();
    assert_eq!(holding_secret(&path), [""; 0]);
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
    assert!(builder().open(&path).unwrap().history().records(..).is_ok());
}

/// The same house by a program in which parties are louder.
mod louder {
    use super::*;

    #[derive(Clone, Default, Serialize, Deserialize)]
    pub struct House(super::House);

    impl Model for House {
        type Event = ();
    }

    macro_rules! as_before {
        ($command:ident) => {
            impl Command<House> for $command {
                type Output = ();
                type Rejection = ();

                fn apply(self, house: &mut House, cx: &mut Context<'_, House>) -> Result<(), ()> {
                    house.0.mix(cx.sequence());
                    Ok(())
                }
            }
        };
    }
    as_before!(Arrive);
    as_before!(Leave);
    as_before!(Party);

    prevalence::commands! { House { 1 => Arrive, 2 => Leave, 3 => Party } }
}

#[test]
fn a_program_that_makes_something_else_of_the_history_does_not_purge_it() {
    let (_directory, path) = temporary();
    party(&path).close().unwrap();
    let before = content(&path);
    let last = |record: &HistoryRecord<louder::House>| match record.sequence() {
        20 => PurgeAction::Redact,
        _ => PurgeAction::Keep,
    };
    let error = purge::<louder::House>(&path, last).unwrap_err();
    assert!(matches!(error, Error::HistoryDiverged { .. }), "{error}");
    assert_eq!(content(&path), before);
    assert_eq!(purge_unverified::<louder::House>(&path, last).unwrap().redacted, 1);
    let verified = verify_history::<louder::House>(&path).unwrap();
    assert_eq!((verified.divergence, verified.snapshots_compared), (None, 3));
}

/// What is done in a history, and what a purge does with it.
#[derive(Clone, Debug)]
enum Step {
    Arrive(u8),
    Batch(Vec<u8>),
    Noise(u8),
    Snapshot,
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u8>().prop_map(Step::Arrive),
        2 => proptest::collection::vec(any::<u8>(), 1..6).prop_map(Step::Batch),
        4 => any::<u8>().prop_map(Step::Noise),
        2 => Just(Step::Snapshot),
        1 => Just(Step::Reopen),
    ]
}

fn run(path: &Path, steps: &[Step]) {
    let mut house = builder().open(path).unwrap();
    for step in steps {
        match step {
            Step::Arrive(guest) => arrive(&by(&house, "ann"), &format!("guest {guest}")),
            Step::Batch(guests) => {
                let sent = guests.iter().map(|guest| Arrive { name: format!("guest {guest}") });
                let sent: Vec<_> = sent.map(|arrive| house.submit(arrive).unwrap()).collect();
                sent.into_iter().for_each(|pending| pending.wait().unwrap());
            }
            Step::Noise(seed) => house.execute(noise((*seed).into())).unwrap(),
            Step::Snapshot => drop(house.snapshot().unwrap()),
            Step::Reopen => {
                house.close().unwrap();
                house = builder().open(path).unwrap();
            }
        }
    }
    house.close().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn every_state_of_a_purged_history_is_that_of_its_commands(
        steps in proptest::collection::vec(any_step(), 1..30),
        actions in proptest::collection::vec(0..6u8, 150),
    ) {
        let (_directory, path) = temporary();
        run(&path, &steps);
        let report = purge::<House>(&path, |record| match actions[record.sequence() as usize] {
            0 => PurgeAction::Redact,
            1 => PurgeAction::replace(Arrive { name: "another".repeat(record.sequence() as usize) }),
            2 => PurgeAction::DropMetadata,
            _ => PurgeAction::Keep,
        }).unwrap();
        let verified = verify_history::<House>(&path).unwrap();
        prop_assert_eq!((verified.divergence, verified.begins), (None, 0));
        prop_assert_eq!(verified.commands_redacted, report.redacted);
        let house = builder().open(&path).unwrap();
        let mut model = House::default();
        let records = records(&house);
        prop_assert_eq!(records.len() as u64, report.sequence);
        for (record, state) in records.iter().zip(states(&house).iter().skip(1)) {
            let sequence = record.sequence();
            let action = actions[sequence as usize];
            prop_assert_eq!(action == 0, record.is_redacted());
            match record.command::<Arrive>().map(Result::unwrap) {
                Some(arrive) => model.arrive(&arrive.name, sequence),
                None if record.is_redacted() => {}
                None => model.mixed = mixed_of(state),
            }
            if action < 1 || action == 2 {
                prop_assert_eq!(record.metadata(), Metadata::default());
            }
            prop_assert_eq!(&model.bytes(), state, "at {}", sequence);
        }
    }
}

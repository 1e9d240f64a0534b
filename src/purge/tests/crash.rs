//! Tests a purge on a simulated disk that crashes or fails at every point. Afterwards the directory
//! must hold the old history or the new one.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use imbl::Vector;
use serde::{Deserialize, Serialize};

use crate::history::{HistoryRecord, HistoryRecords, OfflineHistory, verify_files};
use crate::options::Options;
use crate::purge::{How, PurgeAction, VERIFIED, purge_on};
use crate::recovery::{read_whole, recover};
use crate::storage::Storage;
use crate::storage::simulated::{
    Fate, Fault, FaultKind, Operation, Random, SimulatedDisk, State, Target, choices,
};
use crate::{Command, Context, Database, Error, Metadata, Model, Retention, SnapshotPolicy};

const PATH: &str = "/data/guests.db";
const SECRET: &str = "Zaphod";

#[derive(Clone, Default, Serialize, Deserialize)]
struct Guests(Vector<(String, u64)>);

impl Model for Guests {
    type Event = ();
}

impl Guests {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        crate::codec::encode_stream(self, &mut bytes).unwrap();
        bytes
    }
}

#[derive(Serialize, Deserialize)]
struct Arrive {
    name: String,
    luggage: Vec<u8>,
}

impl Command<Guests> for Arrive {
    type Output = ();
    type Rejection = ();

    fn apply(self, guests: &mut Guests, cx: &mut Context<'_, Guests>) -> Result<(), ()> {
        guests.0.push_back((self.name, cx.random()));
        Ok(())
    }
}

crate::commands! { Guests { 1 => Arrive } }

fn options() -> Options {
    Options {
        segment_bytes: 8 << 10,
        keep_snapshots: 1,
        retention: Retention::Archive,
        snapshots: SnapshotPolicy::manual(),
        ..Options::default()
    }
}

fn open(disk: &SimulatedDisk) -> Database<Guests> {
    let progress = &mut (Box::new(|_| {}) as _);
    let storage = Arc::new(disk.clone());
    Database::open_with(storage, Path::new(PATH), options(), Guests::default, progress).unwrap()
}

/// Makes a database with a snapshot and a segment. With `archives` it also has two archives and two
/// archived snapshots. The secret is in archive and journal, and in the metadata of a command.
fn scene(archives: bool) -> State {
    let disk = SimulatedDisk::new(State::empty(), 1, false);
    let guests = open(&disk);
    let by_secret = Metadata { actor: SECRET.to_owned(), ..Metadata::default() };
    for round in 0..2 {
        for name in ["Arthur", SECRET, "Ford"] {
            let luggage = vec![7; if archives { 2 << 10 } else { 10 }];
            guests.execute(Arrive { name: name.to_owned(), luggage }).unwrap();
        }
        if archives || round == 1 {
            guests.snapshot().unwrap();
        }
    }
    let asked = guests.with_metadata(&by_secret).unwrap();
    asked.execute(Arrive { name: "Trillian".to_owned(), luggage: Vec::new() }).unwrap();
    asked.execute(Arrive { name: SECRET.to_owned(), luggage: Vec::new() }).unwrap();
    drop(asked);
    guests.close().unwrap();
    settled(&disk.state())
}

/// Makes everything on the disk durable.
fn settled(state: &State) -> State {
    let units = state.units();
    let fates = vec![Fate::New; units.len()];
    state.after_power_cut(&units, &fates, &mut Random::new(1))
}

fn purge(disk: &SimulatedDisk) -> Result<crate::PurgeReport, Error> {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let decide = |record: &HistoryRecord<Guests>| match record.command::<Arrive>() {
        Some(Ok(arrive)) if arrive.name == SECRET && record.sequence() < 5 => PurgeAction::Redact,
        Some(Ok(arrive)) if arrive.name == SECRET => {
            let (name, luggage) = ("N. N.".to_owned(), arrive.luggage);
            PurgeAction::Replace(
                crate::Replacement::of(Arrive { name, luggage }).without_metadata(),
            )
        }
        _ if record.metadata().actor == SECRET => PurgeAction::DropMetadata,
        _ => PurgeAction::Keep,
    };
    purge_on(&storage, Path::new(PATH), VERIFIED, decide)
}

/// Everything that can be read from a history.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    model: Vec<u8>,
    records: Vec<(u64, u16, String, String)>,
    snapshots: Vec<u64>,
    purges: usize,
}

/// Opens and reads the database on a disk. Returns also the operations of that open.
fn seen(image: State, seed: u64) -> Result<(Seen, Vec<Operation>), Error> {
    let disk = SimulatedDisk::new(image, seed, true);
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let path = Path::new(PATH);
    assert_swap_is_noticed(&storage);
    let recovered = recover(&storage, path, &options(), Guests::default, &mut |_| {})?;
    let model = recovered.version.model.bytes();
    drop(recovered);
    let log = disk.take_log();
    for name in ["journal", "snapshots", "archive", "purges"] {
        for left in [format!("{name}.purging"), format!("{name}.purged")] {
            assert!(disk.state().find(&path.join(&left)).is_none(), "{left} is left");
        }
    }
    let offline = OfflineHistory::open(storage.clone(), path, "Guests")?;
    let verified = verify_files::<Guests>(&offline.files)?;
    assert_eq!((verified.divergence, verified.begins, verified.sequence), (None, 0, 8));
    let records = HistoryRecords::<Guests>::new(&offline.files, &(..))?;
    let told = |record: HistoryRecord<Guests>| {
        let actor = record.metadata().actor;
        Ok::<_, Error>((record.sequence(), record.tag(), record.command_json()?, actor))
    };
    let records = records.map(|record| told(record?)).collect::<Result<_, Error>>()?;
    let snapshots = offline.files.snapshots()?.iter().map(|(sequence, _)| *sequence).collect();
    let purges = disk.state().files().keys().filter(|path| path.ends_with(".purge")).count();
    offline.close()?;
    Ok((Seen { model, records, snapshots, purges }, log))
}

/// Asserts that readers notice an unfinished exchange and do not read half of it.
fn assert_swap_is_noticed(storage: &Arc<dyn Storage>) {
    let path = Path::new(PATH);
    let swapping = storage.read(&path.join("MANIFEST")).is_ok_and(|bytes| bytes[32] == 3);
    let offline = OfflineHistory::open(storage.clone(), path, "Guests").err();
    let whole = read_whole::<Guests>(storage, path, &options()).err();
    let noticed = |error: Option<Error>| matches!(error, Some(Error::PurgeUnfinished { .. }));
    assert_eq!((noticed(offline), noticed(whole)), (swapping, swapping));
}

/// Walks through a log, and looks once at each image that a crash may leave.
struct Walk<'a> {
    old: &'a Seen,
    new: &'a Seen,
    random: Random,
    known: HashSet<u64>,
    /// How many images held the old history, and how many the new one.
    found: [usize; 2],
    nested_in: usize,
    nested: usize,
}

impl Walk<'_> {
    fn all(&mut self, start: &State, log: &[Operation]) {
        let mut state = start.clone();
        for operation in log {
            state.apply(operation);
            self.images(&state, self.nested_in);
        }
    }

    fn images(&mut self, state: &State, nested_in: usize) {
        self.look(state.after_kill(), nested_in);
        let units = state.units();
        for fates in choices(&units, &mut self.random) {
            let image = state.after_power_cut(&units, &fates, &mut self.random);
            self.look(image, nested_in);
        }
    }

    fn look(&mut self, image: State, nested_in: usize) {
        if !self.known.insert(image.fingerprint()) {
            return;
        }
        // Most images are from before the exchange, where little can go wrong. In a debug build
        // only some of them are looked at.
        let manifest = image.content(&format!("{PATH}/MANIFEST"));
        let swapping = manifest.is_some_and(|bytes| bytes[32] == 3);
        let enough = self.found[0] > 16 && !swapping;
        if cfg!(debug_assertions) && enough && !self.random.once_in(8) {
            return;
        }
        let (seen, log) = match seen(image.clone(), self.random.next()) {
            Ok(seen) => seen,
            Err(error) => panic!("the image does not open: {error}\n{:#?}", image.files()),
        };
        assert!(seen == *self.old || seen == *self.new, "neither old nor new: {seen:#?}");
        self.found[usize::from(seen == *self.new)] += 1;
        // Crash again inside the open that removes leftovers or finishes the exchange.
        let exchanges = log.iter().any(|operation| {
            matches!(operation, Operation::Rename { to, .. } if to.ends_with(".purged"))
        });
        let most = if cfg!(debug_assertions) { 4 } else { 40 };
        if nested_in > 0 && (exchanges || self.random.once_in(nested_in)) && self.nested < most {
            self.nested += 1;
            let mut state = image;
            for operation in &log {
                state.apply(operation);
                self.images(&state, 0);
            }
        }
    }
}

#[test]
fn a_crash_leaves_the_old_history_or_the_new_one() {
    for archives in [true, false] {
        let start = scene(archives);
        let disk = SimulatedDisk::new(start.clone(), 7, true);
        let report = purge(&disk).unwrap();
        let redacted = 1;
        assert_eq!((report.redacted, report.replaced), (redacted, 2));
        assert_eq!((report.metadata_dropped, report.kept), (2, 4));
        let log = disk.take_log();
        let (old, _) = seen(start.clone(), 1).unwrap();
        let (new, _) = seen(disk.state(), 1).unwrap();
        assert_eq!((old.snapshots.len(), old.purges), (new.snapshots.len(), 0));
        assert_eq!((new.purges, new.records.len()), (1, 8));
        assert!(!format!("{:?}", new.records).contains(SECRET));
        assert!(format!("{:?}", old.records).contains(SECRET));
        let mut walk = Walk {
            old: &old,
            new: &new,
            random: Random::new(3),
            known: HashSet::new(),
            found: [0; 2],
            nested_in: 8,
            nested: 0,
        };
        walk.all(&start, &log);
        let Walk { found, nested, .. } = walk;
        println!("{found:?} images with the old and the new history, {nested} opens walked");
        assert!(found[0] > 10 && found[1] > 10 && nested > 0, "{found:?}, {nested}");
        // A purge that has returned is durable.
        let state = disk.state();
        let units = state.units();
        for fates in choices(&units, &mut Random::new(9)) {
            let image = state.after_power_cut(&units, &fates, &mut Random::new(5));
            assert!(seen(image, 2).unwrap().0 == new, "a purge that had returned is undone");
        }
    }
}

#[test]
fn a_failure_leaves_the_old_history_or_the_new_one() {
    let start = scene(true);
    let (old, _) = seen(start.clone(), 1).unwrap();
    let disk = SimulatedDisk::new(start.clone(), 7, false);
    purge(&disk).unwrap();
    let (new, _) = seen(disk.state(), 1).unwrap();
    let mut found = [0; 2];
    for target in [
        Target::Write,
        Target::Sync,
        Target::SyncDirectory,
        Target::Rename,
        Target::Remove,
        Target::Create,
        Target::Read,
    ] {
        for after in (0..).step_by(if cfg!(debug_assertions) { 5 } else { 1 }) {
            let disk = SimulatedDisk::new(start.clone(), 7, false);
            disk.plan(Fault { target, after, kind: FaultKind::Error(5) });
            let purged = purge(&disk);
            if disk.faults_fired() == 0 {
                purged.unwrap();
                break;
            }
            // After an interruption the history is whole, and a second purge finishes the work.
            disk.cancel_faults();
            let (found_now, _) = seen(disk.state(), 1).unwrap();
            assert!(found_now == old || found_now == new, "{target:?} {after}: {found_now:#?}");
            assert!(purged.is_err() || found_now == new, "{target:?} {after}");
            found[usize::from(found_now == new)] += 1;
            let again = purge(&disk).unwrap();
            let changed = if found_now == new && again.record.is_none() { new.purges } else { 1 };
            assert_eq!(seen(disk.state(), 1).unwrap().0.purges, changed, "{target:?} {after}");
        }
    }
    println!("{found:?} failures with the old and the new history");
    assert!(found[0] > 20 && found[1] > 1, "{found:?}");
}

#[test]
fn a_batch_that_grows_too_large_becomes_several() {
    let disk = SimulatedDisk::new(State::empty(), 1, false);
    let guests = open(&disk);
    let send =
        |name: &str| guests.submit(Arrive { name: name.to_owned(), luggage: Vec::new() }).unwrap();
    // While the first command is written, the others gather in one batch.
    disk.freeze();
    let mut sent = vec![send("first")];
    assert!(disk.wait_for_writer(|| false));
    sent.extend(["a", "b", "c", "d"].map(send));
    disk.thaw();
    sent.into_iter().for_each(|pending| pending.wait().unwrap());
    guests.close().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let frames = || {
        let offline = OfflineHistory::open(storage.clone(), Path::new(PATH), "Guests").unwrap();
        let mut frames = offline.files.frames(1, None).unwrap();
        let mut counts = Vec::new();
        while frames.advance().unwrap() {
            counts.push(frames.frame().unwrap().1.header.count);
        }
        counts
    };
    assert_eq!(frames(), [1, 4]);
    // A record of one letter takes 19 bytes, one of eight takes 26.
    for (name, most_payload_bytes, expected) in [
        ("A", 76, vec![1, 4]),
        ("A", 75, vec![1, 3, 1]),
        ("B".repeat(8).as_str(), 52, vec![1, 2, 1, 1]),
    ] {
        let how = How { most_payload_bytes, ..VERIFIED };
        let replaced = |record: &HistoryRecord<Guests>| match record.sequence() {
            1 => PurgeAction::Keep,
            _ => PurgeAction::replace(Arrive { name: name.to_owned(), luggage: Vec::new() }),
        };
        assert_eq!(purge_on(&storage, Path::new(PATH), how, replaced).unwrap().replaced, 4);
        assert_eq!(frames(), expected, "{name} {most_payload_bytes}");
        let guests = open(&disk);
        assert_eq!(guests.query(|guests| guests.0.len()), 5);
        assert_eq!(guests.query(|guests| guests.0[4].0.clone()), name);
        guests.close().unwrap();
    }
}

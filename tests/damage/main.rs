//! Tests promises 4, 5 and 9 against silent damage: after any damage to the files of a small
//! database, an open gives the exact state or a typed error. It never gives a shorter or empty
//! database, never panics or hangs, never changes a file when it fails, and never takes more than
//! 64 MiB of memory beyond the size of a file.
//!
//! Files are preallocated with zeros, so most of their bits are zeros. `cargo test --release` flips
//! every bit of a byte that is not zero or is near one that is not, and samples the other zeros.
//! Without `--release`, it does this for one database, and samples the others. This command tests
//! every bit and every length:
//!
//! ```text
//! cargo test --release --test damage -- --ignored --nocapture
//! ```
//!
//! It takes long: `PREVALENCE_DAMAGE_PART=2/5` runs the second fifth of it.

#[path = "../common/mod.rs"]
mod common;

mod judge;
mod kinds;
mod memory;

use std::path::{Path, PathBuf};

use common::faults::scene::workshop;
use common::{Add, Carry, Ledger, Mix, bytes, content, copy_directory, segments};
use judge::{Damage, Files, Specimen, Tally, judge_all};
use kinds::{Look, blocks, cuts, exchanges, extensions, flips, part, replaced};
use prevalence::laboratory::{Sizes, changes_decoded, parts_decoded};
use prevalence::{Builder, Database, Retention, SnapshotPolicy};

fn plain() -> Builder<Ledger> {
    Database::<Ledger>::builder().segment_bytes(64 << 10).snapshots(SnapshotPolicy::manual())
}

fn archiving() -> Builder<Ledger> {
    plain().retention(Retention::Archive)
}

/// Accepts no state besides the exact one.
fn nothing_else(_: &Files, _: &[u8]) -> bool {
    false
}

fn mix(database: &Database<Ledger>, values: std::ops::Range<u64>) {
    for value in values {
        database.execute(Mix(value)).unwrap();
    }
}

/// Makes a database by four runs: two kept snapshots, segments that only the older one needs, and a
/// tail behind the newer one. Returns the specimen after each run, with what an open then gives.
fn closed() -> Vec<Specimen> {
    let workshop = workshop();
    let path = workshop.path().join("closed.db");
    let mut stages = Vec::new();
    for (run, snapshot) in [(0, true), (1, true), (2, false), (3, false)] {
        let database = plain().open(&path).unwrap();
        mix(&database, run * 10..run * 10 + 3);
        // So much that the next run begins a segment of its own.
        database.execute(Carry(vec![0; 31_000])).unwrap();
        if snapshot {
            database.snapshot().unwrap();
            mix(&database, run * 10 + 3..run * 10 + 5);
        }
        let expected = bytes(&database);
        database.close().unwrap();
        stages.push(Specimen::of(&path, expected, plain));
    }
    let last = stages.last().unwrap();
    let count = |directory| last.files.keys().filter(|name| name.starts_with(directory)).count();
    assert_eq!((count("snapshots"), count("journal")), (2, 4));
    stages
}

fn newest() -> Specimen {
    closed().pop().unwrap()
}

/// Makes a database by one run: a segment and two snapshots.
fn small() -> Specimen {
    let workshop = workshop();
    let path = workshop.path().join("small.db");
    let database = plain().open(&path).unwrap();
    for values in [0..3, 3..5] {
        mix(&database, values);
        database.snapshot().unwrap();
    }
    mix(&database, 5..8);
    let expected = bytes(&database);
    database.close().unwrap();
    let specimen = Specimen::of(&path, expected, plain);
    assert_eq!(specimen.names().len(), 5, "MANIFEST, two snapshots, a segment, schemas");
    specimen
}

/// So many accounts that small sizes make several parts of them.
fn accounts() -> Ledger {
    let accounts = (0..70).map(|account| (account, 1000 + i64::from(account))).collect();
    Ledger { accounts, ..Ledger::default() }
}

/// Makes a database as [`small`], with a snapshot that is read in parts.
fn in_parts() -> Specimen {
    let workshop = workshop();
    let path = workshop.path().join("parts.db");
    let sizes = Sizes::small();
    let database = plain().initial(accounts()).open(&path).unwrap();
    mix(&database, 0..3);
    database.snapshot().unwrap();
    mix(&database, 3..5);
    let expected = bytes(&database);
    database.close().unwrap();
    drop(sizes);
    let before = parts_decoded();
    plain().open(&path).unwrap().close().unwrap();
    assert!(parts_decoded() >= before + 3, "it was not read in parts");
    Specimen::of(&path, expected, plain)
}

/// Makes a database whose newest snapshot holds only what has changed, and rests on two others.
fn sharing() -> Specimen {
    let workshop = workshop();
    let path = workshop.path().join("sharing.db");
    let sizes = Sizes::small();
    let database = plain().initial(accounts()).open(&path).unwrap();
    for account in [5, 33, 69] {
        database.execute(Add { account, amount: 7 }).unwrap();
        database.snapshot().unwrap();
    }
    mix(&database, 3..5);
    let expected = bytes(&database);
    assert!(database.stats().snapshot_shared_bytes > 0);
    database.close().unwrap();
    drop(sizes);
    let before = changes_decoded();
    plain().open(&path).unwrap().close().unwrap();
    assert!(changes_decoded() > before);
    Specimen::of(&path, expected, plain)
}

/// Makes a database with archives, and with segments that one run made one after the other. The
/// commands carry zeros, so that most of their bits count as zeros.
fn archived() -> Specimen {
    let workshop = workshop();
    let path = workshop.path().join("archived.db");
    let mut expected = Vec::new();
    for run in 0..3 {
        let database = archiving().open(&path).unwrap();
        for _ in 0..3 {
            database.execute(Carry(vec![0; 30_000])).unwrap();
        }
        database.snapshot().unwrap();
        mix(&database, run * 10..run * 10 + 2);
        database.execute(Carry(vec![0; 50_000])).unwrap();
        expected = bytes(&database);
        database.close().unwrap();
    }
    let specimen = Specimen::of(&path, expected, archiving);
    assert!(specimen.files.keys().any(|name| name.starts_with("archive")));
    specimen
}

/// Makes a database as a process leaves it that was killed after a moment without commands:
/// *dirty*, and a commit marker states that the last batch is durable.
fn killed() -> Specimen {
    let workshop = workshop();
    let (live, path) = (workshop.path().join("live.db"), workshop.path().join("killed.db"));
    // Nothing but the MANIFEST's word for the newest segment tells that the journal did not end
    // with the earlier run.
    let database = plain().open(&live).unwrap();
    mix(&database, 0..2);
    database.snapshot().unwrap();
    mix(&database, 2..4);
    database.close().unwrap();
    let database = plain().open(&live).unwrap();
    mix(&database, 4..7);
    while !ends_with_mark(&std::fs::read(segments(&live).pop().unwrap()).unwrap()) {
        std::thread::yield_now();
    }
    copy_directory(&live, &path);
    // The preparer may have been at work.
    let temporaries =
        content(&path).into_keys().filter(|name| name.to_string_lossy().contains(".tmp"));
    temporaries.for_each(|name| std::fs::remove_file(path.join(name)).unwrap());
    Specimen::of(&path, bytes(&database), plain)
}

fn ends_with_mark(segment: &[u8]) -> bool {
    let (mut at, mut mark) = (4096, false);
    while segment[at..].starts_with(b"PVFR") {
        let payload = u32::from_le_bytes(segment[at + 4..at + 8].try_into().unwrap()) as usize;
        mark = payload == 0;
        at += (36 + payload).next_multiple_of(8);
    }
    mark
}

/// Returns the specimens, and how closely to test each. A build without optimisation is three times
/// slower, so it tests only one specimen closely.
fn specimens() -> [(Specimen, Look); 6] {
    let others = if cfg!(debug_assertions) { Look::Glance } else { Look::Close };
    [
        (small(), Look::Close),
        (in_parts(), others),
        (sharing(), others),
        (newest(), others),
        (archived(), others),
        (killed(), others),
    ]
}

/// Applies all damage of one kind to some specimens.
fn everywhere<'a, D>(
    specimens: &'a [(Specimen, Look)],
    damages: impl Fn(&'a Specimen, Look) -> D,
) -> Tally
where
    D: Iterator<Item = Damage> + Send + 'a,
{
    let mut tally = Tally::default();
    for (specimen, look) in specimens {
        tally.add(judge_all(specimen, part(damages(specimen, *look)), &nothing_else));
    }
    tally
}

#[test]
fn flipped_bits() {
    everywhere(&specimens(), flips).conclude();
}

/// An open reads only the owned part of the other segments, so all their zeros are equal.
#[test]
#[ignore = "every bit of a small database: about eight minutes; see the top of this file"]
fn flipped_bits_all_of_them() {
    everywhere(&[(small(), Look::All)], flips).conclude();
}

/// This includes a killed database: a segment's header states the length with which the file was
/// made.
#[test]
fn cut_files() {
    everywhere(&specimens(), cuts).conclude();
}

#[test]
#[ignore = "every length of every file: about three minutes; see the top of this file"]
fn cut_files_at_every_length() {
    everywhere(&[(newest(), Look::All)], cuts).conclude();
}

#[test]
fn lengthened_files() {
    everywhere(&specimens(), |specimen, _| extensions(specimen)).conclude();
}

/// This tests only closed databases. In a killed one, a block can hold the last batch and the
/// commit marker after it, and without both, it looks as if neither had ever existed.
#[test]
fn lost_and_misplaced_blocks() {
    everywhere(&specimens()[..4], |specimen, _| blocks(specimen)).conclude();
}

#[test]
fn deleted_and_exchanged_files() {
    everywhere(&specimens(), |specimen, _| exchanges(specimen).into_iter()).conclude();
}

#[test]
fn deleted_directories() {
    let delete = |directory: &'static str| {
        Damage::new(format!("{directory} deleted"), move |files| {
            files.retain(|name, _| !name.starts_with(directory));
        })
    };
    everywhere(&specimens(), |_, _| ["journal", "snapshots", "archive"].map(delete).into_iter())
        .conclude();
}

/// Puts each file, and each two files, of another database of the same program in the places of
/// ours, and beside them.
#[test]
fn files_of_another_database() {
    let (ours, theirs) = (newest(), newest());
    let names: Vec<PathBuf> = theirs.names();
    let mut damages = Vec::new();
    for one in &names {
        for other in &names {
            let (a, b) = (one.clone(), other.clone());
            let (of_a, of_b) = (theirs.files[one].clone(), theirs.files[other].clone());
            let what = format!("foreign {} and {}", a.display(), b.display());
            damages.push(Damage::new(what, move |files| files.extend([(a, of_a), (b, of_b)])));
        }
        let beside = one.with_file_name("00000000000000099999");
        let beside = beside.with_extension(one.extension().unwrap_or_default());
        damages.push(replaced("foreign, beside".to_owned(), &beside, theirs.files[one].clone()));
    }
    judge_all(&ours, damages.into_iter(), &nothing_else).conclude();
}

/// Mixes the current files with those of each earlier time. A directory that holds only earlier
/// files is the earlier database, as far as an open can tell. With one current file it is not,
/// except a snapshot, about which only the MANIFEST knows.
#[test]
fn files_of_an_earlier_time() {
    let mut stages = closed();
    let now = stages.pop().unwrap();
    let mut total = Tally::default();
    for earlier in &stages {
        let mut names = now.names();
        names.extend(earlier.names().into_iter().filter(|name| !now.files.contains_key(name)));
        names.retain(|name| now.files.get(name) != earlier.files.get(name));
        assert!(names.len() <= 8, "{names:?}");
        let mixtures = (1..1_u32 << names.len()).map(|chosen| {
            let of_then: Vec<_> = names
                .iter()
                .enumerate()
                .filter(|(index, _)| chosen & (1 << index) != 0)
                .map(|(_, name)| (name.clone(), earlier.files.get(name).cloned()))
                .collect();
            let what = format!("of then: {:?}", of_then.iter().map(|(n, _)| n).collect::<Vec<_>>());
            Damage::new(what, move |files| {
                for (name, content) in of_then {
                    match content {
                        Some(content) => files.insert(name, content),
                        None => files.remove(&name),
                    };
                }
            })
        });
        let wholly_then = |files: &Files, state: &[u8]| {
            let decisive = |(name, _): &(&PathBuf, &Vec<u8>)| !name.starts_with("snapshots");
            state == earlier.expected
                && files.iter().filter(decisive).eq(earlier.files.iter().filter(decisive))
        };
        total.add(judge_all(&now, mixtures.collect::<Vec<_>>().into_iter(), &wholly_then));
    }
    total.conclude();
}

/// The laboratory itself works: it notices every expectation that is wrong by one command.
#[test]
fn a_shorter_database_would_be_noticed() {
    let mut specimen = newest();
    let mut model: Ledger =
        bincode::serde::decode_from_slice(&specimen.expected, bincode::config::standard())
            .unwrap()
            .0;
    model.mix(99);
    specimen.expected = model.bytes();
    let damages =
        (0..4).map(|more| replaced("lengthened".to_owned(), Path::new("notes.txt"), vec![0; more]));
    let tally = judge_all(&specimen, damages, &nothing_else);
    assert_eq!((tally.violations.len(), tally.exact), (4, 0), "{:?}", tally.violations);
}

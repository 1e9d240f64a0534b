//! Promises 4, 5 and 9 against silent damage: whatever becomes of the files of a small database,
//! opening it gives the exact state or a typed error. Never a shorter or empty database, never a
//! panic or a hang, never a file changed by an open that failed, never more than 64 MiB of memory
//! beyond the size of a file.
//!
//! Files are preallocated with zeros, so most of their bits are such zeros. `cargo test` flips
//! every bit that is or is near to anything, and samples the zeros. All of it is
//!
//! ```text
//! cargo test --release --test damage -- --ignored --nocapture
//! ```
//!
//! which takes long: `PREVALENCE_DAMAGE_PART=2/5` does the second fifth of it.

mod common;
mod damaged;

use std::path::{Path, PathBuf};

use common::{Add, Carry, Ledger, Mix, bytes, content, copy_directory, segments};
use damaged::{Damage, Files, Specimen, Tally, judge_all, workshop};
use prevalence::{Builder, Database, Retention, SnapshotPolicy};

fn plain() -> Builder<Ledger> {
    Database::<Ledger>::builder().segment_bytes(64 << 10).snapshots(SnapshotPolicy::manual())
}

fn archiving() -> Builder<Ledger> {
    plain().retention(Retention::Archive)
}

/// Nothing but the exact state is right.
fn nothing_else(_: &Files, _: &[u8]) -> bool {
    false
}

fn mix(database: &Database<Ledger>, values: std::ops::Range<u64>) {
    for value in values {
        database.execute(Mix(value)).unwrap();
    }
}

/// Four runs: two kept snapshots, segments that only the older one needs, a tail behind the newer
/// one. Gives the specimen as it was after each run, and what opening it then gives.
fn closed() -> Vec<Specimen> {
    let workshop = workshop();
    let path = workshop.path().join("closed.db");
    let mut stages = Vec::new();
    for (run, snapshot) in [(0, true), (1, true), (2, false), (3, false)] {
        let database = plain().open(&path).unwrap();
        mix(&database, run * 10..run * 10 + 3);
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

/// With archives, and with segments that one run made one after the other. The commands carry
/// zeros, so that most of their bits count as such.
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

/// As a process leaves it that was killed when it had been idle for a moment: *dirty*, and a mark
/// vouches for the last batch.
fn killed() -> Specimen {
    let workshop = workshop();
    let (live, path) = (workshop.path().join("live.db"), workshop.path().join("killed.db"));
    let database = plain().open(&live).unwrap();
    mix(&database, 0..3);
    database.snapshot().unwrap();
    mix(&database, 3..6);
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

/// The positions in a file that are worth a close look: what is not zero, and what is near to it
/// or to the file's end. `all` takes every position, else of the others one in 500 is taken.
fn positions(file: &[u8], all: bool) -> Vec<(usize, bool)> {
    let near = |at: usize| {
        let around = &file[at.saturating_sub(8)..file.len().min(at + 9)];
        at + 8 >= file.len() || around.iter().any(|&byte| byte != 0)
    };
    let dense = |at: usize| all || near(at);
    (0..file.len())
        .map(|at| (at, dense(at)))
        .filter(|&(at, dense)| dense || at % 499 == 0)
        .collect()
}

/// The part of the cases that this process was asked for; all of them unless told.
fn part(damages: impl Iterator<Item = Damage> + Send) -> impl Iterator<Item = Damage> + Send {
    let told = std::env::var("PREVALENCE_DAMAGE_PART").unwrap_or_else(|_| "1/1".to_owned());
    let (part, parts) = told.split_once('/').expect("PREVALENCE_DAMAGE_PART is like 2/5");
    let (part, parts): (usize, usize) = (part.parse().unwrap(), parts.parse().unwrap());
    damages.skip(part - 1).step_by(parts)
}

fn flips(specimen: &Specimen, all: bool) -> impl Iterator<Item = Damage> + Send {
    specimen.files.iter().flat_map(move |(name, file)| {
        let name = name.clone();
        positions(file, all).into_iter().flat_map(move |(at, dense)| {
            let name = name.clone();
            let bits = if dense { 0..8 } else { at % 8..at % 8 + 1 };
            bits.map(move |bit| {
                let name = name.clone();
                let what = format!("bit {bit} of byte {at} of {}", name.display());
                Damage::new(what, move |files| files.get_mut(&name).unwrap()[at] ^= 1 << bit)
            })
        })
    })
}

/// A damage that gives one file another content.
fn replaced(what: String, name: &Path, content: Vec<u8>) -> Damage {
    let name = name.to_owned();
    Damage::new(format!("{}: {what}", name.display()), move |files| {
        files.insert(name, content);
    })
}

fn cuts(specimen: &Specimen, all: bool) -> impl Iterator<Item = Damage> + Send {
    specimen.files.iter().flat_map(move |(name, file)| {
        positions(file, all).into_iter().map(move |(length, _)| {
            replaced(format!("cut to {length} bytes"), name, file[..length].to_vec())
        })
    })
}

/// Zeros, ones, the file's own first bytes and its whole self behind the end.
fn extensions(specimen: &Specimen) -> impl Iterator<Item = Damage> + Send {
    specimen.files.iter().flat_map(|(name, file)| {
        [1, 3, 8, 511, 512, 4096, 70_000].into_iter().flat_map(move |more| {
            let own = file.iter().copied().chain(std::iter::repeat(0x5a)).take(more).collect();
            let tails: [Vec<u8>; 3] = [vec![0; more], vec![0xff; more], own];
            tails.into_iter().enumerate().map(move |(kind, tail)| {
                let longer = [&file[..], &tail[..]].concat();
                replaced(format!("{more} bytes of kind {kind} behind it"), name, longer)
            })
        })
    })
}

/// Every block of 512 bytes: zeroed, filled with ones, and replaced by the block before it and
/// behind it, as a disk does that writes to the wrong place.
fn blocks(specimen: &Specimen) -> impl Iterator<Item = Damage> + Send {
    specimen.files.iter().flat_map(|(name, file)| {
        (0..file.len()).step_by(512).flat_map(move |at| {
            let end = file.len().min(at + 512);
            let other = |from: usize| -> Vec<u8> {
                let rest = file.get(from..).unwrap_or(&[]).iter().copied();
                rest.chain(std::iter::repeat(0)).take(end - at).collect()
            };
            let size = end - at;
            let fillings =
                [vec![0; size], vec![0xff; size], other(at.saturating_sub(512)), other(at + 512)];
            let changed = fillings
                .into_iter()
                .enumerate()
                .filter(move |(_, filling)| filling[..] != file[at..end]);
            changed.map(move |(kind, filling)| {
                let whole = [&file[..at], &filling[..], &file[end..]].concat();
                replaced(format!("block at {at} became kind {kind}"), name, whole)
            })
        })
    })
}

/// Every file and every two files deleted, emptied; every two exchanged; each copied to another's
/// name.
fn exchanges(specimen: &Specimen) -> Vec<Damage> {
    let names = specimen.names();
    let mut damages = Vec::new();
    for one in &names {
        damages.push(replaced("emptied".to_owned(), one, Vec::new()));
        for other in &names {
            let (a, b) = (one.clone(), other.clone());
            let what = format!("deleted {} and {}", a.display(), b.display());
            damages.push(Damage::new(what, move |files| {
                files.remove(&a);
                files.remove(&b);
            }));
            if one == other {
                continue;
            }
            damages.push(replaced(
                format!("became {}", other.display()),
                one,
                specimen.files[other].clone(),
            ));
            let (a, b) = (one.clone(), other.clone());
            let what = format!("exchanged {} and {}", a.display(), b.display());
            damages.push(Damage::new(what, move |files| {
                let of_a = files.remove(&a).unwrap();
                let of_b = files.insert(b, of_a).unwrap();
                files.insert(a, of_b);
            }));
        }
    }
    damages
}

fn specimens() -> [Specimen; 3] {
    [newest(), archived(), killed()]
}

/// All damage of one kind to all specimens.
fn everywhere<'a, D>(specimens: &'a [Specimen], damages: impl Fn(&'a Specimen) -> D) -> Tally
where
    D: Iterator<Item = Damage> + Send + 'a,
{
    let mut tally = Tally::default();
    for specimen in specimens {
        tally.add(judge_all(specimen, part(damages(specimen)), &nothing_else));
    }
    tally
}

#[test]
fn flipped_bits() {
    everywhere(&specimens(), |specimen| flips(specimen, false)).conclude();
}

#[test]
#[ignore = "every bit of every file: about ten minutes; see the top of this file"]
fn flipped_bits_all_of_them() {
    everywhere(&specimens(), |specimen| flips(specimen, true)).conclude();
}

/// Of a killed database too: a segment's header states how long the file was made.
#[test]
fn cut_files() {
    everywhere(&specimens(), |specimen| cuts(specimen, false)).conclude();
}

#[test]
#[ignore = "every length of every file: minutes; see the top of this file"]
fn cut_files_at_every_length() {
    everywhere(&specimens(), |specimen| cuts(specimen, true)).conclude();
}

#[test]
fn lengthened_files() {
    everywhere(&specimens(), extensions).conclude();
}

/// Closed ones only: of a killed one a block can hold the last batch and the mark that vouches for
/// it, and without both it is as if neither had ever been.
#[test]
fn lost_and_misplaced_blocks() {
    everywhere(&specimens()[..2], blocks).conclude();
}

#[test]
fn deleted_and_exchanged_files() {
    everywhere(&specimens(), |specimen| exchanges(specimen).into_iter()).conclude();
}

#[test]
fn deleted_directories() {
    let delete = |directory: &'static str| {
        Damage::new(format!("{directory} deleted"), move |files| {
            files.retain(|name, _| !name.starts_with(directory));
        })
    };
    let damages = |_: &Specimen| ["journal", "snapshots", "archive"].map(delete).into_iter();
    everywhere(&specimens(), damages).conclude();
}

/// Each file, and each two files, from another database of the same program, in place of ours and
/// beside them.
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

/// Every mixture of the files of now with those of each earlier time. A directory that is wholly
/// the earlier one is that database, as far as anybody can tell; with one file of now it is not,
/// but for a snapshot, which only the MANIFEST can speak for.
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

/// The laboratory can fail: an expectation that is wrong by one command is noticed every time.
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

/// A command of every kind that is used above leaves the state that is compared.
#[test]
fn the_compared_bytes_tell_all_commands_apart() {
    let workshop = workshop();
    let database = plain().open(workshop.path().join("a.db")).unwrap();
    let mut seen = std::collections::BTreeSet::from([bytes(&database)]);
    database.execute(Add { account: 1, amount: 1 }).unwrap();
    assert!(seen.insert(bytes(&database)));
    database.execute(Carry(vec![1])).unwrap();
    assert!(seen.insert(bytes(&database)));
    database.execute(Mix(1)).unwrap();
    assert!(seen.insert(bytes(&database)));
}

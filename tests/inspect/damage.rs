//! What a verification tells of damage, against what is really damaged.

use std::ops::Range;
use std::path::{Path, PathBuf};

use prevalence::inspect::{Finding, Severity};
use prevalence::{Database, SnapshotPolicy};

use crate::common::{Carry, Ledger, Mix, keeping_history, segments, temporary};
use crate::{deep, quick};

/// A batch in a segment.
#[derive(Clone, Debug)]
struct Frame {
    bytes: Range<u64>,
    sequences: Range<u64>,
}

/// Reads the batches of a segment by the lengths in their headers.
fn frames(segment: &[u8]) -> Vec<Frame> {
    let number = |at: usize, bytes: usize| {
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(&segment[at..at + bytes]);
        u64::from_le_bytes(number)
    };
    let (mut at, mut found) = (4096, Vec::new());
    while segment.get(at..at + 4) == Some(b"PVFR") {
        let length = (36 + number(at + 4, 4)).next_multiple_of(8);
        let (first, count) = (number(at + 8, 8), number(at + 24, 4));
        if count > 0 {
            let bytes = at as u64..at as u64 + length;
            found.push(Frame { bytes, sequences: first..first + count });
        }
        at += length as usize;
    }
    found
}

fn flip(path: &Path, at: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at as usize] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// Makes a closed database with one segment, in which each command is a batch of its own.
fn one_by_one(path: &Path) -> (PathBuf, Vec<Frame>) {
    let database =
        Database::<Ledger>::builder().snapshots(SnapshotPolicy::manual()).open(path).unwrap();
    for value in 0..20 {
        database.execute(Mix(value)).unwrap();
    }
    database.close().unwrap();
    let segment = segments(path).pop().unwrap();
    let frames = frames(&std::fs::read(&segment).unwrap());
    assert_eq!(frames.len(), 20);
    (segment, frames)
}

fn only(findings: &[Finding]) -> &Finding {
    let [finding] = findings else { panic!("{findings:#?}") };
    assert!(!finding.meaning.is_empty() && !finding.advice.is_empty());
    assert!(!finding.expected.is_empty() && !finding.found.is_empty());
    finding
}

#[test]
fn a_flipped_bit_in_a_batch_is_told_with_its_bytes_and_its_command() {
    let (_directory, path) = temporary();
    let (segment, frames) = one_by_one(&path);
    let whole = std::fs::read(&segment).unwrap();
    let damaged = &frames[6];
    let length = damaged.bytes.start as usize + 4;
    let length = u32::from_le_bytes(whole[length..length + 4].try_into().unwrap());
    let checksum = 32 + u64::from(length);
    for (what, behind) in [
        ("magic", 0),
        ("length", 5),
        ("sequence", 8),
        ("header checksum", 29),
        ("payload", 40),
        ("checksum", checksum + 1),
        ("padding", checksum + 4),
    ] {
        if behind >= damaged.bytes.end - damaged.bytes.start {
            continue; // there is no padding
        }
        flip(&segment, damaged.bytes.start + behind);
        for verified in [quick(&path), deep(&path)] {
            let finding = only(&verified.findings);
            assert_eq!(finding.severity, Severity::Damage);
            assert_eq!((&finding.path, &finding.bytes), (&segment, &damaged.bytes), "{what}");
            assert_eq!(finding.sequences, Some(7..=7), "{what}");
            assert_eq!(verified.commands, 19, "{what}: all others are read");
        }
        std::fs::write(&segment, &whole).unwrap();
    }
    assert!(deep(&path).is_sound());
}

#[test]
fn two_damages_are_two_findings() {
    let (_directory, path) = temporary();
    let (segment, frames) = one_by_one(&path);
    for at in [3, 4, 12] {
        flip(&segment, frames[at].bytes.start + 40);
    }
    let verified = deep(&path);
    let told: Vec<_> = verified.findings.iter().map(|it| it.sequences.clone().unwrap()).collect();
    assert_eq!(told, [4..=5, 13..=13], "{:#?}", verified.findings);
    assert_eq!(verified.commands, 17);
}

#[test]
fn a_cut_segment_is_told_with_what_is_missing() {
    let (_directory, path) = temporary();
    let (segment, frames) = one_by_one(&path);
    let whole = std::fs::read(&segment).unwrap();
    let cut = frames[15].bytes.start + 9;
    std::fs::write(&segment, &whole[..cut as usize]).unwrap();
    let verified = deep(&path);
    let [length, lost] = &verified.findings[..] else { panic!("{:#?}", verified.findings) };
    assert_eq!(length.bytes, cut..whole.len() as u64);
    assert_eq!(lost.sequences, Some(16..=20), "{lost:?}");
    assert_eq!(verified.commands, 15);
}

#[test]
fn a_segment_without_a_readable_header_loses_all_its_commands() {
    let (_directory, path) = temporary();
    let (segment, _) = one_by_one(&path);
    flip(&segment, 70);
    let verified = deep(&path);
    let finding = &verified.findings[0];
    assert_eq!(finding.sequences, Some(1..=20));
    let length = u32::from_le_bytes(std::fs::read(&segment).unwrap()[12..16].try_into().unwrap());
    assert_eq!(finding.bytes, 0..u64::from(length));
    assert_eq!(verified.commands, 0);
}

/// Makes an archive of batches with 10 KiB each. Returns its path, and its batches as they were in
/// the segment.
fn archived(path: &Path) -> (PathBuf, Vec<Frame>) {
    let database = keeping_history::<Ledger>().segment_bytes(512 << 10).open(path).unwrap();
    // Bytes that cannot be compressed, so that there are several chunks.
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    for _ in 0..60 {
        database.execute(Carry((0..10 << 10).map(|_| random()).collect())).unwrap();
    }
    let segment = segments(path).remove(0);
    let frames = frames(&std::fs::read(&segment).unwrap());
    database.snapshot().unwrap();
    database.close().unwrap();
    let archive = path.join("archive").join(segment.file_name().unwrap());
    let archive = archive.with_extension("archive");
    assert!(archive.exists() && frames.len() > 14, "{}", frames.len());
    (archive, frames)
}

#[test]
fn a_flipped_bit_in_an_archive_is_told_with_its_chunk_and_its_commands() {
    let (_directory, path) = temporary();
    let (archive, frames) = archived(&path);
    let whole = std::fs::read(&archive).unwrap();
    let number = |at: usize| u32::from_le_bytes(whole[at..at + 4].try_into().unwrap()) as usize;
    // The second chunk.
    let first = number(12);
    let begin = first + 8 + number(first);
    let end = begin + 8 + number(begin);
    flip(&archive, begin as u64 + 100);
    let shallow = quick(&path);
    assert!(shallow.is_sound(), "{:#?}", shallow.findings);
    let verified = deep(&path);
    let finding = only(&verified.findings);
    assert_eq!((&finding.path, &finding.bytes), (&archive, &(begin as u64..end as u64)));
    // The chunks have 64 KiB of the frames each.
    let content = |frame: &Frame| frame.bytes.start - 4096..frame.bytes.end - 4096;
    let is_hit = |frame: &&Frame| content(frame).start < 128 << 10 && content(frame).end > 64 << 10;
    let hit: Vec<_> = frames.iter().filter(is_hit).collect();
    let (first, last) = (hit[0].sequences.start, hit[hit.len() - 1].sequences.end - 1);
    let lost = finding.sequences.clone().unwrap();
    assert_eq!(*lost.start(), first);
    // Reading goes on at the next entry of the index, which is at most 64 KiB behind.
    assert!((last..=last + 8).contains(lost.end()), "{lost:?}, {first} to {last}");
    let newest = crate::look(&path).newest_sequence();
    assert_eq!(verified.commands, newest - (lost.end() - lost.start() + 1));
    let look = crate::look(&path);
    let before = look.records(..first).unwrap().map(Result::unwrap).count() as u64;
    assert_eq!(before, first - 1);
    assert!(look.records(first..=first).unwrap().next().unwrap().is_err());
    let behind = look.records(lost.end() + 1..).unwrap().map(Result::unwrap).count() as u64;
    assert_eq!(behind, newest - lost.end());
}

#[test]
fn a_missing_archive_is_a_gap_with_its_commands() {
    let (_directory, path) = temporary();
    let database = keeping_history::<Ledger>().open(&path).unwrap();
    for round in 0..4 {
        for _ in 0..6 {
            database.execute(Carry(vec![round; 12 << 10])).unwrap();
        }
        database.snapshot().unwrap();
    }
    database.close().unwrap();
    let look = crate::look(&path);
    assert!(look.archives().len() >= 3, "{:?}", look.archives());
    let gone = look.archives()[1].clone();
    std::fs::remove_file(&gone.path).unwrap();
    let verified = quick(&path);
    let finding = only(&verified.findings);
    assert_eq!(finding.path, look.archives()[2].path);
    assert_eq!(finding.sequences, Some(gone.first_sequence..=gone.last_sequence.unwrap()));
}

#[test]
fn damage_in_a_snapshot_is_told_with_what_still_works() {
    let (_directory, path) = temporary();
    let database =
        Database::<Ledger>::builder().snapshots(SnapshotPolicy::manual()).open(&path).unwrap();
    for value in 0..3 {
        database.execute(Mix(value)).unwrap();
        database.snapshot().unwrap();
    }
    database.close().unwrap();
    let listed: Vec<_> =
        crate::look(&path).snapshots().iter().filter(|it| it.is_listed).cloned().collect();
    let newest = listed.last().unwrap();
    let whole = std::fs::read(&newest.path).unwrap();
    let header = u32::from_le_bytes(whole[12..16].try_into().unwrap());
    flip(&newest.path, u64::from(header) + 9);
    assert!(quick(&path).is_sound(), "the content is not read");
    let verified = deep(&path);
    let finding = only(&verified.findings);
    assert!(finding.bytes.contains(&(u64::from(header) + 9)), "{finding:?}");
    assert!(finding.meaning.contains("snapshot 2"), "{}", finding.meaning);
    // The footer is read in any case.
    std::fs::write(&newest.path, &whole[..whole.len() - 1]).unwrap();
    assert!(!quick(&path).is_sound());
}

#[test]
fn a_damaged_standing_and_a_foreign_purge_record_are_told() {
    let (_directory, path) = temporary();
    one_by_one(&path);
    let standing = path.join("sinks/trades");
    std::fs::create_dir_all(&standing).unwrap();
    std::fs::write(standing.join("STANDING"), b"PREVSTND and nothing that fits").unwrap();
    std::fs::create_dir_all(path.join("purges")).unwrap();
    std::fs::write(path.join("purges/00000000000000000001.purge"), b"PREVPURG").unwrap();
    let verified = quick(&path);
    let told: Vec<_> = verified
        .findings
        .iter()
        .map(|it| it.path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(told, ["00000000000000000001.purge", "STANDING"], "{:#?}", verified.findings);
    let look = crate::look(&path);
    assert!(look.followers()[0].problem.is_some() && look.purges()[0].problem.is_some());
}

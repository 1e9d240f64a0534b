//! Tests of the fault model itself: a disk that hides failures would prove nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::crash::{Fate, Unit, choices};
use super::disk::SimulatedDisk;
use super::faults::{EINTR, EIO, ENOSPC, Fault, FaultKind, Target};
use super::random::Random;
use super::state::State;
use crate::storage::{Storage, StoredFile};

const FILE: &str = "/file";

fn disk() -> SimulatedDisk {
    SimulatedDisk::new(State::empty(), 1, true)
}

/// Makes a durable file that holds `content`.
fn file_of(disk: &SimulatedDisk, content: &[u8]) -> Arc<dyn StoredFile> {
    let temporary = disk.create_temporary(Path::new("/")).unwrap();
    let file = temporary.file();
    assert_eq!(file.write_at(content, 0).unwrap(), content.len());
    file.sync_all().unwrap();
    temporary.publish(Path::new(FILE)).unwrap();
    disk.sync_directory(Path::new("/")).unwrap();
    file
}

/// Returns every content that the file may have after a power cut now; `None` for no file.
fn after_cuts(disk: &SimulatedDisk) -> BTreeSet<Option<Vec<u8>>> {
    let mut random = Random::new(7);
    let state = disk.state();
    let units = state.units();
    choices(&units, &mut random)
        .iter()
        .map(|fates| state.after_power_cut(&units, fates, &mut random).content(FILE).cloned())
        .collect()
}

fn fault(disk: &SimulatedDisk, target: Target, kind: FaultKind) {
    disk.plan(Fault { target, after: 0, kind });
}

#[test]
fn what_is_synced_stays() {
    let disk = disk();
    file_of(&disk, b"content");
    assert_eq!(after_cuts(&disk), BTreeSet::from([Some(b"content".to_vec())]));
}

#[test]
fn each_piece_of_a_write_is_old_new_or_zero_by_itself() {
    let disk = disk();
    let file = file_of(&disk, &[1; 1536]);
    file.write_at(&[2; 1024], 256).unwrap();
    // The write splits at 512 and 1024; bytes outside of it are safe.
    assert_eq!(disk.state().units().len(), 3);
    let seen = after_cuts(&disk);
    let mut combinations = BTreeSet::new();
    for content in seen.iter().map(|content| content.as_ref().unwrap()) {
        assert_eq!(content.len(), 1536);
        assert!(content[..256].iter().chain(&content[1280..]).all(|byte| *byte == 1));
        let pieces = [&content[256..512], &content[512..1024], &content[1024..1280]];
        if pieces.iter().all(|piece| piece.iter().all(|byte| *byte == piece[0])) {
            combinations.insert([pieces[0][0], pieces[1][0], pieces[2][0]]);
        }
    }
    assert_eq!(combinations.len(), 27, "each of the three pieces is old, new or zero");
    assert!(seen.len() > 27, "some pieces hold garbage");
}

#[test]
fn a_length_may_be_lost_without_its_data_and_the_other_way_round() {
    let disk = disk();
    let file = file_of(&disk, b"ab");
    file.write_at(b"cd", 2).unwrap();
    let seen = after_cuts(&disk);
    for content in [&b"ab"[..], b"abcd", b"ab\0\0"] {
        assert!(seen.contains(&Some(content.to_vec())), "{content:?} in {seen:?}");
    }
}

#[test]
fn a_sync_orders_only_its_own_file_and_only_what_came_before() {
    let disk = disk();
    let file = file_of(&disk, &[0; 4]);
    let other = disk.create_temporary(Path::new("/")).unwrap();
    file.write_at(b"new!", 0).unwrap();
    other.file().sync_all().unwrap();
    assert!(after_cuts(&disk).contains(&Some(vec![0; 4])));
    file.sync_data().unwrap();
    file.write_at(b"more", 0).unwrap();
    let seen = after_cuts(&disk);
    assert!(seen.contains(&Some(b"new!".to_vec())) && !seen.contains(&Some(b"\0\0\0w".to_vec())));
    assert!(seen.contains(&Some(b"more".to_vec())));
}

#[test]
fn names_are_durable_only_after_their_directorys_sync() {
    let disk = disk();
    let temporary = disk.create_temporary(Path::new("/")).unwrap();
    temporary.file().write_at(b"x", 0).unwrap();
    temporary.file().sync_all().unwrap();
    temporary.publish(Path::new(FILE)).unwrap();
    assert_eq!(after_cuts(&disk), BTreeSet::from([None, Some(b"x".to_vec())]));
    disk.sync_directory(Path::new("/")).unwrap();
    assert_eq!(after_cuts(&disk), BTreeSet::from([Some(b"x".to_vec())]));
    disk.remove(Path::new(FILE)).unwrap();
    assert_eq!(after_cuts(&disk), BTreeSet::from([None, Some(b"x".to_vec())]));
}

#[test]
fn a_rename_is_all_or_nothing_but_not_the_unsynced_content() {
    let disk = disk();
    file_of(&disk, b"one");
    let temporary = disk.create_temporary(Path::new("/")).unwrap();
    temporary.file().write_at(b"two", 0).unwrap();
    temporary.publish(Path::new(FILE)).unwrap();
    let seen = after_cuts(&disk);
    assert!(!seen.contains(&None), "one of the two stands there");
    for content in [&b"one"[..], b"two", b""] {
        assert!(seen.contains(&Some(content.to_vec())), "{content:?} in {seen:?}");
    }
}

#[test]
fn directories_and_their_entries_are_lost_apart() {
    let disk = disk();
    let inner = Path::new("/inner");
    disk.create_directory(inner).unwrap();
    disk.lock(&inner.join("LOCK")).unwrap().unwrap();
    disk.sync_directory(inner).unwrap();
    let state = disk.state();
    let units = state.units();
    assert!(matches!(units[..], [Unit::Entry { .. }]), "the inner entry is durable: {units:?}");
    let lost = state.after_power_cut(&units, &[Fate::Old], &mut Random::new(1));
    assert!(lost.files().is_empty(), "the directory's own name was not");
}

#[test]
fn a_failed_sync_is_told_once_and_its_pieces_never_persist() {
    let mut kept = BTreeSet::new();
    for seed in 0..20 {
        let disk = SimulatedDisk::new(State::empty(), seed, true);
        let file = file_of(&disk, b"old");
        file.write_at(b"new", 0).unwrap();
        fault(&disk, Target::Sync, FaultKind::Error(EIO));
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(EIO));
        file.sync_data().unwrap();
        assert_eq!(after_cuts(&disk), BTreeSet::from([Some(b"old".to_vec())]));
        kept.insert(disk.read(Path::new(FILE)).unwrap().to_vec());
        file.write_at(b"N", 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!(after_cuts(&disk), BTreeSet::from([Some(b"Nld".to_vec())]));
    }
    assert_eq!(kept, BTreeSet::from([b"old".to_vec(), b"new".to_vec()]), "readers see either");
}

#[test]
fn writes_fail_in_every_way() {
    let disk = disk();
    let file = file_of(&disk, &[0; 8]);
    fault(&disk, Target::Write, FaultKind::Error(EINTR));
    assert_eq!(file.write_at(&[1; 2000], 0).unwrap_err().raw_os_error(), Some(EINTR));
    assert_eq!(disk.read(Path::new(FILE)).unwrap()[..], [0; 8]);
    let mut lengths = BTreeSet::new();
    for _ in 0..100 {
        fault(&disk, Target::Write, FaultKind::Short);
        lengths.insert(file.write_at(&[1; 2000], 0).ok());
    }
    for length in [None, Some(1), Some(511), Some(512), Some(513), Some(1000), Some(1999)] {
        assert!(lengths.contains(&length), "{length:?} in {lengths:?}");
    }
    fault(&disk, Target::Write, FaultKind::ErrorAfterPart(ENOSPC));
    let mut error = file.write_at(&[2; 100], 0);
    if error.is_ok() {
        error = file.write_at(&[2; 100], 0);
    }
    assert_eq!(error.unwrap_err().raw_os_error(), Some(ENOSPC));
    assert_eq!(file.write_at(&[2; 100], 0).unwrap(), 100);
    assert!(disk.faults_fired() > 100);
}

#[test]
fn few_pieces_are_tried_in_every_combination_and_many_in_the_named_ones() {
    let mut random = Random::new(3);
    let units = |count| vec![Unit::Length { file: 1 }; count];
    let distinct = |count| {
        let tried = choices(&units(count), &mut Random::new(3));
        tried.iter().map(|fates| format!("{fates:?}")).collect::<BTreeSet<_>>().len()
    };
    assert_eq!(distinct(0), 1);
    assert_eq!(distinct(3), 8);
    assert!(distinct(10) >= 1024);
    let many = choices(&units(40), &mut random);
    for ones in [0, 1, 39, 40] {
        let is_new = |fate: &&Fate| **fate == Fate::New;
        let found = many.iter().filter(|fates| fates.iter().filter(is_new).count() == ones);
        assert!(found.count() >= if matches!(ones, 1 | 39) { 40 } else { 1 }, "{ones}");
    }
}

#[test]
fn a_dead_process_changes_nothing_and_clocks_and_listings_vary() {
    let disk = disk();
    let file = file_of(&disk, b"x");
    let early = disk.now();
    disk.set_clock(0);
    assert!(disk.now() < early + std::time::Duration::from_secs(1));
    for name in ["/a", "/b", "/c"] {
        disk.create_directory(Path::new(name)).unwrap();
    }
    let orders: BTreeSet<_> = (0..50).map(|_| disk.list(Path::new("/")).unwrap()).collect();
    assert!(orders.len() > 5);
    assert!(disk.lock(Path::new("/LOCK")).unwrap().is_some());
    let held = disk.lock(Path::new("/LOCK")).unwrap().unwrap();
    assert!(disk.lock(Path::new("/LOCK")).unwrap().is_none());
    drop(held);
    disk.kill();
    file.write_at(b"y", 0).unwrap_err();
    file.sync_data().unwrap_err();
    disk.rename(Path::new(FILE), Path::new("/other")).unwrap_err();
    assert_eq!(disk.state().content(FILE).unwrap(), b"x");
}

//! Repairs of everything that can be damaged: what the plan tells of the loss is what is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use prevalence::inspect::{Depth, Inspection, verify};
use prevalence::rescue::{Loss, LossKind, RepairPlan, plan_repair};
use prevalence::{Error, Retention};

use crate::common::{Ledger, content, copy_directory, is_needed, keeping_history, temporary};
use crate::{Oracle, check_opens, filled, newest_batches, unchanged};

fn plan(path: &Path) -> RepairPlan {
    unchanged(path, || plan_repair(path, |_| {}).unwrap())
}

/// Checks every figure of a loss.
fn check_loss(loss: &Loss, oracle: &Oracle) {
    let (first, last) = (*loss.sequences.start(), *loss.sequences.end());
    assert_eq!(loss.count(), last - first + 1);
    let (not_before, not_after) = (loss.not_before.unwrap(), loss.not_after);
    assert!(not_before <= oracle.time(first), "{loss:?}");
    assert!(not_after.is_none_or(|time| time >= oracle.time(last)), "{loss:?}");
    // What can be read on both sides says it as closely as it can.
    if loss.kind == LossKind::History && last < oracle.newest() {
        assert!(not_after.unwrap() <= oracle.time(last + 1), "{loss:?}");
    }
    if loss.kind == LossKind::History && first > 1 {
        assert!(not_before >= oracle.time(first - 1), "{loss:?}");
    }
    if loss.kind != LossKind::Unusable {
        assert!(loss.actors.is_empty() && loss.commands.is_empty());
        return;
    }
    assert_eq!((not_before, not_after), (oracle.time(first), Some(oracle.time(last))));
    let mut actors = BTreeMap::new();
    for sequence in first..=last {
        *actors.entry(oracle.actor(sequence).to_owned()).or_default() += 1;
    }
    assert_eq!(loss.actors, actors);
    assert_eq!(loss.commands.values().sum::<u64>(), loss.count());
}

/// Repairs a damaged copy, and compares it with what the program did. Returns the plan.
fn check_repair(path: &Path, oracle: &Oracle) -> RepairPlan {
    let plan = plan(path);
    let target = path.with_extension("repaired");
    let copied = unchanged(path, || plan.carry_out(&target, |_| {}).unwrap());
    assert_eq!(copied.sequence, plan.sequence());
    // Every command is in the new database, or is told to be lost.
    let lost: BTreeSet<u64> = plan.losses().iter().flat_map(|it| it.sequences.clone()).collect();
    assert_eq!(plan.newest_known(), oracle.newest());
    assert!(plan.is_newest_exact());
    let behind: Vec<u64> = (plan.sequence() + 1..=oracle.newest()).collect();
    assert!(behind.iter().all(|it| lost.contains(it)), "{lost:?}");
    for loss in plan.losses() {
        check_loss(loss, oracle);
        let is_of_state = *loss.sequences.start() > plan.sequence();
        assert_eq!(loss.kind != LossKind::History, is_of_state, "{loss:?}");
    }
    let mut stored = BTreeSet::new();
    let look = Inspection::open(&target).unwrap();
    let mut from = look.oldest_sequence().unwrap_or(copied.sequence + 1);
    while from <= copied.sequence {
        let Ok(records) = look.records(from..) else {
            from += 1;
            continue;
        };
        for record in records {
            let Ok(record) = record else { break };
            assert_eq!(record.metadata.actor, oracle.actor(record.sequence));
            assert_eq!(record.time, oracle.time(record.sequence));
            stored.insert(record.sequence);
            from = record.sequence;
        }
        from += 1;
    }
    if path.join("archive").exists() {
        // If the oldest file is gone, nothing tells that there was one.
        let all: BTreeSet<u64> = (oldest_file(path)..=oracle.newest()).collect();
        let kept: BTreeSet<u64> = all.difference(&lost).copied().collect();
        assert_eq!(stored, kept);
    }
    check_opens(&target, oracle, copied.sequence);
    std::fs::remove_dir_all(&target).unwrap();
    plan
}

/// Returns the first sequence of the oldest archive or segment.
fn oldest_file(path: &Path) -> u64 {
    let names = content(path)
        .into_keys()
        .filter(|name| name.extension().is_some_and(|end| end == "archive" || end == "journal"));
    names.map(|name| name.file_stem().unwrap().to_str().unwrap().parse().unwrap()).min().unwrap()
}

fn copy_of(path: &Path) -> PathBuf {
    let copy = path.with_extension("damaged");
    std::fs::remove_dir_all(&copy).ok();
    copy_directory(path, &copy);
    copy
}

#[test]
fn an_undamaged_database_needs_no_repair_and_loses_nothing() {
    for retention in [Retention::Archive, Retention::Truncate] {
        let (_directory, path) = temporary();
        let oracle = filled(&path, retention);
        let plan = check_repair(&path, &oracle);
        assert!(!plan.is_needed(), "{:?}", plan.unreadable());
        assert_eq!((plan.sequence(), plan.torn_bytes()), (oracle.newest(), 0));
    }
}

#[test]
fn each_file_may_be_damaged_anywhere_cut_or_gone() {
    let (_directory, path) = temporary();
    let oracle = filled(&path, Retention::Archive);
    let names: Vec<_> = content(&path).into_keys().filter(|name| is_needed(name)).collect();
    assert!(names.len() > 8, "{names:?}");
    let (mut lossless, mut lossy) = (0, 0);
    for name in names {
        let whole = std::fs::read(path.join(&name)).unwrap();
        let used = whole.len() - whole.iter().rev().take_while(|&&byte| byte == 0).count();
        let step = (used / 6).max(1);
        let mut versions: Vec<Option<Vec<u8>>> = vec![None, Some(Vec::new())];
        for at in (9..used).step_by(step) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x20;
            versions.push(Some(flipped));
            versions.push(Some(whole[..at].to_vec()));
        }
        for version in versions {
            let copy = copy_of(&path);
            match version {
                Some(bytes) => std::fs::write(copy.join(&name), bytes).unwrap(),
                None => std::fs::remove_file(copy.join(&name)).unwrap(),
            }
            let is_manifest = name == Path::new("MANIFEST");
            if is_manifest {
                // Nothing states how far the database had come: what is there is all.
                let plan = plan(&copy);
                assert_eq!(plan.sequence(), oracle.newest());
                assert!(!plan.is_newest_exact());
                let target = copy.with_extension("repaired");
                plan.carry_out(&target, |_| {}).unwrap();
                check_opens(&target, &oracle, oracle.newest());
                std::fs::remove_dir_all(&target).unwrap();
                continue;
            }
            let plan = check_repair(&copy, &oracle);
            if plan.losses().is_empty() {
                lossless += 1
            } else {
                lossy += 1
            }
            // What a verification finds is what the repair tells.
            let verified = verify(&copy, Depth::Deep, |_| {}).unwrap();
            assert!(!verified.is_sound() || !plan.is_needed(), "{name:?}");
            assert_eq!(plan.is_needed(), !verified.is_sound(), "{name:?}: {:?}", plan.unreadable());
        }
    }
    assert!(lossless > 10 && lossy > 10, "{lossless} and {lossy}");
}

#[test]
fn two_damages_leave_what_is_between_them() {
    let (_directory, path) = temporary();
    let oracle = filled(&path, Retention::Archive);
    let look = Inspection::open(&path).unwrap();
    let archives: Vec<_> = look.archives().iter().map(|it| it.path.clone()).collect();
    assert!(archives.len() >= 4, "{archives:?}");
    let copy = copy_of(&path);
    for archive in [&archives[1], &archives[3]] {
        let archive = copy.join(archive.strip_prefix(&path).unwrap());
        let mut bytes = std::fs::read(&archive).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&archive, bytes).unwrap();
    }
    let (segment, batches) = newest_batches(&copy);
    let bytes = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, &bytes[..batches.last().unwrap().0 + 50]).unwrap();
    let plan = check_repair(&copy, &oracle);
    let kinds: Vec<_> = plan.losses().iter().map(|it| it.kind).collect();
    assert_eq!(kinds[..2], [LossKind::History, LossKind::History], "{:?}", plan.losses());
    assert!(kinds.contains(&LossKind::State), "{:?}", plan.losses());
}

#[test]
fn without_a_whole_snapshot_nothing_can_be_repaired() {
    let (_directory, path) = temporary();
    filled(&path, Retention::Archive);
    for (name, bytes) in content(&path) {
        if name.extension().is_some_and(|it| it == "snapshot") {
            std::fs::write(path.join(name), &bytes[..bytes.len() - 3]).unwrap();
        }
    }
    let error = unchanged(&path, || plan_repair(&path, |_| {}).unwrap_err());
    assert!(matches!(error, Error::Missing { .. }), "{error}");
}

#[test]
fn a_database_that_is_open_is_not_repaired() {
    let (_directory, path) = temporary();
    let database = keeping_history::<Ledger>().open(&path).unwrap();
    let error = plan_repair(&path, |_| {}).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    database.close().unwrap();
    let plan = plan(&path);
    let error = plan.carry_out(&path, |_| {}).unwrap_err();
    assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
    let database = keeping_history::<Ledger>().open(&path).unwrap();
    let error = plan.carry_out(path.with_extension("repaired"), |_| {}).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    drop(database);
}

//! Snapshots that hold only what has changed since an earlier one.

use std::fs;
use std::path::{Path, PathBuf};

use prevalence::{ArchivedSnapshots, Database, Health, PurgeAction, Retention, SnapshotInfo};

use super::{builder, first_sequences, numbers, snapshots};
use crate::common::{Add, Carry, Ledger, bytes, content, copy_directory, temporary};

/// So many that a snapshot of them is large enough for others to rest on.
const ACCOUNTS: u32 = 60_000;

fn ledger() -> Ledger {
    let accounts = (0..ACCOUNTS).map(|account| (account, i64::from(account) << 20));
    Ledger { accounts: accounts.collect(), ..Ledger::default() }
}

fn sharing() -> prevalence::Builder<Ledger, impl prevalence::InitialModel<Ledger>> {
    builder().initial(ledger())
}

/// Changes a few accounts, and returns the state.
fn change(database: &Database<Ledger>, round: u32) -> Vec<u8> {
    for step in 0..8 {
        let account = (round * 7_919 + step * 5_003) % (ACCOUNTS + 100);
        database.execute(Add { account, amount: i64::from(round + step + 1) }).unwrap();
    }
    bytes(database)
}

fn file(database: &Path, sequence: u64) -> PathBuf {
    database.join(format!("snapshots/{sequence:020}.snapshot"))
}

fn reopened(path: &Path) -> (Vec<u8>, u64) {
    let database = sharing().open(path).unwrap();
    assert!(database.recovery().damaged_snapshots.is_empty());
    (bytes(&database), database.recovery().snapshot_sequence)
}

/// Takes this many snapshots after changes. Returns what is known of them.
fn take(database: &Database<Ledger>, rounds: std::ops::Range<u32>) -> Vec<(SnapshotInfo, Vec<u8>)> {
    let round = |round| {
        let state = change(database, round);
        (database.snapshot().unwrap(), state)
    };
    rounds.map(round).collect()
}

#[test]
fn a_snapshot_writes_what_has_changed_and_shares_the_rest() {
    let (_directory, path) = temporary();
    let database = sharing().keep_snapshots(1).open(&path).unwrap();
    let taken = take(&database, 0..4);
    let whole = &taken[0].0;
    assert_eq!(whole.shared_bytes, 0);
    let mut shared = whole.file_bytes;
    for (info, state) in &taken[1..] {
        assert!(info.file_bytes < whole.file_bytes / 20, "{} bytes", info.file_bytes);
        assert_eq!(info.file_bytes, fs::metadata(&info.path).unwrap().len());
        assert_eq!(info.shared_bytes, shared);
        shared += info.file_bytes;
        assert!(!state.is_empty());
    }
    let (info, state) = taken.last().unwrap();
    let stats = database.stats();
    assert_eq!(
        (stats.snapshot_file_bytes, stats.snapshot_shared_bytes, stats.snapshot_raw_bytes),
        (info.file_bytes, info.shared_bytes, info.raw_bytes)
    );
    assert!(info.raw_bytes > whole.raw_bytes && info.raw_bytes < whole.raw_bytes * 11 / 10);
    // The older ones are there as long as this one rests on them.
    assert_eq!(snapshots(&path), [8, 16, 24, 32]);
    database.close().unwrap();
    assert_eq!(&reopened(&path), &(state.clone(), 32));
    // The first snapshot of an open rests on the one that was loaded.
    let database = sharing().keep_snapshots(1).open(&path).unwrap();
    let (info, state) = take(&database, 4..5).pop().unwrap();
    assert_eq!((info.shared_bytes, snapshots(&path)), (shared, vec![8, 16, 24, 32, 40]));
    drop(database);
    assert_eq!(reopened(&path), (state, 40));
}

#[test]
fn a_whole_snapshot_follows_when_the_changes_outweigh_it_and_when_there_are_many() {
    let (_directory, path) = temporary();
    let database = sharing().open(&path).unwrap();
    let taken = take(&database, 0..24);
    let wholes: Vec<u64> = taken
        .iter()
        .filter(|(info, _)| info.shared_bytes == 0)
        .map(|(info, _)| info.sequence)
        .collect();
    assert_eq!(wholes, [8, 8 * 22], "20 rest on the first one");
    // The other kept one is the last before, and what it rests on stays, too.
    assert_eq!(snapshots(&path).len(), 24);
    let add = |account| Add { account, amount: i64::from(account) * 77_777 };
    let pending: Vec<_> = (0..ACCOUNTS).map(|it| database.submit(add(it)).unwrap()).collect();
    pending.into_iter().for_each(|pending| assert!(pending.wait().is_ok()));
    let whole = taken[21].0.file_bytes;
    let all = take(&database, 24..26);
    assert!(all[0].0.shared_bytes > 0 && all[0].0.file_bytes > whole);
    assert_eq!(all[1].0.shared_bytes, 0);
    let expected = bytes(&database);
    database.close().unwrap();
    assert_eq!(reopened(&path).0, expected);
}

#[test]
fn without_sharing_each_snapshot_is_whole() {
    let (_directory, path) = temporary();
    let database = sharing().share_snapshots(false).open(&path).unwrap();
    assert!(take(&database, 0..3).iter().all(|(info, _)| info.shared_bytes == 0));
    assert_eq!(snapshots(&path), [16, 24]);
}

/// Takes a whole snapshot after a round of changes.
fn take_whole(
    builder: prevalence::Builder<Ledger, impl prevalence::InitialModel<Ledger>>,
    path: &Path,
    round: u32,
) -> (SnapshotInfo, Vec<u8>) {
    let database = builder.share_snapshots(false).open(path).unwrap();
    let taken = take(&database, round..round + 1).pop().unwrap();
    assert_eq!(taken.0.shared_bytes, 0);
    database.close().unwrap();
    taken
}

/// Makes a database whose newest snapshot rests on two others, and that keeps an older one that
/// does not. Returns its state.
fn resting(path: &Path) -> Vec<u8> {
    let database = sharing().open(path).unwrap();
    take(&database, 0..1);
    database.close().unwrap();
    take_whole(sharing(), path, 1);
    let database = sharing().open(path).unwrap();
    let taken = take(&database, 2..4);
    assert!(taken[1].0.shared_bytes > 0);
    let state = change(&database, 4);
    database.close().unwrap();
    assert_eq!(snapshots(path), [8, 16, 24, 32]);
    state
}

#[test]
fn damage_to_a_base_costs_nothing_but_time() {
    let (_directory, path) = temporary();
    let expected = resting(&path);
    for sequence in [16, 24, 32] {
        for damage in 0..3 {
            let image = path.with_extension(format!("image-{sequence}-{damage}"));
            copy_directory(&path, &image);
            let damaged = file(&image, sequence);
            let mut whole = fs::read(&damaged).unwrap();
            let middle = whole.len() / 2;
            match damage {
                0 => fs::remove_file(&damaged).unwrap(),
                1 => fs::write(&damaged, &whole[..middle]).unwrap(),
                _ => {
                    whole[middle] ^= 1;
                    fs::write(&damaged, whole).unwrap();
                }
            }
            let database = sharing().open(&image).unwrap();
            assert_eq!(bytes(&database), expected, "{sequence} {damage}");
            let report = database.recovery();
            assert_eq!((report.snapshot_sequence, report.commands_replayed), (8, 32));
            assert_eq!(report.damaged_snapshots[0].path, file(&image, 32));
            let reason = &report.damaged_snapshots[0].reason;
            assert!(reason.contains(damaged.to_str().unwrap()), "{reason}");
            let (info, after) = take(&database, 5..6).pop().unwrap();
            drop(database);
            let database = sharing().open(&image).unwrap();
            assert_eq!(bytes(&database), after);
            drop(database);
            // The good one stays listed, and not what rests on the damaged one.
            fs::remove_file(info.path).unwrap();
            let database = sharing().open(&image).unwrap();
            assert_eq!((bytes(&database), database.recovery().snapshot_sequence), (after, 8));
        }
    }
}

/// A start does not read the older snapshot, and neither damage nor its own format stops the rest.
#[test]
fn an_older_snapshot_whose_header_cannot_be_read_stops_nothing() {
    let (_directory, path) = temporary();
    resting(&path);
    for at in [8, 40] {
        let image = path.with_extension(format!("image-{at}"));
        copy_directory(&path, &image);
        let mut older = fs::read(file(&image, 8)).unwrap();
        older[at] ^= 4;
        fs::write(file(&image, 8), older).unwrap();
        let database = sharing().open(&image).unwrap();
        let taken = take(&database, 5..8);
        assert!(matches!(database.health(), Health::Running));
        let expected = taken[2].1.clone();
        database.close().unwrap();
        assert_eq!(reopened(&image).0, expected);
    }
}

/// A flipped bit anywhere gives the exact state or an error.
#[test]
fn no_damage_to_snapshots_that_share_goes_unnoticed() {
    let (_directory, path) = temporary();
    let expected = resting(&path);
    let image = path.with_extension("image");
    for (name, whole) in content(&path.join("snapshots")) {
        let places = (0..whole.len()).filter(|at| at % (whole.len() / 40 + 1) == 3);
        let ends = whole.len().saturating_sub(500)..whole.len();
        for at in places.chain(ends.step_by(7)) {
            copy_directory(&path, &image);
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(image.join("snapshots").join(&name), flipped).unwrap();
            let database = sharing().open(&image).unwrap();
            assert_eq!(bytes(&database), expected, "byte {at} of {}", name.display());
            drop(database);
            fs::remove_dir_all(&image).unwrap();
        }
    }
}

/// The writer looks whether what it writes can be read.
#[test]
fn a_base_that_has_gone_makes_the_next_snapshot_whole() {
    let (_directory, path) = temporary();
    let database = sharing().open(&path).unwrap();
    take(&database, 0..2);
    fs::remove_file(file(&path, 8)).unwrap();
    let (info, state) = take(&database, 2..3).pop().unwrap();
    assert_eq!(info.shared_bytes, 0);
    assert!(matches!(database.health(), Health::Running));
    database.close().unwrap();
    let database = sharing().open(&path).unwrap();
    assert_eq!((bytes(&database), database.recovery().snapshot_sequence), (state, 24));
}

#[test]
fn an_archived_snapshot_comes_with_all_that_it_rests_on() {
    for archived in
        [ArchivedSnapshots::All, ArchivedSnapshots::EveryCommands(24), ArchivedSnapshots::FirstOnly]
    {
        let (_directory, path) = temporary();
        let builder = || {
            let builder = sharing().keep_snapshots(1).retention(Retention::Archive);
            builder.archive_snapshots(archived)
        };
        let open = || builder().open(&path).unwrap();
        let mut states = Vec::new();
        for run in 0..3 {
            let (info, state) = take_whole(builder(), &path, run * 5);
            states.push((info.sequence, state));
            let database = open();
            for (info, state) in take(&database, run * 5 + 1..run * 5 + 5) {
                states.push((info.sequence, state));
            }
            let history = database.history();
            for (sequence, state) in &states {
                let view = history.at(*sequence).unwrap();
                assert_eq!(&view.bytes(), state, "{archived:?} at {sequence}");
            }
            assert!(history.damaged_snapshots().is_empty());
            database.close().unwrap();
        }
        let kept = numbers(&path.join("archive"), "snapshot");
        match archived {
            ArchivedSnapshots::All => {
                assert_eq!(kept, (0..=10).map(|it| it * 8).collect::<Vec<_>>())
            }
            ArchivedSnapshots::EveryCommands(_) => {
                assert!((4..10).contains(&kept.len()), "{kept:?}")
            }
            _ => assert_eq!(kept, [0]),
        }
        let report = prevalence::verify_history::<Ledger>(&path).unwrap();
        assert!(report.divergence.is_none(), "{report:?}");
        // A copy stands alone.
        let database = open();
        let copy = path.with_extension("copy");
        let info = database.backup(&copy).unwrap();
        assert_eq!(info.shared_bytes, 0);
        let expected = bytes(&database);
        database.close().unwrap();
        assert_eq!(reopened(&copy).0, expected);
    }
}

/// The journal reaches back to a snapshot that rests on other files.
#[test]
fn the_journal_is_kept_for_the_snapshot_before_the_base() {
    let (_directory, path) = temporary();
    let database = sharing().open(&path).unwrap();
    for round in 0..6 {
        for _ in 0..6 {
            database.execute(Carry(vec![7; 20 << 10])).unwrap();
        }
        take(&database, round..round + 1);
    }
    assert_eq!(first_sequences(&path)[0], 1, "the initial snapshot is the other one");
    database.close().unwrap();
    take_whole(sharing(), &path, 6);
    let oldest = first_sequences(&path)[0];
    assert!(oldest > 60, "the last of those before is the other one, and {oldest} is the oldest");
}

/// A purge makes every snapshot again, also those on which others rest.
#[test]
fn a_purge_leaves_nothing_of_a_base() {
    let (_directory, path) = temporary();
    let open = || sharing().retention(Retention::Archive).open(&path).unwrap();
    let database = open();
    let taken = take(&database, 0..4);
    assert!(taken[3].0.shared_bytes > 0);
    let mut expected = database.query(Clone::clone);
    database.close().unwrap();
    let before = content(&path.join("snapshots"));
    let report = prevalence::purge::<Ledger>(&path, |record| match record.sequence() {
        10 => PurgeAction::Redact,
        _ => PurgeAction::Keep,
    });
    assert_eq!(report.unwrap().redacted, 1);
    // It was the second step of the second round.
    let account = (7_919 + 5_003) % (ACCOUNTS + 100);
    let amount = expected.accounts.get(&account).unwrap() - 3;
    expected.accounts.insert(account, amount);
    expected.changes -= 1;
    for (name, bytes) in content(&path.join("snapshots")) {
        let is_older = [0, 8].iter().any(|it| name == Path::new(&format!("{it:020}.snapshot")));
        assert_eq!(before.get(&name) == Some(&bytes), is_older, "{}", name.display());
    }
    let database = open();
    assert_eq!(bytes(&database), expected.bytes());
    let (info, state) = take(&database, 4..5).pop().unwrap();
    assert!(info.shared_bytes > 0, "it rests on one that was made again");
    database.close().unwrap();
    assert_eq!(reopened(&path).0, state);
    assert!(prevalence::verify_history::<Ledger>(&path).unwrap().divergence.is_none());
}

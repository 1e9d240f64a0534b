//! Compactions of an archive, which a crash or a failure may interrupt at every point.

use super::super::compact::{Compaction, CompactionReport, compact_on};
use super::*;
use crate::files::{archive_path, list_archives};
use crate::inspect::{Depth, StoredRecord, verify_with};
use crate::rescue::simulated::look;

fn compact(disk: &SimulatedDisk, how: &Compaction) -> Result<CompactionReport, Error> {
    compact_at(disk, PATH, how)
}

fn compact_at(
    disk: &SimulatedDisk,
    path: &str,
    how: &Compaction,
) -> Result<CompactionReport, Error> {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    compact_on(&storage, Path::new(path), how, &mut |_| {})
}

/// Everything that is known of all commands, but for the file that holds each.
fn history(disk: &SimulatedDisk, path: &str) -> Vec<StoredRecord> {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let nowhere: Arc<Path> = Path::new("").into();
    let records = look(&storage, Path::new(path)).unwrap().records(1..).unwrap();
    records.map(|record| StoredRecord { path: nowhere.clone(), ..record.unwrap() }).collect()
}

fn archives(disk: &SimulatedDisk, path: &str) -> Vec<u64> {
    list_archives(disk, &Path::new(path).join("archive")).unwrap()
}

fn check_sound(disk: &SimulatedDisk, path: &str, allows_notes: bool) {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    for depth in [Depth::Quick, Depth::Deep] {
        let done = verify_with(storage.clone(), Path::new(path), depth, &mut |_| {}).unwrap();
        assert!(done.is_sound(), "{:#?}", done.findings);
        assert!(allows_notes || done.findings.is_empty(), "{:#?}", done.findings);
    }
}

/// Makes a closed database with several archives.
fn archived(states: &mut States) -> State {
    let disk = SimulatedDisk::new(State::empty(), 1, false);
    work(&disk, 0..9, states);
    assert!(archives(&disk, PATH).len() > 4, "{:?}", archives(&disk, PATH));
    settled(&disk.state())
}

/// Archives of at most two segments.
fn pairs(start: &State) -> Compaction {
    groups(start, 2)
}

fn groups(start: &State, segments: u64) -> Compaction {
    let disk = SimulatedDisk::new(start.clone(), 1, false);
    let storage: Arc<dyn Storage> = Arc::new(disk);
    let look = look(&storage, Path::new(PATH)).unwrap();
    let largest = look.archives().iter().map(|it| it.content_bytes).max().unwrap();
    Compaction::default().content_bytes(segments * largest)
}

#[test]
fn a_crash_during_a_compaction_leaves_every_command() {
    let mut states = States::new();
    let start = archived(&mut states);
    for how in [Compaction::default(), pairs(&start)] {
        let disk = SimulatedDisk::new(start.clone(), 2, true);
        let (all, before) = (history(&disk, PATH), archives(&disk, PATH));
        disk.take_log();
        let done = compact(&disk, &how).unwrap();
        let log = disk.take_log();
        let after = archives(&disk, PATH);
        assert!(done.archives < done.archives_before && done.written > 0, "{done:?}");
        assert_eq!(
            (done.archives_before, done.archives),
            (before.len() as u64, after.len() as u64)
        );
        assert!(history(&disk, PATH) == all, "commands have changed");
        check_sound(&disk, PATH, false);

        let (mut state, mut random) = (start.clone(), Random::new(5));
        let (mut known, mut between) = (HashSet::new(), 0);
        for operation in log {
            state.apply(&operation);
            let units = state.units();
            let fates = choices(&units, &mut random);
            let cuts = fates.iter().map(|it| state.after_power_cut(&units, it, &mut random));
            for image in cuts.collect::<Vec<_>>().into_iter().chain([state.after_kill()]) {
                if !known.insert(image.fingerprint())
                    || (cfg!(debug_assertions) && known.len() > 30 && !random.once_in(4))
                {
                    continue;
                }
                let disk = SimulatedDisk::new(image, random.next(), false);
                between += usize::from(![&before, &after].contains(&&archives(&disk, PATH)));
                assert!(history(&disk, PATH) == all, "commands are missing");
                check_sound(&disk, PATH, true);
                let newest = *states.keys().last().unwrap();
                back_up(&disk, BackupHistory::With).unwrap();
                assert_eq!(opened(disk.state(), 1, &states), Some(newest));
                assert!(history(&disk, COPY) == all, "commands are missing in the backup");
                compact(&disk, &how).unwrap();
                assert_eq!(archives(&disk, PATH), after);
                assert!(history(&disk, PATH) == all, "commands are missing after the second");
                check_sound(&disk, PATH, false);
                back_up(&disk, BackupHistory::With).unwrap();
                assert!(history(&disk, COPY) == all, "commands are missing in the second backup");
                assert_eq!(archives(&disk, COPY), after);
                check_sound(&disk, COPY, false);
                assert_eq!(open(&disk, PATH).query(Shelf::bytes), states[&newest]);
            }
        }
        println!("{} images, {between} between", known.len());
        assert!(between > 1, "{between}");
    }
}

#[test]
fn a_failure_during_a_compaction_leaves_every_command() {
    let start = archived(&mut States::new());
    let disk = SimulatedDisk::new(start.clone(), 2, false);
    let all = history(&disk, PATH);
    let how = pairs(&start);
    compact(&disk, &how).unwrap();
    let after = archives(&disk, PATH);
    let mut failures = 0;
    for target in TARGETS {
        for nth in (0..).step_by(if cfg!(debug_assertions) { 3 } else { 1 }) {
            let disk = SimulatedDisk::new(start.clone(), 7, false);
            disk.plan(Fault { target, after: nth, kind: FaultKind::Error(5) });
            let done = compact(&disk, &how);
            if disk.faults_fired() == 0 {
                done.unwrap();
                break;
            }
            failures += 1;
            disk.cancel_faults();
            assert!(history(&disk, PATH) == all, "{target:?} {nth}");
            check_sound(&disk, PATH, true);
            compact(&disk, &how).unwrap();
            assert_eq!(archives(&disk, PATH), after);
            assert!(history(&disk, PATH) == all, "{target:?} {nth}");
        }
    }
    assert!(failures > 15, "{failures}");
}

#[test]
fn archives_that_do_not_belong_together_are_left() {
    let start = archived(&mut States::new());
    let disk = SimulatedDisk::new(start.clone(), 2, false);
    let all = archives(&disk, PATH);
    let path = |first| archive_path(&Path::new(PATH).join("archive"), first);

    // One that is missing: those before it and those behind it.
    disk.remove(&path(all[2])).unwrap();
    let done = compact(&disk, &Compaction::default()).unwrap();
    assert_eq!((done.archives, done.written), (2, 2));
    assert_eq!(archives(&disk, PATH), [all[0], all[3]]);

    // One that is damaged: nothing has changed.
    let disk = SimulatedDisk::new(start, 2, false);
    let mut bytes = disk.read(&path(all[1])).unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    crate::storage::replace_file(&disk, &path(all[1]), &bytes).unwrap();
    let before = disk.state().files();
    let error = compact(&disk, &Compaction::default()).unwrap_err();
    assert!(error.to_string().contains(&path(all[1]).display().to_string()), "{error}");
    assert_eq!(archives(&disk, PATH), all);
    assert_eq!(disk.state().files(), before);
}

#[test]
fn a_backup_and_its_original_may_be_compacted_in_different_ways() {
    for (own, other) in [(2, 3), (3, 2), (100, 2), (2, 100)] {
        let start = archived(&mut States::new());
        let disk = SimulatedDisk::new(start.clone(), 2, false);
        let all = history(&disk, PATH);
        back_up(&disk, BackupHistory::With).unwrap();
        compact(&disk, &groups(&start, own)).unwrap();
        compact_at(&disk, COPY, &groups(&start, other)).unwrap();
        let apart = (archives(&disk, PATH), archives(&disk, COPY));
        assert_ne!(apart.0, apart.1);
        for _ in 0..2 {
            back_up(&disk, BackupHistory::With).unwrap();
            assert!(history(&disk, COPY) == all, "{own} {other}");
            check_sound(&disk, COPY, true);
        }
        println!("{apart:?} {:?}", archives(&disk, COPY));
        compact_at(&disk, COPY, &Compaction::default()).unwrap();
        assert_eq!(archives(&disk, COPY).len(), 1);
        assert!(history(&disk, COPY) == all, "{own} {other}");
        check_sound(&disk, COPY, false);
    }
}

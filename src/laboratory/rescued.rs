//! Owns the verdict on what looks, verifications, repairs, restores and backups make of a spoiled
//! directory. Knows nothing of how it was spoiled.
//!
//! Nothing may panic, and nothing may change a byte of the original. If no checksum was forged:
//!
//! - what is read are the commands that were executed;
//! - whatever is saved opens, and is the state that the database had at its sequence;
//! - a repair saves no less than an open gives;
//! - what a verification calls sound is opened, restored, and backed up.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use super::model::{Mix, Tally};
use super::ruined::{HAS_ARCHIVE, Lived, is_forged, open, recovered, ruin};
use super::setup::DIRECTORY;
use super::sizes::Sizes;
use crate::files::{DatabaseId, Manifest, State as ManifestState};
use crate::inspect::{Depth, Inspection, Severity, verify_with};
use crate::rescue::simulated::{back_up, look, plan, repair, restore};
use crate::rescue::{BackupHistory, Point};
use crate::storage::Storage;
use crate::storage::simulated::{SimulatedDisk, State};

/// How many bytes of the input come before the changes.
pub(super) const HEAD_BYTES: usize = 2;

const REPAIRED: &str = "/copies/repaired.db";
const RESTORED: &str = "/copies/restored.db";
const BACKED_UP: &str = "/copies/backup.db";

/// One directory, and what is known of it.
struct Case {
    lived: [&'static Lived; 2],
    how: u8,
    /// The sequence to which it is restored.
    wanted: u64,
    ruined: State,
    disk: SimulatedDisk,
    storage: Arc<dyn Storage>,
}

/// How many copies an input has led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) sound: u32,
    pub(super) repaired: u32,
    pub(super) restored: u32,
    pub(super) backed_up: u32,
}

/// Spoils a directory as `data` says, and saves what can be saved.
pub(super) fn rescue(data: &[u8]) -> Saved {
    let mut saved = Saved::default();
    let Some((&[how, wanted], changes)) = data.split_first_chunk::<HEAD_BYTES>() else {
        return saved;
    };
    let _sizes = Sizes::small();
    let lived = Lived::both(how);
    let ruined = ruin(how, changes, lived);
    if is_waited_for(&ruined) {
        return saved;
    }
    let disk = SimulatedDisk::new(ruined.clone(), 1, false);
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let wanted = u64::from(wanted) % (lived[0].states.len() as u64 + 1);
    let case = Case { lived, how, wanted, ruined, disk, storage };
    let is_sound = case.reads();
    let least = case.opens(is_sound);
    saved.sound = u32::from(is_sound);
    saved.repaired = case.repairs(is_sound, least);
    saved.restored = case.restores(is_sound);
    saved.backed_up = case.backs_up(is_sound);
    assert!(original(&case.disk.state()) == original(&case.ruined), "the original was changed");
    saved
}

/// Returns whether a reader waits for another process, which takes half a second each time.
fn is_waited_for(state: &State) -> bool {
    let manifest = state.content(&format!("{DIRECTORY}/MANIFEST"));
    let manifest = manifest.and_then(|bytes| Manifest::decode(Path::new("ruined"), bytes).ok());
    let state = manifest.map(|manifest| manifest.state);
    matches!(state, Some(ManifestState::Creating | ManifestState::Swapping))
}

fn original(state: &State) -> BTreeMap<String, Vec<u8>> {
    let ours = state.files().into_keys().filter(|path| path.starts_with(DIRECTORY));
    ours.map(|path| (path.clone(), state.content(&path).unwrap().clone())).collect()
}

impl Case {
    fn has_archive(&self) -> bool {
        self.how & HAS_ARCHIVE != 0
    }

    fn of(&self, database: DatabaseId) -> Option<&'static Lived> {
        self.lived.into_iter().find(|it| it.database == database)
    }

    /// Checks that a model is what the database held at a sequence.
    fn check_state(&self, database: DatabaseId, sequence: u64, model: &[u8], what: &str) {
        if is_forged(self.how) {
            return;
        }
        let lived = self.of(database).unwrap_or_else(|| panic!("{what}: a database of nobody"));
        let state = lived.states.get(sequence as usize);
        let state = state.unwrap_or_else(|| panic!("{what}: nobody came to {sequence}"));
        assert!(*state == model, "{what}: not the state at {sequence}");
    }

    /// Looks at the directory, verifies it, and reads its commands. Returns whether it is sound.
    fn reads(&self) -> bool {
        let root = Path::new(DIRECTORY);
        if let Ok(look) = look(&self.storage, root) {
            self.read_records(&look);
        }
        let verified = [Depth::Quick, Depth::Deep]
            .map(|depth| verify_with(self.storage.clone(), root, depth, &mut |_| {}));
        let [quick, deep] = verified.map(|it| it.is_ok_and(|it| it.is_sound()));
        assert!(quick || !deep, "a quick verification finds what a deep one does not");
        deep
    }

    fn read_records(&self, look: &Inspection) {
        let Ok(records) = look.records(..) else { return };
        let mut before = None;
        for record in records.map_while(Result::ok) {
            assert!(before.is_none_or(|before| before + 1 == record.sequence));
            before = Some(record.sequence);
            if is_forged(self.how) {
                continue;
            }
            let lived = self.of(look.database()).expect("a database of somebody");
            let executed = &lived.commands[record.sequence as usize - 1];
            assert!(*executed == (record.tag, record.command), "a command that nobody executed");
        }
    }

    /// Opens a copy of the directory. Returns the sequence that it comes to.
    fn opens(&self, is_sound: bool) -> u64 {
        let disk = SimulatedDisk::new(self.ruined.clone(), 2, false);
        match recovered(&disk, Path::new(DIRECTORY), self.has_archive()) {
            Ok((database, sequence, model)) => {
                self.check_state(database, sequence, &model, "opened");
                sequence
            }
            Err(error) => {
                assert!(!is_sound || is_forged(self.how), "sound, but an open fails: {error}");
                0
            }
        }
    }

    /// Checks that the copy at `path` is sound but for the gaps in its history, and that it can be
    /// loaded.
    fn check_copy(&self, path: &str, sequence: u64, gaps: Option<&[RangeInclusive<u64>]>) {
        let root = Path::new(path);
        let verified = verify_with(self.storage.clone(), root, Depth::Deep, &mut |_| {}).unwrap();
        let is_gap = |lost: &RangeInclusive<u64>, gaps: &[RangeInclusive<u64>]| {
            gaps.iter().any(|gap| gap.contains(lost.start()) && gap.contains(lost.end()))
        };
        for it in verified.findings.iter().filter(|it| it.severity == Severity::Damage) {
            let Some(gaps) = gaps else { continue };
            let lost = it.sequences.as_ref();
            assert!(lost.is_some_and(|lost| is_gap(lost, gaps)), "{path} is not sound: {it:?}");
        }
        let copy = SimulatedDisk::new(self.disk.state(), 3, false);
        let (database, model) = match recovered(&copy, root, self.has_archive()) {
            Ok((database, found, model)) => {
                assert_eq!(found, sequence, "{path}");
                (database, model)
            }
            // What was forged may have no meaning for the program.
            Err(_) if is_forged(self.how) => return,
            Err(error) => panic!("{path} cannot be opened: {error}"),
        };
        self.check_state(database, sequence, &model, path);
    }

    /// Opens a copy, goes on with it, and opens it again.
    fn check_lives(&self, path: &str) {
        let root = Path::new(path);
        let copy = SimulatedDisk::new(self.disk.state(), 4, false);
        let Ok(database) = open(&copy, root, self.has_archive()) else {
            assert!(is_forged(self.how), "a closed copy cannot be opened");
            return;
        };
        // After a forged sequence there may be no next one.
        if database.sequence() < u64::MAX / 2 {
            database.execute(Mix(1)).unwrap();
        }
        let before = (database.id(), database.sequence(), database.query(Tally::bytes));
        database.close().unwrap();
        assert_eq!(recovered(&copy, root, self.has_archive()).unwrap(), before);
    }

    /// Repairs it. `least` is the sequence that an open comes to.
    fn repairs(&self, is_sound: bool, least: u64) -> u32 {
        let plan = match plan(&self.storage, Path::new(DIRECTORY)) {
            Ok(plan) => plan,
            Err(error) => {
                let may_fail = is_forged(self.how) || (!is_sound && least == 0);
                assert!(may_fail, "an open gives {least}, but a repair fails: {error}");
                return 0;
            }
        };
        let is_exact = !is_forged(self.how);
        assert!(!is_exact || plan.sequence() >= least, "an open gives {least}, {plan:?} less");
        assert!(!is_exact || !is_sound || plan.losses().is_empty(), "sound, but {plan:?}");
        match repair(&plan, &self.storage, Path::new(REPAIRED)) {
            Ok(copied) => {
                assert_eq!(copied.sequence, plan.sequence());
                self.check_copy(REPAIRED, copied.sequence, Some(&copied.missing_history));
                self.check_lives(REPAIRED);
                1
            }
            Err(error) => {
                assert!(!is_exact, "{plan:?} cannot be carried out: {error}");
                0
            }
        }
    }

    fn restores(&self, is_sound: bool) -> u32 {
        let mut done = 0;
        let points =
            [(Point::Sequence(self.wanted), false), (Point::Newest, self.wanted.is_multiple_of(2))];
        for (at, how) in points.into_iter().enumerate() {
            let target = format!("{RESTORED}{at}");
            match restore(&self.storage, Path::new(DIRECTORY), Path::new(&target), how) {
                Ok(copied) => {
                    if let Point::Sequence(wanted) = how.0 {
                        assert_eq!(copied.sequence, wanted);
                    }
                    assert!(how.1 || copied.missing_history.is_empty());
                    self.check_copy(&target, copied.sequence, Some(&copied.missing_history));
                    done += 1;
                }
                Err(error) => {
                    let must = is_sound && !is_forged(self.how) && how.0 == Point::Newest;
                    assert!(!must, "sound, but a restore fails: {error}");
                    assert!(self.disk.state().find(Path::new(&target)).is_none());
                }
            }
        }
        done
    }

    /// Backs it up twice: a second backup finds nothing new.
    fn backs_up(&self, is_sound: bool) -> u32 {
        let history = [BackupHistory::With, BackupHistory::Without];
        let history = history[usize::from(self.wanted.is_multiple_of(3))];
        let copy = || back_up(&self.storage, Path::new(DIRECTORY), Path::new(BACKED_UP), history);
        match copy() {
            Ok(report) => {
                // A damaged history is copied as far as it can be read.
                let gaps = if is_sound { Some(&[][..]) } else { None };
                self.check_copy(BACKED_UP, report.sequence, gaps);
                let again = copy().expect("what was backed up once can be backed up again");
                assert_eq!((again.sequence, again.copied_commands), (report.sequence, 0));
                1
            }
            Err(error) => {
                let must = is_sound && !is_forged(self.how);
                assert!(!must, "sound, but a backup fails: {error}");
                0
            }
        }
    }
}

#[cfg(test)]
#[path = "tests/rescued.rs"]
pub(super) mod tests;

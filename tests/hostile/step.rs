//! The steps of the engine that a hazard meets: what is done before, and the step itself.

use prevalence::{Database, PurgeAction, Retention, verify_history};

use super::diary::{Diary, Enter};
use super::hazard::Hazard;
use super::play::Play;

listed! {
    /// One step.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Step {
        OpenNew,
        Open,
        OpenKilled,
        CommitFirst,
        Commit,
        Batches,
        Rotation,
        Snapshot,
        Archive,
        Backup,
        Restore,
        Verify,
        Purge,
        Close,
    }
}

use Step::*;

/// How many commands are submitted before the test waits for the first.
const TOGETHER: usize = 9;

/// The number that a purge replaces, and its replacement.
pub const PURGED: u64 = 3;
pub const IN_ITS_PLACE: u64 = 900_003;

impl Step {
    /// Returns the template from which our database is copied.
    pub fn template(self) -> Option<&'static str> {
        match self {
            OpenNew => None,
            OpenKilled => Some("killed.db"),
            Snapshot => Some("truncate.db"),
            _ => Some("archive.db"),
        }
    }

    pub fn retention(self) -> Retention {
        if self == Snapshot { Retention::Truncate } else { Retention::Archive }
    }

    /// Returns whether the step works on a directory that nobody has open.
    pub fn is_offline(self) -> bool {
        matches!(self, Restore | Verify | Purge)
    }

    pub fn opens(self) -> bool {
        matches!(self, OpenNew | Open | OpenKilled)
    }

    /// Returns whether the hazard has a meaning at this step.
    pub fn can_meet(self, hazard: Hazard) -> bool {
        let in_memory_only = matches!(self, CommitFirst | Commit | Batches | Rotation | Close);
        match hazard {
            // Nobody has the data in memory: who removes them there has removed them.
            Hazard::Removed | Hazard::SegmentRemoved | Hazard::SegmentReplaced => {
                !self.is_offline() && !self.opens()
            }
            Hazard::ApplyPanics => !self.opens() && !self.is_offline() && self != Close,
            Hazard::SerializePanics => !in_memory_only,
            // The child of a fork has only its own calls to make.
            Hazard::Fork => !self.is_offline(),
            _ => true,
        }
    }

    /// Does everything before the step.
    pub fn prepare(self, play: &mut Play<'_>) {
        play.knows(self.template().map_or(0, |_| super::scene::IN_TEMPLATE));
        if self == OpenKilled {
            play.knows(super::scene::IN_TEMPLATE + 1);
        }
        if self.is_offline() || self.opens() {
            return;
        }
        play.open();
        assert!(play.said.is_empty(), "{:?}", play.said);
        if self == CommitFirst {
            return;
        }
        play.enter(false);
        play.enter(false);
        if matches!(self, Snapshot | Archive | Backup | Close) {
            for _ in 0..4 {
                play.enter(true);
            }
        }
    }

    /// Runs the step.
    pub fn run(self, play: &mut Play<'_>) {
        let path = play.path();
        match self {
            OpenNew | Open | OpenKilled => play.open(),
            CommitFirst | Commit => play.enter(false),
            Batches => play.enter_together(TOGETHER),
            Rotation => (0..4).for_each(|_| play.enter(true)),
            Snapshot | Archive => play.snapshot(),
            Backup => play.back_up("step.db"),
            Restore => {
                let target = play.scene.copies.join("step.db");
                let restored = play.call(|_| Database::<Diary>::restore(&path, &target));
                if restored.is_some() {
                    play.has_copied(target);
                }
            }
            Verify => {
                let report = play.call(|_| verify_history::<Diary>(&path));
                if let Some(divergence) = report.and_then(|report| report.divergence) {
                    play.wrong(format!("the history diverges: {divergence}"));
                }
            }
            Purge => {
                let purged = play.call(|_| {
                    prevalence::purge::<Diary>(&path, |record| match record.sequence() {
                        PURGED => PurgeAction::replace(Enter {
                            number: IN_ITS_PLACE,
                            padding: Vec::new(),
                        }),
                        _ => PurgeAction::Keep,
                    })
                });
                play.has_purged(purged.is_some());
            }
            Close => play.close(),
        }
    }
}

//! Owns what an open of the directory would do. Knows nothing of how long it takes: that depends on
//! the program's types.

use std::path::PathBuf;

use super::found::{OtherFile, OtherKind, SegmentFile, SnapshotFile, SnapshotPlace};
use super::journal_end::JournalEnd;

/// What an open would do, as far as headers, indexes and footers show it. Contents of snapshots are
/// not read for this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenPlan {
    /// The sequence of the snapshot that it would load.
    pub snapshot: Option<u64>,
    /// The files of that snapshot: it, and those that it rests on.
    pub snapshot_paths: Vec<PathBuf>,
    /// The size of these files in bytes.
    pub snapshot_bytes: u64,
    /// The size of their content in bytes, before packing.
    pub content_bytes: u64,
    /// Listed snapshots that are newer, but missing or damaged.
    pub skipped_snapshots: Vec<u64>,
    /// How many segments it would read.
    pub segments: u64,
    /// The bytes in these segments, up to the last one that is not zero.
    pub journal_bytes: u64,
    /// How many commands it would apply.
    pub commands: u64,
    /// How many commands at the end it would write again, because nothing states that they are on
    /// stable storage.
    pub rewritten_commands: u64,
    /// The bytes of a half-written batch that it would drop. The batch was never acknowledged.
    pub dropped_bytes: u64,
    /// How many temporary files, and leftovers of a purge or a backup, it would remove.
    pub removed_files: u64,
    /// Why the open would fail, if it would.
    pub problem: Option<String>,
    /// The same, as far as the archive is the reason. Without the archive, it would not.
    pub(crate) archive_problem: Option<String>,
}

impl OpenPlan {
    pub(super) fn of(
        listed: &[u64],
        snapshots: &[SnapshotFile],
        segments: &[SegmentFile],
        end: Option<&JournalEnd>,
        others: &[OtherFile],
    ) -> Self {
        let mut plan = Self::default();
        let current = |sequence: u64| {
            snapshots
                .iter()
                .find(|it| it.sequence == sequence && it.place == SnapshotPlace::Current)
        };
        for &sequence in listed.iter().rev() {
            let Some(files) = chain(sequence, current) else {
                plan.skipped_snapshots.push(sequence);
                continue;
            };
            plan.snapshot = Some(sequence);
            plan.snapshot_bytes = files.iter().map(|it| it.file_bytes).sum();
            plan.content_bytes = files.iter().map(|it| it.content_bytes).sum();
            plan.snapshot_paths = files.into_iter().map(|it| it.path.clone()).collect();
            break;
        }
        plan.removed_files = others
            .iter()
            .filter(|it| matches!(it.kind, OtherKind::Temporary | OtherKind::PurgeLeftover))
            .count()
            .try_into()
            .unwrap_or(u64::MAX);
        plan.read_journal(segments, end);
        plan
    }

    /// Adds that the open would fail because of the archive.
    pub(super) fn with_archive_problem(mut self, problem: Option<String>) -> Self {
        self.archive_problem = problem.filter(|_| self.problem.is_none());
        self.problem = self.problem.or_else(|| self.archive_problem.clone());
        self
    }

    fn read_journal(&mut self, segments: &[SegmentFile], end: Option<&JournalEnd>) {
        let Some(snapshot) = self.snapshot else {
            self.problem = Some("no listed snapshot is there and undamaged".to_owned());
            return;
        };
        let first_needed = snapshot.saturating_add(1);
        let start = segments.iter().rposition(|it| it.first_sequence <= first_needed);
        let Some(start) = start else {
            self.problem = Some(format!(
                "no segment holds sequence {first_needed}, with which the journal must continue \
                 behind snapshot {snapshot}"
            ));
            return;
        };
        let needed = segments.get(start..).unwrap_or(&[]);
        self.segments = needed.len().try_into().unwrap_or(u64::MAX);
        self.journal_bytes = needed.iter().map(|it| it.used_bytes).sum();
        let problem = needed.iter().find_map(|it| it.problem.clone());
        self.problem = problem.or_else(|| end?.problem.clone());
        let Some(end) = end else {
            self.problem.get_or_insert_with(|| "the journal has no newest segment".to_owned());
            return;
        };
        if end.sequence < snapshot {
            self.problem.get_or_insert_with(|| {
                format!(
                    "the journal ends with sequence {}, before snapshot {snapshot}",
                    end.sequence
                )
            });
        }
        self.commands = end.sequence.saturating_sub(snapshot);
        self.rewritten_commands = end.unconfirmed_commands;
        self.dropped_bytes = end.torn_bytes;
    }
}

/// Returns a snapshot and those that it rests on; `None` if one of them is missing or damaged.
fn chain<'a>(
    sequence: u64,
    find: impl Fn(u64) -> Option<&'a SnapshotFile>,
) -> Option<Vec<&'a SnapshotFile>> {
    let sound = |sequence| find(sequence).filter(|it| it.problem.is_none());
    let mut files = vec![sound(sequence)?];
    while let Some(last) = files.last()
        && let Some(base) = last.base
    {
        // Each base is older, so this ends.
        files.push(sound(base).filter(|it| it.sequence < last.sequence)?);
    }
    Some(files)
}

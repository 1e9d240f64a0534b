//! Owns backups by copying files: again and again into the same directory, and only what is new.
//! Knows nothing of models.
//!
//! At each moment the copy can be opened, or says why not:
//!
//! | the copy                        | its MANIFEST              | an open of it                  |
//! |---------------------------------|---------------------------|--------------------------------|
//! | the first backup is unfinished  | none, but a marker        | fails, and says so             |
//! | a later backup appends batches  | dirty, of the last backup | gives at least the last backup |
//! | a later backup has a new journal | swapping                 | finishes the exchange          |
//! | finished                        | clean                     | gives the backup               |
//!
//! The journal of the copy is made anew if the original has archived commands since, or lacks what
//! follows the copy's. New archives come last: an archive must not reach into the journal. So if a
//! later backup is interrupted at the end, only the history in the copy has a gap, and the next one
//! fills it. A backup that was interrupted is repeated, and what it has copied counts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::copying::{End, Part, PartWriter, write_last_segment};
use super::mirror::Mirror;
use super::places::{check_apart, tidy};
use super::proof::is_live;
use super::way::Way;
use super::{Progress, Steps, cannot_be_opened, is_about};
use crate::database::Database;
use crate::error::Error;
use crate::files::{FileHeader, Manifest, SEGMENT_MAGIC, State, position};
use crate::history::HistoryFiles;
use crate::inspect::{DatabaseState, Inspection, Opener, SnapshotPlace};
use crate::journal::SegmentIdentity;
use crate::model::Model;
use crate::storage::{Disk, ReadOnlyDisk, Storage};

/// How often a backup is begun again because the program changes the directory meanwhile.
const MOST_LOOKS: u32 = 8;

/// What a backup has done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// The directory of the backup.
    pub path: PathBuf,
    /// The sequence of its newest command.
    pub sequence: u64,
    /// The sequence of the snapshot with which an open of it begins.
    pub snapshot: u64,
    /// The oldest command that can be read in it; `None` if there is none.
    pub oldest: Option<u64>,
    /// How many files were copied or written. Those that were there already are not counted.
    pub copied_files: u64,
    /// Their size in bytes.
    pub copied_bytes: u64,
    /// How many commands were copied into segments. Those in archives are not counted.
    pub copied_commands: u64,
}

/// Whether a backup has the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackupHistory {
    /// The newest snapshot, and the commands behind it. A backup that has the history already keeps
    /// it up to date.
    Without,
    /// Everything that is stored: archives, archived snapshots, and all of the journal.
    With,
}

/// Copies the database in the directory `path` into the directory `target`: a new one, or one into
/// which it was copied before. Then only what is new since is copied. It works without the
/// program's types, on a closed directory, on a backup, and beside a program that has the database
/// open: then the copy ends with the newest command of which the files state that it is on stable
/// storage.
///
/// Every file is read back and verified after it was copied. The copy is a closed database that can
/// be opened. But once a program has written into it, or a purge has changed the original, they are
/// of different histories, and the next backup needs a new directory.
///
/// # Errors
/// - [`Error::NotEmpty`] if there is something else at `target`, or if it is `path` or inside it.
/// - [`Error::ForeignFile`] if another database is there.
/// - [`Error::Locked`] if a program has the copy open.
/// - [`Error::OtherHistory`] if the copy has gone its own way, or is further than the original.
/// - [`Error::Corrupt`] if files of the original are damaged: see
///   [`plan_repair`](super::plan_repair).
/// - Those of [`Inspection::open`], and [`Error::Io`] if the copy cannot be written.
///
/// If it fails, the last finished backup in `target` can still be opened.
pub fn backup(
    path: impl AsRef<Path>,
    target: impl AsRef<Path>,
    history: BackupHistory,
    mut progress: impl FnMut(Progress),
) -> Result<BackupReport, Error> {
    let (path, target) = (tidy(path.as_ref())?, tidy(target.as_ref())?);
    let source: Arc<dyn Storage> = Arc::new(ReadOnlyDisk);
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    repeatedly(&source, &storage, &target, history, &mut progress, || {
        let look = Inspection::open(&path)?;
        let end = look.journal_end().filter(|_| is_live(&look)).map(|end| end.durable_sequence);
        let end = end.unwrap_or_else(|| look.newest_sequence());
        Ok((look, end))
    })
}

impl<M: Model> Database<M> {
    /// Copies the files of the database into the directory `target`: the newest snapshot, all
    /// commands behind it, and the history. Into a directory with an earlier backup of this kind
    /// only what is new is copied. The copy ends with the newest durable command. Commands and
    /// reads go on meanwhile. See [`rescue::backup`](crate::rescue::backup()), which does the same
    /// from outside.
    ///
    /// # Errors
    /// Those of [`rescue::backup`](crate::rescue::backup()); [`Error::Poisoned`] if the database
    /// has [failed](crate::Poisoned); [`Error::Reentrant`] if the call comes from a command's
    /// `apply`; [`Error::Forked`] in the child of a fork.
    pub fn backup_with_history(&self, target: impl AsRef<Path>) -> Result<BackupReport, Error> {
        let target = tidy(target.as_ref())?;
        let (source, path) = self.stored_files()?;
        let storage = source.clone().for_copies();
        repeatedly(&source, &storage, &target, BackupHistory::With, &mut |_| {}, || {
            let end = self.sync()?;
            let writer = |_: &Path| Opener::Writer { process: None };
            Ok((Inspection::open_with(source.clone(), &path, writer)?, end))
        })
    }
}

/// Copies again while the program changes the directory, a bounded number of times.
fn repeatedly(
    source: &Arc<dyn Storage>,
    storage: &Arc<dyn Storage>,
    target: &Path,
    history: BackupHistory,
    progress: &mut dyn FnMut(Progress),
    mut look: impl FnMut() -> Result<(Inspection, u64), Error>,
) -> Result<BackupReport, Error> {
    let mut looks = 0;
    loop {
        let (look, end) = look()?;
        let copying = Copying { source, storage, look: &look, end, history };
        match copying.carry_out(target, progress) {
            Ok(report) => return Ok(report),
            Err(error) => {
                // Its program may have archived or removed files meanwhile.
                looks += 1;
                let may_change = look.state() != DatabaseState::Clean && looks < MOST_LOOKS;
                if !may_change || !is_about(&error, look.path()) {
                    return Err(error);
                }
            }
        }
    }
}

/// A backup at work.
pub(super) struct Copying<'a> {
    pub(super) source: &'a Arc<dyn Storage>,
    pub(super) storage: &'a Arc<dyn Storage>,
    pub(super) look: &'a Inspection,
    /// The sequence with which the copy shall end.
    pub(super) end: u64,
    pub(super) history: BackupHistory,
}

/// Looks at the copy, which must be one that can be opened.
fn look_at_copy(storage: &Arc<dyn Storage>, root: &Path) -> Result<Inspection, Error> {
    let look = Inspection::open_with(storage.clone(), root, |_| Opener::NobodySeen)?;
    match &look.open_plan().problem {
        Some(problem) => Err(cannot_be_opened(root, "a copy that can be opened", problem)),
        None => Ok(look),
    }
}

impl Copying<'_> {
    pub(super) fn carry_out(
        &self,
        target: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<BackupReport, Error> {
        let root = self.look.path();
        check_apart(root, target)?;
        let plan = self.look.open_plan();
        // The copy may be one without the archive.
        let is_sound = plan.problem == plan.archive_problem;
        let snapshot = plan.snapshot.filter(|_| is_sound).ok_or_else(|| self.unopened())?;
        let mut steps = Steps::of(&**self.source, root, progress)?;
        let mut mirror = Mirror::open(self.source, self.storage, target, self.look)?;
        let copied = self.copy(&mut mirror, snapshot, &mut |bytes| steps.step(bytes));
        let unlocked = mirror.unlock();
        let report = copied?; // if both have failed, the first error is returned
        unlocked?;
        Ok(report)
    }

    /// Makes the error that the original cannot be opened.
    fn unopened(&self) -> Error {
        let problem = self.look.open_plan().problem.as_deref().unwrap_or_default();
        cannot_be_opened(self.look.path(), "a database that can be opened", problem)
    }

    fn copy(
        &self,
        mirror: &mut Mirror<'_>,
        snapshot: u64,
        step: &mut dyn FnMut(u64),
    ) -> Result<BackupReport, Error> {
        let has_history = self.history == BackupHistory::With || mirror.has_archive()?;
        if has_history && self.look.open_plan().archive_problem.is_some() {
            return Err(self.unopened());
        }
        let files = self.look.history_files();
        let first = self.first_wanted(snapshot, has_history);
        let way = self.way(mirror, &files, snapshot, (first, has_history))?;
        let is_first = mirror.is_first();
        mirror.begin(way.is_append)?;
        self.copy_files(mirror, step)?;
        if is_first && has_history {
            self.copy_archive(mirror, step)?;
        }
        let (end, commands) = self.copy_commands(mirror, &files, &way, step)?;
        mirror.switch(Manifest {
            database: self.look.database(),
            state: State::Clean,
            sequence: end.sequence,
            chain: end.chain,
            newest_segment: end.sequence.saturating_add(1),
            snapshots: vec![snapshot],
        })?;
        let paths = &self.look.open_plan().snapshot_paths;
        let kept: BTreeSet<_> = paths.iter().filter_map(|it| it.file_name()).collect();
        mirror.remove_superseded(&kept, if has_history { 0 } else { first })?;
        if !is_first && has_history {
            self.copy_archive(mirror, step)?;
        }
        let look = look_at_copy(self.storage, &mirror.directory.root)?;
        Ok(BackupReport {
            path: mirror.directory.root.clone(),
            sequence: end.sequence,
            snapshot,
            oldest: look.oldest_sequence().filter(|&oldest| oldest <= end.sequence),
            copied_files: mirror.copied_files,
            copied_bytes: mirror.copied_bytes,
            copied_commands: commands,
        })
    }

    /// Copies the files that never change, but those in the archive.
    fn copy_files(&self, mirror: &mut Mirror<'_>, step: &mut dyn FnMut(u64)) -> Result<(), Error> {
        for schemas in self.look.schemas().iter().filter(|it| it.problem.is_none()) {
            mirror.copy_small(&schemas.path, "schemas", step)?;
        }
        for purge in self.look.purges().iter().filter(|it| it.problem.is_none()) {
            mirror.copy_small(&purge.path, "purges", step)?;
        }
        for path in &self.look.open_plan().snapshot_paths {
            mirror.copy_snapshot(path, "snapshots", step)?;
        }
        Ok(())
    }

    fn copy_archive(
        &self,
        mirror: &mut Mirror<'_>,
        step: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        let archived = self.look.snapshots().iter().filter(|it| it.place == SnapshotPlace::Archive);
        for snapshot in archived {
            mirror.copy_snapshot(&snapshot.path, "archive", step)?;
        }
        for archive in self.look.archives() {
            mirror.copy_archive(&archive.path, step)?;
        }
        Ok(())
    }

    /// Copies the commands that the copy does not have into new segments. Returns the copy's end,
    /// and how many commands it has copied.
    fn copy_commands(
        &self,
        mirror: &mut Mirror<'_>,
        files: &Arc<HistoryFiles>,
        way: &Way,
        step: &mut dyn FnMut(u64),
    ) -> Result<(End, u64), Error> {
        let from = way.from;
        let known = way.before.as_ref().map(|(_, known)| known.clone());
        let before = way.before.as_ref().map(|(end, _)| *end);
        let unknown = End { sequence: from.saturating_sub(1), chain: 0, time_ns: 0 };
        let mut end = before.unwrap_or(unknown);
        let (mut identity, mut writer): (_, Option<(PathBuf, PartWriter)>) = (None, None);
        let mut frames = match from <= self.end {
            true => Some(files.frames(from, known)?),
            false => None,
        };
        while let Some(frames) = &mut frames
            && end.sequence < self.end
            && frames.advance()?
        {
            let Some((file, frame)) = frames.frame() else { break };
            if before.is_none() && end == unknown {
                // The file begins with this batch.
                (end.chain, end.time_ns) = (frame.chain_before, file.header.time_ns);
            }
            if writer.as_ref().is_none_or(|(path, _)| *path != file.path) {
                if let Some((_, done)) = writer.take() {
                    mirror.publish(done)?;
                }
                let part = Part {
                    identity: SegmentIdentity::of(&file.header),
                    first: end.sequence.saturating_add(1),
                    last: self.end,
                    chain: end.chain,
                    time_ns: end.time_ns,
                };
                let begun = PartWriter::begin(&**self.storage, &mirror.new.journal, &part)?;
                (identity, writer) = (Some(part.identity), Some((file.path.clone(), begun)));
            }
            if let Some((path, writer)) = &mut writer {
                writer.push(&frame, path)?;
                end = writer.end();
                step(position(frame.header.frame_bytes()));
            }
        }
        if let Some((_, done)) = writer.take() {
            mirror.publish(done)?;
        }
        if end.sequence != self.end {
            let expected = format!("commands up to sequence {}", self.end);
            let found = format!("commands up to {}", end.sequence);
            return Err(Error::corrupt(self.look.path(), 0, expected, found));
        }
        let identity = match identity {
            Some(identity) => identity,
            None => SegmentIdentity::of(&self.newest_header()?),
        };
        write_last_segment(&**self.storage, &mirror.new, &identity, end)?;
        Ok((end, end.sequence.saturating_add(1).saturating_sub(from)))
    }

    fn newest_header(&self) -> Result<FileHeader, Error> {
        let segment = self.look.segments().iter().rev().find(|it| it.problem.is_none());
        let path = segment.map_or_else(|| self.look.path().to_path_buf(), |it| it.path.clone());
        let file = self.source.open_to_read(&path).map_err(Error::io("read", &path))?;
        Ok(FileHeader::read(&path, SEGMENT_MAGIC, &*file)?.0)
    }
}

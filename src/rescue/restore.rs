//! Owns going back to an earlier command or time: point-in-time recovery into a new directory.
//! Knows nothing of models.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::assembly::Assembly;
use super::course::Course;
use super::held_files::HeldFiles;
use super::places::{check_apart, tidy};
use super::proof::{is_live, prove};
use super::stock::Stock;
use super::{Copied, Progress, Steps, is_about};
use crate::error::Error;
use crate::files::beside;
use crate::inspect::{DatabaseState, Inspection};
use crate::model::time_ns;
use crate::storage::{Disk, ReadOnlyDisk, Storage};

/// How often a directory is read again because its program changes it meanwhile.
const MOST_LOOKS: u32 = 8;

/// To which command a database is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Point {
    /// The newest one.
    Newest,
    /// The one with this sequence.
    Sequence(u64),
    /// The last one that is not later than this time.
    Time(SystemTime),
}

/// Writes the database in the directory `path` as it was at `point` into the directory `target`,
/// which must be empty or missing. It works without the program's types, on a closed directory, on
/// a backup, and beside a program that has the database open. If there is an archive, the copy has
/// the history up to there, too.
///
/// The copy is the same database: it has the same id. But the commands behind `point` are not in
/// it, so from its next command on it is another history. Do not mix files of the two, and let
/// followers that have gone further begin again.
///
/// # Errors
/// - [`Error::NotEmpty`] if something is at `target`.
/// - [`Error::HistoryTruncated`] if no snapshot is old enough.
/// - [`Error::NotReached`] if the database has not come to that sequence.
/// - [`Error::Corrupt`] if it has, but a file between the snapshot and that command is damaged or
///   missing: see [`plan_repair`](super::plan_repair).
/// - Those of [`Inspection::open`], and [`Error::Io`] if the copy cannot be written.
///
/// If it fails, nothing is at `target`.
pub fn restore_to(
    path: impl AsRef<Path>,
    target: impl AsRef<Path>,
    point: Point,
    mut progress: impl FnMut(Progress),
) -> Result<Copied, Error> {
    let (path, target) = (tidy(path.as_ref())?, tidy(target.as_ref())?);
    check_apart(&path, &target)?;
    let source: Arc<dyn Storage> = Arc::new(ReadOnlyDisk);
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let mut looks = 0;
    loop {
        looks += 1;
        let source = HeldFiles::of(&source, &path);
        let look = Inspection::open(&path)?;
        // Its program may archive and remove files meanwhile.
        let may_change = look.state() != DatabaseState::Clean && looks < MOST_LOOKS;
        let how = How { point, accepts_gaps: !may_change };
        match restore_with(&source, &look, &storage, &target, how, &mut progress) {
            Err(error) if may_change && is_about(&error, &path) => {}
            result => return result,
        }
    }
}

/// How a database is restored.
#[derive(Clone, Copy)]
pub(crate) struct How {
    pub(super) point: Point,
    /// Whether the history may lack commands. Otherwise that is an error.
    pub(super) accepts_gaps: bool,
}

/// Restores as [`restore_to`] through these storages.
pub(crate) fn restore_with(
    source: &Arc<dyn Storage>,
    look: &Inspection,
    storage: &Arc<dyn Storage>,
    target: &Path,
    How { point, accepts_gaps }: How,
    progress: &mut dyn FnMut(Progress),
) -> Result<Copied, Error> {
    beside::require_empty(&**storage, target)?;
    let mut steps = Steps::of(&**source, look.path(), progress)?.times(3);
    let stock = Stock::read(source, look.path(), &mut |bytes| steps.step(bytes))?;
    // What is not on stable storage yet must not be in a copy that is.
    let newest = match look.journal_end().filter(|_| is_live(look)) {
        Some(end) => end.durable_sequence,
        None => stock.newest,
    };
    let wanted = match point {
        Point::Newest => newest,
        Point::Sequence(sequence) => sequence,
        Point::Time(time) => stock.last_at(time)?.min(newest),
    };
    if wanted > newest {
        return Err(Error::NotReached { wanted, newest });
    }
    let course = reach(&stock, wanted)?;
    let past = stock.past(course.snapshot);
    let gaps = past.gaps(stock.oldest, course.snapshot.sequence);
    let gaps: Vec<_> = gaps.into_iter().map(|(first, last)| first..=last).collect();
    if let Some(gap) = gaps.first().filter(|_| !accepts_gaps) {
        let expected = format!("commands {} to {}", gap.start(), gap.end());
        return Err(Error::corrupt(look.path(), 0, expected, "none"));
    }
    let assembly = Assembly { stock: &stock, course: &course, past: &past, target: storage };
    let sequence = beside::write(&**storage, target, Some(look.path()), |staging| {
        let end = assembly.write(staging, &mut |bytes| steps.step(bytes))?;
        prove(storage, &staging.root, end, gaps.iter(), &mut steps)?;
        Ok::<_, Error>(end.sequence)
    })?;
    Ok(Copied { path: PathBuf::from(target), sequence, missing_history: gaps })
}

/// Finds the way to exactly this sequence.
fn reach(stock: &Stock, wanted: u64) -> Result<Course<'_>, Error> {
    let root = || stock.directory.root.clone();
    let Some(course) = stock.course(wanted) else {
        let oldest = stock.snapshots.last().map_or(stock.newest, |it| it.sequence);
        return Err(Error::HistoryTruncated { path: root(), wanted, oldest });
    };
    if course.end == wanted {
        return Ok(course);
    }
    let next = course.end.saturating_add(1);
    // The first of what is wrong is what a user can do something about.
    let expected = format!("commands {next} to {wanted}, which follow sequence {}", course.end);
    let found = match stock.unreadable.first() {
        Some(first) => format!("damage: {}: {}", first.path.display(), first.reason),
        None => "none: they are no longer stored".to_owned(),
    };
    Err(Error::corrupt(&root(), 0, expected, found))
}

impl Stock {
    /// Returns the sequence of the last command that is not later than this time, as far as it can
    /// be read.
    fn last_at(&self, time: SystemTime) -> Result<u64, Error> {
        let time_ns = time_ns(time);
        // Times never go back, so the piece that begins before it and reaches beyond it holds it.
        let begun = self.pieces.iter().filter(|it| it.first_time_ns <= time_ns);
        let Some(piece) = begun.max_by_key(|it| it.last) else {
            let snapshots = self.snapshots.iter().filter(|it| it.header.time_ns <= time_ns);
            let newest = snapshots.map(|it| it.sequence).max();
            return newest.ok_or_else(|| Error::TimeTruncated {
                path: self.directory.root.clone(),
                wanted: time,
                oldest: self.oldest,
            });
        };
        if piece.last_time_ns <= time_ns {
            // The commands behind it may be no later, if they cannot be read: then the first of
            // them is wanted, so that nothing is left out silently.
            let next = piece.last.saturating_add(1);
            let goes_on = self.pieces.iter().any(|it| it.holds(next));
            return Ok(if goes_on || piece.last >= self.newest { piece.last } else { next });
        }
        let mut frames = piece.open(&*self.storage, &self.directory, piece.first)?;
        let path = frames.file().path.clone();
        let mut found = piece.first;
        while frames.next_sequence() <= piece.last && frames.advance(piece.last)? {
            let Some(frame) = frames.frame() else { break };
            frame.each_record(&path, |sequence, record| {
                if record.time_ns <= time_ns {
                    found = sequence;
                }
                Ok::<_, Error>(())
            })?;
        }
        Ok(found)
    }
}

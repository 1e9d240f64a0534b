//! Owns the repair of a damaged database: first the plan, then a new directory beside the old one.
//! Changes nothing in the old one. Knows nothing of models.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::assembly::Assembly;
use super::course::{Course, Past};
use super::held_files::HeldFiles;
use super::loss::{Loss, LossKind};
use super::pieces::Unreadable;
use super::places::{check_apart, tidy};
use super::proof::{prove, refuse_open};
use super::stock::Stock;
use super::{Copied, Progress, Steps};
use crate::error::Error;
use crate::files::beside;
use crate::inspect::{Inspection, Opener};
use crate::storage::{Disk, ReadOnlyDisk, Storage};

/// What a repair is going to do; see [`plan_repair`].
pub struct RepairPlan {
    stock: Stock,
    snapshot: u64,
    sequence: u64,
    losses: Vec<Loss>,
}

impl std::fmt::Debug for RepairPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RepairPlan")
            .field("path", &self.path())
            .field("snapshot", &self.snapshot)
            .field("sequence", &self.sequence)
            .field("losses", &self.losses)
            .finish_non_exhaustive()
    }
}

/// Reads all of the database in the directory `path`, whatever is damaged in it, and plans a new
/// database with the highest sequence that can be reached. Changes nothing.
///
/// # Errors
/// [`Error::Locked`] if a program has the database open. [`Error::Missing`] if there is no database
/// at `path`, or no snapshot that is whole: without a snapshot only the program itself can tell
/// what the commands have made. [`Error::UnsupportedFormat`] if a newer release wrote it.
/// [`Error::PurgeUnfinished`] if a purge, or a backup into the directory, was interrupted while it
/// exchanged directories: the next open finishes that. [`Error::Io`] if the directory cannot be
/// read.
pub fn plan_repair(
    path: impl AsRef<Path>,
    mut progress: impl FnMut(Progress),
) -> Result<RepairPlan, Error> {
    let path = tidy(path.as_ref())?;
    refuse_open(&path)?;
    let storage = HeldFiles::of(&(Arc::new(ReadOnlyDisk) as _), &path);
    plan_with(&storage, &path, &mut progress)
}

/// Plans as [`plan_repair`] through `storage`.
pub(crate) fn plan_with(
    storage: &Arc<dyn Storage>,
    path: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<RepairPlan, Error> {
    let mut steps = Steps::of(&**storage, path, progress)?;
    let mut stock = Stock::read(storage, path, &mut |bytes| steps.step(bytes))?;
    if stock.manifest.is_some() && stock.unreadable.is_empty() {
        let look = Inspection::open_with(storage.clone(), path, |_| Opener::NobodySeen)?;
        let problem = look.open_plan().problem.clone();
        let path = path.to_path_buf();
        stock.unreadable.extend(problem.map(|reason| Unreadable { path, reason }));
    }
    let (course, past) = ways(&stock)?;
    let losses = stock.losses(&course, &past)?;
    let (snapshot, sequence) = (course.snapshot.sequence, course.end);
    Ok(RepairPlan { snapshot, sequence, losses, stock })
}

/// Finds the way to the highest sequence, and what is kept before it.
fn ways(stock: &Stock) -> Result<(Course<'_>, Past<'_>), Error> {
    let course = stock.course(u64::MAX).ok_or_else(|| Error::Missing {
        path: stock.directory.snapshots.clone(),
        reason: "no snapshot in it or in `archive/` is whole, and what the commands have made is \
                 known only to the program. Its commands can still be read"
            .to_owned(),
    })?;
    let past = stock.past(course.snapshot);
    Ok((course, past))
}

impl RepairPlan {
    /// Returns the directory that is to be repaired.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.stock.directory.root
    }

    /// Returns what is wrong with the directory.
    #[must_use]
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.stock.unreadable
    }

    /// Returns whether anything is wrong with the directory.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        !self.stock.unreadable.is_empty() || !self.losses.is_empty()
    }

    /// Returns the sequence of the snapshot with which the new database begins.
    #[must_use]
    pub fn snapshot(&self) -> u64 {
        self.snapshot
    }

    /// Returns the sequence that the new database will have.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns the newest sequence of which anything in the directory tells.
    #[must_use]
    pub fn newest_known(&self) -> u64 {
        self.stock.newest
    }

    /// Returns whether [`newest_known`](Self::newest_known) was certainly the newest one. If the
    /// newest segment was cut or is gone, and the database was not closed, later commands may have
    /// been lost of which nothing tells.
    #[must_use]
    pub fn is_newest_exact(&self) -> bool {
        self.stock.is_newest_exact
    }

    /// Returns the commands that the new database will not have.
    #[must_use]
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// Returns the bytes of a batch that was being written when the process ended. Nobody was told
    /// that its commands were accepted.
    #[must_use]
    pub fn torn_bytes(&self) -> u64 {
        self.stock.torn_bytes
    }

    /// Writes the new database into the directory `target`, which must be empty or missing, and
    /// verifies all of it. Changes nothing in the old directory. If it fails, nothing is at
    /// `target`.
    ///
    /// The copies of followers are not taken over: projections, sinks and reactors begin again, or
    /// go on from what they have stored elsewhere. A sink that has stored commands which are lost
    /// here refuses to go on.
    ///
    /// # Errors
    /// [`Error::Locked`] if a program has the old database open now. [`Error::NotEmpty`] if
    /// something is at `target`. [`Error::Io`] if it cannot be written. [`Error::Corrupt`] if the
    /// result is not sound, which nothing should cause but a disk that fails.
    pub fn carry_out(
        &self,
        target: impl AsRef<Path>,
        mut progress: impl FnMut(Progress),
    ) -> Result<Copied, Error> {
        refuse_open(self.path())?;
        let target = tidy(target.as_ref())?;
        check_apart(self.path(), &target)?;
        self.carry_out_with(&(Arc::new(Disk) as _), &target, &mut progress)
    }

    pub(crate) fn carry_out_with(
        &self,
        storage: &Arc<dyn Storage>,
        target: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Copied, Error> {
        let (course, past) = ways(&self.stock)?;
        let gaps: Vec<_> = self.losses.iter().filter(|it| it.kind == LossKind::History).collect();
        let mut steps = Steps::of(&*self.stock.storage, self.path(), progress)?.times(2);
        let assembly =
            Assembly { stock: &self.stock, course: &course, past: &past, target: storage };
        let model = Some(self.path());
        let sequence = beside::write(&**storage, target, model, |staging| {
            let end = assembly.write(staging, &mut |bytes| steps.step(bytes))?;
            let gaps = gaps.iter().map(|it| &it.sequences);
            prove(storage, &staging.root, end, gaps, &mut steps)?;
            Ok::<_, Error>(end.sequence)
        })?;
        let missing_history = gaps.iter().map(|it| it.sequences.clone()).collect();
        Ok(Copied { path: PathBuf::from(target), sequence, missing_history })
    }
}

//! Owns repairs, restores and backups on a disk in memory, for the tests and the fuzz targets of
//! this crate. Knows nothing of what they should give.

use std::path::Path;
use std::sync::Arc;

use super::backup::Copying;
use super::repair::{RepairPlan, plan_with};
use super::restore::{How, restore_with};
use super::{BackupHistory, BackupReport, Copied, Point};
use crate::error::Error;
use crate::inspect::{Inspection, Opener};
use crate::storage::Storage;

/// Looks at a database that nobody has open.
pub(crate) fn look(storage: &Arc<dyn Storage>, path: &Path) -> Result<Inspection, Error> {
    Inspection::open_with(storage.clone(), path, |_| Opener::NobodySeen)
}

pub(crate) fn plan(storage: &Arc<dyn Storage>, path: &Path) -> Result<RepairPlan, Error> {
    plan_with(storage, path, &mut |_| {})
}

pub(crate) fn repair(
    plan: &RepairPlan,
    storage: &Arc<dyn Storage>,
    target: &Path,
) -> Result<Copied, Error> {
    plan.carry_out_with(storage, target, &mut |_| {})
}

pub(crate) fn restore(
    storage: &Arc<dyn Storage>,
    path: &Path,
    target: &Path,
    (point, accepts_gaps): (Point, bool),
) -> Result<Copied, Error> {
    let how = How { point, accepts_gaps };
    restore_with(storage, &look(storage, path)?, storage, target, how, &mut |_| {})
}

pub(crate) fn back_up(
    storage: &Arc<dyn Storage>,
    path: &Path,
    target: &Path,
    history: BackupHistory,
) -> Result<BackupReport, Error> {
    let look = look(storage, path)?;
    let end = look.newest_sequence();
    let copying = Copying { source: storage, storage, look: &look, end, history };
    copying.carry_out(target, &mut |_| {})
}

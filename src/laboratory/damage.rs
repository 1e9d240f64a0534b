//! Owns silent damage: a flipped bit, a sector with another sector's content, a removed or
//! shortened file, a segment from another branch of the history. The engine must detect it: it must
//! give the exact state or a typed error, and never a shorter state or a panic.

use std::path::Path;
use std::sync::Arc;

use super::model::{Mix, Tally};
use super::setup::{DIRECTORY, Setup};
use crate::files::Manifest;
use crate::inspect::{Depth, verify_with};
use crate::storage::simulated::{PIECE_BYTES, Random, SimulatedDisk, State};
use crate::{Database, Error};

/// How many damages are tried on each closed database.
pub(crate) const TRIES_ON_CLOSED: usize = 40;

/// Which damage to plant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Any single damage.
    Any,
    /// A damage that cannot hit both the last batch and the mark that proves it durable.
    Flip,
}

/// The position at which the frames of a small segment begin.
const FRAMES_BEGIN: usize = 4096;

/// An image with one damage.
pub(crate) struct Damaged {
    pub(crate) image: State,
    pub(crate) what: String,
    /// Whether an open may fail with an error. It must not if only the newest of two snapshots is
    /// damaged, because the older one can be used.
    pub(crate) may_fail: bool,
}

/// Damages a copy of `image`. A sector may get back its content from `earlier`, an earlier state.
pub(crate) fn plant(
    image: &State,
    earlier: &State,
    demand: Demand,
    random: &mut Random,
) -> Option<Damaged> {
    let files: Vec<(String, usize)> = image
        .files()
        .into_iter()
        .filter(|(path, length)| {
            *length > 0 && path.starts_with(DIRECTORY) && !path.ends_with(".tmp")
        })
        .collect();
    let spare = spare_snapshot(image);
    let (path, _) = match &spare {
        _ if files.is_empty() => return None,
        Some(path) if random.once_in(4) => files.iter().find(|(found, _)| found == path)?.clone(),
        // At the journal's end, damage could be mistaken for a torn batch.
        _ if demand == Demand::Flip && !random.once_in(4) => {
            files.iter().rfind(|(path, _)| path.ends_with(".journal"))?.clone()
        }
        _ => random.pick(&files),
    };
    let mut damaged = image.clone();
    let may_fail = spare.as_ref() != Some(&path);
    if random.once_in(8) {
        damaged.remove(&path);
        return Some(Damaged { image: damaged, what: format!("{path} removed"), may_fail });
    }
    let before = image.content(&path)?;
    let mut content = before.clone();
    let what = spoil(&mut content, &path, demand, (image, earlier, &files), random)?;
    // The format version is read before any checksum: see `docs::format`.
    let other_format = content.len() >= 12 && content[8..12] != before[8..12];
    damaged.replace(&path, content);
    Some(Damaged { image: damaged, what, may_fail: may_fail || other_format })
}

/// Damages the content of one file, and says how.
fn spoil(
    content: &mut Vec<u8>,
    path: &str,
    demand: Demand,
    (image, earlier, files): (&State, &State, &[(String, usize)]),
    random: &mut Random,
) -> Option<String> {
    let length = content.len();
    // Most of a segment is zeros at its end.
    let used = length - content.iter().rev().take_while(|byte| **byte == 0).count();
    let within = if random.once_in(4) { length } else { (used + 8).min(length) };
    let begin = if demand == Demand::Flip && within > FRAMES_BEGIN { FRAMES_BEGIN } else { 0 };
    let at = begin + random.below(within - begin);
    let sector = at / PIECE_BYTES * PIECE_BYTES;
    let end = (sector + PIECE_BYTES).min(length);
    let kind = if demand == Demand::Flip { 0 } else { random.below(7) };
    let (source, from) = match kind {
        0 | 1 => {
            content[at] ^= 1 << random.below(8);
            return Some(format!("a bit of byte {at} flipped in {path}"));
        }
        2 => {
            content.truncate(at);
            return Some(format!("{path} cut at {at}"));
        }
        3 => {
            content[sector..end].fill(0);
            return Some(format!("zeros at {sector} in {path}"));
        }
        4 => (earlier.content(path)?, sector),
        _ => {
            let (other, other_length) = random.pick(files);
            (image.content(&other)?, random.below(other_length) / PIECE_BYTES * PIECE_BYTES)
        }
    };
    let bytes = source.get(from..)?;
    let bytes = &bytes[..bytes.len().min(end - sector)];
    content[sector..sector + bytes.len()].copy_from_slice(bytes);
    Some(format!("the content of another sector or of an earlier time at {sector} in {path}"))
}

/// Returns the path of the newest listed snapshot, if an older one is listed too.
fn spare_snapshot(image: &State) -> Option<String> {
    let path = format!("{DIRECTORY}/MANIFEST");
    let manifest = Manifest::decode(Path::new(&path), image.content(&path)?).ok()?;
    let [.., _, newest] = manifest.snapshots[..] else { return None };
    Some(format!("{DIRECTORY}/snapshots/{newest:020}.snapshot"))
}

fn open(disk: &SimulatedDisk, setup: &Setup) -> Result<Database<Tally>, Error> {
    let (storage, options) = (Arc::new(disk.clone()), setup.options());
    let path = Path::new(DIRECTORY);
    let mut progress = Box::new(|_| {}) as _;
    Database::<Tally>::open_with(storage, path, options, Tally::default, &mut progress)
}

/// Verifies an image without the program's types: what an open refuses must be found.
pub(crate) fn verified(image: &State, setup: &Setup, seed: u64) -> Result<(), String> {
    let disk = SimulatedDisk::new(image.clone(), seed, false);
    let storage = Arc::new(disk.clone());
    let found = verify_with(storage, Path::new(DIRECTORY), Depth::Deep, &mut |_| {});
    if !found.is_ok_and(|found| found.is_sound()) {
        return Ok(());
    }
    match open(&disk, setup) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("a verification finds nothing, but an open fails: {error}")),
    }
}

/// Lets two copies of a closed database go on differently, and gives one of them the other's newest
/// segment. Only the chain value shows that this segment does not belong there.
pub(crate) fn mixed_fork(image: &State, setup: &Setup, seed: u64) -> Result<(), String> {
    let open = |disk: &SimulatedDisk| open(disk, setup);
    let go_on = |branch: u64| -> Result<SimulatedDisk, Error> {
        let disk = SimulatedDisk::new(image.clone(), seed ^ branch, false);
        for value in 0..2 {
            let database = open(&disk)?;
            let executed = database.execute(Mix(seed ^ (branch * 10 + value)));
            executed.expect("Mix is always accepted");
            database.close()?;
        }
        Ok(disk)
    };
    let failed = |error: Error| format!("a closed database cannot go on: {error}");
    let (ours, theirs) = (go_on(1).map_err(failed)?, go_on(2).map_err(failed)?);
    let mut mixed = ours.state();
    let files = mixed.files();
    let newest = files.keys().filter(|path| path.ends_with(".journal")).max();
    let path = newest.ok_or("a closed database has no segment")?.clone();
    let Some(foreign) = theirs.state().content(&path).cloned() else {
        return Ok(());
    };
    mixed.replace(&path, foreign);
    verified(&mixed, setup, seed)?;
    match open(&SimulatedDisk::new(mixed, seed, false)) {
        Err(_) => Ok(()),
        Ok(database) => {
            let found = (database.sequence(), database.query(Tally::bytes));
            let whole = open(&ours).map_err(failed)?;
            if found == (whole.sequence(), whole.query(Tally::bytes)) {
                return Ok(());
            }
            Err("a segment of another branch of the history was accepted".to_owned())
        }
    }
}

//! Owns silent damage: a bit that flips, a sector that holds another's content, a file that is gone
//! or cut short, a segment from another branch of history. The demand is detection: the exact state
//! or a typed error, never a shorter state and never a panic.

use std::path::Path;
use std::sync::Arc;

use super::model::{Mix, Tally};
use super::setup::{DIRECTORY, Setup};
use crate::manifest::Manifest;
use crate::storage::simulated::{PIECE_BYTES, Random, SimulatedDisk, State};
use crate::{Database, Error};

/// So many damages are tried on each closed database.
pub(crate) const TRIES_ON_CLOSED: usize = 40;

/// Which damage is to be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Any single one.
    Any,
    /// One that cannot hit both the last batch and the mark that vouches for it.
    Flip,
}

/// Damages a copy of `image`. Gives it, what was done, and whether it may be told by an error:
/// damage to the newest of two snapshots may not, for the older one is there for that.
pub(crate) fn plant(
    image: &State,
    demand: Demand,
    random: &mut Random,
) -> Option<(State, String, bool)> {
    let files: Vec<(String, usize)> = image
        .files()
        .into_iter()
        .filter(|(path, length)| {
            *length > 0 && path.starts_with(DIRECTORY) && !path.ends_with(".tmp")
        })
        .collect();
    let spared = spare_snapshot(image);
    let (path, length) = match (&spared, random.once_in(4)) {
        (Some(path), true) => files.iter().find(|(found, _)| found == path)?.clone(),
        _ if files.is_empty() => return None,
        // The journal's end is where damage could be taken for a torn batch.
        _ if demand == Demand::Flip && !random.once_in(4) => {
            files.iter().rfind(|(path, _)| path.ends_with(".journal"))?.clone()
        }
        _ => random.pick(&files),
    };
    let mut damaged = image.clone();
    let mut content = damaged.content(&path)?.clone();
    // Most of a segment is zeros at its end.
    let used = content.len() - content.iter().rev().take_while(|byte| **byte == 0).count();
    let within = if random.once_in(4) { length } else { (used + 8).min(length) };
    let frames = if demand == Demand::Flip && within > 4096 { 4096 } else { 0 };
    let at = frames + random.below(within - frames);
    let sector = at / PIECE_BYTES * PIECE_BYTES;
    let end = (sector + PIECE_BYTES).min(length);
    let kind = if demand == Demand::Flip { random.below(3) } else { random.below(7) };
    let what = match kind {
        0 | 1 => {
            content[at] ^= 1 << random.below(8);
            format!("a bit of byte {at} flipped in {path}")
        }
        2 => {
            damaged.remove(&path);
            return Some((damaged, format!("{path} removed"), spared.as_ref() != Some(&path)));
        }
        3 => {
            content.truncate(at);
            format!("{path} cut at {at}")
        }
        4 => {
            content[sector..end].fill(0);
            format!("zeros at {sector} in {path}")
        }
        _ => {
            let (other, other_length) = random.pick(&files);
            let from = random.below(other_length) / PIECE_BYTES * PIECE_BYTES;
            let bytes = image.content(&other)?;
            let taken = (bytes.len() - from).min(end - sector);
            let bytes = bytes[from..from + taken].to_vec();
            content[sector..sector + taken].copy_from_slice(&bytes);
            format!("byte {from} of {other} at {sector} in {path}")
        }
    };
    // Which format it is, is looked at before any checksum can be: see `docs::format`.
    let other_format = content.get(8..12) != image.content(&path)?.get(8..12);
    damaged.replace(&path, content);
    let cut = kind == 3; // a cut before byte 12 is told as damage
    Some((damaged, what, spared.as_ref() != Some(&path) || (other_format && !cut)))
}

/// The newest listed snapshot, if an older one is listed too.
fn spare_snapshot(image: &State) -> Option<String> {
    let path = format!("{DIRECTORY}/MANIFEST");
    let manifest = Manifest::decode(Path::new(&path), image.content(&path)?).ok()?;
    let [.., _, newest] = manifest.snapshots[..] else { return None };
    Some(format!("{DIRECTORY}/snapshots/{newest:020}.snapshot"))
}

/// Lets a closed database go on in two ways, and gives one of them the other's newest segment. Only
/// the chain tells that it does not follow.
pub(crate) fn mixed_fork(image: &State, setup: &Setup, seed: u64) -> Result<(), String> {
    let open = |disk: &SimulatedDisk| {
        let storage = Arc::new(disk.clone());
        let options = setup.options();
        let path = Path::new(DIRECTORY);
        Database::<Tally>::open_with(
            storage,
            path,
            options,
            Tally::default,
            &mut (Box::new(|_| {}) as _),
        )
    };
    let go_on = |branch: u64| -> Result<(SimulatedDisk, u64), Error> {
        let disk = SimulatedDisk::new(image.clone(), seed ^ branch, false);
        let mut sequence = 0;
        for value in 0..2 {
            let database = open(&disk)?;
            let executed = database.execute(Mix(seed ^ (branch * 10 + value)));
            sequence = executed.expect("Mix is always accepted").0;
            database.close()?;
        }
        Ok((disk, sequence))
    };
    let failed = |error: Error| format!("a closed database does not go on: {error}");
    let (ours, sequence) = go_on(1).map_err(failed)?;
    let (theirs, _) = go_on(2).map_err(failed)?;
    let path = format!("{DIRECTORY}/journal/{sequence:020}.journal");
    let mut mixed = ours.state();
    let (Some(_), Some(foreign)) = (mixed.content(&path), theirs.state().content(&path).cloned())
    else {
        return Ok(()); // a snapshot at closing made it superfluous
    };
    mixed.replace(&path, foreign);
    match open(&SimulatedDisk::new(mixed, seed, false)) {
        Err(_) => Ok(()),
        Ok(database) => {
            let found = (database.sequence(), database.query(Tally::bytes));
            let whole = open(&ours).map_err(failed)?;
            if found == (whole.sequence(), whole.query(Tally::bytes)) {
                return Ok(());
            }
            Err("a segment of another branch of history was taken for ours".to_owned())
        }
    }
}

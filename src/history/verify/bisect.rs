//! Owns the search for the command at which two replicas begin to differ. Knows nothing of why
//! there are two.
//!
//! ```text
//! round 1   low ----- v1 ----- v2 ----- v3 ----- v4 --- … --- v64 = high
//!           equal     equal    equal    differs                differs
//!                              |        |
//! round 2                      low -- … high
//! ```
//!
//! Each round replays both replicas from `low` to `high`, keeps up to 64 versions on the way, and
//! halves them until an equal version and a differing one are neighbours. The next round begins
//! there. The search ends when only one command is between `low` and `high`.

use std::sync::Arc;

use crate::error::Error;
use crate::history::replica::Replica;
use crate::history::source::HistoryFiles;
use crate::history::stored_commands::StoredCommand;
use crate::model::Model;

/// How many versions of each replica one round of the search keeps. A version costs a clone of the
/// model, and the memory of the changes up to the next version.
const CHECKPOINTS: u64 = 64;

/// Two models at one sequence, and the time of that command.
pub(super) struct Pair<A, B> {
    pub(super) left: A,
    pub(super) right: B,
    pub(super) sequence: u64,
    pub(super) time_ns: u64,
}

impl<A: Model, B: Model> Pair<A, B> {
    /// Clones the models of two replicas, which must have applied the same commands.
    pub(super) fn of(left: &Replica<A>, right: &Replica<B>) -> Self {
        Self {
            left: left.replayed.model.clone(),
            right: right.replayed.model.clone(),
            sequence: left.replayed.sequence,
            time_ns: left.replayed.time_ns,
        }
    }
}

/// Where two replicas begin to differ: they are equal at `after` and differ at `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parting {
    pub(super) after: u64,
    pub(super) at: u64,
}

/// Searches for the command between `begin` and `end` at which the replicas begin to differ. They
/// must be equal at `begin`. `None`: they do not differ at `end`. If replay is not deterministic,
/// the replicas may not differ when they are replayed again. Then the result spans more than one
/// command.
pub(super) fn first_parting<A: Model, B: Model>(
    files: &Arc<HistoryFiles>,
    begin: Pair<A, B>,
    end: u64,
    differ: &dyn Fn(&A, &B) -> Result<bool, Error>,
) -> Result<Option<Parting>, Error> {
    let (mut low, mut high, mut found) = (begin, end, None);
    while high > low.sequence {
        let mut versions = match replay_both(files, &low, high) {
            // A command that was applied in an earlier replay is refused now: at this command,
            // replay differs from itself.
            Err(Error::ReplayDiverged { sequence, .. }) => {
                return Ok(Some(Parting { after: sequence - 1, at: sequence }));
            }
            versions => versions?,
        };
        let Some(last) = versions.last() else { break };
        if !differ(&last.left, &last.right)? {
            break;
        }
        let first = first_different(&versions, differ)?;
        high = versions.get(first).map_or(high, |version| version.sequence);
        if let Some(last_equal) = first.checked_sub(1) {
            low = versions.swap_remove(last_equal);
        }
        found = Some(Parting { after: low.sequence, at: high });
        if high - low.sequence == 1 {
            break;
        }
    }
    Ok(found)
}

/// Finds the place of the first version that differs, by halving. The last version must differ.
fn first_different<A, B>(
    versions: &[Pair<A, B>],
    differ: &dyn Fn(&A, &B) -> Result<bool, Error>,
) -> Result<usize, Error> {
    // All versions before `low` are equal; the version at `high` is different.
    let (mut low, mut high) = (0, versions.len().saturating_sub(1));
    while low < high {
        let middle = low + (high - low) / 2;
        let Some(version) = versions.get(middle) else { break };
        if differ(&version.left, &version.right)? {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(high)
}

/// Replays both replicas from `begin` to `end`. Returns at most [`CHECKPOINTS`] versions, in order;
/// the last one is at `end`.
fn replay_both<A: Model, B: Model>(
    files: &Arc<HistoryFiles>,
    begin: &Pair<A, B>,
    end: u64,
) -> Result<Vec<Pair<A, B>>, Error> {
    let (from, time_ns) = (begin.sequence, begin.time_ns);
    let mut left = Replica::new(files, begin.left.clone(), from, time_ns);
    let mut right = Replica::new(files, begin.right.clone(), from, time_ns);
    let step = (end - from).div_ceil(CHECKPOINTS);
    let mut versions = Vec::new();
    let mut commands = files.commands(from + 1, None)?;
    while let Some(StoredCommand { file, sequence, record, .. }) = commands.next()? {
        left.apply(file, &record)?;
        right.apply(file, &record)?;
        if (sequence - from).is_multiple_of(step) || sequence == end {
            versions.push(Pair::of(&left, &right));
        }
        if sequence == end {
            break;
        }
    }
    Ok(versions)
}

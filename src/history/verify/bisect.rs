//! Owns finding the command at which two replicas part that are replayed side by side. Knows nothing
//! of why there are two.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::error::Error;
use crate::history::replica::Replica;
use crate::history::source::HistoryFiles;
use crate::model::Model;

/// So many versions of each replica are kept for one round of the search. A version costs a clone of
/// the model, and the memory of what commands change until the next.
const CHECKPOINTS: u64 = 64;

/// Two models at one sequence, and the time of its command.
pub(super) struct Pair<A, B> {
    pub(super) left: A,
    pub(super) right: B,
    pub(super) sequence: u64,
    pub(super) time_ns: u64,
}

/// Where two replicas were found to part: equal at `after`, not at `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parting {
    pub(super) after: u64,
    pub(super) at: u64,
}

/// Replays both replicas from `begin`, where they are equal, to `end`, and where they part halves the
/// way between an equal and a differing version until one command is left. `None`: they do not
/// differ at `end`. Lines that are not deterministic may not part again when they are replayed
/// again; then what is left is more than one command.
pub(super) fn first_parting<A: Model, B: Model>(
    files: &Arc<HistoryFiles>,
    begin: Pair<A, B>,
    end: u64,
    differ: &dyn Fn(&A, &B) -> Result<bool, Error>,
) -> Result<Option<Parting>, Error> {
    let (mut low, mut high, mut found) = (begin, end, None);
    while high > low.sequence {
        let mut versions = match replay_both(files, &low, high) {
            // What was applied before is refused now: it has parted from itself.
            Err(Error::ReplayDiverged { sequence, .. }) => {
                return Ok(Some(Parting { after: sequence - 1, at: sequence }));
            }
            versions => versions?,
        };
        let Some(last) = versions.last() else { break };
        if !differ(&last.left, &last.right)? {
            break;
        }
        // Equal at `low`, different at the last one: somewhere between they part.
        let (mut equal, mut different) = (0, versions.len());
        while different - equal > 1 {
            let middle = equal + (different - equal) / 2;
            let version = middle.checked_sub(1).and_then(|at| versions.get(at));
            let Some(version) = version else { break };
            if differ(&version.left, &version.right)? {
                different = middle;
            } else {
                equal = middle;
            }
        }
        high = versions.get(different - 1).map_or(high, |version| version.sequence);
        if equal > 0 {
            low = versions.swap_remove(equal - 1);
        }
        found = Some(Parting { after: low.sequence, at: high });
        if high - low.sequence == 1 {
            break;
        }
    }
    Ok(found)
}

/// Versions of both replicas, in order, from behind `begin` to `end`, at most [`CHECKPOINTS`].
fn replay_both<A: Model, B: Model>(
    files: &Arc<HistoryFiles>,
    begin: &Pair<A, B>,
    end: u64,
) -> Result<Vec<Pair<A, B>>, Error> {
    let (from, time_ns) = (begin.sequence, begin.time_ns);
    let mut left = Replica::new(files.database, begin.left.clone(), from, time_ns);
    let mut right = Replica::new(files.database, begin.right.clone(), from, time_ns);
    let step = (end - from).div_ceil(CHECKPOINTS);
    let mut versions = Vec::new();
    files.frames(from + 1, None)?.each_record(|file, sequence, record| {
        left.apply(file, record)?;
        right.apply(file, record)?;
        if (sequence - from).is_multiple_of(step) || sequence == end {
            versions.push(Pair {
                left: left.replayed.model.clone(),
                right: right.replayed.model.clone(),
                sequence,
                time_ns: left.replayed.time_ns,
            });
        }
        Ok(if sequence == end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(versions)
}

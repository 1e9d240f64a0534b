//! Owns which segments stay because a durable follower has not read them yet. Knows nothing of what
//! a follower does with them.
//!
//! A follower holds what is behind its durable position, whether it runs or not. If that is more
//! than it may hold, it is lost: first its file says so, durably, then the segments go. A follower
//! whose file cannot be read holds nothing, because nobody knows what; the list of followers shows
//! the damage.

use std::collections::BTreeSet;

use crate::engine::FollowerBoard;
use crate::error::Error;
use crate::files::{Directory, FollowerDirectory, Standing, list_followers};
use crate::storage::Storage;

/// A segment that no snapshot needs any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removable {
    pub(super) first: u64,
    pub(super) next_segment_first: u64,
    pub(super) bytes: u64,
}

pub(super) fn newest_before(position: u64, snapshots: &[u64]) -> Option<u64> {
    snapshots.iter().copied().filter(|sequence| *sequence <= position).max()
}

/// Returns how many of these segments may be removed, from the oldest on, and marks the followers
/// that are lost by that. If events are not stored, a follower needs commands from the newest of
/// these snapshots on that is not behind its position.
pub(super) fn unheld(
    storage: &dyn Storage,
    directory: &Directory,
    board: &FollowerBoard,
    removable: &[Removable],
    snapshots: Option<&[u64]>,
) -> Result<usize, Error> {
    let (mut unheld, mut lost) = (removable.len(), BTreeSet::new());
    // No follower may replace its file meanwhile.
    let _alone = board.standings();
    for (kind, name) in list_followers(storage, directory)? {
        let own = FollowerDirectory::of(directory, kind, &name);
        let standing = match own.read(storage).map_err(Error::from) {
            Ok(Some(standing)) => standing,
            Ok(None) => continue,
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(_) => continue, // it is damaged
        };
        if standing.lost.is_some() {
            lost.insert((kind, name));
            continue;
        }
        let after = standing.needed_after();
        let after = snapshots.and_then(|all| newest_before(after, all)).unwrap_or(after);
        let read = removable.partition_point(|it| it.next_segment_first <= after.saturating_add(1));
        let needed = removable.get(read..).unwrap_or(&[]);
        let bytes = needed.iter().fold(0_u64, |sum, it| sum.saturating_add(it.bytes));
        let oldest = needed.last().map(|last| last.next_segment_first);
        if bytes <= standing.hold_at_most || oldest.is_none() {
            unheld = unheld.min(read);
            continue;
        }
        own.replace(storage, &Standing { lost: oldest, ..standing })?;
        trace_event!(WARN, "a follower is lost", kind = kind, name = name, position = after);
        lost.insert((kind, name));
    }
    board.set_lost(lost);
    let held = removable.get(unheld..).unwrap_or(&[]).iter().map(|it| it.bytes).sum();
    // Whoever replaces its file from now on must see that something is held, to ask for the next
    // clean-up.
    board.set_held_bytes(board.held_bytes().max(held));
    Ok(if fault!(HoldIgnored) { removable.len() } else { unheld })
}

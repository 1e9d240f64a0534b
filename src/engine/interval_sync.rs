//! Owns the thread that syncs at intervals under `Durability::Interval`. Knows nothing of batches.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::committer::{SharedCommitter, sync_outside_lock};
use crate::model::Model;

/// Syncs every `interval` until `stop` is disconnected or the database is poisoned.
pub(crate) fn run<M: Model>(
    committer: &SharedCommitter<M>,
    interval: Duration,
    stop: &Receiver<std::convert::Infallible>,
) {
    while stop.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        // A failed sync has poisoned the database, so every caller learns of it.
        if sync_outside_lock(committer).is_err() {
            return;
        }
    }
}

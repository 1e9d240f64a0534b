//! Decides when a snapshot is due, and why: it compares what follows the newest snapshot with the
//! policy, and predicts how long the next start would take. Knows nothing of how a snapshot is
//! written.

use std::time::Duration;

use crate::engine::{Shared, SnapshotState};
use crate::options::{Limits, SnapshotPolicy, StartupRates};

/// An open that reads less than this is too short to measure rates, so the guesses below are used.
/// Decoding an `OrdMap` of small entries was measured at 127 ns for an entry of about 6 bytes.
const LEAST_MEASURED_BYTES: u64 = 256 << 10;
const LEAST_MEASURED_COMMANDS: u64 = 1000;
const GUESSED_LOAD_PS_PER_BYTE: u64 = 21_000;
const GUESSED_REPLAY_NS_PER_COMMAND: u64 = 1000;
const LEAST_MEASURED_SEGMENTS: u64 = 8;
/// Opening and mapping a segment and verifying its header was measured at 30 to 60 µs.
const GUESSED_OPEN_NS_PER_SEGMENT: u64 = 50_000;
/// The time for lock, MANIFEST and the new segment: a few syncs.
const FIXED_STARTUP: Duration = Duration::from_millis(3);
/// How many times longer a live command takes to apply than a replayed one, because every batch
/// copies what it changes: measured, 3 to 5 for a tree of a million entries, 1 for a model of a few
/// words.
const LIVE_TO_REPLAY: u64 = 3;

/// What an open has measured.
pub(crate) struct OpenMeasured {
    /// The size of the snapshot's encoding in bytes, with changes weighed, and the time to load it.
    pub(crate) loaded: (u64, Duration),
    /// The number of replayed commands, and the time for that.
    pub(crate) replayed: (u64, Duration),
    /// The number of opened segments, and the time for that.
    pub(crate) opened: (u64, Duration),
}

impl OpenMeasured {
    /// Returns the rates, and whether the replay rate is a guess. Rates are guesses where the open
    /// measured too little.
    pub(crate) fn rates(&self) -> (StartupRates, bool) {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let per = |(count, time): (u64, Duration), least, scale: u64, guess| match count >= least {
            true => nanoseconds(time).saturating_mul(scale) / count,
            false => guess,
        };
        let rates = StartupRates {
            load_ps_per_byte: per(
                self.loaded,
                LEAST_MEASURED_BYTES,
                1000,
                GUESSED_LOAD_PS_PER_BYTE,
            ),
            replay_ns_per_command: per(
                self.replayed,
                LEAST_MEASURED_COMMANDS,
                1,
                GUESSED_REPLAY_NS_PER_COMMAND,
            ),
            open_ns_per_segment: per(
                self.opened,
                LEAST_MEASURED_SEGMENTS,
                1,
                GUESSED_OPEN_NS_PER_SEGMENT,
            ),
            fixed: FIXED_STARTUP,
        };
        (rates, self.replayed.0 < LEAST_MEASURED_COMMANDS)
    }
}

/// How many times the policy's limit must be reached before a close waits for a snapshot.
const OVERDUE: u64 = 2;

/// Returns whether a close must take the snapshot that is due. Otherwise it might never be taken.
pub(crate) fn is_overdue<M>(shared: &Shared<M>, policy: SnapshotPolicy) -> bool {
    is_behind(shared, policy, OVERDUE)
}

/// Returns whether what follows the newest snapshot has reached `times` the policy's limit.
pub(super) fn is_behind<M>(shared: &Shared<M>, policy: SnapshotPolicy, times: u64) -> bool {
    let state = shared.snapshots.state();
    let commands = shared.published.sequence().saturating_sub(state.newest.sequence);
    if commands == 0 {
        return false;
    }
    let limits = limits(shared, policy, &state);
    let written = shared.counters.journal_bytes.get().saturating_sub(state.written_then);
    [
        (commands, limits.commands),
        (written.saturating_add(state.tail_bytes), limits.bytes),
        (segments_behind(shared, &state), limits.segments),
    ]
    .into_iter()
    .any(|(found, limit)| found / times >= limit)
}

pub(super) fn limits<M>(
    shared: &Shared<M>,
    policy: SnapshotPolicy,
    state: &SnapshotState,
) -> Limits {
    let rates = current_rates(shared, state);
    policy.limits(&rates, state.newest.load_bytes, segments_behind(shared, state))
}

/// Returns the number of segments that the next open reads.
pub(crate) fn segments_behind<M>(shared: &Shared<M>, state: &SnapshotState) -> u64 {
    let added = shared.counters.segments_added.get().saturating_sub(state.segments_then);
    state.tail_segments.saturating_add(added)
}

/// Returns the rates measured at the open. If commands have become much slower since, it makes the
/// replay rate slower by the same factor. If the open measured no replay, it guesses from live
/// commands.
pub(crate) fn current_rates<M>(shared: &Shared<M>, state: &SnapshotState) -> StartupRates {
    let measured = state.rates.replay_ns_per_command;
    let replay_ns_per_command = match shared.counters.apply_time.get() {
        None => measured,
        Some(live) if state.replay_unmeasured => (live.average_ns / LIVE_TO_REPLAY).max(1),
        // A factor of two may be chance: other work on the machine, colder caches.
        Some(live) => measured.max(measured.saturating_mul(live.average_ns / 2) / live.early_ns),
    };
    StartupRates { replay_ns_per_command, ..state.rates }
}

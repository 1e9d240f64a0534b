//! Decides when a snapshot is due, and why: it compares what follows the newest snapshot with the
//! policy, and predicts how long the next start would take. Knows nothing of how a snapshot is
//! written.

use std::time::Duration;

use crate::engine::{Shared, SnapshotState};
use crate::options::{
    GUESSED_PARTS_PER_COMMAND, LateRates, Limits, SnapshotPolicy, StartupLoad, StartupRates,
};

/// An open that loads, replays, opens or decodes less than this is too short to measure rates, so
/// the guesses below are used.
const LEAST_GUESSED_LOAD: Duration = Duration::from_micros(500);
const LEAST_MEASURED_COMMANDS: u64 = 1000;
const LEAST_MEASURED_SEGMENTS: u64 = 8;
const LEAST_MEASURED_PARTS: u64 = 64;
const GUESSED_REPLAY_NS_PER_COMMAND: u64 = 1000;
/// Opening and mapping a segment and verifying its header was measured at 30 to 60 µs.
const GUESSED_OPEN_NS_PER_SEGMENT: u64 = 50_000;
/// The time for lock, MANIFEST and the new segment: a few syncs.
const FIXED_STARTUP: Duration = Duration::from_millis(3);
/// How long a replayed command takes, compared with a live one: a batch copies what it changes, and
/// a replay decodes each command. Measured: 0.35 to 0.52 for accounts of 8 bytes, 0.5 for values of
/// 100 bytes, 1 for a model of a few words. If entries stay in the file until they are touched, a
/// replay copies, too: 0.5 to 0.95.
const REPLAY_PER_MILLE_OF_LIVE: u64 = 450;
const LATE_REPLAY_PER_MILLE_OF_LIVE: u64 = 550;

/// What an open has measured.
pub(crate) struct OpenMeasured {
    /// What was loaded, and the time for that. If the open made the database, it has only decoded
    /// what it wrote, all at once.
    pub(crate) loaded: (StartupLoad, Duration),
    pub(crate) created: bool,
    /// The number of replayed commands, and the time for that.
    pub(crate) replayed: (u64, Duration),
    /// How many parts of the snapshot the replay has loaded, and the time for that, if entries stay
    /// in the file until they are touched.
    pub(crate) late: Option<(u64, Duration)>,
    /// The number of opened segments, and the time for that.
    pub(crate) opened: (u64, Duration),
}

impl OpenMeasured {
    /// Returns the rates, and whether the replay rate is a guess. Rates are guesses where the open
    /// measured too little.
    pub(crate) fn rates(&self) -> (StartupRates, bool) {
        let (commands, replay) = self.replayed;
        let (parts, loading) = self.late.unwrap_or_default();
        let replay = replay.saturating_sub(loading);
        let per = |count: u64, time: Duration, least, guess| match count >= least {
            true => u64::try_from(time.as_nanos()).unwrap_or(u64::MAX) / count,
            false => guess,
        };
        let load = &self.loaded.0;
        let guessed_loading = Duration::from_nanos(parts * load.guessed_ns_per_part());
        let late = self.late.map(|_| LateRates {
            part_ratio: match parts >= LEAST_MEASURED_PARTS {
                true => loading.as_secs_f64() / guessed_loading.as_secs_f64(),
                false => 1.0,
            },
            parts_per_command: match commands >= LEAST_MEASURED_COMMANDS {
                true => LateRates::parts_per_command(commands, parts, load.parts),
                false => GUESSED_PARTS_PER_COMMAND,
            },
        });
        let (opened, opening) = self.opened;
        let rates = StartupRates {
            load_ratio: self.load_ratio(),
            replay_ns_per_command: per(
                commands,
                replay,
                LEAST_MEASURED_COMMANDS,
                GUESSED_REPLAY_NS_PER_COMMAND,
            ),
            open_ns_per_segment: per(
                opened,
                opening,
                LEAST_MEASURED_SEGMENTS,
                GUESSED_OPEN_NS_PER_SEGMENT,
            ),
            fixed: FIXED_STARTUP,
            late,
        };
        (rates, commands < LEAST_MEASURED_COMMANDS)
    }

    fn load_ratio(&self) -> f64 {
        let (load, took) = &self.loaded;
        let is_late = self.late.is_some();
        let guessed = load.guessed(is_late);
        let says_nothing = self.created && is_late;
        match guessed < LEAST_GUESSED_LOAD || says_nothing {
            true => 1.0,
            false => took.as_secs_f64() / guessed.as_secs_f64(),
        }
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
    policy.limits(&rates, &state.newest.load, segments_behind(shared, state))
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
        Some(live) if state.replay_unmeasured => {
            let per_mille = match state.rates.late {
                Some(_) => LATE_REPLAY_PER_MILLE_OF_LIVE,
                None => REPLAY_PER_MILLE_OF_LIVE,
            };
            (live.average_ns.saturating_mul(per_mille) / 1000).max(1)
        }
        // A factor of two may be chance: other work on the machine, colder caches.
        Some(live) => measured.max(measured.saturating_mul(live.average_ns / 2) / live.early_ns),
    };
    StartupRates { replay_ns_per_command, ..state.rates }
}

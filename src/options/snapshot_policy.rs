//! Owns what a user may set about when a snapshot is taken. Whether one is due is decided in
//! `snapshot::due`. Knows nothing of how a snapshot is taken.

use std::ops::BitOr;
use std::time::Duration;

use super::startup::{StartupLoad, StartupRates};

/// When snapshots are taken in the background. Combine conditions with [`or`](Self::or) or `|`; a
/// snapshot is due when the first of them is met.
///
/// ```
/// use prevalence::SnapshotPolicy;
/// use std::time::Duration;
///
/// let policy = SnapshotPolicy::every_commands(1_000_000)
///     | SnapshotPolicy::every(Duration::from_secs(3600))
///     | SnapshotPolicy::on_close();
/// ```
///
/// No snapshot is taken if no command was accepted since the last one. The default is
/// `startup_within` one second, or every 256 MiB or 64 segments of journal.
///
/// If a snapshot is being written when the database is closed, it is abandoned. But if twice as
/// much has accumulated as the policy allows, the close waits for the snapshot. So a program that
/// starts often and runs for a short time gets its snapshots too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPolicy {
    every_commands: Option<u64>,
    every_bytes: Option<u64>,
    every_segments: Option<u64>,
    every: Option<Duration>,
    startup_within: Option<Duration>,
    on_close: bool,
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        Self::startup_within(Duration::from_secs(1))
            .or(Self::every_bytes(256 << 20))
            .or(Self::every_segments(64))
    }
}

impl SnapshotPolicy {
    /// Takes a snapshot only when [`Database::snapshot`](crate::Database::snapshot) is called.
    #[must_use]
    pub const fn manual() -> Self {
        Self {
            every_commands: None,
            every_bytes: None,
            every_segments: None,
            every: None,
            startup_within: None,
            on_close: false,
        }
    }

    /// Takes a snapshot after this many accepted commands. 0 counts as 1.
    #[must_use]
    pub const fn every_commands(commands: u64) -> Self {
        let every_commands = Some(if commands == 0 { 1 } else { commands });
        Self { every_commands, ..Self::manual() }
    }

    /// Takes a snapshot after this many bytes of journal. 0 counts as 1.
    #[must_use]
    pub const fn every_bytes(bytes: u64) -> Self {
        let every_bytes = Some(if bytes == 0 { 1 } else { bytes });
        Self { every_bytes, ..Self::manual() }
    }

    /// Takes a snapshot when the journal after the newest snapshot consists of this many segments.
    /// 0 and 1 count as 2, because there is always one segment. An open needs one file and one
    /// memory map for each segment.
    #[must_use]
    pub const fn every_segments(segments: u64) -> Self {
        let every_segments = Some(if segments < 2 { 2 } else { segments });
        Self { every_segments, ..Self::manual() }
    }

    /// Takes a snapshot after this time, counted from the last snapshot or from the open.
    #[must_use]
    pub const fn every(time: Duration) -> Self {
        Self { every: Some(time), ..Self::manual() }
    }

    /// Takes a snapshot when the database is closed, by `close` or by dropping its last handle. The
    /// close then takes as long as a snapshot.
    #[must_use]
    pub const fn on_close() -> Self {
        Self { on_close: true, ..Self::manual() }
    }

    /// Takes snapshots so often that the predicted time of the next open stays within `budget`. The
    /// prediction is the time to load the newest snapshot and to replay the commands after it. It
    /// uses the rates that this machine showed at the last open. Before there are any, it uses the
    /// time that commands take to apply and a guess for loading. If commands now take more than
    /// twice as long to apply as at the beginning of the run, replay is assumed to have become
    /// slower too. The next open is assumed to load the model as this one did. If
    /// loading the model alone takes most of the budget, a snapshot is taken when replay would take
    /// a quarter of the loading time.
    #[must_use]
    pub const fn startup_within(budget: Duration) -> Self {
        Self { startup_within: Some(budget), ..Self::manual() }
    }

    /// Combines both policies. A snapshot is due when either of them says so.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            every_commands: earlier(self.every_commands, other.every_commands),
            every_bytes: earlier(self.every_bytes, other.every_bytes),
            every_segments: earlier(self.every_segments, other.every_segments),
            every: earlier(self.every, other.every),
            startup_within: earlier(self.startup_within, other.startup_within),
            on_close: self.on_close || other.on_close,
        }
    }

    pub(crate) fn time(&self) -> Option<Duration> {
        self.every
    }

    pub(crate) fn depends_on_rates(&self) -> bool {
        self.startup_within.is_some()
    }

    /// Returns whether any snapshots are taken in the background.
    pub(crate) fn is_automatic(&self) -> bool {
        *self != Self::manual()
    }

    pub(crate) fn takes_one_on_close(&self) -> bool {
        self.on_close
    }

    /// Returns after how many commands, bytes and segments, and after how much time, the next
    /// snapshot is due. `segments` is the present number of segments.
    pub(crate) fn limits(
        &self,
        startup: &StartupRates,
        load: &StartupLoad,
        segments: u64,
    ) -> Limits {
        let for_startup =
            self.startup_within.map(|budget| startup.commands_within(budget, load, segments));
        Limits {
            commands: earlier(self.every_commands, for_startup).unwrap_or(u64::MAX),
            bytes: self.every_bytes.unwrap_or(u64::MAX),
            segments: self.every_segments.unwrap_or(u64::MAX),
            time: self.every,
        }
    }
}

impl BitOr for SnapshotPolicy {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.or(other)
    }
}

fn earlier<T: Ord>(left: Option<T>, right: Option<T>) -> Option<T> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.min(right)),
        (one, other) => one.or(other),
    }
}

/// The figures of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) commands: u64,
    pub(crate) bytes: u64,
    pub(crate) segments: u64,
    pub(crate) time: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::super::startup::tests::{RATES, loading_ms};
    use super::*;

    #[test]
    fn combined_policies_are_due_when_either_is() {
        let policy = SnapshotPolicy::every_commands(100)
            | SnapshotPolicy::every_commands(50)
            | SnapshotPolicy::every_bytes(7)
            | SnapshotPolicy::every_segments(9)
            | SnapshotPolicy::on_close();
        let expected = Limits { commands: 50, bytes: 7, segments: 9, time: None };
        let nothing = loading_ms(0);
        assert_eq!(policy.limits(&RATES, &nothing, 0), expected);
        assert!(policy.takes_one_on_close());
        assert_eq!(SnapshotPolicy::manual().limits(&RATES, &nothing, 0).commands, u64::MAX);
        assert_eq!(SnapshotPolicy::every_segments(0).limits(&RATES, &nothing, 0).segments, 2);
    }

    #[test]
    fn a_startup_budget_is_spent_on_loading_and_replaying() {
        let policy = SnapshotPolicy::startup_within(Duration::from_millis(110));
        let commands =
            |load_ms, segments| policy.limits(&RATES, &loading_ms(load_ms), segments).commands;
        // Nothing to load: 100 ms of commands of 1 µs.
        assert_eq!(commands(0, 0), 100_000);
        // 100 segments take 10 ms to open.
        assert_eq!(commands(0, 100), 90_000);
        assert_eq!(commands(60, 0), 40_000);
        // Loading takes more than the budget. Replay may take a quarter of the loading time, so
        // that snapshots do not follow each other without end.
        assert_eq!(commands(200, 0), 52_500);
        assert_eq!(RATES.predicted(&loading_ms(60), 40_000, 0), Duration::from_millis(110));
    }
}

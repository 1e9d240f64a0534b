//! Owns the options of durable followers. Knows nothing of what they do.

use std::time::Duration;

use crate::events::From;

/// What a [`Reactor`](crate::Reactor) does with a command that has failed too often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// It stops there, and waits for `retry` or `skip`. This is the default.
    #[default]
    Stop,
    /// It puts the command aside, as a dead letter, and goes on.
    DeadLetter,
}

/// How a durable follower works. Each method returns the options with one of them changed.
#[derive(Clone, Debug)]
pub struct FollowerOptions {
    pub(crate) hold_at_most_bytes: u64,
    pub(crate) checkpoint_commands: u64,
    pub(crate) checkpoint_interval: Duration,
    pub(crate) from: From,
    pub(crate) attempts: u32,
    pub(crate) first_pause: Duration,
    pub(crate) longest_pause: Duration,
    pub(crate) on_failure: OnFailure,
    pub(crate) batch_commands: usize,
}

impl Default for FollowerOptions {
    fn default() -> Self {
        Self {
            hold_at_most_bytes: 1 << 30,
            checkpoint_commands: 100_000,
            checkpoint_interval: Duration::from_secs(10),
            from: From::Now,
            attempts: 10,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(30),
            on_failure: OnFailure::default(),
            batch_commands: 1024,
        }
    }
}

impl FollowerOptions {
    /// Returns the default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many bytes of the journal it may keep from removal, while it has not worked on the
    /// commands in them. Beyond that it is [lost](crate::FollowerState::Lost). It holds also while
    /// it does not run; [`Database::remove_follower`](crate::Database::remove_follower) ends that.
    /// What is [archived](crate::Retention::Archive) is not held, because it can be read. The
    /// default is 1 GiB.
    #[must_use]
    pub fn hold_at_most(self, bytes: u64) -> Self {
        Self { hold_at_most_bytes: bytes, ..self }
    }

    /// Sets after how many commands the position is made durable. The default is 100,000. A
    /// projection writes its whole value then; a sink and a reactor write a small file.
    #[must_use]
    pub fn checkpoint_every(self, commands: u64) -> Self {
        Self { checkpoint_commands: commands.max(1), ..self }
    }

    /// Sets after what time the position is made durable, if it has changed. The default is 10 s.
    /// It is also made durable when the follower or the database is closed.
    #[must_use]
    pub fn checkpoint_interval(self, interval: Duration) -> Self {
        Self { checkpoint_interval: interval, ..self }
    }

    /// Sets where a new reactor begins. The default is [`From::Now`]. It has no effect on one that
    /// has a position already.
    #[must_use]
    pub fn begin(self, from: From) -> Self {
        Self { from, ..self }
    }

    /// Sets how often a sink or a reactor tries, before it stops or puts the command aside. The
    /// default is 10.
    #[must_use]
    pub fn attempts(self, attempts: u32) -> Self {
        Self { attempts: attempts.max(1), ..self }
    }

    /// Sets the pause before the second attempt, and the longest pause: it doubles after each
    /// attempt. The default is 100 ms, and at most 30 s.
    #[must_use]
    pub fn pauses(self, first: Duration, longest: Duration) -> Self {
        Self { first_pause: first, longest_pause: longest, ..self }
    }

    /// Sets what a reactor does with a command that has failed too often.
    #[must_use]
    pub fn on_failure(self, on_failure: OnFailure) -> Self {
        Self { on_failure, ..self }
    }

    /// Sets how many commands a sink gets at most in one batch. The default is 1024. A batch holds
    /// what is there, and never waits for more.
    #[must_use]
    pub fn batch_commands(self, commands: usize) -> Self {
        Self { batch_commands: commands.max(1), ..self }
    }

    /// Returns the pause after so many attempts.
    pub(crate) fn pause(&self, attempts: u32) -> Duration {
        let doubled = self.first_pause.saturating_mul(1 << attempts.saturating_sub(1).min(20));
        doubled.min(self.longest_pause)
    }
}

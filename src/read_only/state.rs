//! Owns what the handles of a read-only database share with the thread that reads: the version that
//! is readable, and how the last looks went. Knows nothing of files.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::engine::{Published, Status, Version};
use crate::error::Error;
use crate::execute_error::WaitError;
use crate::mutex::lock;
use crate::options::RecentVersions;

/// Only the newest version is kept.
const NONE: RecentVersions = RecentVersions { count: 0, age: Duration::ZERO, commands: 0 };

pub(super) struct State<M> {
    pub(super) published: Published<M>,
    /// Nothing ever fails or stops here: what waits for a version looks at `failures` instead.
    status: Status,
    began: Instant,
    /// When the last look began that has succeeded, in nanoseconds after `began`.
    looked_at: AtomicU64,
    /// Why the last look has failed; `None` if it has not.
    failure: Mutex<Option<Arc<str>>>,
    /// How many looks have failed.
    failures: AtomicU64,
    following: AtomicBool,
    /// Whether the last handle is gone.
    stopping: AtomicBool,
}

impl<M> State<M> {
    pub(super) fn new(first: Version<M>, looked_at: Instant) -> Self {
        Self {
            published: Published::new(Arc::new(first), NONE),
            status: Status::default(),
            began: looked_at,
            looked_at: AtomicU64::new(0),
            failure: Mutex::default(),
            failures: AtomicU64::new(0),
            following: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }

    /// Notes how a look went that began at this time.
    pub(super) fn note(&self, began: Instant, outcome: &Result<u64, Error>) {
        let Err(error) = outcome else {
            let after = began.saturating_duration_since(self.began).as_nanos();
            self.looked_at.fetch_max(u64::try_from(after).unwrap_or(u64::MAX), Ordering::Relaxed);
            *lock(&self.failure) = None;
            return;
        };
        let before = lock(&self.failure).replace(error.to_string().into());
        if before.is_none() {
            trace_event!(WARN, "a read-only database cannot go on", error = error);
        }
        self.failures.fetch_add(1, Ordering::SeqCst);
        self.published.wake_waiting();
    }

    pub(super) fn looked_at(&self) -> Instant {
        self.began + Duration::from_nanos(self.looked_at.load(Ordering::Relaxed))
    }

    pub(super) fn failure(&self) -> Option<Arc<str>> {
        lock(&self.failure).clone()
    }

    pub(super) fn is_following(&self) -> bool {
        self.following.load(Ordering::SeqCst)
    }

    pub(super) fn follow(&self, follows: bool) {
        self.following.store(follows, Ordering::SeqCst);
        self.published.wake_waiting();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Waits until the version has reached `wanted`, a look has failed, or nothing follows any
    /// more.
    pub(super) fn wait_while_following(
        &self,
        wanted: u64,
        timeout: Duration,
    ) -> Result<(), WaitError> {
        let failures = self.failures.load(Ordering::SeqCst);
        let reached = || {
            let failed = self.failures.load(Ordering::SeqCst) != failures;
            if failed || !self.is_following() { u64::MAX } else { self.published.sequence() }
        };
        self.published.wait_until_reached(wanted, &reached, timeout, &self.status)?;
        let (reached, failed) =
            (self.published.sequence(), self.failures.load(Ordering::SeqCst) != failures);
        match self.failure().filter(|_| failed && reached < wanted) {
            Some(reason) => Err(WaitError::FollowerStopped { wanted, reached, reason }),
            None => Ok(()),
        }
    }
}

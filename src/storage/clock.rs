//! Owns where the time of commands comes from: the system's clock, or one that the user gives.
//! Knows nothing of what is timed.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::panics::unless_it_panics;

/// A clock. The default is the system's.
#[derive(Clone, Default)]
pub(crate) struct Clock(Option<Arc<dyn Fn() -> SystemTime + Send + Sync>>);

impl Clock {
    pub(crate) fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(now)))
    }

    /// Returns the time. If a user's clock panics, this is the beginning of time: journaled time
    /// never goes back, so it stands still. The panic hook tells the clock's owner.
    pub(crate) fn now(&self) -> SystemTime {
        match &self.0 {
            None => SystemTime::now(),
            Some(now) => unless_it_panics(|| now()).unwrap_or(SystemTime::UNIX_EPOCH),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Clock(given)" } else { "Clock(system)" })
    }
}

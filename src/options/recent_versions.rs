//! Owns the option for recent versions: how many versions before the newest one are kept, and for
//! how long. Knows nothing of the versions themselves.

use std::time::Duration;

/// How many versions before the newest one are kept for [`Database::at`](crate::Database::at). A
/// version is kept while it is within all three limits.
///
/// There is one version for each batch of commands. The limit on `commands` bounds the memory,
/// because each command keeps alive the parts of the model that it replaced. With persistent
/// collections each change keeps one path of a tree, a few hundred bytes to a few kilobytes. With a
/// plain `Vec` or `HashMap` each *version* keeps a whole copy.
///
/// ```
/// # use prevalence::RecentVersions;
/// let hundred = RecentVersions { count: 100, ..RecentVersions::default() };
/// assert_eq!(hundred.commands, 1024);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentVersions {
    /// The largest number of versions kept, at most 1,048,576. With 0 only the newest version is
    /// kept. Default: 64.
    pub count: usize,
    /// How long a version is kept after a newer one replaced it. Default: 10 s. While no commands
    /// come, the memory is freed within twice that time. If the time is less than a second, it is
    /// freed after about one second.
    pub age: Duration,
    /// The largest number of commands between the oldest kept version and the newest version.
    /// Default: 1,024.
    pub commands: u64,
}

impl Default for RecentVersions {
    fn default() -> Self {
        Self { count: 64, age: Duration::from_secs(10), commands: 1024 }
    }
}

#[cfg(test)]
impl RecentVersions {
    /// Keeps only the newest version.
    pub(crate) const OFF: Self = Self { count: 0, age: Duration::ZERO, commands: 0 };
}

/// The limit on `count`. No use for more is known.
pub(crate) const MOST_RECENT_VERSIONS: usize = 1 << 20;

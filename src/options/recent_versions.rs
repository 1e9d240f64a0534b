//! Owns what a user may choose of the versions before the newest one: how many are kept, and how long.
//! Knows nothing of versions.

use std::time::Duration;

/// How many versions behind the newest one are kept for [`Database::at`](crate::Database::at):
/// those within all three limits.
///
/// There is one version for each batch of commands, so it is the limit on `commands` that bounds
/// memory: each of them keeps alive the parts of the model that it replaced. With persistent
/// collections that is a path of a tree, some hundred bytes to some kilobytes, for each change; with
/// a plain `Vec` or `HashMap` it is a whole copy for each *version*.
///
/// ```
/// # use prevalence::RecentVersions;
/// let hundred = RecentVersions { count: 100, ..RecentVersions::default() };
/// assert_eq!(hundred.commands, 1024);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentVersions {
    /// The most versions, up to 1,048,576. 0: none but the newest. Default: 64.
    pub count: usize,
    /// How long a version is kept after a newer one took its place. Default: 10 s. While no commands
    /// come, the memory is given back within twice that time, or a second if it is less.
    pub age: Duration,
    /// The most commands between the oldest of them and the newest version. Default: 1,024.
    pub commands: u64,
}

impl Default for RecentVersions {
    fn default() -> Self {
        Self { count: 64, age: Duration::from_secs(10), commands: 1024 }
    }
}

#[cfg(test)]
impl RecentVersions {
    /// None but the newest.
    pub(crate) const OFF: Self = Self { count: 0, age: Duration::ZERO, commands: 0 };
}

/// Nobody needs more.
pub(crate) const MOST_RECENT_VERSIONS: usize = 1 << 20;

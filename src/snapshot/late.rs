//! Owns what an open database does when a part of its snapshot cannot be read or decoded after the
//! open, and which files it still reads. Knows nothing of what is in a part.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crate::codec::LateObserver;
use crate::files::PackedFile;
use crate::mutex::lock;
use crate::process::OpeningProcess;

type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// The first failure of a database whose model is loaded on demand.
pub(crate) struct LateLoading {
    first: OnceLock<String>,
    tell: Mutex<Option<Tell>>,
    process: OpeningProcess,
    slices: AtomicU64,
    took_ns: AtomicU64,
}

impl LateLoading {
    pub(crate) fn new() -> Arc<Self> {
        let process = OpeningProcess::this();
        Arc::new(Self {
            first: OnceLock::new(),
            tell: Mutex::default(),
            process,
            slices: AtomicU64::new(0),
            took_ns: AtomicU64::new(0),
        })
    }

    /// Returns how many slices of collections were loaded so far, and how long that took.
    pub(crate) fn loads(&self) -> (u64, Duration) {
        let took_ns = self.took_ns.load(Ordering::Relaxed);
        (self.slices.load(Ordering::Relaxed), Duration::from_nanos(took_ns))
    }

    /// Returns the first failure.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.first.get().map(String::as_str)
    }

    /// Lets `tell` know of a failure, now or later, until [`stop`](Self::stop).
    pub(crate) fn tell_by(&self, tell: impl Fn(&str) + Send + Sync + 'static) {
        let tell: Tell = Arc::new(tell);
        *lock(&self.tell) = Some(tell.clone());
        if let Some(failure) = self.failure() {
            tell(failure);
        }
    }

    /// Tells nobody any more. The directory may belong to another process soon.
    pub(crate) fn stop(&self) {
        *lock(&self.tell) = None;
    }
}

impl LateObserver for LateLoading {
    fn loaded(&self, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.slices.fetch_add(1, Ordering::Relaxed);
        self.took_ns.fetch_add(took_ns, Ordering::Relaxed);
    }

    fn failed(&self, reason: &str) {
        // The child of a fork must not touch the directory, nor a lock that it may have inherited.
        if self.process.is_forked() || fault!(LateDamagePassedOver) {
            return;
        }
        // Whoever touches the same entries later meets the same failure.
        if self.first.set(reason.to_owned()).is_err() {
            return;
        }
        // Whoever stops this waits until all is told.
        let tell = lock(&self.tell);
        if let Some(tell) = &*tell {
            tell(reason);
        }
    }
}

/// The files of the snapshot that was loaded, while the model still reads them.
#[derive(Default)]
pub(crate) struct HeldFiles(Mutex<Option<PackedFile>>);

impl HeldFiles {
    pub(crate) fn new(file: Option<PackedFile>) -> Self {
        Self(Mutex::new(file))
    }

    /// Closes the files once nobody reads them any more.
    pub(crate) fn close_if_unread(&self) {
        let mut held = lock(&self.0);
        if !held.as_ref().is_some_and(|file| file.chain().any(PackedFile::is_shared)) {
            *held = None;
        }
    }

    /// Returns whether the snapshot with this sequence is still read. Then it may be removed, but
    /// it must keep its length.
    pub(crate) fn reads(&self, sequence: u64) -> bool {
        self.close_if_unread();
        let held = lock(&self.0);
        let is_it = |file: &PackedFile| file.header.sequence == sequence;
        held.as_ref().is_some_and(|file| file.chain().any(is_it))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    fn counted(late: &LateLoading) -> Arc<AtomicU32> {
        let told = Arc::new(AtomicU32::new(0));
        let count = told.clone();
        late.tell_by(move |reason| {
            assert_eq!(reason, "first");
            count.fetch_add(1, Ordering::SeqCst);
        });
        told
    }

    #[test]
    fn the_first_failure_is_told_once_before_or_after_somebody_listens() {
        for is_early in [true, false] {
            let late = LateLoading::new();
            if is_early {
                late.failed("first");
            }
            let told = counted(&late);
            late.failed("first");
            late.failed("second");
            assert_eq!(told.load(Ordering::SeqCst), 1, "{is_early}");
            assert_eq!(late.failure(), Some("first"));
        }
    }

    #[test]
    fn nobody_is_told_after_the_end() {
        let late = LateLoading::new();
        let told = counted(&late);
        late.stop();
        late.failed("first");
        assert_eq!(told.load(Ordering::SeqCst), 0);
    }
}

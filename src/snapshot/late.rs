//! Owns what an open database does when a part of its snapshot cannot be read or decoded after the
//! open, and which files it still reads. Knows nothing of what is in a part.

use std::sync::{Arc, Mutex, OnceLock};

use crate::codec::LateFailures;
use crate::files::PackedFile;
use crate::mutex::lock;
use crate::process::OpeningProcess;

type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// The first failure of a database whose model is loaded on demand.
pub(crate) struct LateLoading {
    first: OnceLock<String>,
    tell: Mutex<Option<Tell>>,
    process: OpeningProcess,
}

impl LateLoading {
    pub(crate) fn new() -> Arc<Self> {
        let process = OpeningProcess::this();
        Arc::new(Self { first: OnceLock::new(), tell: Mutex::default(), process })
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

impl LateFailures for LateLoading {
    fn note(&self, reason: &str) {
        // The child of a fork must not touch the directory, nor a lock that it may have inherited.
        if self.process.is_forked() || fault!(LateDamagePassedOver) {
            return;
        }
        self.first.get_or_init(|| reason.to_owned());
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

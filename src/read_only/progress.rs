//! Owns what is told of an open while it goes on. Knows nothing of what is read.

use std::path::Path;

use crate::error::Error;
use crate::files::segment_path;
use crate::options::Options;
use crate::recovery::{Phase, Progress};
use crate::storage::Storage;

/// After how many bytes progress is told.
const PROGRESS_BYTES: u64 = 1 << 20;

/// Who is told of progress, and may end an open.
pub(super) struct Ask<'a> {
    pub(super) options: &'a Options,
    pub(super) progress: &'a mut dyn FnMut(Progress),
}

impl Ask<'_> {
    fn tell(&mut self, progress: Progress) -> Result<(), Error> {
        (self.progress)(progress);
        self.options.check_abort()
    }
}

/// What is told of a look while it goes on.
pub(super) struct Told<'a, 'b> {
    ask: Option<&'a mut Ask<'b>>,
    /// How much was read, and how much there is.
    bytes: u64,
    total: u64,
}

impl<'a, 'b> Told<'a, 'b> {
    pub(super) fn new(ask: Option<&'a mut Ask<'b>>) -> Self {
        Self { ask, bytes: 0, total: 0 }
    }

    /// Tells of a step, if anybody wants to know.
    pub(super) fn tell(&mut self, progress: Progress) -> Result<(), Error> {
        self.ask.as_mut().map_or(Ok(()), |ask| ask.tell(progress))
    }
}

impl Told<'_, '_> {
    /// Finds out how much there is to read from the sequence `first` on.
    pub(super) fn expect(
        &mut self,
        storage: &dyn Storage,
        journal: &Path,
        listed: &[u64],
        first: u64,
    ) -> Result<(), Error> {
        let Some(ask) = &mut self.ask else { return Ok(()) };
        let begin = listed.iter().rposition(|&segment| segment <= first).unwrap_or(0);
        let length = |&segment: &u64| {
            let path = segment_path(journal, segment);
            storage.open_to_read(&path).map(|file| file.length()).map_err(Error::io("read", &path))
        };
        let lengths = listed.get(begin..).unwrap_or(&[]).iter().map(length);
        self.total = self.bytes.saturating_add(lengths.sum::<Result<u64, Error>>()?);
        ask.tell(Progress { phase: Phase::Journal, done: self.bytes, total: self.total })
    }

    /// Tells that all was read.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        let total = self.total.max(self.bytes);
        self.tell(Progress { phase: Phase::Journal, done: total, total })
    }

    /// Counts what was read.
    pub(super) fn count(&mut self, bytes: u64) -> Result<(), Error> {
        let before = self.bytes / PROGRESS_BYTES;
        self.bytes += bytes;
        let (done, total) = (self.bytes, self.total.max(self.bytes));
        match &mut self.ask {
            Some(ask) if done / PROGRESS_BYTES > before => {
                ask.tell(Progress { phase: Phase::Journal, done, total })
            }
            _ => Ok(()),
        }
    }
}

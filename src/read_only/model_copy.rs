//! Owns the copy of the model that goes on: it applies frames to it, and shows it to readers. Knows
//! nothing of which file comes next.

use std::path::PathBuf;
use std::sync::Arc;

use super::newest_snapshot::Snapshot;
use super::state::State;
use crate::engine::Version;
use crate::error::Error;
use crate::execute_error::Poisoned;
use crate::files::position;
use crate::history::{HistoryFiles, Replica};
use crate::journal::{FrameRef, StreamedFile};
use crate::model::Model;
use crate::panics::told_of_panics;

/// After how many commands readers get a version, while there are more to apply.
const PUBLISH_COMMANDS: u64 = 1 << 14;

/// The model at the sequence to which the journal was applied.
pub(super) struct ModelCopy<M: Model> {
    pub(super) state: Arc<State<M>>,
    /// `None` after a failure: the model may have been changed halfway.
    replica: Option<Replica<M>>,
    /// The chain value at its sequence.
    pub(super) chain: u32,
    /// The snapshot that states this chain value, until the journal has confirmed it.
    pub(super) unproven: Option<PathBuf>,
    /// No frame from this sequence on is applied: the model refuses one of its commands.
    pub(super) stop_before: Option<u64>,
    /// Where the frame begins that was applied last, or that could not be.
    pub(super) frame_first: u64,
    /// How many commands, and how many bytes of them, were applied since the open.
    pub(super) commands: u64,
    pub(super) bytes: u64,
}

impl<M: Model> ModelCopy<M> {
    /// Makes the first version of a snapshot.
    pub(super) fn new(
        files: &HistoryFiles,
        snapshot: Snapshot<M>,
        began: std::time::Instant,
    ) -> Result<Self, Error> {
        let Snapshot { sequence, time_ns, chain, .. } = snapshot;
        let first = Version::written(cloned(&snapshot.model)?, sequence, time_ns, chain);
        let mut made = Self {
            state: Arc::new(State::new(first, began)),
            replica: None,
            chain,
            unproven: None,
            stop_before: None,
            frame_first: 0,
            commands: 0,
            bytes: 0,
        };
        made.begin_with(files, snapshot);
        Ok(made)
    }

    pub(super) fn sequence(&self) -> u64 {
        let published = || self.state.published.sequence();
        self.replica.as_ref().map_or_else(published, |replica| replica.replayed.sequence)
    }

    /// Begins with a snapshot.
    pub(super) fn begin_with(&mut self, files: &HistoryFiles, snapshot: Snapshot<M>) {
        let Snapshot { model, sequence, time_ns, chain, path, .. } = snapshot;
        self.replica = Some(Replica::new(files, model, sequence, time_ns));
        (self.chain, self.unproven) = (chain, Some(path));
    }

    /// Begins with the version that readers see, if there was a failure.
    pub(super) fn begin_again(&mut self, files: &HistoryFiles) -> Result<(), Error> {
        if self.replica.is_some() {
            return Ok(());
        }
        let version = self.state.published.pin();
        let model = cloned(&version.model)?;
        self.replica = Some(Replica::new(files, model, version.sequence, version.time_ns));
        (self.chain, self.unproven) = (version.chain(), None);
        Ok(())
    }

    /// Drops what may have been changed halfway.
    pub(super) fn forget(&mut self) {
        if let Some(replica) = self.replica.take() {
            // A panic here is of a model that has failed already, and that error is told.
            told_of_panics("Drop", || drop(replica)).ok();
        }
    }

    pub(super) fn is_to_stop(&self, frame: &FrameRef<'_>) -> bool {
        self.stop_before.is_some_and(|first| frame.header.first_sequence >= first)
    }

    /// Applies a frame; `chain` is the chain value after it.
    pub(super) fn apply(
        &mut self,
        file: &Arc<StreamedFile>,
        frame: &FrameRef<'_>,
        chain: u32,
    ) -> Result<(), Error> {
        if self.state.is_stopping() {
            return Err(Error::Stopped);
        }
        self.frame_first = frame.header.first_sequence;
        let Some(replica) = &mut self.replica else { return Err(Error::Stopped) };
        frame.each_record(&file.path, |sequence, record| match sequence {
            sequence if sequence > replica.replayed.sequence => replica.apply(file, record),
            _ => Ok(()),
        })?;
        (self.chain, self.unproven) = (chain, None);
        self.commands += u64::from(frame.header.count);
        self.bytes += position(frame.header.frame_bytes());
        if self.sequence() >= self.state.published.sequence() + PUBLISH_COMMANDS {
            self.publish()?;
        }
        Ok(())
    }

    /// Shows readers the model as it is now.
    pub(super) fn publish(&mut self) -> Result<(), Error> {
        let Some(replica) = &self.replica else { return Ok(()) };
        let (sequence, time_ns) = (replica.replayed.sequence, replica.replayed.time_ns);
        if sequence <= self.state.published.sequence() {
            return Ok(());
        }
        let model = cloned(&replica.replayed.model)?;
        let version = Version::written(model, sequence, time_ns, self.chain);
        let mut superseded = Vec::new();
        self.state.published.publish(Arc::new(version), &mut superseded);
        told_of_panics("Drop", || drop(superseded)).map_err(poisoned)
    }
}

fn cloned<M: Model>(model: &M) -> Result<M, Error> {
    told_of_panics("Clone", || model.clone()).map_err(poisoned)
}

fn poisoned(reason: String) -> Error {
    Error::Poisoned(Poisoned { reason: reason.into() })
}

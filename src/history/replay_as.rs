//! Owns looking at the stored commands with another model than the one that accepted them. Knows
//! nothing of the model that did.

use std::ops::ControlFlow;

use super::replica::Replica;
use super::travel::{History, Tell};
use crate::engine::{Version, View};
use crate::error::Error;
use crate::model::{Model, model_name};
use crate::process::stack;
use crate::recovery::{Phase, Progress};

/// How often the progress callback is called.
const PROGRESS_COMMANDS: u64 = 1 << 14;

impl<M: Model> History<M> {
    /// Replays every command from sequence 1 on into a model of another type, beginning with its
    /// default: an aggregate that nobody thought of when the commands came.
    ///
    /// `Other` has a `commands!` of its own, with the tags and names of this database's: its
    /// commands' `apply` gets what they got when they were live, time, metadata and random numbers
    /// included. See [`replay_as_listed`](Self::replay_as_listed) for one that is interested in some of
    /// the commands only.
    ///
    /// # Errors
    /// [`Error::UnknownTag`] for a command that `Other` does not list,
    /// [`Error::ProjectionFailed`] for one that is rejected or panics there.
    /// [`Error::HistoryTruncated`] when the history does not reach back to sequence 1; otherwise as
    /// of [`records`](Self::records).
    pub fn replay_as<Other: Model + Default>(&self) -> Result<View<Other>, Error> {
        self.replay_as_from(Other::default())
    }

    /// As [`replay_as`](Self::replay_as), beginning with `initial`.
    ///
    /// # Errors
    /// As of [`replay_as`](Self::replay_as).
    pub fn replay_as_from<Other: Model>(&self, initial: Other) -> Result<View<Other>, Error> {
        Ok(self.replayed_as(initial, None)?.0)
    }

    /// As [`replay_as_from`](Self::replay_as_from), but commands that `Other` does not list are skipped.
    /// Gives how many were.
    ///
    /// # Errors
    /// As of [`replay_as`](Self::replay_as), but for `UnknownTag`.
    pub fn replay_as_listed<Other: Model>(
        &self,
        initial: Other,
    ) -> Result<(View<Other>, u64), Error> {
        self.replayed_as(initial, Some(0))
    }

    fn replayed_as<Other: Model>(
        &self,
        initial: Other,
        skipped: Option<u64>,
    ) -> Result<(View<Other>, u64), Error> {
        self.check_process()?;
        stack::run_telling(
            |tell| self.replayed_as_here(initial, skipped, tell),
            |progress| self.tell(progress),
        )
        .map_err(Error::io("start a thread to read", &self.files.directory.root))?
    }

    fn replayed_as_here<Other: Model>(
        &self,
        initial: Other,
        skipped: Option<u64>,
        tell: Tell<'_>,
    ) -> Result<(View<Other>, u64), Error> {
        let total = self.newest();
        let mut replica = Replica::new(self.files.database, initial, 0, 0);
        replica.skipped = skipped;
        let mut frames = self.files.frames(1, None)?;
        tell(Progress { phase: Phase::History, done: 0, total });
        frames
            .each_record(|file, done, record| {
                replica.apply(file, record)?;
                if done.is_multiple_of(PROGRESS_COMMANDS) {
                    tell(Progress { phase: Phase::History, done, total });
                }
                Ok(ControlFlow::Continue(()))
            })
            .map_err(|error| match error {
                Error::ReplayDiverged { sequence, command, reason } => {
                    let model = model_name::<Other>().to_owned();
                    Error::ProjectionFailed { model, sequence, command, reason }
                }
                error => error,
            })?;
        tell(Progress { phase: Phase::History, done: total, total });
        let (replayed, chain) = (replica.replayed, frames.chain().unwrap_or_default());
        let (sequence, time_ns) = (replayed.sequence, replayed.time_ns);
        let version = Version::written(replayed.model, sequence, time_ns, chain);
        Ok((View::of(version), replica.skipped.unwrap_or_default()))
    }
}

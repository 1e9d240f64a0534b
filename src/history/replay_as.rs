//! Owns the replay of the stored commands into a model of another type. Knows nothing of the model
//! that accepted them.

use super::replica::Replica;
use super::travel::{History, Tell};
use crate::engine::{Version, View};
use crate::error::Error;
use crate::model::{Model, model_name};
use crate::process::stack;
use crate::recovery::{Phase, Progress};

/// The number of commands between two calls of the progress callback.
const PROGRESS_COMMANDS: u64 = 1 << 14;

impl<M: Model> History<M> {
    /// Replays all commands, from sequence 1 on, into a model of another type that begins with its
    /// default. With it a program can compute, for example, a sum that nobody thought of when the
    /// commands were accepted.
    ///
    /// `Other` has its own `commands!`, with the tags and names of this database. The `apply` of
    /// its commands gets the same as when the command was accepted: time, metadata, random numbers.
    /// If `Other` needs only some of the commands, use
    /// [`replay_as_listed`](Self::replay_as_listed).
    ///
    /// # Errors
    /// [`Error::UnknownTag`] if `Other` does not list a command. [`Error::ProjectionFailed`] if a
    /// command is rejected by `Other` or panics there. [`Error::HistoryTruncated`] if the history
    /// does not reach back to sequence 1. Otherwise the errors of [`records`](Self::records).
    pub fn replay_as<Other: Model + Default>(&self) -> Result<View<Other>, Error> {
        self.replay_as_from(Other::default())
    }

    /// Does the same as [`replay_as`](Self::replay_as), with a model that begins with `initial`.
    ///
    /// # Errors
    /// The errors of [`replay_as`](Self::replay_as).
    pub fn replay_as_from<Other: Model>(&self, initial: Other) -> Result<View<Other>, Error> {
        Ok(self.replayed_as(initial, None)?.0)
    }

    /// Does the same as [`replay_as_from`](Self::replay_as_from), but skips commands that `Other`
    /// does not list. Returns also how many commands it skipped.
    ///
    /// # Errors
    /// The errors of [`replay_as`](Self::replay_as) except `UnknownTag`.
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
        let mut replica = Replica::new(&self.files, initial, 0, 0);
        replica.skipped = skipped;
        let mut commands = self.files.commands(1, None)?;
        tell(Progress { phase: Phase::History, done: 0, total });
        while let Some(command) = commands.next()? {
            replica.apply(command.file, &command.record).map_err(refused_by::<Other>)?;
            let done = command.sequence;
            if done.is_multiple_of(PROGRESS_COMMANDS) {
                tell(Progress { phase: Phase::History, done, total });
            }
        }
        tell(Progress { phase: Phase::History, done: total, total });
        let (replayed, chain) = (replica.replayed, commands.chain().unwrap_or_default());
        let (sequence, time_ns) = (replayed.sequence, replayed.time_ns);
        let version = Version::written(replayed.model, sequence, time_ns, chain);
        Ok((View::of(version), replica.skipped.unwrap_or_default()))
    }
}

fn refused_by<Other: Model>(error: Error) -> Error {
    match error {
        Error::ReplayDiverged { sequence, command, reason } => {
            let model = model_name::<Other>().to_owned();
            Error::ProjectionFailed { model, sequence, command, reason }
        }
        error => error,
    }
}

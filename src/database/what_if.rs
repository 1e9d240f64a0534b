//! Owns a private fork of a version on which commands can be tried. Knows nothing of the journal:
//! nothing that happens here ever gets there.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::engine::{
    Applied, EngineThread, RequestLog, Submission, Version, on_engine_thread, submission,
};
use crate::execute_error::ExecuteError;
use crate::journal::record_parts;
use crate::model::{Context, Model, RandomSeed, Registered, system_time, time_ns};
use crate::process::stack;
use crate::storage::Storage;

/// A fork of the newest version, to try commands on; see
/// [`Database::what_if`](crate::Database::what_if).
///
/// Commands run here as they would in the database: encoded, decoded and applied, with the sequence
/// and the random numbers that they would get if nothing else came before them. A request id that
/// the database remembers, or that a command before had, is a duplicate here too; to find out takes
/// longer the more there are.
pub struct Sandbox<M: Model> {
    model: M,
    sequence: u64,
    time_ns: u64,
    requests: RequestLog,
    seed: RandomSeed,
    metadata: Arc<[u8]>,
    max_command_bytes: usize,
    storage: Arc<dyn Storage>,
}

impl<M: Model> Sandbox<M> {
    pub(crate) fn fork(
        version: &Version<M>,
        seed: RandomSeed,
        metadata: Arc<[u8]>,
        max_command_bytes: usize,
        storage: Arc<dyn Storage>,
    ) -> Self {
        let (model, sequence, time_ns) = (version.model.clone(), version.sequence, version.time_ns);
        let requests = version.requests.clone();
        Self { model, sequence, time_ns, requests, seed, metadata, max_command_bytes, storage }
    }

    /// Executes a command on the fork. One that is rejected or panics leaves no trace in it.
    ///
    /// # Errors
    /// As of [`Database::execute`](crate::Database::execute), but for what comes of disks and
    /// closing.
    pub fn execute<C: Registered<M>>(
        &mut self,
        command: C,
    ) -> Result<C::Output, ExecuteError<C::Rejection>> {
        if on_engine_thread() {
            return Err(ExecuteError::Reentrant);
        }
        let (submission, pending) = submission(&command, &self.metadata, self.max_command_bytes)?;
        let Submission { record, metadata_length, apply, ticket, .. } = submission;
        let (metadata, command) = record_parts(&record, metadata_length);
        if let Some(sequence) = self.requests.sequence_in(metadata) {
            ticket.put_duplicate(sequence);
            ticket.release();
            return pending.wait();
        }
        let time_ns = self.time_ns.max(time_ns(self.storage.now()));
        let before = self.model.clone();
        let mut events = Vec::new();
        let mut cx = Context::new(self.seed, self.sequence + 1, time_ns, metadata, &mut events);
        let mut apply = || {
            // What a command must not do in the database it must not do here.
            let _guard = EngineThread::enter();
            apply(ticket.slot(), command, &mut self.model, &mut cx)
        };
        let mut applied = apply();
        if applied == Applied::Undecodable && !stack::is_known() {
            // It may be nested too deep for this thread; the database's have more room.
            applied = stack::run(apply).unwrap_or(applied);
        }
        if applied == Applied::Accepted {
            self.sequence += 1;
            self.requests.note(self.sequence, metadata);
            self.time_ns = time_ns;
        } else {
            self.model = before;
        }
        ticket.release();
        pending.wait()
    }

    /// Reads the fork as the commands so far have left it.
    pub fn query<R>(&self, reader: impl FnOnce(&M) -> R) -> R {
        reader(&self.model)
    }

    /// The sequence of the newest command in the fork.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The time of the newest command in the fork.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        system_time(self.time_ns)
    }
}

impl<M: Model> fmt::Debug for Sandbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

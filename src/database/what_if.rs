//! Owns a private fork of a version, on which commands can be tried. Knows nothing of the journal,
//! because nothing is journaled here.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::engine::{
    Applied, Applier, EngineThread, MemoryFull, Remembered, RequestKey, RequestLog, Submission,
    Ticket, Version, on_engine_thread, submission,
};
use crate::execute_error::ExecuteError;
use crate::journal::record_parts;
use crate::model::{Context, Listed, Model, RandomSeed, system_time, time_ns};
use crate::process::stack;
use crate::storage::Storage;

/// A fork of the newest version, to try commands on; see
/// [`Database::what_if`](crate::Database::what_if).
///
/// Commands run here as they would in the database. They are encoded, decoded and applied, with the
/// sequence and the random numbers that they would get if no other command came before them. A
/// request id that the database remembers, or that an earlier command of this fork had, is a
/// duplicate here too. The more ids there are, the longer this check takes.
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

    /// Executes a command on the fork. A command that is rejected or panics leaves no trace in the
    /// fork.
    ///
    /// # Errors
    /// The errors of [`Database::execute`](crate::Database::execute), except those that disks or a
    /// close cause.
    pub fn execute<C: Listed<M>>(
        &mut self,
        command: C,
    ) -> Result<C::Output, ExecuteError<C::Rejection>> {
        if on_engine_thread() {
            return Err(ExecuteError::Reentrant);
        }
        let (submission, pending) = submission(&command, &self.metadata, self.max_command_bytes)?;
        let Submission { record, metadata_length, apply, ticket, .. } = submission;
        let (metadata, command) = record_parts(&record, metadata_length);
        let key = RequestKey::in_metadata(metadata, self.requests.limits().by_actor);
        if let Some(first) = key.as_ref().and_then(|key| self.requests.find(key)) {
            ticket.put_duplicate(first.sequence, Applier::<M>::new(self.seed).first_answer(first));
            ticket.release();
            return pending.wait();
        }
        let now_ns = time_ns(self.storage.now());
        let time_ns = self.time_ns.max(now_ns);
        let full_for = |key: &RequestKey| self.requests.is_full_for(key.bytes(), time_ns);
        if let Some(still_ns) = key.as_ref().and_then(full_for) {
            let still_ns = still_ns.saturating_add(time_ns - now_ns);
            ticket.put_requests_full(MemoryFull { remembered: self.requests.ids(), still_ns });
            ticket.release();
            return pending.wait();
        }
        let before = self.model.clone();
        let mut events = Vec::new();
        let mut cx = Context::new(self.seed, self.sequence + 1, time_ns, metadata, &mut events);
        let mut apply = || {
            // The rules for commands in the database also apply here.
            let _guard = EngineThread::enter();
            apply(ticket.slot(), command, &mut self.model, &mut cx)
        };
        let mut applied = apply();
        if applied == Applied::Undecodable && !stack::is_known() {
            // It may be nested too deep for this thread. The database's threads have larger stacks.
            applied = stack::run(apply).unwrap_or(applied);
        }
        if applied == Applied::Accepted {
            self.sequence += 1;
            self.time_ns = time_ns;
            if let Some(key) = key {
                self.remember::<C>(key, &ticket);
            }
        } else {
            self.model = before;
        }
        ticket.release();
        pending.wait()
    }

    fn remember<C: Listed<M>>(&mut self, key: RequestKey, ticket: &Ticket) {
        let output_bytes = self.requests.limits().output_bytes;
        let entry = M::entries().iter().find(|entry| entry.tag() == C::TAG);
        let output = entry.and_then(|entry| ticket.output(entry, output_bytes));
        let (sequence, time_ns) = (self.sequence, self.time_ns);
        let newest = Remembered { sequence, time_ns, tag: C::TAG, key, output };
        self.requests.push(newest, |_| {});
    }

    /// Reads the fork after the commands so far.
    pub fn query<R>(&self, reader: impl FnOnce(&M) -> R) -> R {
        reader(&self.model)
    }

    /// Returns the sequence of the newest command in the fork.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns the time of the newest command in the fork.
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

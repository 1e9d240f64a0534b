//! Owns the working version: the model ahead of what is durable, which no reader sees, and the
//! rollback of a failed command's changes. Knows nothing of queues or files.
//!
//! A clone for each command would make every command pay for the few that fail. So there is one
//! checkpoint for the whole batch. When a command fails, the writer restores the checkpoint,
//! applies the accepted commands since again from their records, and makes the result the next
//! checkpoint. So each accepted command is applied at most twice, even in a batch in which every
//! second command fails.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use super::batch::Batch;
use super::published_version::Version;
use super::queue::{Applied, Submission};
use crate::engine::{Applier, KEPT_EVENTS, Output, Remembered, RequestMemory, Requests};
use crate::journal::{Records, record_parts, tag_of};
use crate::model::{Context, Model, RandomSeed, check_event_count, decode_events, encode_events};
use crate::options::Events;
use crate::panics::told_of_panics;
use crate::process::stack;

/// The events of one command in so many are decoded after they were encoded, beginning with the
/// first: a type may encode what it cannot decode, and then nobody could ever read them.
const DECODED_EVERY: u32 = if cfg!(debug_assertions) { 0 } else { 255 };

/// Decodes the events of the record that begins at `at` in a batch's payload.
fn decode_last<M: Model>(payload: &[u8], at: usize) -> Result<Vec<M::Event>, String> {
    let record = Records::new(payload.get(at..).unwrap_or(&[])).next().and_then(Result::ok);
    let encoded = record.and_then(|record| record.events).unwrap_or(&[]);
    let decoded = stack::try_here_first(|| {
        told_of_panics("event's Deserialize", || decode_events::<M>(encoded))?
    });
    decoded
        .map_err(|reason| format!("its events cannot be decoded from their own encoding: {reason}"))
}

pub(crate) struct Working<M: Model> {
    model: M,
    sequence: u64,
    time_ns: u64,
    checkpoint: Arc<Version<M>>,
    /// The length of the part of the batch's payload that the checkpoint includes.
    checkpoint_payload: usize,
    events: Vec<M::Event>,
    /// What becomes of events.
    keeps: Events,
    /// How many commands' events are stored before those of one are decoded again.
    until_decoded: u32,
    seed: RandomSeed,
    applier: Applier<M>,
    /// The ids of accepted commands. An id enters only when its command is accepted, so a rollback
    /// removes none.
    requests: RequestMemory,
}

/// An accepted command behaved differently when it was applied again immediately.
#[derive(Debug, thiserror::Error)]
#[error(
    "command `{command}` is not deterministic: when it was applied a second time to the same \
     model, {reason}; make its apply deterministic (see prevalence::docs::determinism)"
)]
pub(crate) struct NotDeterministic {
    command: &'static str,
    reason: String,
}

impl<M: Model> Working<M> {
    pub(crate) fn new(
        version: Arc<Version<M>>,
        requests: &Arc<Requests>,
        seed: RandomSeed,
        keeps: Events,
    ) -> Self {
        let requests = RequestMemory::of(&version.requests, requests);
        Self::beginning(version, requests, seed, keeps)
    }

    fn beginning(
        version: Arc<Version<M>>,
        requests: RequestMemory,
        seed: RandomSeed,
        keeps: Events,
    ) -> Self {
        Self {
            model: version.model.clone(),
            sequence: version.sequence,
            time_ns: version.time_ns,
            requests,
            checkpoint: version,
            checkpoint_payload: 0,
            events: Vec::new(),
            keeps,
            until_decoded: 0,
            seed,
            applier: Applier::new(seed),
        }
    }

    /// Continues from `version`, which readers see. What was applied since was refused.
    pub(crate) fn restart(&mut self, version: Arc<Version<M>>) {
        let mut requests = self.requests.clone();
        requests.rewind(&version.requests);
        *self = Self::beginning(version, requests, self.seed, self.keeps);
    }

    /// Applies one command. An accepted command becomes a record of `batch`; any other leaves no
    /// trace except its answer.
    ///
    /// Returns a command that nests too deep for the stack of the calling thread, untouched: the
    /// stack of the writer's thread may suffice.
    pub(crate) fn apply(
        &mut self,
        submission: Submission<M>,
        batch: &mut Batch<M>,
        now_ns: u64,
    ) -> Result<Option<Submission<M>>, NotDeterministic> {
        let Submission { record, metadata_length, apply, only_at, ticket } = submission;
        let (metadata, command) = record_parts(&record, metadata_length);
        // This check comes before the condition, because the command's own first try may have made
        // the condition false.
        let request = ticket.request().filter(|_| self.requests.is_on()).cloned();
        if let Some(first) = request.as_ref().and_then(|key| self.requests.accepted(key)) {
            // The answer comes with the batch: the first try may be in this batch, or in one that
            // is not durable yet.
            ticket.put_duplicate(first.sequence, self.applier.first_answer(first));
            batch.tickets.push(ticket);
            batch.duplicates += 1;
            return Ok(None);
        }
        if let Some(expected) = only_at.filter(|&expected| expected != self.sequence) {
            // The answer comes with the batch, like a rejection: it may depend on what is not
            // durable yet.
            ticket.put_stale(expected, self.sequence);
            batch.tickets.push(ticket);
            batch.stale += 1;
            return Ok(None);
        }
        // A clock may be set back, but journaled time must not go back.
        let time_ns = self.time_ns.max(now_ns);
        let full = request.as_ref().and_then(|key| self.requests.is_full_for(key, time_ns));
        if let Some(mut full) = full {
            // Where the clock was set back, journaled time stands still until it has caught up.
            full.still_ns = full.still_ns.saturating_add(time_ns - now_ns);
            // The answer comes with the batch, because the ids in it may never be durable.
            ticket.put_requests_full(full);
            batch.tickets.push(ticket);
            batch.requests_full += 1;
            return Ok(None);
        }
        let mut cx =
            Context::new(self.seed, self.sequence + 1, time_ns, metadata, &mut self.events);
        let applied = apply(ticket.slot(), command, &mut self.model, &mut cx);
        if matches!(applied, Applied::Undecodable) && !stack::is_known() {
            return Ok(Some(Submission { record, metadata_length, apply, only_at, ticket }));
        }
        batch.tickets.push(ticket);
        let pushed = match applied {
            Applied::Accepted => self.push(&record, time_ns, batch),
            _ => Ok(()),
        };
        match std::mem::needs_drop::<M::Event>() {
            true => batch.events.append(&mut self.events),
            false => self.events.clear(),
        }
        self.events.shrink_to(KEPT_EVENTS);
        match applied {
            Applied::Accepted => match pushed {
                Ok(()) => {
                    if let Some(key) = request {
                        let (sequence, tag) = (self.sequence, tag_of(&record));
                        let tag = tag.expect("a submission holds a whole record");
                        let output = self.output(tag, batch);
                        self.requests.remember(Remembered { sequence, time_ns, tag, key, output });
                    }
                    return Ok(None);
                }
                Err(reason) => {
                    if let Some(ticket) = batch.tickets.last() {
                        ticket.put_events_refused(reason);
                    }
                    batch.rejected += 1;
                }
            },
            Applied::Rejected if fault!(RejectedCommandJournaled) => {
                batch.frame.push_record(&record, time_ns);
                batch.count += 1;
                self.sequence += 1;
                return Ok(None);
            }
            Applied::Undecodable => return Ok(None),
            Applied::Rejected => batch.rejected += 1,
            Applied::Panicked => batch.panicked += 1,
        }
        self.roll_back(batch)?;
        Ok(None)
    }

    /// Returns the output of the command that came last, if it is to be remembered.
    fn output(&self, tag: u16, batch: &Batch<M>) -> Output {
        batch.tickets.last()?.output(self.applier.entry(tag)?, self.requests.output_bytes())
    }

    /// Makes an accepted command, with its events, a record of `batch`. If the events cannot be
    /// stored, it returns the reason, and the command leaves no record.
    fn push(&mut self, record: &[u8], time_ns: u64, batch: &mut Batch<M>) -> Result<(), String> {
        let events = &self.events;
        if self.keeps == Events::Derived {
            // A follower that cannot work on the command must be able to put them aside.
            check_event_count(events.len())?;
        }
        let before = batch.frame.payload_length();
        batch.frame.push_record(record, time_ns);
        let is_lost = batch.rejected > 0 && fault!(EventsLostBehindRefusal);
        if !events.is_empty() && self.keeps == Events::Stored && !is_lost {
            let encode = |target: &mut Vec<u8>| {
                told_of_panics("event's Serialize", || encode_events::<M>(events, target))?
            };
            let pushed = batch.frame.push_events(encode);
            let pushed = pushed.or_else(|reason| match stack::is_known() {
                true => Err(reason),
                // The stack of a caller may be too small for them.
                false => batch
                    .frame
                    .push_events(|target| stack::run(|| encode(target)).unwrap_or(Err(reason))),
            });
            let is_sample = self.until_decoded == 0;
            let decoded = match pushed {
                Ok(()) if is_sample => decode_last::<M>(batch.frame.payload(), before),
                pushed => pushed.map(|()| Vec::new()),
            };
            match decoded {
                // These are freed with the others.
                Ok(mut decoded) => batch.events.append(&mut decoded),
                Err(reason) => {
                    batch.frame.truncate(before);
                    return Err(reason);
                }
            }
            self.until_decoded = self.until_decoded.checked_sub(1).unwrap_or(DECODED_EVERY);
        }
        batch.count += 1;
        self.sequence += 1;
        self.time_ns = time_ns;
        Ok(())
    }

    /// Restores the model as it was after the batch's last accepted command.
    fn roll_back(&mut self, batch: &mut Batch<M>) -> Result<(), NotDeterministic> {
        self.model = self.checkpoint.model.clone();
        let payload = batch.frame.payload();
        let since = payload.get(self.checkpoint_payload..).unwrap_or(&[]);
        if since.is_empty() {
            return Ok(());
        }
        let mut sequence = self.checkpoint.sequence;
        for record in Records::new(since) {
            if fault!(RollbackOffByOne) && sequence + 1 == self.sequence {
                break;
            }
            let record =
                record.expect("the batch holds whole records, because this program pushed them");
            let entry = self.applier.entry(record.tag);
            let entry = entry.expect("submitted commands are registered");
            sequence += 1;
            self.applier
                .apply(entry, &record, sequence, &mut self.model, 0)
                .map_err(|reason| NotDeterministic { command: entry.name(), reason })?;
            batch.reapplied += 1;
        }
        self.checkpoint_payload = payload.len();
        self.checkpoint = self.freeze();
        Ok(())
    }

    /// Ends the batch. Returns its version, to which the next batch rolls back.
    pub(crate) fn end_batch(&mut self) -> Arc<Version<M>> {
        if self.checkpoint.sequence != self.sequence {
            self.checkpoint = self.freeze();
        }
        self.checkpoint_payload = 0;
        self.checkpoint.clone()
    }

    /// Frees both versions, even if the `Drop` of one panics.
    pub(crate) fn free(self) {
        let Self { model, checkpoint, .. } = self;
        let freed = catch_unwind(AssertUnwindSafe(|| drop(model)));
        drop(checkpoint);
        if let Err(panic) = freed {
            resume_unwind(panic);
        }
    }

    fn freeze(&self) -> Arc<Version<M>> {
        let version = Version::unwritten(self.model.clone(), self.sequence, self.time_ns);
        Arc::new(version.with_requests(self.requests.freeze()))
    }
}

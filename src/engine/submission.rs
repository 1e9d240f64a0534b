//! Encodes a command on its caller's thread, and decodes and applies it on the writer's thread.
//! Between the two it is only bytes: no other place of the engine knows the type of a command.

use std::sync::Arc;

use super::pending::{Pending, Slot, Ticket};
use super::queue::{Applied, Submission};
use crate::codec;
use crate::codec::EncodeFailure;
use crate::engine::{EncodedRecord, Requests};
use crate::execute_error::ExecuteError;
use crate::journal::{RECORD_HEADER_BYTES, RecordHeader};
use crate::model::{Command, Context, Entry, Listed, Model};
use crate::panics::panic_message;
use crate::process::OpeningProcess;

/// A submission, and the [`Pending`] that gets its result.
pub(crate) type Submitted<M, C> =
    (Submission<M>, Pending<<C as Command<M>>::Output, <C as Command<M>>::Rejection>);

/// Encodes a command into its record, for an engine of this process.
pub(crate) fn submission<M: Model, C: Listed<M>>(
    command: &C,
    metadata: &[u8],
    limit: usize,
) -> Result<Submitted<M, C>, ExecuteError<C::Rejection>> {
    submission_to(OpeningProcess::this(), None, command, metadata, limit)
}

/// Encodes a command into its record, for an engine of the process `process`. `requests` tracks it
/// if somebody may ask for it. It is inlined into its callers because its result is large: one more
/// copy of it costs as much as the queue does.
#[inline(always)]
pub(crate) fn submission_to<M: Model, C: Listed<M>>(
    process: OpeningProcess,
    requests: Option<&Arc<Requests>>,
    command: &C,
    metadata: &[u8],
    limit: usize,
) -> Result<Submitted<M, C>, ExecuteError<C::Rejection>> {
    let metadata_length = metadata.len();
    let record = EncodedRecord::encode(|record| encode(command, metadata, limit, record))?;
    let slot = Slot::<C::Output, C::Rejection>::new();
    let tracked = requests.and_then(|requests| requests.track(metadata, name::<M, C>));
    let ticket = Ticket::new(slot.clone(), tracked);
    let apply = apply_encoded::<M, C>;
    let submission = Submission { record, metadata_length, apply, only_at: None, ticket };
    Ok((submission, Pending::new(slot, process)))
}

/// Returns the command's name in the journal.
fn name<M: Model, C: Listed<M>>() -> &'static str {
    M::entries().iter().find(|entry| entry.tag() == C::TAG).map_or("", Entry::name)
}

/// Appends the whole record to an empty buffer.
fn encode<M: Model, C: Listed<M>>(
    command: &C,
    metadata: &[u8],
    limit: usize,
    record: &mut Vec<u8>,
) -> Result<(), ExecuteError<C::Rejection>> {
    let before = RECORD_HEADER_BYTES + metadata.len();
    record.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
    record.extend_from_slice(metadata);
    codec::encode_onto(command, record, before + limit).map_err(|failure| match failure {
        EncodeFailure::TooLarge { bytes } => {
            ExecuteError::TooLarge { bytes: bytes - before, limit }
        }
        EncodeFailure::Failed(reason) => ExecuteError::Encode { reason },
    })?;
    let header = RecordHeader {
        length: u32::try_from(record.len() - RECORD_HEADER_BYTES)
            .expect("metadata and command are limited to far less"),
        tag: C::TAG,
        metadata_length: u16::try_from(metadata.len()).expect("`Metadata::encode` limits it"),
        time_ns: 0, // the writer fills it in
    };
    let (head, _) = record.split_at_mut(RECORD_HEADER_BYTES);
    head.copy_from_slice(&header.encode());
    Ok(())
}

/// Decodes and applies a command, and puts the answer into its slot. Runs on the writer's thread.
fn apply_encoded<M: Model, C: Command<M>>(
    slot: &dyn std::any::Any,
    encoded: &[u8],
    model: &mut M,
    cx: &mut Context<'_, M>,
) -> Applied {
    let slot = slot
        .downcast_ref::<Slot<C::Output, C::Rejection>>()
        .expect("submitted together with this function");
    let sequence = cx.sequence();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        codec::decode_exact::<C>(encoded).map(|command| command.apply(model, cx))
    }));
    let (answer, applied) = match caught {
        Ok(Ok(Ok(output))) => (Ok(output), Applied::Accepted),
        Ok(Ok(Err(rejection))) => (Err(ExecuteError::Rejected(rejection)), Applied::Rejected),
        Ok(Err(reason)) => (Err(ExecuteError::Undecodable { reason }), Applied::Undecodable),
        Err(panic) => {
            let message = panic_message(panic);
            (Err(ExecuteError::Panicked { message }), Applied::Panicked)
        }
    };
    slot.put(sequence, answer);
    applied
}

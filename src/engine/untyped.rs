//! Encodes and applies commands whose types the caller does not know: it has a tag and bytes. Knows
//! nothing of where these come from.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::pending::{AnySlot, Failure, Pending, Slot, Ticket};
use super::queue::{Applied, Submission};
use crate::engine::{EncodedRecord, MemoryFull, Requests};
use crate::execute_error::{ExecuteError, FirstAnswer};
use crate::journal::{RECORD_HEADER_BYTES, RecordHeader};
use crate::model::{Context, Entry, Model, NotApplied};
use crate::panics::panic_message;
use crate::process::OpeningProcess;

/// The largest output that is shown as JSON.
const MOST_OUTPUT_BYTES: usize = 1 << 20;

/// Why a command whose type the caller does not know refused: its own
/// [`Rejection`](crate::Command::Rejection) as a text.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

impl std::fmt::Debug for Refused {
    /// The text itself: errors show it like this.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The output of such a command as JSON; `None` if its type is not `Serialize`, or if it takes more
/// than a mebibyte.
pub type JsonOutput = Option<String>;

type UntypedSlot = Slot<JsonOutput, Refused>;

/// A submission, and what gets its answer.
pub(crate) type UntypedSubmitted<M> = (Submission<M>, Pending<JsonOutput, Refused>);

/// The slot of such a command, with its entry in the vocabulary.
struct WithEntry<M: Model> {
    slot: Arc<UntypedSlot>,
    entry: Entry<M>,
}

/// Makes a record of a command, and of what answers it.
pub(crate) fn untyped_submission<M: Model>(
    process: OpeningProcess,
    requests: &Arc<Requests>,
    entry: Entry<M>,
    command: &[u8],
    metadata: &[u8],
    limit: usize,
) -> Result<UntypedSubmitted<M>, ExecuteError<Refused>> {
    if command.len() > limit {
        return Err(ExecuteError::TooLarge { bytes: command.len(), limit });
    }
    let length = metadata.len() + command.len();
    let header = RecordHeader {
        length: u32::try_from(length).expect("metadata and command are limited to far less"),
        tag: entry.tag(),
        metadata_length: u16::try_from(metadata.len()).expect("`Metadata::encode` limits it"),
        time_ns: 0, // the writer fills it in
    };
    let mut record = Vec::with_capacity(RECORD_HEADER_BYTES + length);
    record.extend_from_slice(&header.encode());
    record.extend_from_slice(metadata);
    record.extend_from_slice(command);
    let slot = UntypedSlot::new();
    let name = entry.name();
    let tracked = requests.track(metadata, || "").map(|tracked| tracked.named(name));
    let with_entry: Arc<dyn AnySlot> = Arc::new(WithEntry { slot: slot.clone(), entry });
    let submission = Submission {
        record: EncodedRecord::copy_of(&record),
        metadata_length: metadata.len(),
        apply: apply_untyped::<M>,
        only_at: None,
        ticket: Ticket::new(with_entry, tracked),
    };
    Ok((submission, Pending::new(slot, process)))
}

/// Decodes and applies a command, and puts the answer into its slot. Runs on the writer's thread.
fn apply_untyped<M: Model>(
    slot: &dyn Any,
    encoded: &[u8],
    model: &mut M,
    cx: &mut Context<'_, M>,
) -> Applied {
    let WithEntry { slot, entry } =
        slot.downcast_ref::<WithEntry<M>>().expect("submitted together with this function");
    let sequence = cx.sequence();
    let mut output = None;
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let mut show = |it: &dyn Any| output = entry.output_to_json(it, MOST_OUTPUT_BYTES);
        entry.apply(encoded, model, cx, &mut show)
    }));
    let (answer, applied) = match caught {
        Ok(Ok(())) => (Ok(output), Applied::Accepted),
        Ok(Err(NotApplied::Rejected(reason))) => {
            (Err(ExecuteError::Rejected(Refused(reason))), Applied::Rejected)
        }
        Ok(Err(NotApplied::Undecodable(reason))) => {
            (Err(ExecuteError::Undecodable { reason }), Applied::Undecodable)
        }
        Err(panic) => {
            let message = panic_message(panic);
            (Err(ExecuteError::Panicked { message }), Applied::Panicked)
        }
    };
    slot.put(sequence, answer);
    applied
}

impl<M: Model> AnySlot for WithEntry<M> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn release(&self) {
        self.slot.release();
    }

    fn put_stale(&self, expected: u64, found: u64) {
        self.slot.put_stale(expected, found);
    }

    fn put_duplicate(&self, sequence: u64, first: Box<FirstAnswer>) {
        self.slot.put_duplicate(sequence, first);
    }

    fn put_requests_full(&self, full: MemoryFull) {
        self.slot.put_requests_full(full);
    }

    fn show_output(&self, show: &mut dyn FnMut(&dyn Any)) {
        self.slot.show_output(show);
    }

    fn refusal(&self) -> Option<String> {
        self.slot.refusal()
    }

    fn put_events_refused(&self, reason: String) {
        self.slot.put_events_refused(reason);
    }

    fn release_error(&self, failure: Failure) {
        self.slot.release_error(failure);
    }
}

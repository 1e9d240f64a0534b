//! Owns replaying the journal onto a model: one thread verifies frames, while this one applies
//! them. Knows nothing of the other steps of an open.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::changed_types::ChangedTypes;
use super::compatibility::unknown_tag;
use super::report::TornTail;
use crate::engine::{Applier, Output, Remembered, RequestKey, RequestLog};
use crate::error::Error;
use crate::files::{SchemaFiles, position};
use crate::journal::{Ending, FrameRef, Record, Segment, SegmentScan};
use crate::model::{Entry, Model, RandomSeed};

/// How many verified frames wait between the two threads. Frames are borrowed, so they need little
/// memory.
const FRAMES_AHEAD: usize = 256;
/// After how many bytes the progress callback is called.
const PROGRESS_BYTES: u64 = 1 << 20;

/// A sequence whose chain value is known from elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct KnownChain {
    pub(crate) sequence: u64,
    pub(crate) chain: u32,
    /// The file that states it.
    pub(crate) source: PathBuf,
}

/// The end of the journal.
pub(crate) struct JournalEnd<'a> {
    pub(crate) next_sequence: u64,
    pub(crate) chain: u32,
    /// Accepted frames that are not known durable: under `Durability::Sync`, at most the last
    /// batch.
    pub(crate) unconfirmed: VecDeque<FrameRef<'a>>,
    pub(crate) torn: Option<TornTail>,
    /// The length of the last segment's frames in bytes.
    pub(crate) last_segment_used: u64,
}

/// The model during a replay.
pub(crate) struct Replayed<M> {
    pub(crate) model: M,
    /// The sequence of the last command in the model.
    pub(crate) sequence: u64,
    pub(crate) time_ns: u64,
    pub(crate) requests: RequestLog,
    pub(crate) commands: u64,
    /// The size of the frames that held them, in bytes.
    pub(crate) payload_bytes: u64,
    /// The time from the first applied command to the last.
    pub(crate) apply_time: Duration,
}

impl<M: Model> Replayed<M> {
    /// Applies `record`, whose command is `entry`, as the next command.
    pub(crate) fn apply(
        &mut self,
        entry: &Entry<M>,
        record: &Record<'_>,
        applier: &mut Applier<M>,
    ) -> Result<(), Error> {
        let output_bytes = self.requests.limits().output_bytes;
        let sequence = self.sequence + 1;
        let applied = applier.apply(entry, record, sequence, &mut self.model, output_bytes);
        self.count(entry, record, applied)
    }

    /// Applies as [`apply`](Self::apply), and appends the events that the command emits now to
    /// `events`.
    pub(crate) fn apply_and_emit(
        &mut self,
        entry: &Entry<M>,
        record: &Record<'_>,
        applier: &Applier<M>,
        events: &mut Vec<M::Event>,
    ) -> Result<(), Error> {
        let sequence = self.sequence + 1;
        let emitted = (events, self.requests.limits().output_bytes);
        let applied = applier.apply_and_emit(entry, record, sequence, &mut self.model, emitted);
        self.count(entry, record, applied)
    }

    /// Counts an applied command.
    fn count(
        &mut self,
        entry: &Entry<M>,
        record: &Record<'_>,
        applied: Result<Output, String>,
    ) -> Result<(), Error> {
        let sequence = self.sequence + 1;
        let output = applied.map_err(|reason| {
            let command = entry.name().to_owned();
            Error::ReplayDiverged { sequence, command, reason }
        })?;
        self.sequence = sequence;
        self.time_ns = self.time_ns.max(record.time_ns);
        let limits = self.requests.limits();
        if !self.requests.is_off()
            && let Some(key) = RequestKey::in_metadata(record.metadata, limits.by_actor)
        {
            let (time_ns, tag) = (self.time_ns, record.tag);
            self.requests.push(Remembered { sequence, time_ns, tag, key, output }, |_| {});
        }
        self.commands += 1;
        Ok(())
    }
}

/// Replays all `segments` (contiguous, oldest first, the last one at the journal's end) onto
/// `replayed`. `schemas` say with which types they were written. `known` holds chain values that the journal must have; `known_durable` is the
/// sequence that is known durable from elsewhere.
pub(crate) fn replay<'a, M: Model>(
    segments: &'a [Segment],
    schemas: &SchemaFiles,
    replayed: &mut Replayed<M>,
    known: &[KnownChain],
    known_durable: u64,
    seed: RandomSeed,
    progress: &mut dyn FnMut(u64, u64) -> Result<(), Error>,
) -> Result<JournalEnd<'a>, Error> {
    let (outbox, inbox) = bounded(FRAMES_AHEAD);
    std::thread::scope(|scope| {
        let scanner = std::thread::Builder::new()
            .name("prevalence-scanner".to_owned())
            .spawn_scoped(scope, move || scan(segments, known, known_durable, &outbox))
            .map_err(|source| Error::Io {
                action: "start a thread to read",
                path: segments.first().map(|s| s.path.clone()).unwrap_or_default(),
                source,
            })?;
        let total = segments.iter().map(Segment::file_bytes).sum();
        let applied = apply(&inbox, schemas, replayed, seed, total, progress);
        drop(inbox); // a scanner that is still running notices this and ends
        let scanned = match scanner.join() {
            Ok(scanned) => scanned,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        // Damage may cause a divergence, so the error reports the damage first.
        let end = scanned?;
        applied?;
        Ok(end)
    })
}

type VerifiedFrame<'a> = (&'a Segment, FrameRef<'a>, u64);

/// Verifies every frame of every segment, and checks that each segment continues the one before.
fn scan<'a>(
    segments: &'a [Segment],
    known: &[KnownChain],
    known_durable: u64,
    outbox: &Sender<VerifiedFrame<'a>>,
) -> Result<JournalEnd<'a>, Error> {
    let mut end = JournalEnd {
        next_sequence: segments.first().map_or(1, |segment| segment.header.sequence),
        chain: segments.first().map_or(0, |segment| segment.header.chain),
        unconfirmed: VecDeque::new(),
        torn: None,
        last_segment_used: 0,
    };
    let mut bytes_before = 0;
    let mut carried_from: Option<&Segment> = None;
    check_known(known, &end)?;
    for (index, segment) in segments.iter().enumerate() {
        check_link(segments, index, end.chain)?;
        let next_segment_first = segments.get(index + 1).map(|next| next.header.sequence);
        let mut frames = SegmentScan::new(segment, next_segment_first, known_durable);
        let ending = loop {
            let frame = match frames.next_frame()? {
                Ok(frame) => frame,
                Err(ending) => break ending,
            };
            (end.next_sequence, end.chain) = (frames.next_sequence(), frames.chain());
            check_known(known, &end)?;
            end.unconfirmed.push_back(frame);
            drop_known_durable(&mut end.unconfirmed, frames.known_durable());
            if outbox.send((segment, frame, bytes_before)).is_err() {
                return Ok(end); // `apply` failed, and the caller gets its error
            }
        };
        // A commit marker, or the header of a torn batch, may state that the frames before it are
        // durable.
        drop_known_durable(&mut end.unconfirmed, frames.known_durable());
        if let Some(before) = carried_from
            && end.next_sequence == segment.header.sequence
        {
            return Err(first_batch_lost(segment, before));
        }
        carried_from =
            (next_segment_first.is_some() && frames.holds_next_batch()).then_some(segment);
        match ending {
            // The next segment was published only once everything before it was durable.
            Ending::Complete if next_segment_first.is_some() => end.unconfirmed.clear(),
            Ending::Complete => {}
            Ending::Torn { position, bytes } => {
                end.torn = Some(TornTail { path: segment.path.clone(), position, bytes });
            }
        }
        bytes_before += segment.file_bytes();
        end.last_segment_used = position(frames.read_so_far().len());
    }
    if fault!(UnconfirmedNotRewritten) {
        end.unconfirmed.clear();
    }
    Ok(end)
}

/// Makes the error for a segment that has lost the batch with which it began. Such a segment copied
/// that batch from the segment before it, and was synced before it got its name.
fn first_batch_lost(segment: &Segment, before: &Segment) -> Error {
    let expected = format!(
        "the batch that begins with sequence {}: this segment was made with it, and {} still holds \
         it",
        segment.header.sequence,
        before.path.display()
    );
    Error::corrupt(&segment.path, position(segment.frames_begin()), expected, "no whole batch")
}

fn drop_known_durable(frames: &mut VecDeque<FrameRef<'_>>, known_durable: u64) {
    while frames.front().is_some_and(|frame| frame.header.next_sequence() - 1 <= known_durable) {
        frames.pop_front();
    }
}

/// Checks that a segment continues where the one before ends. `chain` is the chain value there.
fn check_link(segments: &[Segment], index: usize, chain: u32) -> Result<(), Error> {
    let Some(segment) = segments.get(index) else {
        return Ok(());
    };
    if segment.header.chain == chain || fault!(ChainNotChecked) {
        return Ok(());
    }
    let before = index.checked_sub(1).and_then(|before| segments.get(before));
    let before = before.map_or_else(|| "nothing".to_owned(), |s| s.path.display().to_string());
    let expected = format!("chain {chain:08x}, as at the end of {before}");
    let found = format!("{:08x}", segment.header.chain);
    Err(Error::corrupt(&segment.path, 76, expected, found))
}

fn check_known(known: &[KnownChain], end: &JournalEnd<'_>) -> Result<(), Error> {
    let reached = end.next_sequence - 1;
    let known = if fault!(ChainNotChecked) { &[] } else { known };
    match known.iter().find(|known| known.sequence == reached && known.chain != end.chain) {
        None => Ok(()),
        Some(KnownChain { chain, source, .. }) => {
            let expected =
                format!("chain {:08x} at sequence {reached}, as in the journal", end.chain);
            Err(Error::corrupt(source, 0, expected, format!("{chain:08x}")))
        }
    }
}

/// Applies frames in the order in which they arrive.
fn apply<M: Model>(
    inbox: &Receiver<VerifiedFrame<'_>>,
    schemas: &SchemaFiles,
    replayed: &mut Replayed<M>,
    seed: RandomSeed,
    total: u64,
    progress: &mut dyn FnMut(u64, u64) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut applier = Applier::new(seed);
    let mut told = 0;
    let mut began = None;
    let mut changed = (None, Arc::default());
    progress(0, total)?;
    for (segment, frame, bytes_before) in inbox {
        if frame.header.next_sequence() - 1 > replayed.sequence {
            began.get_or_insert_with(Instant::now);
            if changed.0 != Some(segment.header.sequence) {
                let since = ChangedTypes::since::<M>(schemas, &segment.header)?;
                changed = (Some(segment.header.sequence), since);
            }
            apply_frame(segment, &changed.1, &frame, replayed, &mut applier)?;
            replayed.payload_bytes += position(frame.header.frame_bytes());
        }
        let done = bytes_before + frame.position + position(frame.payload.len());
        if done - told >= PROGRESS_BYTES {
            told = done;
            progress(done, total)?;
        }
    }
    replayed.apply_time = began.map_or(Duration::ZERO, |began| began.elapsed());
    progress(total, total)
}

fn apply_frame<M: Model>(
    segment: &Segment,
    changed: &ChangedTypes,
    frame: &FrameRef<'_>,
    replayed: &mut Replayed<M>,
    applier: &mut Applier<M>,
) -> Result<(), Error> {
    frame.each_record(&segment.path, |sequence, record| {
        if sequence == replayed.sequence + 1 {
            let entry = applier
                .entry(record.tag)
                .ok_or_else(|| unknown_tag(&segment.path, &segment.header, sequence, record.tag))?;
            changed.check_command(&segment.path, &segment.header, sequence, record.tag)?;
            replayed.apply(entry, record, applier)?;
        }
        Ok(())
    })
}

#[cfg(test)]
#[path = "tests/replay.rs"]
mod tests;

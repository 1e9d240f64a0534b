//! Owns the journal's growing end: it writes frames, syncs them, writes a commit marker at an idle
//! end, and changes segments. It is the only writer of the journal, and knows nothing of commands
//! beyond their count and time.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::begin::Beginning;
use super::frame::{FrameBuffer, frame_bytes};
use super::prepare::SegmentPreparer;
use super::segment::{OpenSegment, SegmentIdentity, SegmentStart};
use super::sync_gate::{SyncGate, SyncTarget};
use crate::files::{ChangeFailure, ManifestFile, Reserve, StoreError, position};
use crate::storage::{Room, Storage, write_all_at};

/// The size of the first segment of a run. Each further segment is twice as long, up to
/// `segment_bytes`. The first is small, because zeros that are never overwritten waste disk space.
const FIRST_SEGMENT_BYTES: u64 = 256 << 10;

/// Returns the size of a run's first segment.
pub(crate) fn first_segment_bytes(segment_bytes: u64) -> u64 {
    FIRST_SEGMENT_BYTES.min(segment_bytes)
}

/// What the appender needs to know while it lives.
pub(crate) struct JournalOptions {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) directory: PathBuf,
    pub(crate) identity: SegmentIdentity,
    pub(crate) manifest: Arc<Mutex<ManifestFile>>,
    pub(crate) reserve: Arc<Reserve>,
    pub(crate) segment_bytes: u64,
}

/// The appender.
pub(crate) struct Journal {
    pub(super) options: JournalOptions,
    pub(super) room: Arc<Room>,
    pub(super) preparer: SegmentPreparer,
    /// `None` before this run has written anything.
    pub(super) segment: Option<OpenSegment>,
    pub(super) beginning: Option<Beginning>,
    /// Whether the MANIFEST may not name the segment yet, or may still state clean. Then nothing
    /// may be appended.
    pub(super) unlisted: bool,
    /// Whether the segment's header has this program's names and versions.
    pub(super) is_ours: bool,
    /// The gate of this segment.
    pub(super) gate: Arc<SyncGate>,
    pub(super) commit_marker: FrameBuffer,
    pub(super) next_sequence: u64,
    pub(super) chain: u32,
    pub(super) time_ns: u64,
    /// The highest sequence that is known durable.
    pub(super) durable_sequence: u64,
    /// The highest durable sequence that a frame in the journal states.
    pub(super) stated_durable: u64,
    /// How many bytes of frames this run has written.
    pub(super) written_bytes: u64,
    /// How many segments this run has added.
    pub(super) segments_added: u64,
}

impl Journal {
    /// Continues where the journal ended. It writes nothing before the first batch, except that it
    /// writes frames that are not known durable again now.
    pub(crate) fn start(options: JournalOptions, beginning: Beginning) -> Result<Self, StoreError> {
        let preparer = SegmentPreparer::start(
            options.storage.clone(),
            options.directory.clone(),
            options.reserve.clone(),
        )?;
        let SegmentStart { first_sequence, chain, time_ns } = beginning.next;
        let mut journal = Self {
            options,
            room: Arc::default(),
            preparer,
            segment: None,
            beginning: None,
            unlisted: true,
            is_ours: true,
            gate: Arc::default(),
            commit_marker: FrameBuffer::new(),
            next_sequence: first_sequence,
            chain,
            time_ns,
            durable_sequence: first_sequence - 1,
            stated_durable: first_sequence - 1,
            written_bytes: 0,
            segments_added: 0,
        };
        let carried_bytes = journal.carried_bytes();
        let unconfirmed = beginning.plan_unconfirmed(&journal.options.identity, carried_bytes)?;
        match unconfirmed {
            Some(plan) => journal.begin_with(&plan, 0)?,
            None => journal.beginning = Some(beginning),
        }
        Ok(journal)
    }

    /// Returns whether this run has changed the journal.
    pub(crate) fn has_begun(&self) -> bool {
        self.segment.is_some()
    }

    /// Returns the first sequence of the segment that the journal writes to.
    pub(crate) fn newest_segment(&self) -> u64 {
        match (&self.segment, &self.beginning) {
            (Some(segment), _) => segment.first_sequence,
            (None, Some(beginning)) => beginning.last.header.sequence,
            (None, None) => self.next_sequence,
        }
    }

    /// Returns the sequence of the newest written record.
    pub(crate) fn written_sequence(&self) -> u64 {
        self.next_sequence - 1
    }

    pub(crate) fn durable_sequence(&self) -> u64 {
        self.durable_sequence
    }

    pub(crate) fn chain(&self) -> u32 {
        self.chain
    }

    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    pub(crate) fn segments_added(&self) -> u64 {
        self.segments_added
    }

    /// Writes one batch; `time_ns` is the time of its last record. The batch is durable after a
    /// sync. After a failure that is in doubt, the journal must not be used any more.
    pub(crate) fn append(
        &mut self,
        frame: &mut FrameBuffer,
        count: u32,
        time_ns: u64,
    ) -> Result<(), ChangeFailure> {
        let needed = position(frame_bytes(frame.payload_length()));
        let (durable, written) = (self.durable_sequence, self.next_sequence - 1);
        let (next_sequence, chain) = (self.next_sequence, self.chain);
        let segment = self.segment_with_room(needed)?;
        let (bytes, chain) = frame.seal(
            next_sequence,
            count,
            match durable {
                _ if fault!(DurableSequenceStuckAtZero) => 0,
                _ if fault!(DurableSequenceTooHigh) => written,
                durable => durable,
            },
            segment.salt,
            chain,
        );
        let mut outcome = write_all_at(&*segment.file, bytes, segment.position);
        if fault!(AppendAfterTornTail) && outcome.is_err() {
            segment.position += needed;
            outcome = write_all_at(&*segment.file, bytes, segment.position);
        }
        outcome.map_err(StoreError::io("write", &segment.path)).map_err(ChangeFailure::InDoubt)?;
        segment.position += needed;
        segment.frames += 1;
        let is_half_full = segment.position > segment.prepared_bytes / 2;
        let frame_bytes = segment.frame_bytes();
        self.written_bytes += needed;
        self.chain = chain;
        self.time_ns = time_ns;
        self.next_sequence += u64::from(count);
        self.stated_durable = durable;
        if is_half_full {
            self.preparer.request(self.next_segment_bytes(), frame_bytes);
        }
        Ok(())
    }

    /// Makes everything written durable.
    pub(crate) fn sync(&mut self) -> Result<(), StoreError> {
        if let Some(segment) = &self.segment {
            self.gate.sync(&*segment.file, &segment.path)?;
        }
        self.durable_sequence = self.written_sequence();
        Ok(())
    }

    /// Checks that the segment still stands under its name. If it does not, acknowledged commands
    /// would be lost with this process.
    pub(crate) fn check_stands(&self) -> Result<(), StoreError> {
        let Some(segment) = &self.segment else { return Ok(()) };
        segment.file.stands_where_published().map_err(StoreError::io("find", &segment.path))
    }

    /// Returns what a sync outside this borrow needs. Earlier segments were synced when the journal
    /// left them.
    pub(crate) fn sync_target(&self) -> Option<SyncTarget> {
        let sequence = self.written_sequence();
        let segment = self.segment.as_ref().filter(|_| sequence > self.durable_sequence)?;
        Some(SyncTarget {
            file: segment.file.clone(),
            path: segment.path.clone(),
            gate: self.gate.clone(),
            sequence,
        })
    }

    /// Returns the space that background work must give up when a segment needs it.
    pub(crate) fn room(&self) -> Arc<Room> {
        self.room.clone()
    }

    /// Ends the preparer's thread. From then on, a segment is made when it is needed.
    pub(crate) fn stop_preparing(&mut self) {
        self.preparer.stop();
    }

    /// Notes that a [`sync_target`](Self::sync_target) was synced up to `sequence`.
    pub(crate) fn note_synced(&mut self, sequence: u64) {
        self.durable_sequence = self.durable_sequence.max(sequence);
    }

    /// Appends a commit marker: an unsynced empty frame that states what is durable. After a
    /// process kill, it tells damage to the last batch from a torn write. It is checked against the
    /// chain but does not advance it, so the end of a segment for the next run does not depend on
    /// it.
    pub(crate) fn write_commit_marker(&mut self) -> Result<(), StoreError> {
        let needed = position(frame_bytes(0));
        let Some(segment) = self.segment.as_mut() else { return Ok(()) };
        if self.stated_durable >= self.durable_sequence
            || self.unlisted
            || segment.position + needed > segment.prepared_bytes
        {
            return Ok(());
        }
        segment.file.stands_where_published().map_err(StoreError::io("find", &segment.path))?;
        self.commit_marker.clear(0);
        let (bytes, _) = self.commit_marker.seal(
            self.next_sequence,
            0,
            if fault!(DurableSequenceStuckAtZero) { 0 } else { self.durable_sequence },
            segment.salt,
            self.chain,
        );
        write_all_at(&*segment.file, bytes, segment.position)
            .map_err(StoreError::io("write", &segment.path))?;
        segment.position += needed;
        self.stated_durable = self.durable_sequence;
        Ok(())
    }
}

//! Owns the journal's growing end: writes frames, syncs them, marks an idle end, changes segments.
//! The only writer of the journal; knows nothing of commands beyond their count and time.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::begin::{Beginning, Plan};
use super::frame::{FrameBuffer, frame_bytes};
use super::prepare::{Prepared, SegmentPreparer};
use super::segment::{
    FRAMES_BEGIN_AT_LEAST, NewSegment, OpenSegment, SegmentIdentity, SegmentStart,
};
use super::sync_gate::{SyncGate, SyncTarget};
use crate::files::Reserve;
use crate::files::StoreError;
use crate::files::{ChangeFailure, ManifestFile, State, position};
use crate::storage::{Room, Storage, write_all_at};

/// The first segment of a run; each further one is twice as long, up to `segment_bytes`. Small at
/// first, because zeros that are never overwritten cost the disk for nothing.
const FIRST_SEGMENT_BYTES: u64 = 256 << 10;

/// How much longer than it must be a segment is made on a full disk.
const LEAN_SEGMENT_BYTES: u64 = 16 << 10;

/// The size of the segment that a run begins with.
pub(crate) fn first_segment_bytes(segment_bytes: u64) -> u64 {
    FIRST_SEGMENT_BYTES.min(segment_bytes)
}

/// What the appender needs to know for as long as it lives.
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
    options: JournalOptions,
    room: Arc<Room>,
    preparer: SegmentPreparer,
    /// `None` before this run has written anything.
    segment: Option<OpenSegment>,
    beginning: Option<Beginning>,
    /// The MANIFEST may not name the segment yet, or may still say clean: nothing may be appended.
    unlisted: bool,
    /// The segment's header says what this program says.
    is_ours: bool,
    /// Of this segment.
    gate: Arc<SyncGate>,
    mark: FrameBuffer,
    next_sequence: u64,
    chain: u32,
    time_ns: u64,
    /// Everything up to here is known to be synced.
    durable_sequence: u64,
    /// The highest durable sequence that a frame in the journal states.
    vouched_sequence: u64,
    /// Bytes of frames written by this run.
    written_bytes: u64,
    /// Segments that this run added to those that were there.
    segments_added: u64,
}

impl Journal {
    /// Goes on where the journal ended. Nothing is written before the first batch, unless there are
    /// frames that nothing vouches for: those are written anew now.
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
            mark: FrameBuffer::new(),
            next_sequence: first_sequence,
            chain,
            time_ns,
            durable_sequence: first_sequence - 1,
            vouched_sequence: first_sequence - 1,
            written_bytes: 0,
            segments_added: 0,
        };
        let carried_bytes = journal.carried_bytes();
        let unvouched = beginning.plan_unvouched(&journal.options.identity, carried_bytes)?;
        match unvouched {
            Some(plan) => journal.begin_with(&plan, 0)?,
            None => journal.beginning = Some(beginning),
        }
        Ok(journal)
    }

    /// Whether this run has changed the journal.
    pub(crate) fn has_begun(&self) -> bool {
        self.segment.is_some()
    }

    /// The first sequence of the segment that is written to.
    pub(crate) fn newest_segment(&self) -> u64 {
        match (&self.segment, &self.beginning) {
            (Some(segment), _) => segment.first_sequence,
            (None, Some(beginning)) => beginning.last.header.sequence,
            (None, None) => self.next_sequence,
        }
    }

    /// The sequence of the newest record written.
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

    /// Writes one batch; `time_ns` is that of its last record. Not durable before a sync. After a
    /// failure that leaves anything in doubt the journal must not be used any more.
    pub(crate) fn append(
        &mut self,
        frame: &mut FrameBuffer,
        count: u32,
        time_ns: u64,
    ) -> Result<(), ChangeFailure> {
        let needed = position(frame_bytes(frame.payload_length()));
        let (durable, vouched) = (self.durable_sequence, self.next_sequence - 1);
        let (next_sequence, chain) = (self.next_sequence, self.chain);
        let segment = self.segment_with_room(needed)?;
        let (bytes, chain) = frame.seal(
            next_sequence,
            count,
            match durable {
                _ if planted!(DurableSequenceStuckAtZero) => 0,
                _ if planted!(DurableSequenceTooHigh) => vouched,
                durable => durable,
            },
            segment.salt,
            chain,
        );
        let mut written = write_all_at(&*segment.file, bytes, segment.position);
        if planted!(AppendAfterTornTail) && written.is_err() {
            segment.position += needed;
            written = write_all_at(&*segment.file, bytes, segment.position);
        }
        written.map_err(StoreError::io("write", &segment.path)).map_err(ChangeFailure::InDoubt)?;
        segment.position += needed;
        let is_half_full = segment.position > segment.prepared_bytes / 2;
        self.written_bytes += needed;
        self.chain = chain;
        self.time_ns = time_ns;
        self.next_sequence += u64::from(count);
        self.vouched_sequence = durable;
        if is_half_full {
            self.preparer.request(self.next_segment_bytes());
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

    /// An error when the segment does not stand under its name any more: what was acknowledged would
    /// be lost with this process.
    pub(crate) fn check_stands(&self) -> Result<(), StoreError> {
        let Some(segment) = &self.segment else { return Ok(()) };
        segment.file.stands_where_published().map_err(StoreError::io("find", &segment.path))
    }

    /// What a sync outside this borrow needs. Everything in earlier segments was synced when they
    /// were left.
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

    /// What background work must give up when a segment needs it.
    pub(crate) fn room(&self) -> Arc<Room> {
        self.room.clone()
    }

    /// Ends the preparer's thread; a segment is then made when it is needed.
    pub(crate) fn stop_preparing(&mut self) {
        self.preparer.stop();
    }

    /// Notes that a [`sync_target`](Self::sync_target) was synced.
    pub(crate) fn note_synced(&mut self, sequence: u64) {
        self.durable_sequence = self.durable_sequence.max(sequence);
    }

    /// Appends an unsynced empty frame that vouches for everything durable, so that after a mere
    /// process kill damage to the last batch is told from a torn write. It is checked against the
    /// chain but does not advance it: where a segment ends for the next run does not depend on it.
    pub(crate) fn mark(&mut self) -> Result<(), StoreError> {
        let needed = position(frame_bytes(0));
        let Some(segment) = self.segment.as_mut() else { return Ok(()) };
        if self.vouched_sequence >= self.durable_sequence
            || self.unlisted
            || segment.position + needed > segment.prepared_bytes
        {
            return Ok(());
        }
        segment.file.stands_where_published().map_err(StoreError::io("find", &segment.path))?;
        self.mark.clear(0);
        let (bytes, _) = self.mark.seal(
            self.next_sequence,
            0,
            if planted!(DurableSequenceStuckAtZero) { 0 } else { self.durable_sequence },
            segment.salt,
            self.chain,
        );
        write_all_at(&*segment.file, bytes, segment.position)
            .map_err(StoreError::io("write", &segment.path))?;
        segment.position += needed;
        self.vouched_sequence = self.durable_sequence;
        Ok(())
    }

    /// The segment into which a frame of that size goes; begun, changed and listed as need be.
    fn segment_with_room(&mut self, needed: u64) -> Result<&mut OpenSegment, ChangeFailure> {
        if let Some(beginning) = self.beginning.take() {
            let plan = beginning.plan(&self.options.identity, self.carried_bytes());
            let begun = self.begin_with(&plan, needed);
            if self.segment.is_none() {
                self.beginning = Some(beginning);
            }
            begun?;
        }
        let fits = |segment: &OpenSegment| segment.position + needed <= segment.prepared_bytes;
        if !self.is_ours || !self.segment.as_ref().is_some_and(fits) {
            self.rotate(needed)?;
        }
        if self.unlisted {
            self.list(self.newest_segment(), (self.durable_sequence, self.chain))?;
        }
        Ok(self.segment.as_mut().expect("it was begun above"))
    }

    /// Makes the first segment of this run.
    fn begin_with(&mut self, plan: &Plan<'_>, needed: u64) -> Result<(), ChangeFailure> {
        // A segment that takes the place of the last one is published last, so that a failure before
        // has overwritten nothing; another one must be there before the MANIFEST names it.
        if plan.replaces && self.unlisted {
            self.list(plan.start.first_sequence, plan.durable)?;
        }
        let (next_sequence, chain) = (self.next_sequence, self.chain);
        let carried = !plan.carried.is_empty();
        let fill = |segment: &mut NewSegment| {
            for frame in &plan.carried {
                segment.push_frame(frame)?;
            }
            if carried { segment.push_mark(next_sequence, chain) } else { Ok(()) }
        };
        let content = plan.carried_bytes() + position(frame_bytes(0)) + needed;
        let segment = self.new_segment(content, plan.start, &plan.identity, &fill)?;
        self.segment = Some(segment);
        self.is_ours = plan.identity.says_the_same_as(&self.options.identity);
        if !plan.replaces {
            self.segments_added += 1;
            self.unlisted = true;
            self.list(plan.start.first_sequence, plan.durable)?;
        }
        self.preparer.request_reserve();
        Ok(())
    }

    /// As [`check_stands`](Self::check_stands), for the segment that is about to be left.
    fn check_left(&self) -> Result<(), ChangeFailure> {
        // One without a frame, which was made for a batch that was refused then, holds nothing: the
        // new one has its name.
        let is_empty = self.newest_segment() == self.next_sequence;
        if is_empty || planted!(LeftSegmentForgotten) {
            return Ok(());
        }
        self.check_stands().map_err(ChangeFailure::InDoubt)
    }

    /// Leaves the current segment for a new one. The old one is durable before the new one has a
    /// name: a segment's existence vouches for everything before it.
    /// The new one has room for a frame of `needed` bytes.
    fn rotate(&mut self, needed: u64) -> Result<(), ChangeFailure> {
        if self.written_sequence() > self.durable_sequence && !planted!(NoSyncBeforeRotation) {
            self.sync().map_err(ChangeFailure::InDoubt)?;
        }
        self.check_left()?;
        let start = SegmentStart {
            first_sequence: self.next_sequence,
            chain: self.chain,
            time_ns: self.time_ns,
        };
        let identity = self.options.identity.clone();
        let segment = self.new_segment(needed, start, &identity, &|_| Ok(()))?;
        // Nobody looks after the old one once it is left.
        self.check_left()?;
        // From here on the old one does not count beyond this sequence.
        self.segment = Some(segment);
        std::mem::take(&mut self.gate).leave();
        (self.unlisted, self.is_ours) = (true, true);
        self.segments_added += 1;
        self.vouched_sequence = self.durable_sequence;
        Ok(())
    }

    /// Makes a segment that has room for `content` bytes of frames. On a full disk a snapshot under
    /// way gives way, and then the reserve.
    fn new_segment(
        &mut self,
        content: u64,
        start: SegmentStart,
        identity: &SegmentIdentity,
        fill: &dyn Fn(&mut NewSegment) -> Result<(), StoreError>,
    ) -> Result<OpenSegment, ChangeFailure> {
        let begin = identity.frames_begin().map_err(ChangeFailure::before_any_change)?;
        let least = begin + content;
        let bytes = self.next_segment_bytes().max(least);
        let JournalOptions { storage, directory, reserve, .. } = &self.options;
        let storage = &**storage;
        let make = |prepared: Result<Prepared, StoreError>| {
            let begin = |prepared| {
                let mut segment = NewSegment::begin(storage, directory, prepared, identity, start)?;
                fill(&mut segment)?;
                Ok(segment)
            };
            let made = prepared.and_then(begin).map_err(ChangeFailure::before_any_change)?;
            made.publish(storage)
        };
        let mut made = make(self.preparer.take(bytes));
        if wants_room(&made) && self.room.reclaim() {
            made = make(self.preparer.take(bytes));
        }
        // Or files may not grow so long here.
        if wants_room(&made) || made.as_ref().is_err_and(ChangeFailure::wants_less) {
            if wants_room(&made) {
                reserve.release();
            }
            made = make(Prepared::now(storage, directory, least + LEAN_SEGMENT_BYTES));
        }
        made
    }

    /// Has the MANIFEST name the segment, and say that the database is in use.
    fn list(
        &mut self,
        first_sequence: u64,
        (sequence, chain): (u64, u32),
    ) -> Result<(), ChangeFailure> {
        let JournalOptions { manifest, reserve, .. } = &self.options;
        let update = || {
            manifest.lock().unwrap_or_else(PoisonError::into_inner).update(|manifest| {
                if !planted!(ManifestNotDirtied) {
                    manifest.state = State::Dirty;
                }
                manifest.newest_segment = first_sequence;
                manifest.sequence = sequence;
                manifest.chain = chain;
            })
        };
        let mut listed = update();
        if wants_room(&listed) && self.room.reclaim() {
            listed = update();
        }
        if wants_room(&listed) && reserve.release() {
            listed = update();
        }
        listed?;
        self.unlisted = false;
        Ok(())
    }

    /// How long the frames of a segment may be to be carried into the next one.
    fn carried_bytes(&self) -> u64 {
        let first = first_segment_bytes(self.options.segment_bytes);
        first.saturating_sub(position(FRAMES_BEGIN_AT_LEAST)) / 2
    }

    fn next_segment_bytes(&self) -> u64 {
        match &self.segment {
            Some(segment) => {
                segment.prepared_bytes.saturating_mul(2).min(self.options.segment_bytes)
            }
            None => first_segment_bytes(self.options.segment_bytes),
        }
    }
}

fn wants_room<T>(result: &Result<T, ChangeFailure>) -> bool {
    result.as_ref().is_err_and(ChangeFailure::wants_room)
}

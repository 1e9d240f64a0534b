//! Owns when the segment changes: a run begins its first one, leaves a full one for the next, lists
//! each in the MANIFEST, and closes. Knows nothing of how a batch is written.

use super::append::{Journal, JournalOptions, first_segment_bytes};
use super::begin::Plan;
use super::frame::frame_bytes;
use super::prepare::Prepared;
use super::segment::{
    FRAMES_BEGIN_AT_LEAST, NewSegment, OpenSegment, SegmentIdentity, SegmentStart,
};
use crate::files::{ChangeFailure, State, StoreError, position};
use crate::mutex::lock;

/// How much longer than necessary a segment is on a full disk.
const LEAN_SEGMENT_BYTES: u64 = 16 << 10;

impl Journal {
    /// Returns the segment for a frame of that size. If necessary, it begins, changes and lists a
    /// segment first.
    pub(super) fn segment_with_room(
        &mut self,
        needed: u64,
    ) -> Result<&mut OpenSegment, ChangeFailure> {
        // A commit marker must fit behind it. Without one, readers beside this process would not
        // learn that the last batch is durable while no other batch follows.
        let needed = needed + position(frame_bytes(0));
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
        Ok(self.segment.as_mut().expect("the code above began a segment"))
    }

    /// Makes the first segment of this run.
    pub(super) fn begin_with(&mut self, plan: &Plan<'_>, needed: u64) -> Result<(), ChangeFailure> {
        // A segment that replaces the last one is published last, so that an earlier failure
        // overwrites nothing. Any other segment must exist before the MANIFEST names it.
        if plan.replaces && self.unlisted {
            self.list(plan.start.first_sequence, plan.durable)?;
        }
        let (next_sequence, chain) = (self.next_sequence, self.chain);
        let carried = !plan.carried.is_empty();
        let is_durable = plan.durable.0 + 1 == next_sequence;
        let fill = |segment: &mut NewSegment| {
            for frame in &plan.carried {
                segment.push_frame(frame)?;
            }
            match carried && is_durable {
                true => segment.push_commit_marker(next_sequence, chain),
                false => Ok(()),
            }
        };
        let content = plan.carried_bytes() + position(frame_bytes(0)) + needed;
        let segment = self.new_segment(content, plan.start, &plan.identity, &fill)?;
        trace_event!(
            DEBUG,
            "the first segment of this run",
            first_sequence = segment.first_sequence,
            path = segment.path.display(),
            bytes = segment.prepared_bytes
        );
        self.segment = Some(segment);
        self.is_ours = plan.identity.says_the_same_as(&self.options.identity);
        if !plan.replaces {
            self.segments_added += 1;
            self.unlisted = true;
            self.list(plan.start.first_sequence, plan.durable)?;
        }
        if carried && !is_durable {
            self.mark_carried(plan.durable.0).map_err(ChangeFailure::InDoubt)?;
        }
        self.preparer.request_reserve();
        Ok(())
    }

    /// States that the frames are durable with which the first segment begins. Before, only those up
    /// to `durable` were known to be. Others may read the segment as soon as it has its name, and
    /// until that name is durable, a power cut may bring a segment back in which these frames are
    /// lost. So the marker is written only now. It is synced, so that damage to these frames is not
    /// taken for a torn write.
    fn mark_carried(&mut self, durable: u64) -> Result<(), StoreError> {
        self.stated_durable = durable;
        self.write_commit_marker()?;
        self.sync()
    }

    /// Checks as [`check_stands`](Self::check_stands), for the segment that the journal is about to
    /// leave.
    fn check_left(&self) -> Result<(), ChangeFailure> {
        // A segment without a frame was made for a batch that was then refused. It holds nothing,
        // and the new segment gets its name.
        let is_empty = self.newest_segment() == self.next_sequence;
        if is_empty || fault!(LeftSegmentForgotten) {
            return Ok(());
        }
        self.check_stands().map_err(ChangeFailure::InDoubt)
    }

    /// Leaves the current segment for a new one, which has room for a frame of `needed` bytes. The
    /// old segment is durable before the new one gets its name: a segment's existence proves that
    /// everything before it is durable.
    fn rotate(&mut self, needed: u64) -> Result<(), ChangeFailure> {
        if self.written_sequence() > self.durable_sequence && !fault!(NoSyncBeforeRotation) {
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
        // Nothing checks the old segment after this.
        self.check_left()?;
        trace_event!(
            DEBUG,
            "the journal goes on in a new segment",
            first_sequence = segment.first_sequence,
            path = segment.path.display(),
            bytes = segment.prepared_bytes
        );
        // From here on, the old segment does not count beyond this sequence.
        self.segment = Some(segment);
        std::mem::take(&mut self.gate).leave();
        (self.unlisted, self.is_ours) = (true, true);
        self.segments_added += 1;
        self.stated_durable = self.durable_sequence;
        Ok(())
    }

    /// Makes a segment that has room for `content` bytes of frames. On a full disk, it first stops
    /// a snapshot that is being written, and then uses the reserve.
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
        // The limit for the length of a file may be the reason, too.
        if wants_room(&made) || made.as_ref().is_err_and(ChangeFailure::wants_less) {
            if wants_room(&made) {
                reserve.release();
            }
            made = make(Prepared::now(storage, directory, least + LEAN_SEGMENT_BYTES));
        }
        made
    }

    /// Writes to the MANIFEST the name of the segment, and that the database is in use.
    fn list(
        &mut self,
        first_sequence: u64,
        (sequence, chain): (u64, u32),
    ) -> Result<(), ChangeFailure> {
        let JournalOptions { manifest, reserve, .. } = &self.options;
        let update = || {
            lock(manifest).update(|manifest| {
                if manifest.state != State::Suspect && !fault!(ManifestNotDirtied) {
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

    /// Returns the largest length of frames that the next segment copies.
    pub(super) fn carried_bytes(&self) -> u64 {
        let first = first_segment_bytes(self.options.segment_bytes);
        first.saturating_sub(position(FRAMES_BEGIN_AT_LEAST)) / 2
    }

    pub(super) fn next_segment_bytes(&self) -> u64 {
        match &self.segment {
            Some(segment) => {
                segment.prepared_bytes.saturating_mul(2).min(self.options.segment_bytes)
            }
            None => first_segment_bytes(self.options.segment_bytes),
        }
    }

    /// States durably in the MANIFEST that the journal ends exactly here.
    pub(crate) fn close(&mut self) -> Result<(), StoreError> {
        let JournalOptions { manifest, reserve, .. } = &self.options;
        let lock_manifest = || lock(manifest);
        // A run that only reads changes nothing, unless the run before it was killed. Then only a
        // commit marker states that the last batch is durable, and both may be lost together.
        if !self.has_begun() && lock_manifest().current().state == State::Clean {
            return Ok(());
        }
        let update = || {
            lock_manifest().update(|manifest| {
                if manifest.state != State::Suspect {
                    manifest.state = State::Clean;
                }
                manifest.newest_segment = self.newest_segment();
                manifest.sequence = self.written_sequence();
                manifest.chain = self.chain();
            })
        };
        match update() {
            Err(failure) if failure.wants_room() && reserve.release() => update()?,
            // The next open reads as much as this one.
            Err(failure) if failure.wants_room() && !self.has_begun() => {}
            updated => updated?,
        }
        Ok(())
    }
}

fn wants_room<T>(result: &Result<T, ChangeFailure>) -> bool {
    result.as_ref().is_err_and(ChangeFailure::wants_room)
}

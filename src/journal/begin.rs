//! Owns what goes into the first segment of a run, and when there is one: only when there is
//! something to write, so that a run that only reads changes nothing. Knows nothing of how a batch
//! is written.
//!
//! A short run must not cost a segment for ever. So when the last segment holds little, the new one
//! copies its frames and replaces it. When the program's vocabulary has changed, the new one does
//! not replace it: the header must state the names of the commands in the program that wrote them.

use super::frame::FrameRef;
use super::scan::{Segment, SegmentScan};
use super::segment::{SegmentIdentity, SegmentStart};
use crate::files::StoreError;

/// The end of the journal when it was opened.
pub(crate) struct Beginning {
    /// The last segment, still mapped.
    pub(crate) last: Segment,
    /// What the next frame must follow.
    pub(crate) next: SegmentStart,
    /// The length of the last segment's frames in bytes.
    pub(crate) used_bytes: u64,
    /// Frames from here on were accepted, but are not known durable. They are written again at
    /// once, because the page cache alone is not reliable.
    pub(crate) unconfirmed: Option<SegmentStart>,
}

/// The plan for the first segment.
pub(crate) struct Plan<'a> {
    pub(crate) start: SegmentStart,
    /// Frames to copy from the last segment.
    pub(crate) carried: Vec<FrameRef<'a>>,
    pub(crate) identity: SegmentIdentity,
    /// A sequence that is durable before the segment is made, and the chain value after it.
    pub(crate) durable: (u64, u32),
    /// Whether it gets the name of the last segment.
    pub(crate) replaces: bool,
}

impl Plan<'_> {
    /// Returns the length of the copied frames in bytes.
    pub(crate) fn carried_bytes(&self) -> u64 {
        self.carried.iter().map(|frame| crate::files::position(frame.header.frame_bytes())).sum()
    }
}

impl Beginning {
    /// Plans the segment for the first batch of this run. It copies at most `carried_bytes`.
    pub(crate) fn plan(&self, ours: &SegmentIdentity, carried_bytes: u64) -> Plan<'_> {
        let durable = (self.next.first_sequence - 1, self.next.chain);
        let fresh = |replaces| Plan {
            start: self.next,
            carried: Vec::new(),
            identity: ours.clone(),
            durable,
            replaces,
        };
        if self.last.header.sequence == self.next.first_sequence {
            return fresh(true);
        }
        if self.used_bytes > carried_bytes || !self.last_identity(ours).says_the_same_as(ours) {
            return fresh(false);
        }
        // Frames that were intact at open and cannot be read now stay where they are. The next open
        // reports them.
        match self.frames_from(self.last.header.sequence) {
            Ok(carried) => Plan { start: self.last_start(), carried, ..fresh(true) },
            Err(_) => fresh(false),
        }
    }

    /// Plans the segment for frames that are not known durable; `None` without such frames. The
    /// header repeats the last segment's names and versions, because this program did not write
    /// these commands.
    pub(crate) fn plan_unconfirmed(
        &self,
        ours: &SegmentIdentity,
        carried_bytes: u64,
    ) -> Result<Option<Plan<'_>>, StoreError> {
        let Some(unconfirmed) = self.unconfirmed else { return Ok(None) };
        let replaces = self.used_bytes <= carried_bytes
            || unconfirmed.first_sequence == self.last.header.sequence;
        let start = if replaces { self.last_start() } else { unconfirmed };
        let carried = self.frames_from(start.first_sequence)?;
        let durable = (unconfirmed.first_sequence - 1, unconfirmed.chain);
        Ok(Some(Plan { start, carried, identity: self.last_identity(ours), durable, replaces }))
    }

    fn last_start(&self) -> SegmentStart {
        let header = &self.last.header;
        SegmentStart {
            first_sequence: header.sequence,
            chain: header.chain,
            time_ns: header.time_ns,
        }
    }

    fn last_identity(&self, ours: &SegmentIdentity) -> SegmentIdentity {
        SegmentIdentity { database: ours.database, ..SegmentIdentity::of(&self.last.header) }
    }

    fn frames_from(&self, first_sequence: u64) -> Result<Vec<FrameRef<'_>>, StoreError> {
        // The open found all of these frames, so they must still be there.
        let mut scan = SegmentScan::new(&self.last, None, self.next.first_sequence - 1);
        let mut frames = Vec::new();
        while scan.next_sequence() < self.next.first_sequence {
            match scan.next_frame()? {
                Ok(frame) if frame.header.first_sequence >= first_sequence => frames.push(frame),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        Ok(frames)
    }
}

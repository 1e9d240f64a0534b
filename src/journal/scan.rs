//! Reads a segment: it verifies frame after frame, and lets `ending` decide what its end is. Never
//! changes anything, and never knows what a command means.

use std::path::{Path, PathBuf};

use super::cursor::FrameCursor;
use super::ending::{Ending, RestInMemory, Stop};
use super::frame::{FRAME_ALIGNMENT, FrameFault, FrameRef, frame_bytes};
use super::segment::{check_length, check_name, check_padding, frames_begin};
use crate::files::{FileHeader, SEGMENT_MAGIC, StoreError, all_zero, position, segment_path};
use crate::storage::{FileBytes, Storage};

/// A segment that is open for reading, with a verified header.
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) header: FileHeader,
    bytes: FileBytes,
    frames_begin: usize,
}

impl Segment {
    pub(crate) fn open(
        storage: &dyn Storage,
        journal_directory: &Path,
        first_sequence: u64,
    ) -> Result<Self, StoreError> {
        let path = segment_path(journal_directory, first_sequence);
        let bytes = storage.read(&path).map_err(StoreError::io("read", &path))?;
        Self::from_bytes(path, bytes, first_sequence)
    }

    pub(crate) fn from_bytes(
        path: PathBuf,
        bytes: FileBytes,
        first_sequence: u64,
    ) -> Result<Self, StoreError> {
        let (header, header_bytes) = FileHeader::decode(&path, SEGMENT_MAGIC, &bytes)?;
        check_name(&path, &header, first_sequence)?;
        check_length(&path, &header, position(bytes.len()))?;
        let frames_begin = frames_begin(header_bytes);
        let padding = bytes.get(header_bytes..frames_begin).unwrap_or(&[]);
        check_padding(&path, header_bytes, padding)?;
        Ok(Self { path, header, bytes, frames_begin })
    }

    /// Returns the file's length in bytes.
    pub(crate) fn file_bytes(&self) -> u64 {
        position(self.bytes.len())
    }

    /// Returns whether no frame was ever written to this segment.
    pub(crate) fn is_empty(&self) -> bool {
        all_zero(self.from(self.frames_begin).get(..FRAME_ALIGNMENT).unwrap_or(&[]))
    }

    /// Returns the byte position of the first frame.
    pub(crate) fn frames_begin(&self) -> usize {
        self.frames_begin
    }

    fn from(&self, position: usize) -> &[u8] {
        self.bytes.get(position..).unwrap_or(&[])
    }
}

/// Reads the frames of one segment in order.
pub(crate) struct SegmentScan<'a> {
    segment: &'a Segment,
    /// The first sequence of the next segment, if there is one. This segment owns the sequences
    /// below it; later ones in this segment are not part of the journal.
    next_segment_first: Option<u64>,
    position: usize,
    cursor: FrameCursor,
    known_durable: u64,
}

impl<'a> SegmentScan<'a> {
    /// Makes a scan. `known_durable` is the sequence that the MANIFEST or a later segment states to
    /// be durable.
    pub(crate) fn new(
        segment: &'a Segment,
        next_segment_first: Option<u64>,
        known_durable: u64,
    ) -> Self {
        Self {
            segment,
            next_segment_first,
            position: segment.frames_begin,
            cursor: FrameCursor::at_start_of(&segment.header),
            // The segment was published only after everything before it was synced.
            known_durable: known_durable.max(segment.header.sequence.saturating_sub(1)),
        }
    }

    pub(crate) fn next_sequence(&self) -> u64 {
        self.cursor.next_sequence
    }

    pub(crate) fn chain(&self) -> u32 {
        self.cursor.chain
    }

    /// Returns whether a whole batch stands here, behind the sequences that this segment owns. An
    /// open copies such a batch into the next segment before that segment gets its name.
    pub(crate) fn holds_next_batch(&self) -> bool {
        let mut rest = self.segment.from(self.position);
        while let Ok(header) = self.cursor.header(rest) {
            if header.count > 0 {
                return self.cursor.is_next_batch(&header, rest);
            }
            let is_sound = header.first_sequence == self.cursor.next_sequence
                && header.verify_body(rest, self.cursor.chain).is_ok();
            if !is_sound {
                return false;
            }
            rest = rest.get(header.frame_bytes()..).unwrap_or(&[]);
        }
        false
    }

    /// Returns the bytes of all frames read so far.
    pub(crate) fn read_so_far(&self) -> &'a [u8] {
        self.segment.bytes.get(self.segment.frames_begin..self.position).unwrap_or(&[])
    }

    /// Returns the highest sequence that is known durable from what was read so far.
    pub(crate) fn known_durable(&self) -> u64 {
        self.known_durable
    }

    /// Returns the next frame that holds commands, or how the segment ends.
    pub(crate) fn next_frame(&mut self) -> Result<Result<FrameRef<'a>, Ending>, StoreError> {
        loop {
            if self.next_segment_first == Some(self.cursor.next_sequence) {
                return Ok(Err(Ending::Complete));
            }
            let rest = self.segment.from(self.position);
            let frame = match self.read_frame(rest) {
                Ok(frame) => frame,
                Err(_) if self.only_a_marker_is_lost(rest) => {
                    self.position += frame_bytes(0);
                    continue;
                }
                Err(fault) => return self.ending(rest, fault).map(Err),
            };
            self.position += frame.header.frame_bytes();
            self.known_durable = self.known_durable.max(frame.header.durable_sequence);
            if frame.header.count > 0 {
                return Ok(Ok(frame));
            }
        }
    }

    /// Verifies the frame at the start of `rest` and steps over it.
    fn read_frame(&mut self, rest: &'a [u8]) -> Result<FrameRef<'a>, FrameFault> {
        let chain_before = self.cursor.chain;
        let header = self.cursor.header(rest)?;
        let last = self.next_segment_first.map(|next| next - 1);
        let payload = self.cursor.step(&header, rest, last)?;
        Ok(FrameRef { position: position(self.position), header, payload, chain_before })
    }

    fn only_a_marker_is_lost(&self, rest: &[u8]) -> bool {
        let behind = rest.get(frame_bytes(0)..).unwrap_or(&[]);
        let header = self.cursor.header(behind);
        header.is_ok_and(|header| self.cursor.is_next_batch(&header, behind))
    }

    /// Classifies the segment's end when no frame stands at the current position.
    fn ending(&mut self, rest: &[u8], fault: FrameFault) -> Result<Ending, StoreError> {
        let stop = Stop {
            path: &self.segment.path,
            first_sequence: self.segment.header.sequence,
            next_segment_first: self.next_segment_first,
            position: position(self.position),
            cursor: self.cursor,
        };
        stop.verdict(&mut self.known_durable, &RestInMemory(rest), fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::frame::FrameBuffer;
    use crate::test_support::header;

    #[test]
    fn a_batch_that_reaches_into_the_next_segment_is_damage() {
        let header = header(SEGMENT_MAGIC);
        let mut bytes = header.encode().unwrap();
        let begin = frames_begin(bytes.len());
        bytes.resize(begin, 0);
        // One batch, of the sequences 1 and 2.
        bytes.extend_from_slice(FrameBuffer::new().seal(1, 2, 0, header.salt, header.chain).0);
        let segment = Segment::from_bytes("x".into(), FileBytes::Owned(bytes), 1).unwrap();
        let first = |next_segment_first| {
            SegmentScan::new(&segment, Some(next_segment_first), 0).next_frame()
        };
        assert!(first(3).is_ok_and(|frame| frame.is_ok()));
        let error = first(2).err().unwrap();
        let at = position(begin + 24);
        assert!(matches!(error, StoreError::Corrupt { position, .. } if position == at), "{error}");
    }
}

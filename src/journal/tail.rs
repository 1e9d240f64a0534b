//! Owns following a segment while another process may append to it: how far it is stated to be
//! durable, and the frames up to there. Never changes anything, and never knows what a command
//! means or which file comes next.
//!
//! A frame that can be read may be in the page cache alone. That it is durable is stated by a later
//! frame, by a commit marker, or by another file. So two streams read the segment: the *scout* goes
//! to the last whole frame and notes what is stated, and the *reader* follows up to there.

use std::path::Path;
use std::sync::Arc;

use super::frame::{FRAME_HEADER_BYTES, FrameRef};
use super::hop::Place;
use super::opened_segment::OpenedSegment;
use super::stream::{Bookmark, FrameStream, StreamedFile};
use crate::files::{StoreError, all_zero};
use crate::storage::{ReadableFile, Storage, read_up_to};

/// The end of a journal that somebody may be writing to.
pub(crate) struct SegmentTail {
    scout: FrameStream,
    reader: FrameStream,
    /// The highest sequence that is stated to be durable, here or elsewhere.
    known_durable: u64,
    /// Whether nothing of it was read yet.
    is_new: bool,
    /// How often in a row bytes stood behind the last frame that are no frame.
    doubts: u32,
    /// Whether the end was checked once.
    is_checked: bool,
}

impl SegmentTail {
    /// Opens the segment that begins with `first_sequence`, to read what is behind `after`, which
    /// is known durable.
    pub(crate) fn open(
        storage: &dyn Storage,
        journal_directory: &Path,
        first_sequence: u64,
        after: u64,
    ) -> Result<Self, StoreError> {
        let wanted = after.saturating_add(1).max(first_sequence);
        let scout =
            FrameStream::of_segment(storage, journal_directory, first_sequence, wanted, None)?;
        let reader = anew(&scout);
        // The segment got its name only after everything before it was durable.
        let known_durable = first_sequence.saturating_sub(1).max(after);
        Ok(Self { scout, reader, known_durable, is_new: true, doubts: 0, is_checked: false })
    }

    pub(crate) fn file(&self) -> &Arc<StreamedFile> {
        self.reader.file()
    }

    /// Opens the file under this segment's name again. Returns whether it is still the same one. If
    /// so, it is read from now on, for not every storage shows through an open file what is
    /// appended.
    pub(crate) fn is_still_there(
        &mut self,
        storage: &dyn Storage,
        journal_directory: &Path,
    ) -> Result<bool, StoreError> {
        let first_sequence = self.file().header.sequence;
        let opened = OpenedSegment::open(storage, journal_directory, first_sequence)?;
        if !self.scout.cursor.is_of_file_of(&opened.begin.cursor) {
            return Ok(false);
        }
        for stream in [&mut self.scout, &mut self.reader] {
            stream.segment = Some(opened.file.clone());
        }
        Ok(true)
    }

    /// Notes that everything up to `sequence` is known durable from elsewhere.
    pub(crate) fn note_durable(&mut self, sequence: u64) {
        self.known_durable = self.known_durable.max(sequence);
    }

    /// Reads what was appended since the last look.
    pub(crate) fn look(&mut self) -> Result<(), StoreError> {
        if !self.is_new && !self.something_is_behind()? {
            self.doubts = 0;
            return Ok(());
        }
        self.is_new = false;
        // What a stream has read ahead may have been written since.
        self.scout = anew(&self.scout);
        self.reader = anew(&self.reader);
        loop {
            match self.scout.advance(u64::MAX) {
                Ok(true) => self.doubts = 0,
                Ok(false) => break,
                Err(StoreError::Corrupt { .. }) => {
                    // Most likely it is being written at this moment. Its header was built after
                    // the sync of everything that it states to be durable.
                    let cursor = self.scout.cursor;
                    if let Ok(header) = cursor.header(self.scout.fill(FRAME_HEADER_BYTES)?)
                        && header.first_sequence == cursor.next_sequence
                    {
                        self.note_durable(header.durable_sequence);
                    }
                    self.doubts = self.doubts.saturating_add(1);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        self.note_durable(self.scout.known_durable);
        Ok(())
    }

    /// Returns whether anything was written behind the last frame.
    fn something_is_behind(&self) -> Result<bool, StoreError> {
        let Some(file) = &self.scout.segment else { return Ok(false) };
        let mut head = [0; FRAME_HEADER_BYTES];
        let read = read_up_to(&**file, &mut head, self.scout.position)
            .map_err(StoreError::io("read", &self.file().path))?;
        Ok(!all_zero(head.get(..read).unwrap_or(&[])))
    }

    /// Returns whether bytes stand behind the last frame that are no frame, or not yet.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.doubts > 0
    }

    /// Returns the sequence of the last whole frame.
    pub(crate) fn reached(&self) -> u64 {
        self.scout.next_sequence().saturating_sub(1)
    }

    /// Returns the highest sequence that can be read and is durable.
    pub(crate) fn durable(&self) -> u64 {
        self.known_durable.min(self.reached())
    }

    /// Finds out whether the place where the last look has stopped is damaged. It reads the rest of
    /// the segment, so it does this only if there is a reason: something durable is missing, or
    /// bytes that are no frame were seen at first, or more than once. Then it waits for twice as many
    /// looks.
    pub(crate) fn check_end(&mut self) -> Result<(), StoreError> {
        let is_missing = self.known_durable > self.reached();
        let least = if std::mem::replace(&mut self.is_checked, true) { 2 } else { 1 };
        let is_doubtful = self.doubts >= least && self.doubts.is_power_of_two();
        if !is_missing && !is_doubtful {
            return Ok(());
        }
        let before = self.reached();
        let mut known_durable = self.known_durable;
        let Err(error) = anew(&self.scout).ending(None, &mut known_durable) else {
            self.note_durable(known_durable);
            return Ok(());
        };
        // The batch may have been half written, and the next one stands behind it by now.
        self.look()?;
        if self.reached() > before { Ok(()) } else { Err(error) }
    }

    /// The sequence of the last frame that [`next_frame`](Self::next_frame) has returned, or that
    /// is before the first one.
    pub(crate) fn read(&self) -> u64 {
        self.reader.next_sequence().saturating_sub(1)
    }

    /// The chain value after that frame.
    pub(crate) fn chain(&self) -> u32 {
        self.reader.chain()
    }

    /// The place behind that frame.
    pub(crate) fn bookmark(&self) -> Option<Bookmark> {
        self.reader.bookmark()
    }

    /// Goes to the next frame that is durable. Returns `false` if there is none yet.
    pub(crate) fn advance(&mut self) -> Result<bool, StoreError> {
        let end = self.durable();
        if self.read() >= end {
            return Ok(false);
        }
        if self.reader.advance(end)? {
            return Ok(true);
        }
        let expected = format!("a frame with sequence {}", self.reader.next_sequence());
        let (path, at) = (&self.file().path, self.reader.position());
        Err(StoreError::corrupt(path, at, expected, "no frame, where one stood a moment before"))
    }

    /// Returns the frame to which the last [`advance`](Self::advance) went.
    pub(crate) fn frame(&self) -> Option<FrameRef<'_>> {
        self.reader.frame()
    }
}

/// Returns a stream that stands where `stream` does, and has read nothing ahead.
fn anew(stream: &FrameStream) -> FrameStream {
    let place = Place { position: stream.position, cursor: stream.cursor };
    let nothing: Arc<dyn ReadableFile> = Arc::new(crate::storage::FileBytes::Owned(Vec::new()));
    let file = stream.segment.as_ref().unwrap_or(&nothing);
    let mut anew = FrameStream::in_segment(&stream.file, file, place);
    anew.known_durable = stream.known_durable;
    anew
}

#[cfg(test)]
#[path = "tests/tail.rs"]
mod tests;

//! Owns what a stream of a segment's frames can say about the place where it stops: whether the
//! journal ends there, and where the next sound frame is. Knows nothing of other files.

use std::path::Path;

use super::ending::{Ending, RestOfFile, Stop};
use super::frame::{FRAME_ALIGNMENT, FRAME_HEADER_BYTES, FRAME_MAGIC, FrameHeader};
use super::frame_index::FrameIndex;
use super::hop::Place;
use super::opened_segment::OpenedSegment;
use super::stream::{Bookmark, FrameStream};
use crate::files::{PackedFile, StoreError, position};
use crate::storage::{ReadableFile, Storage, read_up_to};

/// How much of a file is searched at once. A multiple of the alignment of frames.
const BLOCK_BYTES: usize = 256 << 10;
const CHECKSUM_BYTES: usize = 4;

/// Bytes of a segment that are no frames, with a sound frame behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Skipped {
    pub(crate) begin: u64,
    /// Where the sound frame begins.
    pub(crate) end: u64,
    /// The sequences from this one on, and before that of the sound frame, are lost.
    pub(crate) first_lost: u64,
    pub(crate) next_sequence: u64,
}

impl FrameStream {
    /// Goes on in the segment of the bookmark, exactly where it was made. Returns `None` if the
    /// file has been replaced: then the frames before it must be read again.
    pub(crate) fn at_bookmark(
        storage: &dyn Storage,
        journal_directory: &Path,
        bookmark: Bookmark,
    ) -> Result<Option<Self>, StoreError> {
        let first_sequence = bookmark.first_sequence;
        let opened = OpenedSegment::open(storage, journal_directory, first_sequence)?;
        opened.check(first_sequence)?;
        let OpenedSegment { streamed, file, begin, .. } = opened;
        let place = bookmark.place;
        let is_same = place.cursor.is_of_file_of(&begin.cursor);
        Ok(is_same.then(|| Self::in_segment(&streamed, &file, place)))
    }

    /// Opens a segment whose header is sound, to read what can be read of it. Returns also what is
    /// wrong with its name, its length or the bytes before its frames.
    pub(crate) fn of_damaged_segment(
        storage: &dyn Storage,
        journal_directory: &Path,
        first_sequence: u64,
    ) -> Result<(Self, Option<StoreError>), StoreError> {
        let opened = OpenedSegment::open(storage, journal_directory, first_sequence)?;
        let checked = opened.check(first_sequence);
        let OpenedSegment { streamed, file, begin, .. } = opened;
        Ok((Self::in_segment(&streamed, &file, begin), checked.err()))
    }

    /// Returns the sequences at which a reader of an archive may begin, each with its place in the
    /// content.
    pub(crate) fn archive_entries(archive: &PackedFile) -> Result<Vec<(u64, u64)>, StoreError> {
        let entries = FrameIndex::read(archive)?;
        Ok(entries.iter().map(|entry| (entry.sequence, entry.offset)).collect())
    }

    /// Returns the file's length when it was opened, if this is a segment.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment.as_ref().map_or(0, |file| file.length())
    }

    /// Decides what the segment's end is, after the stream has found no further frame.
    /// `known_durable` is a sequence that is known durable from elsewhere; it is raised by what the
    /// segment states.
    pub(crate) fn ending(
        &mut self,
        next_segment_first: Option<u64>,
        known_durable: &mut u64,
    ) -> Result<Ending, StoreError> {
        let last = next_segment_first.map_or(u64::MAX, |next| next - 1);
        let first_sequence = self.file.header.sequence;
        *known_durable =
            (*known_durable).max(self.known_durable).max(first_sequence.saturating_sub(1));
        let fault = match (self.read_frame(last)?, &self.segment) {
            (Err(fault), Some(_)) => fault,
            _ => return Ok(Ending::Complete),
        };
        let Some(file) = &self.segment else { return Ok(Ending::Complete) };
        let path = &self.file.path;
        let rest = RestOfFile::read(path, &**file, self.position, &self.cursor)?;
        let (position, cursor) = (self.position, self.cursor);
        Stop { path, first_sequence, next_segment_first, position, cursor }.verdict(
            known_durable,
            &rest,
            fault,
        )
    }

    /// Returns whether a whole batch stands here, behind the sequences that this segment owns.
    pub(crate) fn holds_next_batch(&mut self) -> Result<bool, StoreError> {
        loop {
            if self.stands_at_frame()? {
                return Ok(true);
            }
            match self.read_frame(u64::MAX)? {
                Ok(marker) if marker.count == 0 => self.step(marker.frame_bytes()),
                _ => return Ok(false),
            }
        }
    }

    /// Searches for the next sound frame behind damage, up to the sequence `last`, and goes there.
    /// Returns `None` if there is none.
    ///
    /// The chain value before that frame is the checksum with which the frame before it ends. So it
    /// stands right before it, but for some padding, unless it is damaged itself.
    pub(crate) fn skip_damage(&mut self, last: u64) -> Result<Option<Skipped>, StoreError> {
        let Some(file) = self.segment.clone() else { return Ok(None) };
        let (begin, first_lost) = (self.position, self.cursor.next_sequence);
        let computed = self.computed_chain()?;
        let step = position(FRAME_ALIGNMENT);
        let mut at = begin.saturating_add(step);
        while let Some((found, header)) = self.next_header(&*file, at, last)? {
            at = found.saturating_add(step);
            let chain = self.chain_before(&*file, found, &header, computed)?;
            let Some(chain) = chain else { continue };
            let cursor = self.cursor.at(header.first_sequence, chain);
            let place = Place { position: found, cursor };
            let known_durable = self.known_durable;
            *self = Self::in_segment(&self.file, &file, place);
            self.known_durable = known_durable;
            let next_sequence = header.first_sequence;
            return Ok(Some(Skipped { begin, end: found, first_lost, next_sequence }));
        }
        Ok(None)
    }

    /// Returns the chain value after the batch that should be here, if its header is sound, and
    /// only its checksum may be damaged.
    fn computed_chain(&mut self) -> Result<Option<u32>, StoreError> {
        let cursor = self.cursor;
        let Ok(header) = cursor.header(self.fill(FRAME_HEADER_BYTES)?) else { return Ok(None) };
        if !cursor.begins_next_batch(&header) {
            return Ok(None);
        }
        let bytes = self.fill(header.frame_bytes())?;
        Ok(header.computed_chain(bytes, cursor.chain))
    }

    /// Finds an authentic header that may be that of a later frame, from a position on.
    fn next_header(
        &self,
        file: &dyn ReadableFile,
        from: u64,
        last: u64,
    ) -> Result<Option<(u64, FrameHeader)>, StoreError> {
        let mut block = vec![0; BLOCK_BYTES + FRAME_HEADER_BYTES];
        let mut begin = from;
        loop {
            let read = read_up_to(file, &mut block, begin)
                .map_err(StoreError::io("read", &self.file.path))?;
            let bytes = block.get(..read).unwrap_or(&[]);
            for at in (0..read.min(BLOCK_BYTES)).step_by(FRAME_ALIGNMENT) {
                let candidate = bytes.get(at..).unwrap_or(&[]);
                if !candidate.starts_with(&FRAME_MAGIC.to_le_bytes()) {
                    continue;
                }
                let Ok(header) = self.cursor.header(candidate) else { continue };
                let is_later = header.first_sequence >= self.cursor.next_sequence
                    && header.next_sequence().saturating_sub(1) <= last;
                if is_later {
                    return Ok(Some((begin + position(at), header)));
                }
            }
            if read <= BLOCK_BYTES {
                return Ok(None);
            }
            begin = begin.saturating_add(position(BLOCK_BYTES));
        }
    }

    /// Returns the chain value before the frame at `at`, if it verifies with one of the values that
    /// may stand before it.
    fn chain_before(
        &self,
        file: &dyn ReadableFile,
        at: u64,
        header: &FrameHeader,
        computed: Option<u32>,
    ) -> Result<Option<u32>, StoreError> {
        let read = |at: u64, length: usize| {
            let mut bytes = vec![0; length];
            let read = read_up_to(file, &mut bytes, at)
                .map_err(StoreError::io("read", &self.file.path))?;
            bytes.truncate(read);
            Ok::<_, StoreError>(bytes)
        };
        let frame = read(at, header.frame_bytes())?;
        let before = position(FRAME_ALIGNMENT + CHECKSUM_BYTES - 1);
        let before = read(at.saturating_sub(before), FRAME_ALIGNMENT + CHECKSUM_BYTES - 1)?;
        // If only commit markers are damaged, the chain value has not changed.
        let own = std::iter::once(self.cursor.chain).chain(computed);
        let stored = before
            .windows(CHECKSUM_BYTES)
            .rev()
            .filter_map(|bytes| Some(u32::from_le_bytes(bytes.try_into().ok()?)));
        Ok(own.chain(stored).find(|&chain| header.verify_body(&frame, chain).is_ok()))
    }
}

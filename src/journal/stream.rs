//! Owns reading the frames of one segment or archive in order, with a bounded window, while others
//! may append to the file, cut it or remove it. Never changes anything, and never knows what a
//! command means or which file comes next.
//!
//! Whoever wants a later sequence begins near it: in an archive at an entry of its index, and in a
//! segment behind frames of which only the headers were read. From there on every frame is verified
//! with the chain value before it, so a wrong beginning is noticed at once.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3Default;

use super::cursor::FrameCursor;
use super::frame::{FRAME_HEADER_BYTES, FrameFault, FrameHeader, FrameRef, frame_bytes};
use super::frame_index::{FrameIndex, IndexEntry, find};
use super::hop::Place;
use super::opened_segment::OpenedSegment;
use super::segment::check_name;
use crate::files::{
    ARCHIVE_MAGIC, FileHeader, PackedFile, StoreError, all_zero, archive_path, position,
};
use crate::storage::{ReadableFile, Storage, read_up_to};

/// How much is read ahead. For a larger frame, the window becomes as large as the frame.
const WINDOW_BYTES: usize = 256 << 10;

/// A file of frames that is read as a stream.
#[derive(Debug)]
pub(crate) struct StreamedFile {
    pub(crate) path: PathBuf,
    pub(crate) header: FileHeader,
    /// Sequence and chain at the end. An archive states them; a segment does not.
    pub(crate) end: Option<(u64, u32)>,
}

/// A place in a segment up to which a stream has verified it. A later stream of the same segment
/// may go on from there.
#[derive(Clone, Copy)]
pub(crate) struct Bookmark {
    pub(super) first_sequence: u64,
    pub(super) place: Place,
}

/// The frames of one file.
pub(crate) struct FrameStream {
    pub(super) file: Arc<StreamedFile>,
    /// The segment; `None` if this is an archive.
    pub(super) segment: Option<Arc<dyn ReadableFile>>,
    content: Box<dyn Read + Send>,
    window: Vec<u8>,
    /// The position of the next frame in the window.
    at: usize,
    /// The position of the next frame in the segment's file, or in the archive's content.
    pub(super) position: u64,
    /// Where the first frame was.
    begin: u64,
    pub(super) cursor: FrameCursor,
    /// The highest sequence that a frame so far has stated to be durable.
    pub(super) known_durable: u64,
    /// The entries of an archive's index that are compared with the frames that come.
    entries: std::vec::IntoIter<IndexEntry>,
    /// The frame that was read last, with its position in the window.
    frame: Option<(FrameHeader, usize)>,
    chain_before: u32,
}

impl FrameStream {
    /// Opens the segment that begins with `first_sequence`. The first frame may be a later one, but
    /// not one behind the one that holds `wanted`. `bookmark` may be of any segment.
    pub(crate) fn of_segment(
        storage: &dyn Storage,
        journal_directory: &Path,
        first_sequence: u64,
        wanted: u64,
        bookmark: Option<Bookmark>,
    ) -> Result<Self, StoreError> {
        let opened = OpenedSegment::open(storage, journal_directory, first_sequence)?;
        opened.check(first_sequence)?;
        let OpenedSegment { streamed, file, begin, .. } = opened;
        let stream = |place: Place| Self::in_segment(&streamed, &file, place);
        if wanted > first_sequence {
            let known = bookmark.filter(|known| known.is_before(&begin.cursor, wanted));
            let near = known.map_or(begin, |known| known.place).hop(&*file, wanted);
            if let Some(mut near) = near.map(stream)
                && near.stands_at_frame()?
            {
                return Ok(near);
            }
        }
        // Reading all of it finds out what is wrong there, if anything is.
        Ok(stream(begin))
    }

    pub(super) fn in_segment(
        streamed: &Arc<StreamedFile>,
        file: &Arc<dyn ReadableFile>,
        place: Place,
    ) -> Self {
        let content = FromPosition { file: file.clone(), position: place.position };
        let stream = Self::new(streamed.clone(), Box::new(content), place);
        Self { segment: Some(file.clone()), ..stream }
    }

    /// Opens the archive that begins with `first_sequence`. The first frame may be a later one, but
    /// not one behind the one that holds `wanted`.
    pub(crate) fn of_archive(
        storage: &dyn Storage,
        archive_directory: &Path,
        first_sequence: u64,
        wanted: u64,
    ) -> Result<Self, StoreError> {
        let path = archive_path(archive_directory, first_sequence);
        Self::from_archive(storage, path, first_sequence, wanted, false)
    }

    /// Opens the same from its first frame on, to read all of it: another thread unpacks ahead.
    pub(crate) fn of_whole_archive(
        storage: &dyn Storage,
        archive_directory: &Path,
        first_sequence: u64,
    ) -> Result<Self, StoreError> {
        Self::of_archive_at(
            storage,
            &archive_path(archive_directory, first_sequence),
            first_sequence,
        )
    }

    /// Opens the same of a file that has another name yet.
    pub(super) fn of_archive_at(
        storage: &dyn Storage,
        path: &Path,
        first_sequence: u64,
    ) -> Result<Self, StoreError> {
        Self::from_archive(storage, path.to_path_buf(), first_sequence, first_sequence, true)
    }

    fn from_archive(
        storage: &dyn Storage,
        path: PathBuf,
        first_sequence: u64,
        wanted: u64,
        ahead: bool,
    ) -> Result<Self, StoreError> {
        let packed = PackedFile::open_beside_others(storage, &path, ARCHIVE_MAGIC)?;
        check_name(&path, &packed.header, first_sequence)?;
        let mut entries = FrameIndex::read(&packed)?;
        entries.drain(..find(&entries, wanted));
        let begin = entries.first().copied();
        let begin = begin.unwrap_or_else(|| IndexEntry::first_of(&packed.header));
        let inner = packed.reader(begin.offset, ahead).map_err(StoreError::io("unpack", &path))?;
        let content: Box<dyn Read + Send> = match begin.offset {
            0 => Box::new(Digested {
                inner,
                left: packed.footer.raw_bytes,
                digest: Box::default(),
                expected: packed.footer.digest,
            }),
            _ => inner, // each of its chunks has a digest of its own
        };
        let end = Some((packed.footer.sequence, packed.footer.chain));
        let cursor = FrameCursor::at_start_of(&packed.header).at(begin.sequence, begin.chain);
        let file = Arc::new(StreamedFile { path, header: packed.header, end });
        let place = Place { position: begin.offset, cursor };
        Ok(Self { entries: entries.into_iter(), ..Self::new(file, content, place) })
    }

    fn new(file: Arc<StreamedFile>, content: Box<dyn Read + Send>, begin: Place) -> Self {
        let Place { position, cursor } = begin;
        Self {
            content,
            window: Vec::new(),
            at: 0,
            position,
            begin: position,
            cursor,
            entries: Vec::new().into_iter(),
            frame: None,
            chain_before: cursor.chain,
            segment: None,
            known_durable: 0,
            file,
        }
    }

    pub(crate) fn file(&self) -> &Arc<StreamedFile> {
        &self.file
    }

    pub(crate) fn next_sequence(&self) -> u64 {
        self.cursor.next_sequence
    }

    /// Returns the byte position where the next frame should begin.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn chain(&self) -> u32 {
        self.cursor.chain
    }

    /// Returns the place behind the last frame, if this is a segment.
    pub(crate) fn bookmark(&self) -> Option<Bookmark> {
        let StreamedFile { header, end, .. } = &*self.file;
        let place = Place { position: self.position, cursor: self.cursor };
        end.is_none().then_some(Bookmark { first_sequence: header.sequence, place })
    }

    /// Returns the frame that the last [`advance`](Self::advance) read.
    pub(crate) fn frame(&self) -> Option<FrameRef<'_>> {
        let (header, at) = self.frame?;
        let begin = at + FRAME_HEADER_BYTES;
        let payload = self.window.get(begin..begin + header.payload_length)?;
        let position = self.position - position(header.frame_bytes());
        Some(FrameRef { position, header, payload, chain_before: self.chain_before })
    }

    /// Reads the next frame that holds commands. There must be one, because the caller knows the
    /// last sequence of the file, `end`. Returns `Ok(false)` when nothing more was ever written
    /// here.
    pub(crate) fn advance(&mut self, end: u64) -> Result<bool, StoreError> {
        self.frame = None;
        loop {
            self.check_entry()?;
            let fault = match self.read_frame(end)? {
                Ok(header) => {
                    let at = self.at;
                    self.step(header.frame_bytes());
                    if header.count > 0 {
                        self.frame = Some((header, at));
                        return Ok(true);
                    }
                    continue;
                }
                Err(fault) => fault,
            };
            if self.only_a_marker_is_lost()? {
                self.step(frame_bytes(0));
                continue;
            }
            let is_begun_inside = self.file.end.is_some() && self.position == self.begin;
            let is_begun_inside = is_begun_inside && self.begin > 0;
            let head = self.fill(FRAME_HEADER_BYTES)?;
            if all_zero(head) && !is_begun_inside {
                return Ok(false);
            }
            let at = self.position + position(fault.at);
            let mut expected = fault.expected;
            if self.file.end.is_some() {
                expected.push_str(" (at that position of the unpacked content)");
            }
            if is_begun_inside {
                expected.push_str(", since the index says that this frame begins there: ");
                expected.push_str(&self.here().told());
            }
            return Err(StoreError::corrupt(&self.file.path, at, expected, fault.found));
        }
    }

    /// Checks, after the last frame, that an archive holds what its footer states and nothing more.
    pub(crate) fn check_end(&mut self) -> Result<(), StoreError> {
        let Some((sequence, chain)) = self.file.end else { return Ok(()) };
        let over = self.fill(1)?.len();
        let path = &self.file.path;
        if over > 0 {
            let expected = "the end of the unpacked content after the last batch";
            return Err(StoreError::corrupt(path, self.position, expected, "more bytes"));
        }
        if (self.cursor.next_sequence - 1, self.cursor.chain) != (sequence, chain) {
            let expected = format!("sequence {sequence} and chain {chain:08x} at the end");
            let found = format!("{} and {:08x}", self.cursor.next_sequence - 1, self.cursor.chain);
            return Err(StoreError::corrupt(path, self.position, expected, found));
        }
        match self.entries.next() {
            Some(entry) => Err(self.wrong_entry(&entry)),
            None => Ok(()),
        }
    }

    /// Compares the index with the place of the next frame, if one of its entries should be here.
    fn check_entry(&mut self) -> Result<(), StoreError> {
        let is_here = |entry: &&IndexEntry| entry.offset <= self.position;
        let Some(&entry) = self.entries.as_slice().first().filter(is_here) else { return Ok(()) };
        if entry != self.here() && !fault!(FrameIndexNotCompared) {
            return Err(self.wrong_entry(&entry));
        }
        self.entries.next();
        Ok(())
    }

    fn wrong_entry(&self, entry: &IndexEntry) -> StoreError {
        let expected = format!("an index with an entry for {}", self.here().told());
        StoreError::corrupt(&self.file.path, self.position, expected, entry.told())
    }

    /// Returns the entry that an archive's index may have for the next frame.
    fn here(&self) -> IndexEntry {
        let FrameCursor { next_sequence, chain, .. } = self.cursor;
        IndexEntry { sequence: next_sequence, offset: self.position, chain }
    }

    /// Returns whether the next batch stands whole at the current position.
    pub(super) fn stands_at_frame(&mut self) -> Result<bool, StoreError> {
        let cursor = self.cursor;
        let Ok(header) = cursor.header(self.fill(FRAME_HEADER_BYTES)?) else { return Ok(false) };
        Ok(cursor.is_next_batch(&header, self.fill(header.frame_bytes())?))
    }

    /// Verifies the frame at the current position, and advances chain and sequence.
    pub(super) fn read_frame(
        &mut self,
        end: u64,
    ) -> Result<Result<FrameHeader, FrameFault>, StoreError> {
        let mut cursor = self.cursor;
        let header = match cursor.header(self.fill(FRAME_HEADER_BYTES)?) {
            Ok(header) => header,
            Err(fault) => return Ok(Err(fault)),
        };
        let stepped = cursor.step(&header, self.fill(header.frame_bytes())?, Some(end)).map(drop);
        if stepped.is_ok() {
            self.known_durable = self.known_durable.max(header.durable_sequence);
        }
        if stepped.is_ok() && header.count > 0 {
            self.chain_before = self.cursor.chain;
            self.cursor = cursor;
        }
        Ok(stepped.map(|()| header))
    }

    fn only_a_marker_is_lost(&mut self) -> Result<bool, StoreError> {
        let (cursor, marker) = (self.cursor, frame_bytes(0));
        let head = self.fill(marker + FRAME_HEADER_BYTES)?.get(marker..).unwrap_or(&[]);
        let header = cursor.header(head).ok().filter(|header| cursor.begins_next_batch(header));
        let Some(header) = header else { return Ok(false) };
        let behind = self.fill(marker + header.frame_bytes())?.get(marker..).unwrap_or(&[]);
        Ok(cursor.is_next_batch(&header, behind))
    }

    pub(super) fn step(&mut self, bytes: usize) {
        self.at += bytes;
        self.position += position(bytes);
    }

    /// Returns that many bytes from the current position on, or fewer at the end of the file.
    /// Callers have verified the length that they ask for.
    pub(super) fn fill(&mut self, wanted: usize) -> Result<&[u8], StoreError> {
        if self.window.len() < self.at + wanted {
            self.window.drain(..self.at);
            self.at = 0;
            let mut filled = self.window.len();
            self.window.resize(wanted.max(WINDOW_BYTES), 0);
            while filled < wanted {
                let target = self.window.get_mut(filled..).unwrap_or(&mut []);
                match self.content.read(target) {
                    Ok(0) => break,
                    Ok(read) => filled += read,
                    Err(error) => {
                        self.window.truncate(filled);
                        // That of an archive's chunk says what is wrong with it.
                        return Err(match error.downcast::<StoreError>() {
                            Ok(error) => error,
                            Err(error) => StoreError::io("read", &self.file.path)(error),
                        });
                    }
                }
            }
            self.window.truncate(filled);
        }
        let end = self.window.len().min(self.at + wanted);
        Ok(self.window.get(self.at..end).unwrap_or(&[]))
    }
}

impl Bookmark {
    /// Returns whether it is of the file with this cursor, and not behind the wanted sequence.
    fn is_before(&self, begin: &FrameCursor, wanted: u64) -> bool {
        self.first_sequence == begin.next_sequence
            && self.place.cursor.is_of_file_of(begin)
            && self.place.cursor.next_sequence <= wanted
    }
}

/// An open file as a stream.
struct FromPosition {
    file: Arc<dyn ReadableFile>,
    position: u64,
}

impl Read for FromPosition {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let read = read_up_to(&*self.file, target, self.position)?;
        self.position += position(read);
        Ok(read)
    }
}

/// A stream that checks the digest of what passes through. The last bytes pass only if the digest
/// is right.
struct Digested {
    inner: Box<dyn Read + Send>,
    left: u64,
    digest: Box<Xxh3Default>,
    expected: [u8; 16],
}

impl Read for Digested {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(target.len());
        let (target, _) = target.split_at_mut(most);
        if target.is_empty() {
            return Ok(0);
        }
        let read = self.inner.read(target)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (taken, _) = target.split_at(read);
        self.digest.update(taken);
        self.left -= position(read);
        if self.left > 0 {
            return Ok(read);
        }
        let (expected, digest) = (self.expected, self.digest.digest128().to_le_bytes());
        if digest == expected {
            return Ok(read);
        }
        let reason = format!("expected digest {expected:02x?}, found {digest:02x?}");
        Err(io::Error::new(io::ErrorKind::InvalidData, reason))
    }
}

#[cfg(test)]
#[path = "tests/stream.rs"]
mod tests;

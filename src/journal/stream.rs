//! Owns reading the frames of one segment or archive in order, with a bounded window, while others
//! may append to the file, cut it or remove it. Never changes anything, and never knows what a
//! command means or which file comes next.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3Default;

use super::cursor::FrameCursor;
use super::frame::{FRAME_HEADER_BYTES, FrameFault, FrameHeader, FrameRef, frame_bytes};
use super::segment::{check_length, check_name, check_padding, frames_begin};
use crate::files::{
    ARCHIVE_MAGIC, FileHeader, PackedFile, SEGMENT_MAGIC, StoreError, all_zero, archive_path,
    position, segment_path,
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

/// The frames of one file.
pub(crate) struct FrameStream {
    file: Arc<StreamedFile>,
    content: Box<dyn Read + Send>,
    window: Vec<u8>,
    /// The position of the next frame in the window.
    at: usize,
    /// The position of the next frame in the segment's file, or in the archive's content.
    position: u64,
    cursor: FrameCursor,
    /// The frame that was read last, with its position in the window.
    frame: Option<(FrameHeader, usize)>,
    chain_before: u32,
}

impl FrameStream {
    pub(crate) fn of_segment(
        storage: &dyn Storage,
        journal_directory: &Path,
        first_sequence: u64,
    ) -> Result<Self, StoreError> {
        let path = segment_path(journal_directory, first_sequence);
        let file = storage.open_to_read(&path).map_err(StoreError::io("read", &path))?;
        let (header, header_bytes) = FileHeader::read(&path, SEGMENT_MAGIC, &*file)?;
        check_name(&path, &header, first_sequence)?;
        check_length(&path, &header, file.length())?;
        let begin = frames_begin(header_bytes);
        let mut padding = vec![0; begin - header_bytes];
        read_up_to(&*file, &mut padding, position(header_bytes))
            .map_err(StoreError::io("read", &path))?;
        check_padding(&path, header_bytes, &padding)?;
        let content = FromPosition { file, position: position(begin) };
        let file = StreamedFile { path, header, end: None };
        Ok(Self::new(file, Box::new(content), position(begin)))
    }

    pub(crate) fn of_archive(
        storage: &dyn Storage,
        archive_directory: &Path,
        first_sequence: u64,
    ) -> Result<Self, StoreError> {
        let path = archive_path(archive_directory, first_sequence);
        let packed = PackedFile::open_beside_others(storage, &path, ARCHIVE_MAGIC)?;
        check_name(&path, &packed.header, first_sequence)?;
        let content = Digested {
            inner: packed.stream().map_err(StoreError::io("unpack", &path))?,
            left: packed.footer.raw_bytes,
            digest: Box::default(),
            expected: packed.footer.digest,
        };
        let end = Some((packed.footer.sequence, packed.footer.chain));
        let file = StreamedFile { path, header: packed.header, end };
        Ok(Self::new(file, Box::new(content), 0))
    }

    fn new(file: StreamedFile, content: Box<dyn Read + Send>, position: u64) -> Self {
        Self {
            content,
            window: Vec::new(),
            at: 0,
            position,
            cursor: FrameCursor::at_start_of(&file.header),
            frame: None,
            chain_before: file.header.chain,
            file: Arc::new(file),
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
            let head = self.fill(FRAME_HEADER_BYTES)?;
            if all_zero(head) {
                return Ok(false);
            }
            let at = self.position + position(fault.at);
            let mut expected = fault.expected;
            if self.file.end.is_some() {
                expected.push_str(" (at that position of the unpacked content)");
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
        Ok(())
    }

    /// Verifies the frame at the current position, and advances chain and sequence.
    fn read_frame(&mut self, end: u64) -> Result<Result<FrameHeader, FrameFault>, StoreError> {
        let mut cursor = self.cursor;
        let header = match cursor.header(self.fill(FRAME_HEADER_BYTES)?) {
            Ok(header) => header,
            Err(fault) => return Ok(Err(fault)),
        };
        let stepped = cursor.step(&header, self.fill(header.frame_bytes())?, Some(end)).map(drop);
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

    fn step(&mut self, bytes: usize) {
        self.at += bytes;
        self.position += position(bytes);
    }

    /// Returns that many bytes from the current position on, or fewer at the end of the file.
    /// Callers have verified the length that they ask for.
    fn fill(&mut self, wanted: usize) -> Result<&[u8], StoreError> {
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
                        return Err(StoreError::io("read", &self.file.path)(error));
                    }
                }
            }
            self.window.truncate(filled);
        }
        let end = self.window.len().min(self.at + wanted);
        Ok(self.window.get(self.at..end).unwrap_or(&[]))
    }
}

/// An open file as a stream.
struct FromPosition {
    file: Box<dyn ReadableFile>,
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

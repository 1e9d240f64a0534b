//! Owns reading chunks that are packed one by one, from anywhere in the content. Knows nothing of
//! what the content means.

use std::path::Path;
use std::sync::{Arc, Mutex};

use xxhash_rust::xxh3::xxh3_64;

use super::format::CHUNK_HEADER_BYTES;
use super::index::{Chunk, Index};
use crate::codec::{Encoded, ReadRange};
use crate::files::StoreError;
use crate::files::fields::{FieldReader, position};
use crate::mutex::lock;
use crate::storage::{Pace, ReadableFile, read_up_to};

/// The first failure of the readers of a file. A decoder sees only that its input ends.
#[derive(Default)]
pub(super) struct FirstFailure(Mutex<Option<StoreError>>);

impl FirstFailure {
    pub(super) fn note(&self, error: StoreError) {
        lock(&self.0).get_or_insert(error);
    }

    pub(super) fn take(&self) -> Option<StoreError> {
        lock(&self.0).take()
    }
}

/// The content of a file whose chunks are packed one by one, with the appendix behind it.
pub(super) struct Content {
    pub(super) path: Arc<Path>,
    pub(super) file: Arc<dyn ReadableFile>,
    pub(super) index: Index,
    pub(super) failure: FirstFailure,
    pub(super) spare: Mutex<Vec<Scratch>>,
}

impl Content {
    /// Reads a chunk and verifies its checksum. Returns its packed bytes, from the file's map or
    /// from `buffer`.
    fn packed<'a>(
        &'a self,
        chunk: &Chunk,
        buffer: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], StoreError> {
        let stored = chunk.stored_bytes();
        let mapped = self.file.bytes().and_then(|bytes| {
            let begin = usize::try_from(chunk.at).ok()?;
            bytes.get(begin..begin.checked_add(stored)?)
        });
        let bytes = match mapped {
            Some(bytes) => bytes,
            None => {
                buffer.resize(stored, 0);
                let read = read_up_to(&*self.file, buffer, chunk.at)
                    .map_err(StoreError::io("read", &self.path))?;
                buffer.truncate(read);
                &*buffer
            }
        };
        let wrong = |at: u64, expected: String, found: String| {
            Err(StoreError::corrupt(&self.path, at, expected, found))
        };
        if bytes.len() < stored {
            let end = self.file.length();
            return wrong(end, "the rest of the file".to_owned(), "the file's end".to_owned());
        }
        let (header, packed) = bytes.split_at(CHUNK_HEADER_BYTES);
        let mut fields = FieldReader::new(header);
        let (length, checksum) = (fields.u32().unwrap_or(0), fields.u32().unwrap_or(0));
        if length != chunk.entry.packed_bytes {
            let expected = format!("a chunk of {} bytes, as in the index", packed.len());
            return wrong(chunk.at, expected, length.to_string());
        }
        let computed = crc32c::crc32c(packed);
        let is_right = computed == chunk.entry.checksum && checksum == computed;
        let is_right = is_right || fault!(ReplacedFileBelieved);
        if !is_right && !fault!(ChunkChecksumNotChecked) {
            let expected = format!("chunk checksum {:08x}", chunk.entry.checksum);
            return wrong(chunk.at + 4, expected, format!("{computed:08x}, stated {checksum:08x}"));
        }
        Ok(packed)
    }

    /// Verifies the checksum of every chunk.
    pub(super) fn verify_chunks(&self) -> Result<(), StoreError> {
        let mut buffer = Vec::new();
        self.index.chunks.iter().try_for_each(|chunk| self.packed(chunk, &mut buffer).map(drop))
    }

    /// Verifies all that is behind `position`, at a pace.
    pub(super) fn verify_behind(&self, position: u64, pace: &Pace<'_>) -> Result<(), StoreError> {
        let mut scratch = Scratch::default();
        for chunk in self.index.chunks.iter().filter(|chunk| chunk.raw_end() > position) {
            self.unpack(chunk, &mut scratch, &mut Vec::new())?;
            pace.step().map_err(StoreError::io("unpack", &self.path))?;
        }
        Ok(())
    }

    /// Unpacks a chunk into `target`, which is empty.
    pub(super) fn unpack(
        &self,
        chunk: &Chunk,
        scratch: &mut Scratch,
        target: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let packed = self.packed(chunk, &mut scratch.packed)?;
        if chunk.is_compressed() {
            let raw_length = usize::try_from(chunk.entry.raw_bytes).unwrap_or(usize::MAX);
            target.reserve_exact(raw_length);
            let unpacker = match &mut scratch.unpacker {
                Some(unpacker) => Ok(unpacker),
                none => zstd::bulk::Decompressor::new().map(|made| none.insert(made)),
            };
            unpacker
                .and_then(|unpacker| unpacker.decompress_to_buffer(packed, target))
                .map_err(StoreError::io("unpack", &self.path))?;
            let digest = xxh3_64(target);
            let is_right = digest == chunk.entry.digest || fault!(ChunkDigestNotChecked);
            if target.len() != raw_length || !is_right {
                let expected =
                    format!("{raw_length} bytes with digest {:016x}", chunk.entry.digest);
                let found = format!("{} bytes with digest {digest:016x}", target.len());
                return Err(StoreError::corrupt(&self.path, chunk.at, expected, found));
            }
        } else {
            target.extend_from_slice(packed);
        }
        Ok(())
    }

    fn chunk_at(&self, begin: u64) -> Result<&Chunk, StoreError> {
        self.index.chunk_at(begin).ok_or_else(|| {
            let expected = format!("byte {begin} of the content");
            StoreError::corrupt(&self.path, 0, expected, "the last chunk's end".to_owned())
        })
    }

    /// Returns the rest of the chunk that holds the byte at `begin`, but nothing from `end` on.
    pub(super) fn unpack_from(
        &self,
        begin: u64,
        end: u64,
        scratch: &mut Scratch,
    ) -> Result<Vec<u8>, StoreError> {
        let chunk = self.chunk_at(begin)?;
        let mut raw = Vec::new();
        self.unpack(chunk, scratch, &mut raw)?;
        raw.truncate(chunk.offset(end));
        if begin > chunk.raw_begin {
            raw.drain(..chunk.offset(begin));
        }
        Ok(raw)
    }

    /// Returns the bytes from `begin` to `end`, from the file's map or from `scratch`.
    fn range<'a>(
        &'a self,
        begin: u64,
        end: u64,
        scratch: &'a mut Scratch,
    ) -> Result<&'a [u8], StoreError> {
        let chunk = self.chunk_at(begin)?;
        if end <= chunk.raw_end() && !chunk.is_compressed() {
            let packed = self.packed(chunk, &mut scratch.packed)?;
            return Ok(packed.get(chunk.offset(begin)..chunk.offset(end)).unwrap_or(&[]));
        }
        let mut range = std::mem::take(&mut scratch.range);
        range.clear();
        if begin == chunk.raw_begin && end == chunk.raw_end() {
            self.unpack(chunk, scratch, &mut range)?;
        } else {
            let mut at = begin;
            while at < end {
                let bytes = self.unpack_from(at, end, scratch)?;
                at += position(bytes.len());
                range.extend_from_slice(&bytes);
            }
        }
        scratch.range = range;
        Ok(&scratch.range)
    }
}

impl Encoded for Content {
    fn reader(&self) -> Box<dyn ReadRange + '_> {
        // The child of a fork may have inherited the lock of a thread that it does not have.
        let spare = self.spare.try_lock().ok().and_then(|mut spare| spare.pop());
        Box::new(RangeReader { content: self, scratch: spare.unwrap_or_default() })
    }

    fn take_failure(&self) -> Option<String> {
        self.failure.take().map(|error| error.to_string())
    }
}

/// How many [`Scratch`]es wait for the next readers: a thread that reads one part after the other
/// needs no new unpacker for each.
const MOST_SPARE: usize = 8;

impl Drop for RangeReader<'_> {
    fn drop(&mut self) {
        if let Ok(mut spare) = self.content.spare.try_lock()
            && spare.len() < MOST_SPARE
        {
            spare.push(std::mem::take(&mut self.scratch));
        }
    }
}

/// Reads ranges of the content.
struct RangeReader<'a> {
    content: &'a Content,
    scratch: Scratch,
}

impl ReadRange for RangeReader<'_> {
    fn read(&mut self, begin: u64, end: u64) -> Option<&[u8]> {
        match self.content.range(begin, end, &mut self.scratch) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.content.failure.note(error);
                None
            }
        }
    }
}

/// What a reader keeps for its next chunk.
#[derive(Default)]
pub(super) struct Scratch {
    packed: Vec<u8>,
    range: Vec<u8>,
    unpacker: Option<zstd::bulk::Decompressor<'static>>,
}

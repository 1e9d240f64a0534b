//! Owns reading a packed file: it verifies every checksum before it unpacks anything, and
//! afterwards the digest of what was unpacked. Unpacks on a thread of its own.

use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bincode::de::read::Reader;
use bincode::error::DecodeError;
use crossbeam_channel::{Receiver, Sender, bounded};
use xxhash_rust::xxh3::Xxh3Default;

use super::format::{
    CHUNK_BYTES, Chunks, FOOTER_BYTES, FOOTER_MAGIC, Footer, PACKING_PLAIN, PACKING_ZSTD,
};
use crate::files::StoreError;
use crate::files::fields::{FieldReader, position};
use crate::files::header::FileHeader;
use crate::storage::{Pace, ReadableFile, Storage, read_up_to};

/// How many unpacked blocks wait between the two threads. Together with the blocks in use, this
/// bounds the memory of a load.
const BLOCKS_AHEAD: usize = 4;

/// The size of a block beside commits. At most one block is ahead, so that the thread that uses the
/// blocks also waits while the unpacker pauses.
const TURN_BYTES: usize = 8 << 10;
const TURNS_AHEAD: usize = 1;

/// The size of one step of unpacking, which takes well under a millisecond.
const STEP_BYTES: usize = 32 << 10;

/// A packed file, all of whose checksums were verified.
pub(crate) struct PackedFile {
    pub(crate) path: PathBuf,
    pub(crate) header: FileHeader,
    pub(crate) footer: Footer,
    file: Arc<dyn ReadableFile>,
    chunks_begin: u64,
}

impl PackedFile {
    /// Opens a file that nobody changes or removes while it is read, and maps it.
    pub(crate) fn open(
        storage: &dyn Storage,
        path: &Path,
        magic: [u8; 8],
    ) -> Result<Self, StoreError> {
        let bytes = storage.read(path).map_err(StoreError::io("read", path))?;
        Self::from_file(path.to_path_buf(), Arc::new(bytes), magic)
    }

    /// Opens a file that others may move, cut or remove meanwhile. Otherwise as
    /// [`open`](Self::open).
    pub(crate) fn open_beside_others(
        storage: &dyn Storage,
        path: &Path,
        magic: [u8; 8],
    ) -> Result<Self, StoreError> {
        let file = storage.open_to_read(path).map_err(StoreError::io("read", path))?;
        Self::from_file(path.to_path_buf(), file.into(), magic)
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn from_bytes(
        path: PathBuf,
        bytes: crate::storage::FileBytes,
        magic: [u8; 8],
    ) -> Result<Self, StoreError> {
        Self::from_file(path, Arc::new(bytes), magic)
    }

    /// Returns the sequence that the file's last bytes state, unverified; `None` when they state
    /// none.
    pub(crate) fn stated_sequence(
        storage: &dyn Storage,
        path: &Path,
    ) -> Result<Option<u64>, StoreError> {
        let file = storage.open_to_read(path).map_err(StoreError::io("read", path))?;
        let Some(at) = file.length().checked_sub(position(FOOTER_BYTES)) else { return Ok(None) };
        let mut footer = [0; FOOTER_BYTES];
        read_up_to(&*file, &mut footer, at).map_err(StoreError::io("read", path))?;
        let mut fields = FieldReader::new(&footer);
        Ok(fields.array().filter(|magic| *magic == FOOTER_MAGIC).and_then(|_| fields.u64()))
    }

    fn from_file(
        path: PathBuf,
        file: Arc<dyn ReadableFile>,
        magic: [u8; 8],
    ) -> Result<Self, StoreError> {
        let (header, header_bytes) = FileHeader::read(&path, magic, &*file)?;
        let chunks_begin = position(header_bytes);
        let mut chunks = Chunks::new(path.as_path().into(), file.clone(), chunks_begin);
        while chunks.next_chunk()?.is_some() {}
        let footer = chunks.footer()?;
        if ![PACKING_PLAIN, PACKING_ZSTD].contains(&header.packing) {
            let expected = "packing 0 (plain) or 1 (zstd)";
            return Err(StoreError::corrupt(&path, 36, expected, header.packing.to_string()));
        }
        Ok(Self { path, header, footer, file, chunks_begin })
    }

    /// Returns the file's length in bytes.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file.length()
    }

    /// Makes the error for content that this program cannot decode, although the packing is intact.
    pub(crate) fn undecodable(&self, reason: String) -> StoreError {
        StoreError::Undecodable { path: self.path.clone(), reason }
    }

    /// Checks that the chunks unpack to what was packed.
    pub(crate) fn verify_content(&self, pace: &Pace<'_>) -> Result<(), StoreError> {
        let blocks = (CHUNK_BYTES, BLOCKS_AHEAD);
        self.unpack_paced(pace, blocks, skip, skip).map(drop)
    }

    /// Makes the error for unpacked content that is wrong.
    pub(crate) fn corrupt_content(&self, expected: String, found: String) -> StoreError {
        StoreError::corrupt(&self.path, self.chunks_begin, expected, found)
    }

    /// Unpacks on another thread while `take` uses what has been unpacked. `take` must use all of
    /// it, and it must have the digest that the footer states. An appendix behind the content is
    /// skipped.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn unpack<R>(
        &self,
        take: impl FnOnce(&mut Blocks) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        self.unpack_with(take, skip).map(|(taken, ())| taken)
    }

    /// Returns the content as a stream. The caller must compare it with the footer.
    pub(crate) fn unpacked(&self) -> io::Result<Box<dyn Read + Send>> {
        let path = self.path.as_path().into();
        let chunks = Chunks::new(path, self.file.clone(), self.chunks_begin);
        let packed = ChunkReader { chunks, taken: 0 };
        Ok(if self.header.packing == PACKING_PLAIN {
            Box::new(packed)
        } else {
            Box::new(zstd::Decoder::with_buffer(packed)?)
        })
    }

    /// Unpacks as `unpack`; then `take_appendix` must use all of the appendix behind the content,
    /// if there is one. The footer has no digest of the appendix; its owner must check it.
    pub(crate) fn unpack_with<R, A, E: From<StoreError>>(
        &self,
        take: impl FnOnce(&mut Blocks) -> Result<R, E>,
        take_appendix: impl FnOnce(&mut Blocks) -> Result<A, E>,
    ) -> Result<(R, A), E> {
        self.unpack_at(&Pace::full(), take, take_appendix)
    }

    /// Unpacks as [`unpack_with`](Self::unpack_with), at a pace that `take` and `take_appendix`
    /// also keep.
    pub(crate) fn unpack_at<R, A, E: From<StoreError>>(
        &self,
        pace: &Pace<'_>,
        take: impl FnOnce(&mut Blocks) -> Result<R, E>,
        take_appendix: impl FnOnce(&mut Blocks) -> Result<A, E>,
    ) -> Result<(R, A), E> {
        let blocks =
            if pace.gives_way() { (TURN_BYTES, TURNS_AHEAD) } else { (CHUNK_BYTES, BLOCKS_AHEAD) };
        self.unpack_paced(pace, blocks, take, take_appendix)
    }

    fn unpack_paced<R, A, E: From<StoreError>>(
        &self,
        pace: &Pace<'_>,
        (block_bytes, ahead): (usize, usize),
        take: impl FnOnce(&mut Blocks) -> Result<R, E>,
        take_appendix: impl FnOnce(&mut Blocks) -> Result<A, E>,
    ) -> Result<(R, A), E> {
        let pace = pace.another();
        let (outbox, inbox) = bounded(ahead);
        let (unpacked, taken) = std::thread::scope(|scope| {
            let unpacker = std::thread::Builder::new()
                .name("prevalence-unpacker".to_owned())
                .spawn_scoped(scope, move || self.unpack_into(&outbox, block_bytes, &pace))
                .map_err(StoreError::io("start a thread to unpack", &self.path))?;
            let mut blocks = Blocks { inbox, block: Vec::new(), at: 0, ended: false };
            let taken = take(&mut blocks).and_then(|taken| {
                self.all_taken(&mut blocks)?;
                blocks.ended = false;
                let appendix = take_appendix(&mut blocks)?;
                self.all_taken(&mut blocks)?;
                Ok((taken, appendix))
            });
            drop(blocks); // an unpacker that is still running notices this and ends
            let unpacked = match unpacker.join() {
                Ok(unpacked) => unpacked.map_err(StoreError::io("unpack", &self.path))?,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            Ok::<_, StoreError>((unpacked, taken))
        })?;
        let (taken, Unpacked { digest, is_more }) = (taken?, unpacked);
        if is_more {
            let bytes = self.footer.raw_bytes.saturating_add(self.header.appendix_bytes);
            let expected = format!("{bytes} bytes before packing");
            return Err(self.corrupt_content(expected, "more than that".to_owned()).into());
        }
        if digest != self.footer.digest {
            let expected = format!("digest {:02x?}", self.footer.digest);
            return Err(self.corrupt_content(expected, format!("{digest:02x?}")).into());
        }
        Ok(taken)
    }

    fn all_taken(&self, blocks: &mut Blocks) -> Result<(), StoreError> {
        if blocks.current().is_empty() {
            return Ok(());
        }
        Err(self.undecodable("the decoder did not use all bytes of the content".to_owned()))
    }

    /// Sends the content in blocks, then the appendix. Returns the content's digest. It ends early
    /// when the receiver is gone.
    fn unpack_into(
        &self,
        outbox: &Sender<Unpacking>,
        block_bytes: usize,
        pace: &Pace<'_>,
    ) -> io::Result<Unpacked> {
        let mut content = self.unpacked()?;
        let mut digest: Box<Xxh3Default> = Box::default();
        let mut send = |bytes: u64, mut digest: Option<&mut Xxh3Default>| {
            let mut remaining = bytes;
            while remaining > 0 {
                let length = usize::try_from(remaining).unwrap_or(block_bytes).min(block_bytes);
                let mut block = vec![0; length];
                for piece in block.chunks_mut(STEP_BYTES) {
                    content.read_exact(piece)?;
                    pace.step()?;
                }
                if let Some(digest) = &mut digest {
                    digest.update(&block);
                }
                remaining -= position(length);
                if outbox.send(Unpacking::Block(block)).is_err() {
                    return Ok(false);
                }
            }
            Ok::<_, io::Error>(outbox.send(Unpacking::EndOfPart).is_ok())
        };
        let taken = send(self.footer.raw_bytes, Some(&mut digest))?;
        let taken = taken && send(self.header.appendix_bytes, None)?;
        let is_more = taken && content.read(&mut [0])? > 0;
        Ok(Unpacked { digest: digest.digest128().to_le_bytes(), is_more })
    }
}

/// What the unpacking thread sends.
enum Unpacking {
    Block(Vec<u8>),
    /// The end of the content or of the appendix.
    EndOfPart,
}

/// The result of unpacking a file.
struct Unpacked {
    /// The digest of the content.
    digest: [u8; 16],
    /// Whether the file held more than the header and the footer state.
    is_more: bool,
}

fn skip(blocks: &mut Blocks) -> Result<(), StoreError> {
    blocks.skip();
    Ok(())
}

/// The chunks' bytes as one stream.
struct ChunkReader {
    chunks: Chunks,
    /// How many bytes of the current chunk were taken.
    taken: usize,
}

impl Read for ChunkReader {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(target.len());
        let (source, _) = available.split_at(length);
        let (target, _) = target.split_at_mut(length);
        target.copy_from_slice(source);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.chunks.current().len() {
            self.taken = 0;
            if self.chunks.next_chunk().map_err(io::Error::other)?.is_none() {
                return Ok(&[]);
            }
        }
        Ok(self.chunks.current().get(self.taken..).unwrap_or(&[]))
    }

    fn consume(&mut self, amount: usize) {
        self.taken += amount;
    }
}

/// Unpacked content, or an unpacked appendix, block by block.
pub(crate) struct Blocks {
    inbox: Receiver<Unpacking>,
    block: Vec<u8>,
    at: usize,
    /// Whether this part has ended.
    ended: bool,
}

impl Blocks {
    /// Makes blocks of one block, for tests without a file.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn of(block: Vec<u8>) -> Self {
        Self { inbox: bounded(0).1, block, at: 0, ended: true }
    }

    /// Returns what is left of the current block, or the next block; empty at the end.
    pub(crate) fn current(&mut self) -> &[u8] {
        while self.at == self.block.len() {
            if self.ended {
                return &[];
            }
            // The sender is gone when unpacking failed. The unpacking thread reports the failure.
            let Ok(next) = self.inbox.recv() else { return &[] };
            self.at = 0;
            self.block = match next {
                Unpacking::Block(block) => block,
                Unpacking::EndOfPart => {
                    self.ended = true;
                    Vec::new()
                }
            };
        }
        self.block.get(self.at..).unwrap_or(&[])
    }

    /// Skips a part of [`current`](Self::current).
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.at = self.block.len().min(self.at + bytes);
    }

    /// Skips all that is left.
    pub(crate) fn skip(&mut self) {
        loop {
            match self.current().len() {
                0 => return,
                length => self.advance(length),
            }
        }
    }

    /// Fills `target`. The error is the number of missing bytes.
    pub(crate) fn fill(&mut self, mut target: &mut [u8]) -> Result<(), usize> {
        while !target.is_empty() {
            let available = self.current();
            if available.is_empty() {
                return Err(target.len());
            }
            let length = available.len().min(target.len());
            let (now, later) = std::mem::take(&mut target).split_at_mut(length);
            now.copy_from_slice(available.get(..length).unwrap_or(&[]));
            self.advance(length);
            target = later;
        }
        Ok(())
    }
}

impl Reader for &mut Blocks {
    fn read(&mut self, target: &mut [u8]) -> Result<(), DecodeError> {
        self.fill(target).map_err(|additional| DecodeError::UnexpectedEnd { additional })
    }

    fn peek_read(&mut self, length: usize) -> Option<&[u8]> {
        // This peeks only within a block. At the end of a block, bincode reads field by field.
        self.block.get(self.at..self.at.checked_add(length)?)
    }

    fn consume(&mut self, length: usize) {
        self.advance(length);
    }
}

//! Owns the sources of blocks: content that is read from its beginning to its end, of both layouts,
//! and at a pace. Knows nothing of what the content means.

use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, bounded};
use xxhash_rust::xxh3::Xxh3Default;

use super::content::{Content, FirstFailure, Scratch};
use crate::codec::BlockSource;
use crate::files::StoreError;
use crate::files::fields::position;
use crate::mutex::lock;
use crate::storage::Pace;

/// With at least so many chunks before it, a reader lets another thread unpack ahead.
const CHUNKS_WORTH_A_THREAD: u64 = 8;
/// How many unpacked chunks wait between the two threads at most.
const CHUNKS_AHEAD: usize = 4;

/// Reads content whose chunks are packed one by one.
pub(super) struct ChunkSource {
    content: Arc<Content>,
    position: u64,
    /// Where the part that is being read ends, and where the appendix behind it ends.
    ends: (u64, u64),
    scratch: Scratch,
    ahead: Option<Ahead>,
    may_start_threads: bool,
}

/// A thread that unpacks what follows.
struct Ahead {
    /// Where the next block from the thread begins.
    position: u64,
    /// `None` when the thread is to end.
    inbox: Option<Receiver<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.inbox = None;
        // The file may be cut or removed soon, and then nobody may read its map any more. The
        // thread ends after the chunk that it unpacks. A panic there has ended its blocks already.
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl ChunkSource {
    /// Reads all of the content, and then the appendix. It may let another thread unpack ahead.
    pub(super) fn new(
        content: Arc<Content>,
        raw_bytes: u64,
        appendix_bytes: u64,
        may_start_threads: bool,
    ) -> Self {
        let ends = (raw_bytes, raw_bytes.saturating_add(appendix_bytes));
        let scratch = Scratch::default();
        Self { content, position: 0, ends, scratch, ahead: None, may_start_threads }
    }

    /// Starts a thread if much is to be read in one run.
    fn start_ahead(&mut self) -> Option<Ahead> {
        let border = self.content.index.next_border(self.position);
        let (begin, end) = (self.position, border.unwrap_or(self.ends.0).min(self.ends.0));
        let chunk = self.content.index.chunk_at(begin)?;
        let worth = u64::from(chunk.entry.raw_bytes).saturating_mul(CHUNKS_WORTH_A_THREAD);
        if !self.may_start_threads || end - begin < worth {
            return None;
        }
        let (outbox, inbox) = bounded(CHUNKS_AHEAD);
        let content = self.content.clone();
        let unpack = move || {
            let (mut at, mut scratch) = (begin, Scratch::default());
            while at < end {
                match content.unpack_from(at, end, &mut scratch) {
                    Ok(block) => {
                        at += position(block.len());
                        if outbox.send(block).is_err() {
                            return; // the reader went somewhere else
                        }
                    }
                    Err(error) => return content.failure.note(error),
                }
            }
        };
        // Without a thread, the reader unpacks by itself.
        let thread = std::thread::Builder::new().name("prevalence-unpacker".to_owned());
        let thread = thread.spawn(unpack).ok()?;
        Some(Ahead { position: begin, inbox: Some(inbox), thread: Some(thread) })
    }
}

impl BlockSource for ChunkSource {
    fn next_block(&mut self) -> Option<Vec<u8>> {
        if self.position >= self.ends.0 {
            return None;
        }
        if self.ahead.as_ref().is_none_or(|ahead| ahead.position != self.position) {
            self.ahead = self.start_ahead();
        }
        // The thread has ended at its end, or at a failure.
        let unpacked = self.ahead.as_mut().and_then(|ahead| {
            let block = ahead.inbox.as_ref()?.recv().ok()?;
            ahead.position += position(block.len());
            Some(block)
        });
        let block = match unpacked {
            Some(block) => block,
            None => {
                let (begin, end) = (self.position, self.ends.0);
                match self.content.unpack_from(begin, end, &mut self.scratch) {
                    Ok(block) => block,
                    Err(error) => {
                        self.content.failure.note(error);
                        return None;
                    }
                }
            }
        };
        self.position += position(block.len());
        Some(block)
    }

    fn begin_appendix(&mut self) {
        self.position = self.ends.0;
        self.ends.0 = self.ends.1;
    }

    fn seek(&mut self, position: u64) {
        self.position = position;
    }
}

/// Reads content whose chunks are packed one by one as a stream, with one chunk in memory.
pub(super) struct ContentReader {
    content: Arc<Content>,
    position: u64,
    end: u64,
    scratch: Scratch,
    chunk: Vec<u8>,
    /// How many bytes of the chunk were taken.
    taken: usize,
    /// What unpacks on another thread.
    ahead: Option<ChunkSource>,
}

impl ContentReader {
    pub(super) fn new(content: Arc<Content>, begin: u64, end: u64) -> Self {
        let (scratch, chunk) = (Scratch::default(), Vec::new());
        Self { content, position: begin, end, scratch, chunk, taken: 0, ahead: None }
    }

    /// Makes one that lets another thread unpack ahead. Nobody else may read this `Content`.
    pub(super) fn ahead(content: Arc<Content>, begin: u64, end: u64) -> Self {
        let mut source = ChunkSource::new(content.clone(), end, 0, true);
        source.seek(begin);
        Self { ahead: Some(source), ..Self::new(content, begin, end) }
    }

    fn next_chunk(&mut self) -> io::Result<Vec<u8>> {
        match &mut self.ahead {
            None => {
                let unpacked = self.content.unpack_from(self.position, self.end, &mut self.scratch);
                unpacked.map_err(io::Error::other)
            }
            Some(source) => source.next_block().ok_or_else(|| match self.content.failure.take() {
                Some(failure) => io::Error::other(failure),
                None => io::ErrorKind::UnexpectedEof.into(),
            }),
        }
    }
}

impl Read for ContentReader {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.chunk.len() && self.position < self.end {
            self.chunk = self.next_chunk()?;
            self.taken = 0;
            self.position += position(self.chunk.len());
        }
        let rest = self.chunk.get(self.taken..).unwrap_or(&[]);
        let (taken, _) = rest.split_at(rest.len().min(target.len()));
        let (target, _) = target.split_at_mut(taken.len());
        target.copy_from_slice(taken);
        self.taken += taken.len();
        Ok(taken.len())
    }
}

/// Reads content that is one stream.
pub(super) struct StreamSource<'a> {
    pub(super) stream: Box<dyn Read + Send>,
    pub(super) shared: &'a StreamEnd,
    /// How much of this part is left, and how large the appendix is.
    pub(super) left: (u64, u64),
    pub(super) block_bytes: u64,
    pub(super) path: &'a Path,
    pub(super) digest: Option<Box<Xxh3Default>>,
}

/// What the reader of a stream knows at its end.
#[derive(Default)]
pub(super) struct StreamEnd {
    pub(super) failure: FirstFailure,
    /// The digest of the content.
    pub(super) digest: Mutex<Option<[u8; 16]>>,
    /// Whether the file holds more than the header and the footer state.
    pub(super) is_more: Mutex<bool>,
}

impl StreamSource<'_> {
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let length = self.left.0.min(self.block_bytes);
        if length > 0 {
            let mut block = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            self.stream.read_exact(&mut block)?;
            if let Some(digest) = &mut self.digest {
                digest.update(&block);
            }
            self.left.0 -= length;
            return Ok(Some(block));
        }
        if let Some(digest) = self.digest.take() {
            *lock(&self.shared.digest) = Some(digest.digest128().to_le_bytes());
        } else if self.left.1 == 0 && self.stream.read(&mut [0])? > 0 {
            *lock(&self.shared.is_more) = true;
        }
        Ok(None)
    }
}

impl BlockSource for StreamSource<'_> {
    fn next_block(&mut self) -> Option<Vec<u8>> {
        self.read().unwrap_or_else(|error| {
            self.shared.failure.note(StoreError::io("unpack", self.path)(error));
            None
        })
    }

    fn begin_appendix(&mut self) {
        self.left = (self.left.1, 0);
    }

    fn seek(&mut self, _: u64) {}
}

/// A source that keeps a pace, and hands out small blocks, so that their user keeps it, too.
pub(super) struct Paced<'a, S> {
    pub(super) inner: S,
    pub(super) pace: &'a Pace<'a>,
    pub(super) failure: &'a FirstFailure,
    pub(super) path: &'a Path,
    pub(super) block: Vec<u8>,
}

/// The size of a block beside commits.
const TURN_BYTES: usize = 8 << 10;

impl<S: BlockSource> BlockSource for Paced<'_, S> {
    fn next_block(&mut self) -> Option<Vec<u8>> {
        if let Err(error) = self.pace.step() {
            self.failure.note(StoreError::io("unpack", self.path)(error));
            return None;
        }
        if !self.pace.gives_way() {
            return self.inner.next_block();
        }
        if self.block.is_empty() {
            self.block = self.inner.next_block()?;
        }
        let rest = self.block.split_off(self.block.len().min(TURN_BYTES));
        Some(std::mem::replace(&mut self.block, rest))
    }

    fn begin_appendix(&mut self) {
        self.block.clear();
        self.inner.begin_appendix();
    }

    fn seek(&mut self, position: u64) {
        self.block.clear();
        self.inner.seek(position);
    }
}

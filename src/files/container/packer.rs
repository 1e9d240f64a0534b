//! Owns the compression of chunks, one by one, on this thread or on several. Knows nothing of
//! files.

use std::collections::VecDeque;
use std::io;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use xxhash_rust::xxh3::xxh3_64;

use super::index::ChunkEntry;
use super::write::Packing;

/// How many chunks are with each thread at most.
const CHUNKS_PER_THREAD: usize = 2;

/// A chunk that was packed.
pub(super) struct Packed {
    pub(super) entry: ChunkEntry,
    pub(super) bytes: Vec<u8>,
}

/// Packs chunks and gives them back in their order.
pub(super) enum Packer {
    Here(Compressor, VecDeque<Packed>),
    Elsewhere(Threads),
}

impl Packer {
    pub(super) fn new(packing: Packing) -> io::Result<Self> {
        if packing.compression_level == 0 || packing.compression_threads == 0 {
            return Ok(Self::Here(Compressor::new(packing.compression_level)?, VecDeque::new()));
        }
        Threads::new(packing).map(Self::Elsewhere)
    }

    /// Takes a chunk.
    pub(super) fn push(&mut self, raw: Vec<u8>) -> io::Result<()> {
        match self {
            Self::Here(compressor, packed) => packed.push_back(compressor.pack(raw)?),
            Self::Elsewhere(threads) => threads.push(raw)?,
        }
        Ok(())
    }

    /// Returns the next packed chunk. Unless `all` are wanted, it waits for none that the threads
    /// have room for.
    pub(super) fn pop(&mut self, all: bool) -> io::Result<Option<Packed>> {
        match self {
            Self::Here(_, packed) => Ok(packed.pop_front()),
            Self::Elsewhere(threads) => threads.pop(all),
        }
    }
}

pub(super) struct Compressor {
    /// `None` if nothing is to be compressed.
    inner: Option<zstd::bulk::Compressor<'static>>,
    /// How many chunks in a row compression made no smaller.
    failures: u32,
    /// How many chunks are not tried next.
    to_skip: u32,
}

/// After so many chunks that compression made no smaller, it is tried with one chunk of eight:
/// values that do not compress would cost more time than all the rest.
const FAILURES_BEFORE_SKIPPING: u32 = 8;
const SKIPPED: u32 = 7;

impl Compressor {
    fn new(level: i32) -> io::Result<Self> {
        let inner = if level == 0 { None } else { Some(zstd::bulk::Compressor::new(level)?) };
        Ok(Self { inner, failures: 0, to_skip: 0 })
    }

    /// Compresses a chunk; `None` if that is not tried, or makes it no smaller.
    fn compress(&mut self, raw: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let Some(compressor) = &mut self.inner else { return Ok(None) };
        if self.to_skip > 0 {
            self.to_skip -= 1;
            return Ok(None);
        }
        let compressed = Some(compressor.compress(raw)?).filter(|it| it.len() < raw.len());
        self.failures = if compressed.is_some() { 0 } else { self.failures.saturating_add(1) };
        if self.failures >= FAILURES_BEFORE_SKIPPING {
            self.to_skip = SKIPPED;
        }
        Ok(compressed)
    }

    /// Packs a chunk. What compression would make no smaller stays as it is.
    fn pack(&mut self, raw: Vec<u8>) -> io::Result<Packed> {
        let digest = xxh3_64(&raw);
        let raw_bytes = u32::try_from(raw.len()).map_err(io::Error::other)?;
        let bytes = self.compress(&raw)?.unwrap_or(raw);
        let packed_bytes = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let checksum = crc32c::crc32c(&bytes);
        Ok(Packed { entry: ChunkEntry { raw_bytes, packed_bytes, checksum, digest }, bytes })
    }
}

type Job = (Vec<u8>, Sender<io::Result<Packed>>);

/// Threads that pack chunks.
pub(super) struct Threads {
    /// `None` when they are to end.
    jobs: Option<Sender<Job>>,
    /// One for each chunk, in their order.
    results: VecDeque<Receiver<io::Result<Packed>>>,
    most: usize,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    fn new(packing: Packing) -> io::Result<Self> {
        let count = usize::try_from(packing.compression_threads).map_err(io::Error::other)?;
        let most = count * CHUNKS_PER_THREAD;
        let (jobs, inbox) = bounded::<Job>(most);
        let mut threads = Vec::new();
        for _ in 0..count {
            let inbox = inbox.clone();
            let mut compressor = Compressor::new(packing.compression_level)?;
            let pack = move || {
                for (raw, reply) in inbox {
                    // Nobody waits for the result when the file was given up.
                    reply.send(compressor.pack(raw)).ok();
                }
            };
            let thread = std::thread::Builder::new().name("prevalence-packer".to_owned());
            threads.push(thread.spawn(pack)?);
        }
        Ok(Self { jobs: Some(jobs), results: VecDeque::new(), most, threads })
    }

    fn push(&mut self, raw: Vec<u8>) -> io::Result<()> {
        let (reply, result) = bounded(1);
        let gone = || io::Error::other("the threads that compress have ended");
        self.jobs.as_ref().ok_or_else(gone)?.send((raw, reply)).map_err(|_| gone())?;
        self.results.push_back(result);
        Ok(())
    }

    fn pop(&mut self, all: bool) -> io::Result<Option<Packed>> {
        if !all && self.results.len() < self.most {
            return Ok(None);
        }
        let Some(result) = self.results.pop_front() else { return Ok(None) };
        let gone = |_| io::Error::other("a thread that compresses has ended");
        result.recv().map_err(gone)?.map(Some)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.jobs = None;
        self.results.clear();
        for thread in self.threads.drain(..) {
            // It has no result. A panic there has already made `pop` fail.
            thread.join().ok();
        }
    }
}

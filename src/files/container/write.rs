//! Owns making a packed file: it streams, syncs, renames, syncs the directory, reads back and
//! verifies. Never holds more of the content than a few chunks.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3Default;

use super::format::{CHUNK_BYTES, Footer, PACKING_CHUNKS_PLAIN, PACKING_CHUNKS_ZSTD};
use super::index::{ChunkEntry, FooterDigest, Index};
use super::packer::{Packed, Packer};
use super::read::PackedFile;
use crate::codec::Encoding;
use crate::files::fields::position;
use crate::files::header::FileHeader;
use crate::files::{StoreError, exists};
use crate::storage::{Pace, Storage, StoredFile, write_all_at};

/// How much is written with one system call.
pub(super) const WRITTEN_CHUNK_BYTES: usize = CHUNK_BYTES / 2;

/// Content that no part of a collection divides is cut into chunks of half of this size. Small
/// chunks of numbers pack better than large ones, and a thread packs one within its turn.
fn largest_raw_bytes() -> usize {
    size!(32 << 10, small: 128)
}

/// How many bytes are written between two syncs when nobody commits meanwhile. What accumulates in
/// the page cache goes to the disk all at once, and other programs wait for that.
const SYNC_EVERY_BYTES: u64 = 8 << 20;

/// The size of one step of packing, which takes well under a millisecond.
const STEP_BYTES: usize = 8 << 10;

/// Where chunks that are packed one by one end.
pub(crate) enum Cuts<'a> {
    /// Where the parts of collections end that this encoding tells of. A file of changes needs the
    /// digest of its base's footer.
    Parts(&'a Encoding, Option<FooterDigest>),
    /// After so many bytes.
    Every(usize),
}

impl Cuts<'_> {
    /// Returns how many bytes are not left in one piece, and how many of them a chunk takes then.
    fn sizes(&self) -> (usize, usize) {
        match self {
            Self::Parts(..) => (largest_raw_bytes(), largest_raw_bytes() / 2),
            Self::Every(bytes) => (*bytes, *bytes),
        }
    }
}

/// How content is packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packing {
    /// The zstd level; 0 stores the content uncompressed.
    pub(crate) compression_level: i32,
    /// The number of threads that zstd starts; 0 compresses on the calling thread.
    pub(crate) compression_threads: u32,
}

impl Packing {
    /// Returns the code for the file header of chunks that are packed one by one.
    pub(crate) fn chunks_code(self) -> u32 {
        if self.compression_level == 0 { PACKING_CHUNKS_PLAIN } else { PACKING_CHUNKS_ZSTD }
    }
}

/// Why content was not packed.
pub(crate) enum WriteFailure {
    Io(io::Error),
    /// The producer of the content failed, for this reason.
    Content(String),
}

impl From<io::Error> for WriteFailure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Writes what `produce` produces into the packed file `path`. `sequence` and `chain` are the
/// values at the content's end. When this returns `Ok`, the file is durable under its name and was
/// read back and verified. `pace` may slow it down, or end it early with an error.
///
/// Each chunk is packed alone, and an index says where it is. So a reader can begin anywhere, and
/// read with several threads. `cuts` says where chunks end. Behind the content is an appendix,
/// which `append` writes. It is packed and checksummed with the content, but neither counted nor
/// digested. The header's `appendix_bytes` must state its length. Behind the appendix, a file of
/// changes has the scripts of the changes.
#[expect(clippy::too_many_arguments, reason = "all of these describe the file")]
pub(crate) fn write_chunks(
    storage: &dyn Storage,
    path: &Path,
    header: &FileHeader,
    (sequence, chain): (u64, u32),
    packing: Packing,
    pace: &Pace<'_>,
    cuts: &Cuts<'_>,
    produce: impl FnOnce(&mut dyn Write) -> Result<(), WriteFailure>,
    append: impl FnOnce(&mut dyn Write) -> Result<(), WriteFailure>,
) -> Result<PackedFile, StoreError> {
    assert_eq!(header.packing, packing.chunks_code(), "the header states how it is packed");
    let (encoding, base) = match cuts {
        Cuts::Parts(encoding, base) => (Some(*encoding), *base),
        Cuts::Every(_) => (None, None),
    };
    assert_eq!(header.is_change(), base.is_some(), "the header states whether it holds changes");
    publish(storage, path, header, pace, |out| {
        let chunks = IndexedWriter::new(out, packing, encoding, cuts.sizes())?;
        let (chunks, content) = measured(chunks, pace, produce)?;
        let (chunks, appendix) = measured(chunks, pace, append)?;
        assert_eq!(
            appendix.bytes, header.appendix_bytes,
            "the header states the length of the appendix"
        );
        let scripts = encoding.map_or_else(Vec::new, Encoding::take_scripts);
        let write_scripts = |target: &mut dyn Write| {
            Ok(scripts.iter().try_for_each(|script| target.write_all(script))?)
        };
        let (chunks, _) = measured(chunks, pace, write_scripts)?;
        Ok(chunks.finish(base, content.footer((sequence, chain)))?)
    })
}

/// Lets `write` write behind the header, and makes the file durable under its name.
pub(super) fn publish(
    storage: &dyn Storage,
    path: &Path,
    header: &FileHeader,
    pace: &Pace<'_>,
    write: impl FnOnce(Output<'_>) -> Result<(), WriteFailure>,
) -> Result<PackedFile, StoreError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let encode_error =
        |reason: String| StoreError::Encode { what: path.display().to_string(), reason };
    let begin = header.encode().ok_or_else(|| encode_error("its header is too long".to_owned()))?;
    let temporary = storage.create_temporary(directory).map_err(StoreError::io("create", path))?;
    let file = temporary.file();
    write_all_at(&*file, &begin, 0).map_err(StoreError::io("write", path))?;
    let output = Output::new(file.clone(), pace, position(begin.len()));
    write(output).map_err(|failure| match failure {
        WriteFailure::Io(error) => StoreError::io("write", path)(error),
        WriteFailure::Content(reason) => encode_error(reason),
    })?;
    if !fault!(SnapshotNotSynced) {
        file.sync_all().map_err(StoreError::io("sync", path))?;
    }
    let replaces = exists(storage, path)?;
    temporary.publish(path).map_err(StoreError::io("rename a new file to", path))?;
    let verified = verify(storage, path, header.magic, pace);
    if verified.is_err() && !replaces {
        // Nothing names this file yet, and it takes room. The caller gets the first error.
        storage.remove(path).and_then(|()| storage.sync_directory(directory)).ok();
    }
    verified
}

/// Makes the file's name durable and reads it back.
fn verify(
    storage: &dyn Storage,
    path: &Path,
    magic: [u8; 8],
    pace: &Pace<'_>,
) -> Result<PackedFile, StoreError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    if !fault!(NoDirectorySyncAfterSnapshot) {
        storage.sync_directory(directory).map_err(StoreError::io("sync directory", directory))?;
    }
    // It is not mapped: a large file in the page cache would count as this process's memory.
    let written = PackedFile::open_beside_others(storage, path, magic)?;
    written.verify_content(pace)?;
    Ok(written)
}

/// The size and the digest of what was written, before packing.
pub(super) struct Content {
    bytes: u64,
    digest: Box<Xxh3Default>,
}

impl Content {
    /// Makes the footer. The size of the chunks is known once the last one was written.
    pub(super) fn footer(&self, (sequence, chain): (u64, u32)) -> Footer {
        Footer {
            sequence,
            raw_bytes: self.bytes,
            packed_bytes: 0,
            digest: self.digest.digest128().to_le_bytes(),
            chain,
        }
    }
}

/// Lets `produce` write into `target`, through a buffer, and digests what it writes.
pub(super) fn measured<W: Write>(
    target: W,
    pace: &Pace<'_>,
    produce: impl FnOnce(&mut dyn Write) -> Result<(), WriteFailure>,
) -> Result<(W, Content), WriteFailure> {
    let content = Content { bytes: 0, digest: Box::default() };
    let measured = Measured { inner: target, content, pace };
    let mut buffered = BufWriter::with_capacity(STEP_BYTES, measured);
    produce(&mut buffered)?;
    let Measured { inner, content, .. } =
        buffered.into_inner().map_err(|error| error.into_error())?;
    Ok((inner, content))
}

/// A writer that counts and digests what passes through, at the given pace.
struct Measured<'a, W> {
    inner: W,
    content: Content,
    pace: &'a Pace<'a>,
}

impl<W: Write> Write for Measured<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The pace is not kept chunk by chunk, because much content may pack into one chunk.
        self.pace.step()?;
        // A large write bypasses the buffer, so this takes only one step of it.
        let (bytes, _) = bytes.split_at(bytes.len().min(STEP_BYTES));
        self.inner.write_all(bytes)?;
        self.content.digest.update(bytes);
        self.content.bytes += position(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The file that is being written.
pub(super) struct Output<'a> {
    file: Arc<dyn StoredFile>,
    pace: &'a Pace<'a>,
    /// What is not yet written, so that small chunks need no system calls of their own.
    buffer: Vec<u8>,
    /// Where the buffer belongs.
    position: u64,
    synced: u64,
}

impl<'a> Output<'a> {
    fn new(file: Arc<dyn StoredFile>, pace: &'a Pace<'a>, position: u64) -> Self {
        Self { file, pace, buffer: Vec::new(), position, synced: 0 }
    }

    fn flush(&mut self) -> io::Result<()> {
        write_all_at(&*self.file, &self.buffer, self.position)?;
        self.position += position(self.buffer.len());
        self.buffer.clear();
        Ok(())
    }

    /// Writes a chunk behind its length and its checksum.
    pub(super) fn write_chunk(&mut self, checksum: u32, chunk: &[u8]) -> io::Result<()> {
        let length = u32::try_from(chunk.len()).map_err(io::Error::other)?;
        self.buffer.extend_from_slice(&length.to_le_bytes());
        self.buffer.extend_from_slice(&checksum.to_le_bytes());
        self.buffer.extend_from_slice(chunk);
        if self.buffer.len() < WRITTEN_CHUNK_BYTES {
            return Ok(());
        }
        self.flush()?;
        if self.position - self.synced >= self.pace.piece_bytes(SYNC_EVERY_BYTES) {
            self.file.sync_data()?;
            self.synced = self.position;
            self.pace.rest()?;
        }
        Ok(())
    }

    /// Writes what follows the last chunk.
    pub(super) fn finish(&mut self, end: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(end);
        self.flush()
    }
}

/// A writer that cuts content into chunks, packs each of them alone, and lists them in the index.
struct IndexedWriter<'a> {
    output: Output<'a>,
    encoding: Option<&'a Encoding>,
    /// From so many bytes on, a chunk of so many is cut.
    sizes: (usize, usize),
    packer: Packer,
    /// What is not yet in a chunk.
    raw: Vec<u8>,
    /// The position of that in the content.
    raw_begin: u64,
    entries: Vec<ChunkEntry>,
    packed_bytes: u64,
}

impl<'a> IndexedWriter<'a> {
    fn new(
        output: Output<'a>,
        packing: Packing,
        encoding: Option<&'a Encoding>,
        sizes: (usize, usize),
    ) -> io::Result<Self> {
        assert!((1..=CHUNK_BYTES).contains(&sizes.1), "the reader would refuse these chunks");
        Ok(Self {
            output,
            encoding,
            sizes,
            packer: Packer::new(packing)?,
            raw: Vec::with_capacity(sizes.0 + STEP_BYTES),
            raw_begin: 0,
            entries: Vec::new(),
            packed_bytes: 0,
        })
    }

    /// Makes a chunk of the first `length` bytes.
    fn cut(&mut self, length: usize) -> io::Result<()> {
        let rest = self.raw.split_off(length.min(self.raw.len()));
        let raw = std::mem::replace(&mut self.raw, rest);
        if raw.is_empty() {
            return Ok(());
        }
        self.raw_begin += position(raw.len());
        self.packer.push(raw)?;
        self.write_packed(false)
    }

    fn write_packed(&mut self, all: bool) -> io::Result<()> {
        while let Some(Packed { entry, bytes }) = self.packer.pop(all)? {
            self.output.write_chunk(entry.checksum, &bytes)?;
            self.packed_bytes += position(bytes.len());
            self.entries.push(entry);
        }
        Ok(())
    }

    fn finish(mut self, base: Option<FooterDigest>, footer: Footer) -> io::Result<()> {
        self.cut(usize::MAX)?;
        self.write_packed(true)?;
        let footer = Footer { packed_bytes: self.packed_bytes, ..footer };
        let extents = self.encoding.map_or_else(Vec::new, Encoding::take_extents);
        self.output.finish(&Index::encode(&self.entries, &extents, base, &footer)?)
    }
}

impl Write for IndexedWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (bytes, _) = bytes.split_at(bytes.len().min(STEP_BYTES));
        self.raw.extend_from_slice(bytes);
        let end = self.raw_begin + position(self.raw.len());
        while let Some(end) = self.encoding.and_then(|encoding| encoding.take_end(end)) {
            let length = end.saturating_sub(self.raw_begin);
            self.cut(usize::try_from(length).map_err(io::Error::other)?)?;
        }
        // No part ends here soon: what is encoded has large values, or is no collection of ours.
        let (most, piece) = self.sizes;
        while self.raw.len() >= most {
            self.cut(piece)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // `finish` writes the last chunk
    }
}

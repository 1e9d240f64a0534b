//! Owns making a packed file: it streams, syncs, renames, syncs the directory, reads back and
//! verifies. Never holds more of the content than a few chunks.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3Default;

use super::format::{CHUNK_BYTES, Footer, PACKING_PLAIN, PACKING_ZSTD};
use super::read::PackedFile;
use crate::files::fields::position;
use crate::files::header::FileHeader;
use crate::files::{StoreError, exists};
use crate::storage::{Pace, Storage, StoredFile, write_all_at};

/// The size of the chunks that are written. It is half the size that may be read.
const WRITTEN_CHUNK_BYTES: usize = CHUNK_BYTES / 2;

/// How many bytes are written between two syncs when nobody commits meanwhile. What accumulates in
/// the page cache goes to the disk all at once, and other programs wait for that.
const SYNC_EVERY_BYTES: u64 = 8 << 20;

/// The size of one step of packing, which takes well under a millisecond.
const STEP_BYTES: usize = 8 << 10;

/// How content is packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packing {
    /// The zstd level; 0 stores the content uncompressed.
    pub(crate) compression_level: i32,
    /// The number of threads that zstd starts; 0 compresses on the calling thread.
    pub(crate) compression_threads: u32,
}

impl Packing {
    /// Returns the code for the file header.
    pub(crate) fn code(self) -> u32 {
        if self.compression_level == 0 { PACKING_PLAIN } else { PACKING_ZSTD }
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
pub(crate) fn write_packed(
    storage: &dyn Storage,
    path: &Path,
    header: &FileHeader,
    (sequence, chain): (u64, u32),
    packing: Packing,
    pace: &Pace<'_>,
    produce: impl FnOnce(&mut dyn Write) -> Result<(), WriteFailure>,
) -> Result<PackedFile, StoreError> {
    write_packed_with(storage, path, header, (sequence, chain), packing, pace, produce, |_| Ok(()))
}

/// Writes as [`write_packed`], with an appendix behind the content. The appendix is packed and
/// checksummed with the content, but neither counted nor digested. The header's `appendix_bytes`
/// must state its length.
#[expect(clippy::too_many_arguments, reason = "all of these describe the file")]
pub(crate) fn write_packed_with(
    storage: &dyn Storage,
    path: &Path,
    header: &FileHeader,
    (sequence, chain): (u64, u32),
    packing: Packing,
    pace: &Pace<'_>,
    produce: impl FnOnce(&mut dyn Write) -> Result<(), WriteFailure>,
    append: impl FnOnce(&mut dyn Write) -> Result<(), WriteFailure>,
) -> Result<PackedFile, StoreError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let encode_error =
        |reason: String| StoreError::Encode { what: path.display().to_string(), reason };
    let begin = header.encode().ok_or_else(|| encode_error("its header is too long".to_owned()))?;
    let temporary = storage.create_temporary(directory).map_err(StoreError::io("create", path))?;
    let file = temporary.file();
    write_all_at(&*file, &begin, 0).map_err(StoreError::io("write", path))?;
    let chunks = ChunkWriter::new(file.clone(), position(begin.len()), pace);
    let (mut chunks, content, appendix_bytes) = pack(chunks, packing, pace, produce, append)
        .map_err(|failure| match failure {
            WriteFailure::Io(error) => StoreError::io("write", path)(error),
            WriteFailure::Content(reason) => encode_error(reason),
        })?;
    assert_eq!(
        appendix_bytes, header.appendix_bytes,
        "the header states the length of the appendix"
    );
    let footer = Footer {
        sequence,
        raw_bytes: content.bytes,
        packed_bytes: 0, // known once the last chunk was written
        digest: content.digest.digest128().to_le_bytes(),
        chain,
    };
    chunks.finish(footer).map_err(StoreError::io("write", path))?;
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
    let written = PackedFile::open(storage, path, magic)?;
    written.verify_content(pace)?;
    Ok(written)
}

/// The size and the digest of what was written, before packing.
struct Content {
    bytes: u64,
    digest: Box<Xxh3Default>,
}

fn pack<'a>(
    chunks: ChunkWriter<'a>,
    packing: Packing,
    pace: &'a Pace<'a>,
    produce: impl FnOnce(&mut dyn Write) -> Result<(), WriteFailure>,
    append: impl FnOnce(&mut dyn Write) -> Result<(), WriteFailure>,
) -> Result<(ChunkWriter<'a>, Content, u64), WriteFailure> {
    if packing.code() == PACKING_PLAIN {
        let (chunks, content) = measured(chunks, pace, produce)?;
        let (chunks, appendix) = measured(chunks, pace, append)?;
        Ok((chunks, content, appendix.bytes))
    } else {
        let mut packer = zstd::Encoder::new(chunks, packing.compression_level)?;
        if packing.compression_threads > 0 {
            packer.multithread(packing.compression_threads)?;
        }
        let (packer, content) = measured(packer, pace, produce)?;
        let (packer, appendix) = measured(packer, pace, append)?;
        Ok((packer.finish()?, content, appendix.bytes))
    }
}

/// Lets `produce` write into `target`, through a buffer, and digests what it writes.
fn measured<W: Write>(
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

/// A writer that cuts the packed stream into chunks and writes each chunk once it is full.
struct ChunkWriter<'a> {
    file: Arc<dyn StoredFile>,
    pace: &'a Pace<'a>,
    position: u64,
    synced: u64,
    chunk: Vec<u8>,
    checksum: u32,
    packed_bytes: u64,
}

impl<'a> ChunkWriter<'a> {
    fn new(file: Arc<dyn StoredFile>, position: u64, pace: &'a Pace<'a>) -> Self {
        let chunk = Vec::with_capacity(WRITTEN_CHUNK_BYTES);
        Self { file, pace, position, synced: 0, chunk, checksum: 0, packed_bytes: 0 }
    }

    fn write_chunk(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        self.checksum = crc32c::crc32c_append(self.checksum, &self.chunk);
        let length = u32::try_from(self.chunk.len()).map_err(io::Error::other)?;
        let mut header = length.to_le_bytes().to_vec();
        header.extend_from_slice(&self.checksum.to_le_bytes());
        write_all_at(&*self.file, &header, self.position)?;
        self.position += position(header.len());
        write_all_at(&*self.file, &self.chunk, self.position)?;
        self.position += u64::from(length);
        self.packed_bytes += u64::from(length);
        self.chunk.clear();
        if self.position - self.synced >= self.pace.piece_bytes(SYNC_EVERY_BYTES) {
            self.file.sync_data()?;
            self.synced = self.position;
            self.pace.rest()?;
        }
        Ok(())
    }

    fn finish(&mut self, footer: Footer) -> io::Result<()> {
        self.write_chunk()?;
        let footer = Footer { packed_bytes: self.packed_bytes, ..footer };
        write_all_at(&*self.file, &footer.encode(self.checksum), self.position)
    }
}

impl Write for ChunkWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.len() == WRITTEN_CHUNK_BYTES {
            self.write_chunk()?;
        }
        let room = WRITTEN_CHUNK_BYTES - self.chunk.len();
        let (taken, _) = bytes.split_at(bytes.len().min(room));
        self.chunk.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // chunks are cut only by size; `finish` writes the last one
    }
}

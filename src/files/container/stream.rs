//! Owns writing packed files as early versions did: one stream, which is cut into chunks. Only
//! tests write so, to prove that such files can still be read.

use std::io::{self, Write};
use std::path::Path;

use super::format::{Footer, PACKING_PLAIN, PACKING_ZSTD};
use super::read::PackedFile;
use super::write::{Output, Packing, WRITTEN_CHUNK_BYTES, WriteFailure, measured, publish};
use crate::files::StoreError;
use crate::files::fields::position;
use crate::files::header::FileHeader;
use crate::storage::{Pace, Storage};

impl Packing {
    /// Returns the code for the file header of a stream.
    pub(crate) fn code(self) -> u32 {
        if self.compression_level == 0 { PACKING_PLAIN } else { PACKING_ZSTD }
    }
}

/// Writes what `produce` produces into the packed file `path`, as one stream. Otherwise
/// as [`write_chunks`](super::write_chunks), without an appendix.
pub(crate) fn write_packed(
    storage: &dyn Storage,
    path: &Path,
    header: &FileHeader,
    (sequence, chain): (u64, u32),
    packing: Packing,
    pace: &Pace<'_>,
    produce: impl FnOnce(&mut dyn Write) -> Result<(), WriteFailure>,
) -> Result<PackedFile, StoreError> {
    publish(storage, path, header, pace, |out| {
        let chunks = ChunkWriter::new(out);
        let (mut chunks, content) = if packing.code() == PACKING_PLAIN {
            measured(chunks, pace, produce)?
        } else {
            let mut packer = zstd::Encoder::new(chunks, packing.compression_level)?;
            if packing.compression_threads > 0 {
                packer.multithread(packing.compression_threads)?;
            }
            let (packer, content) = measured(packer, pace, produce)?;
            (packer.finish()?, content)
        };
        Ok(chunks.finish(content.footer((sequence, chain)))?)
    })
}

/// A writer that cuts the packed stream into chunks and writes each chunk once it is full.
struct ChunkWriter<'a> {
    output: Output<'a>,
    chunk: Vec<u8>,
    checksum: u32,
    packed_bytes: u64,
}

impl<'a> ChunkWriter<'a> {
    fn new(output: Output<'a>) -> Self {
        let chunk = Vec::with_capacity(WRITTEN_CHUNK_BYTES);
        Self { output, chunk, checksum: 0, packed_bytes: 0 }
    }

    fn write_chunk(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        self.checksum = crc32c::crc32c_append(self.checksum, &self.chunk);
        self.output.write_chunk(self.checksum, &self.chunk)?;
        self.packed_bytes += position(self.chunk.len());
        self.chunk.clear();
        Ok(())
    }

    fn finish(&mut self, footer: Footer) -> io::Result<()> {
        self.write_chunk()?;
        let footer = Footer { packed_bytes: self.packed_bytes, ..footer };
        let mut end = 0_u32.to_le_bytes().to_vec(); // the end mark: no further chunk
        end.append(&mut footer.encode(self.checksum));
        self.output.finish(&end)
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

//! Owns making a snapshot: stream, sync, rename, sync the directory, read back and verify. Never
//! holds more of the encoding than a few chunks.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use xxhash_rust::xxh3::Xxh3Default;

use super::format::{CHUNK_BYTES, Footer, PACKING_PLAIN, PACKING_ZSTD};
use super::read::SnapshotFile;
use super::snapshot_path;
use crate::codec;
use crate::error::Error;
use crate::fields::position;
use crate::header::FileHeader;
use crate::storage::{Storage, StoredFile, write_all_at};

/// How snapshots are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SnapshotOptions {
    /// zstd level; 0 stores the encoding as it is.
    pub(crate) compression_level: i32,
}

impl SnapshotOptions {
    pub(crate) fn packing(self) -> u32 {
        if self.compression_level == 0 { PACKING_PLAIN } else { PACKING_ZSTD }
    }
}

/// Writes `model` as the snapshot that `header` describes. When it returns `Ok`, the snapshot is
/// durable under its name and was read back and verified.
pub(crate) fn write_snapshot<T: Serialize>(
    storage: &dyn Storage,
    snapshot_directory: &Path,
    header: &FileHeader,
    model: &T,
    options: SnapshotOptions,
) -> Result<PathBuf, Error> {
    let path = snapshot_path(snapshot_directory, header.sequence);
    let begin = header.encode().ok_or_else(|| Error::Encode {
        what: format!("the header of {}", path.display()),
        reason: "the model's name is too long".to_owned(),
    })?;
    let temporary =
        storage.create_temporary(snapshot_directory).map_err(Error::io("create", &path))?;
    let file = temporary.file();
    write_all_at(&*file, &begin, 0).map_err(Error::io("write", &path))?;
    let chunks = ChunkWriter::new(file.clone(), position(begin.len()));
    let written = write_model(chunks, model, options);
    let (mut chunks, raw) = written.map_err(|failure| match failure {
        Failure::Io(error) => Error::io("write", &path)(error),
        Failure::Encode(reason) => Error::Encode { what: "the model".to_owned(), reason },
    })?;
    let footer = Footer {
        sequence: header.sequence,
        raw_bytes: raw.bytes,
        packed_bytes: chunks.packed_bytes,
        digest: raw.digest.digest128().to_le_bytes(),
        chain: header.chain,
    };
    chunks.finish(&footer).map_err(Error::io("write", &path))?;
    file.sync_all().map_err(Error::io("sync", &path))?;
    temporary.publish(&path).map_err(Error::io("rename a new snapshot to", &path))?;
    storage
        .sync_directory(snapshot_directory)
        .map_err(Error::io("sync directory", snapshot_directory))?;
    SnapshotFile::open(storage, snapshot_directory, header.sequence)?;
    Ok(path)
}

enum Failure {
    Io(io::Error),
    Encode(String),
}

/// What went through before packing.
struct Raw {
    bytes: u64,
    digest: Box<Xxh3Default>,
}

fn write_model<T: Serialize>(
    chunks: ChunkWriter,
    model: &T,
    options: SnapshotOptions,
) -> Result<(ChunkWriter, Raw), Failure> {
    let raw = Raw { bytes: 0, digest: Box::default() };
    if options.packing() == PACKING_PLAIN {
        let mut target = Measured { inner: chunks, raw, failed: None };
        target.encode(model)?;
        Ok((target.inner, target.raw))
    } else {
        let packer = zstd::Encoder::new(chunks, options.compression_level).map_err(Failure::Io)?;
        let buffered = io::BufWriter::with_capacity(CHUNK_BYTES, packer);
        let mut target = Measured { inner: buffered, raw, failed: None };
        target.encode(model)?;
        let packer = target.inner.into_inner().map_err(|e| Failure::Io(e.into_error()))?;
        Ok((packer.finish().map_err(Failure::Io)?, target.raw))
    }
}

/// Counts and digests what passes through, and keeps the I/O error that the codec would wrap.
struct Measured<W> {
    inner: W,
    raw: Raw,
    failed: Option<io::Error>,
}

impl<W: Write> Measured<W> {
    fn encode<T: Serialize>(&mut self, model: &T) -> Result<(), Failure> {
        match codec::encode_stream(model, self) {
            Ok(()) => Ok(()),
            Err(error) => Err(match self.failed.take() {
                Some(io_error) => Failure::Io(io_error),
                None => Failure::Encode(error.to_string()),
            }),
        }
    }
}

impl<W: Write> Write for Measured<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.inner.write_all(bytes) {
            Ok(()) => {
                self.raw.digest.update(bytes);
                self.raw.bytes += position(bytes.len());
                Ok(bytes.len())
            }
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Cuts the packed stream into chunks and writes each as it fills.
struct ChunkWriter {
    file: Arc<dyn StoredFile>,
    position: u64,
    chunk: Vec<u8>,
    checksum: u32,
    packed_bytes: u64,
}

impl ChunkWriter {
    fn new(file: Arc<dyn StoredFile>, position: u64) -> Self {
        let chunk = Vec::with_capacity(CHUNK_BYTES);
        Self { file, position, chunk, checksum: 0, packed_bytes: 0 }
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
        Ok(())
    }

    fn finish(&mut self, footer: &Footer) -> io::Result<()> {
        let footer = Footer {
            packed_bytes: self.packed_bytes + position(self.chunk.len()),
            ..footer.clone()
        };
        self.write_chunk()?;
        let end = footer.encode(self.checksum);
        write_all_at(&*self.file, &end, self.position)
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.len() == CHUNK_BYTES {
            self.write_chunk()?;
        }
        let room = CHUNK_BYTES - self.chunk.len();
        let (taken, _) = bytes.split_at(bytes.len().min(room));
        self.chunk.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // chunks are cut by size alone; `finish` writes the last one
    }
}

//! Owns the layout of a packed file behind its header: chunks, then a footer. Knows nothing of what
//! the chunks unpack to.
//!
//! ```text
//! chunk   0 length u32         1 ..= CHUNK_BYTES
//!         4 checksum u32       CRC-32C of the bytes, continuing that of the chunk before
//!         8 bytes
//! end     0 length u32         0
//! footer  0 magic "PREVSEND"
//!         8 sequence u64
//!        16 raw bytes u64      size of the content before packing
//!        24 packed bytes u64   size of all chunks' bytes
//!        32 digest [16]        XXH3-128 of the content before packing
//!        48 chain u32          the journal's chain value at `sequence`
//!        52 checksum u32       CRC-32C of footer bytes 0..52, continuing that of the last chunk
//! ```

use std::path::Path;
use std::sync::Arc;

use crate::files::StoreError;
use crate::files::fields::{FieldReader, position};
use crate::storage::{ReadableFile, read_up_to};

/// Both ends buffer one chunk, so this bounds their memory.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;
pub(crate) const CHUNK_HEADER_BYTES: usize = 8;
pub(super) const FOOTER_MAGIC: [u8; 8] = *b"PREVSEND";
const FOOTER_COVERED_BYTES: usize = 52;
pub(super) const FOOTER_BYTES: usize = FOOTER_COVERED_BYTES + 4;

/// The codes in the file header for one stream that is cut into chunks, plain or compressed.
pub(crate) const PACKING_PLAIN: u32 = 0;
pub(crate) const PACKING_ZSTD: u32 = 1;
/// The codes for chunks that are packed one by one, with an index.
pub(crate) const PACKING_CHUNKS_PLAIN: u32 = 2;
pub(crate) const PACKING_CHUNKS_ZSTD: u32 = 3;

/// The end of a packed file, which states what the chunks before it must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) sequence: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) packed_bytes: u64,
    pub(crate) digest: [u8; 16],
    pub(crate) chain: u32,
}

impl Footer {
    /// Encodes the footer; `checksum` is that of what stands before it.
    pub(crate) fn encode(&self, checksum: u32) -> Vec<u8> {
        let mut footer = Vec::with_capacity(FOOTER_COVERED_BYTES + 8);
        footer.extend_from_slice(&FOOTER_MAGIC);
        footer.extend_from_slice(&self.sequence.to_le_bytes());
        footer.extend_from_slice(&self.raw_bytes.to_le_bytes());
        footer.extend_from_slice(&self.packed_bytes.to_le_bytes());
        footer.extend_from_slice(&self.digest);
        footer.extend_from_slice(&self.chain.to_le_bytes());
        debug_assert_eq!(footer.len(), FOOTER_COVERED_BYTES);
        let checksum = crc32c::crc32c_append(checksum, &footer);
        footer.extend_from_slice(&checksum.to_le_bytes());
        footer
    }

    /// Decodes the footer at `at` of a file, without the end mark before it. Its checksum continues
    /// `checksum`.
    pub(super) fn decode(
        path: &Path,
        at: u64,
        bytes: &[u8],
        checksum: u32,
    ) -> Result<Self, StoreError> {
        let mut fields = FieldReader::new(bytes);
        let mut parse = || {
            let magic = fields.array::<8>()?;
            let footer = Self {
                sequence: fields.u64()?,
                raw_bytes: fields.u64()?,
                packed_bytes: fields.u64()?,
                digest: fields.array()?,
                chain: fields.u32()?,
            };
            Some((magic, footer, fields.u32()?))
        };
        let cut = || StoreError::corrupt(path, at, "a whole footer", "the file's end");
        let (magic, footer, stored) = parse().ok_or_else(cut)?;
        let covered = bytes.get(..FOOTER_COVERED_BYTES).ok_or_else(cut)?;
        let computed = crc32c::crc32c_append(checksum, covered);
        if magic != FOOTER_MAGIC || stored != computed {
            let expected = format!("a footer with checksum {computed:08x}");
            return Err(StoreError::corrupt(path, at, expected, format!("{stored:08x}")));
        }
        Ok(footer)
    }
}

/// The chunks of an open file.
pub(crate) struct Chunks {
    path: Arc<Path>,
    file: Arc<dyn ReadableFile>,
    position: u64,
    checksum: u32,
    packed_bytes: u64,
    chunk: Vec<u8>,
}

impl Chunks {
    /// Makes a reader of chunks; `begin` is where the header ends.
    pub(crate) fn new(path: Arc<Path>, file: Arc<dyn ReadableFile>, begin: u64) -> Self {
        Self { path, file, position: begin, checksum: 0, packed_bytes: 0, chunk: Vec::new() }
    }

    /// Reads and verifies the next chunk; `None` at the end mark.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<&[u8]>, StoreError> {
        let length = FieldReader::new(&self.bytes::<4>(0)?).length().ok_or_else(|| self.cut())?;
        if length == 0 {
            self.chunk.clear();
            return Ok(None);
        }
        if length > CHUNK_BYTES {
            let expected = format!("a chunk of at most {CHUNK_BYTES} bytes");
            return Err(StoreError::corrupt(
                &self.path,
                self.position,
                expected,
                length.to_string(),
            ));
        }
        let stored = u32::from_le_bytes(self.bytes(4)?);
        self.chunk.resize(length, 0);
        let begin = self.position + position(CHUNK_HEADER_BYTES);
        let read = read_up_to(&*self.file, &mut self.chunk, begin)
            .map_err(StoreError::io("read", &self.path))?;
        if read < length {
            return Err(self.cut());
        }
        let computed = crc32c::crc32c_append(self.checksum, &self.chunk);
        if stored != computed {
            let expected = format!("chunk checksum {computed:08x}");
            let at = self.position + 4;
            return Err(StoreError::corrupt(&self.path, at, expected, format!("{stored:08x}")));
        }
        self.checksum = computed;
        self.position = begin + position(length);
        self.packed_bytes += position(length);
        Ok(Some(&self.chunk))
    }

    /// Returns the chunk that was read last.
    pub(crate) fn current(&self) -> &[u8] {
        &self.chunk
    }

    /// Reads and verifies the footer, after the end mark was reached. Nothing may follow it.
    pub(crate) fn footer(self) -> Result<Footer, StoreError> {
        let at = self.position + 4;
        let whole = self.bytes::<FOOTER_BYTES>(4)?;
        let footer = Footer::decode(&self.path, at, &whole, self.checksum)?;
        if footer.packed_bytes != self.packed_bytes {
            let expected = format!("chunks of {} bytes together", footer.packed_bytes);
            let found = self.packed_bytes.to_string();
            return Err(StoreError::corrupt(&self.path, at + 24, expected, found));
        }
        let after = at + position(FOOTER_BYTES);
        if self.file.length() > after {
            let found = format!("{} more bytes", self.file.length() - after);
            return Err(StoreError::corrupt(&self.path, after, "the file's end", found));
        }
        Ok(footer)
    }

    /// Reads bytes that begin `offset` bytes after the current position.
    fn bytes<const N: usize>(&self, offset: u64) -> Result<[u8; N], StoreError> {
        let mut bytes = [0; N];
        let read = read_up_to(&*self.file, &mut bytes, self.position + offset)
            .map_err(StoreError::io("read", &self.path))?;
        if read == N { Ok(bytes) } else { Err(self.cut()) }
    }

    fn cut(&self) -> StoreError {
        let end = self.file.length();
        StoreError::corrupt(&self.path, end, "the rest of the file", "the file's end")
    }
}

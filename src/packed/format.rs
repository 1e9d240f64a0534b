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

use crate::error::Error;
use crate::fields::{FieldReader, position};

/// Both ends buffer one chunk, so this bounds their memory.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;
pub(crate) const CHUNK_HEADER_BYTES: usize = 8;
const FOOTER_MAGIC: [u8; 8] = *b"PREVSEND";
const FOOTER_COVERED_BYTES: usize = 52;

/// How chunks are packed, as the file header says it.
pub(crate) const PACKING_PLAIN: u32 = 0;
pub(crate) const PACKING_ZSTD: u32 = 1;

/// The end of a packed file: what the chunks before it must come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) sequence: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) packed_bytes: u64,
    pub(crate) digest: [u8; 16],
    pub(crate) chain: u32,
}

impl Footer {
    /// The end mark and the footer; `checksum` is that of the last chunk.
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
        let mut bytes = 0u32.to_le_bytes().to_vec();
        bytes.append(&mut footer);
        bytes
    }
}

/// The chunks of a file whose bytes are at hand.
pub(crate) struct Chunks<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    position: usize,
    checksum: u32,
    packed_bytes: u64,
}

impl<'a> Chunks<'a> {
    /// `begin`: where the header ends.
    pub(crate) fn new(path: &'a Path, bytes: &'a [u8], begin: usize) -> Self {
        Self { path, bytes, position: begin, checksum: 0, packed_bytes: 0 }
    }

    /// The next chunk, verified; `None` at the end mark.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<&'a [u8]>, Error> {
        let rest = self.bytes.get(self.position..).unwrap_or(&[]);
        let mut fields = FieldReader::new(rest);
        let length = fields.length().ok_or_else(|| self.cut())?;
        if length == 0 {
            return Ok(None);
        }
        if length > CHUNK_BYTES {
            let expected = format!("a chunk of at most {CHUNK_BYTES} bytes");
            let at = position(self.position);
            return Err(Error::corrupt(self.path, at, expected, length.to_string()));
        }
        let stored = fields.u32().ok_or_else(|| self.cut())?;
        let chunk = fields.bytes(length).ok_or_else(|| self.cut())?;
        let computed = crc32c::crc32c_append(self.checksum, chunk);
        if stored != computed {
            let at = position(self.position + 4);
            let expected = format!("chunk checksum {computed:08x}");
            return Err(Error::corrupt(self.path, at, expected, format!("{stored:08x}")));
        }
        self.checksum = computed;
        self.position += CHUNK_HEADER_BYTES + length;
        self.packed_bytes += position(length);
        Ok(Some(chunk))
    }

    /// The footer, verified, once the end mark was reached. Nothing may follow it.
    pub(crate) fn footer(self) -> Result<Footer, Error> {
        let at = self.position + 4;
        let rest = self.bytes.get(at..).unwrap_or(&[]);
        let mut fields = FieldReader::new(rest);
        let mut parse = || {
            let magic = fields.array::<8>()?;
            let footer = Footer {
                sequence: fields.u64()?,
                raw_bytes: fields.u64()?,
                packed_bytes: fields.u64()?,
                digest: fields.array()?,
                chain: fields.u32()?,
            };
            Some((magic, footer, fields.u32()?, fields.position()))
        };
        let (magic, footer, stored, length) = parse().ok_or_else(|| self.cut())?;
        let covered = rest.get(..FOOTER_COVERED_BYTES).ok_or_else(|| self.cut())?;
        let computed = crc32c::crc32c_append(self.checksum, covered);
        if magic != FOOTER_MAGIC || stored != computed {
            let expected = format!("a footer with checksum {computed:08x}");
            let found = format!("{stored:08x}");
            return Err(Error::corrupt(self.path, position(at), expected, found));
        }
        if footer.packed_bytes != self.packed_bytes {
            let expected = format!("chunks of {} bytes together", footer.packed_bytes);
            let found = self.packed_bytes.to_string();
            return Err(Error::corrupt(self.path, position(at + 24), expected, found));
        }
        if rest.len() != length {
            let after = position(at + length);
            let found = format!("{} more bytes", rest.len() - length);
            return Err(Error::corrupt(self.path, after, "the file's end", found));
        }
        Ok(footer)
    }

    fn cut(&self) -> Error {
        let end = position(self.bytes.len());
        Error::corrupt(self.path, end, "the rest of the file", "the file's end")
    }
}

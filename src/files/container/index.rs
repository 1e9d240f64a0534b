//! Owns the index of a packed file whose chunks are packed one by one: where each chunk is, what it
//! unpacks to, and where the parts of large collections begin. Knows nothing of what is encoded.
//!
//! ```text
//! index   0 chunks u32
//!           then for each chunk
//!             raw length u32      size before packing
//!             packed length u32   the same size if the chunk is not compressed
//!             checksum u32        CRC-32C of the packed bytes
//!             digest u64          XXH3-64 of the bytes before packing
//!           extents u32
//!           then for each extent
//!             begin u64           position of the first entry in the content
//!             parts u32
//!             then for each part
//!               bytes u64
//!               entries u64
//!           then, if the header names another snapshot as base:
//!             base 16 bytes       XXH3-128 of the base's footer
//!             changes u32
//!             then for each extent whose parts hold only what is new, in their order
//!               extent u32        its number
//!               of u32            the number of the same collection among the base's extents
//!               script bytes u64  size of its script, behind the appendix
//!           then, but not in files of early versions, for each extent
//!             first keys u32      size of the following; 0 if the keys are not known
//!             for each part
//!               length u16
//!               bytes             the key of the part's first entry, encoded; empty in a sequence
//! tail    0 index length u32
//!         4 checksum u32          CRC-32C of the index; the footer's continues it
//! ```

use std::io;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

use super::format::{CHUNK_BYTES, CHUNK_HEADER_BYTES, FOOTER_BYTES, Footer};
use crate::codec::{Change, Extent, FirstKeys, Part};
use crate::files::StoreError;
use crate::files::fields::{FieldReader, position};
use crate::files::header::FileHeader;
use crate::storage::{ReadableFile, read_up_to};

/// The end mark before the index, and the length and the checksum behind it.
const END_MARK_BYTES: usize = 4;
const TAIL_BYTES: usize = 8;

/// What the index states about a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkEntry {
    pub(super) raw_bytes: u32,
    pub(super) packed_bytes: u32,
    pub(super) checksum: u32,
    pub(super) digest: u64,
}

/// A chunk with its places in the content and in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub(super) entry: ChunkEntry,
    pub(super) raw_begin: u64,
    /// Where the chunk's length stands in the file.
    pub(super) at: u64,
}

impl Chunk {
    pub(super) fn raw_end(&self) -> u64 {
        self.raw_begin + u64::from(self.entry.raw_bytes)
    }

    /// Returns how far a position of the content is from the chunk's beginning; the chunk's length
    /// if it is behind the chunk.
    pub(super) fn offset(&self, raw_position: u64) -> usize {
        let offset = raw_position.min(self.raw_end()).saturating_sub(self.raw_begin);
        usize::try_from(offset).unwrap_or(usize::MAX)
    }

    /// Compression would have made it larger otherwise.
    pub(super) fn is_compressed(&self) -> bool {
        self.entry.packed_bytes != self.entry.raw_bytes
    }

    /// Returns its size in the file, with its header.
    pub(super) fn stored_bytes(&self) -> usize {
        usize::try_from(self.end() - self.at).unwrap_or(usize::MAX)
    }

    pub(super) fn end(&self) -> u64 {
        self.at + position(CHUNK_HEADER_BYTES) + u64::from(self.entry.packed_bytes)
    }
}

fn count(length: usize) -> io::Result<u32> {
    u32::try_from(length).map_err(io::Error::other)
}

/// Appends what the index of a file of changes has more than another one.
fn encode_changes(extents: &[Extent], base: FooterDigest, index: &mut Vec<u8>) -> io::Result<()> {
    let changes = (0_u32..).zip(extents).filter_map(|(number, it)| Some((number, it.change?)));
    index.extend_from_slice(&base);
    index.extend_from_slice(&count(changes.clone().count())?.to_le_bytes());
    for (number, change) in changes {
        index.extend_from_slice(&number.to_le_bytes());
        index.extend_from_slice(&change.of.to_le_bytes());
        index.extend_from_slice(&change.script_bytes.to_le_bytes());
    }
    Ok(())
}

/// Reads the same. Returns the base's digest.
fn decode_changes(fields: &mut FieldReader<'_>, extents: &mut [Extent]) -> Option<FooterDigest> {
    let base = fields.array()?;
    let mut least = 0;
    for _ in 0..fields.u32()? {
        let number = usize::try_from(fields.u32()?).ok().filter(|&number| number >= least)?;
        least = number + 1;
        let change = Change { of: fields.u32()?, script_bytes: fields.u64()? };
        extents.get_mut(number)?.change = Some(change);
    }
    Some(base)
}

/// Appends the first key of each part.
fn encode_first_keys(extents: &[Extent], index: &mut Vec<u8>) -> io::Result<()> {
    for extent in extents {
        let keys = extent.first_keys.encoded();
        index.extend_from_slice(&count(keys.len())?.to_le_bytes());
        index.extend_from_slice(keys);
    }
    Ok(())
}

/// Reads the same.
fn decode_first_keys(fields: &mut FieldReader<'_>, extents: &mut [Extent]) -> Option<()> {
    for extent in extents {
        let length = fields.length()?;
        extent.first_keys = FirstKeys::decode(fields.bytes(length)?, extent.parts.len())?;
    }
    Some(())
}

/// The index of an open file.
pub(super) struct Index {
    pub(super) chunks: Vec<Chunk>,
    pub(super) extents: Vec<Extent>,
    /// The base's [`FooterDigest`], if the file holds the changes of another one.
    pub(super) base: Option<FooterDigest>,
    /// The digest of this file's own footer.
    pub(super) footer_digest: FooterDigest,
}

/// XXH3-128 of a footer. The footer has the digest of the content, and its checksum continues that
/// of the index, which has the base's digest. So it stands for the file and all that it rests on.
pub(crate) type FooterDigest = [u8; 16];

impl Index {
    /// Encodes everything behind the chunks: the end mark, the index, its tail, and the footer.
    pub(super) fn encode(
        chunks: &[ChunkEntry],
        extents: &[Extent],
        base: Option<FooterDigest>,
        footer: &Footer,
    ) -> io::Result<Vec<u8>> {
        let mut index = Vec::with_capacity(chunks.len() * 20 + 64);
        index.extend_from_slice(&count(chunks.len())?.to_le_bytes());
        for chunk in chunks {
            index.extend_from_slice(&chunk.raw_bytes.to_le_bytes());
            index.extend_from_slice(&chunk.packed_bytes.to_le_bytes());
            index.extend_from_slice(&chunk.checksum.to_le_bytes());
            index.extend_from_slice(&chunk.digest.to_le_bytes());
        }
        index.extend_from_slice(&count(extents.len())?.to_le_bytes());
        for extent in extents {
            index.extend_from_slice(&extent.begin.to_le_bytes());
            index.extend_from_slice(&count(extent.parts.len())?.to_le_bytes());
            for part in &extent.parts {
                index.extend_from_slice(&part.bytes.to_le_bytes());
                index.extend_from_slice(&part.entries.to_le_bytes());
            }
        }
        if let Some(base) = base {
            encode_changes(extents, base, &mut index)?;
        }
        encode_first_keys(extents, &mut index)?;
        let checksum = crc32c::crc32c(&index);
        let mut bytes =
            Vec::with_capacity(END_MARK_BYTES + index.len() + TAIL_BYTES + FOOTER_BYTES);
        bytes.extend_from_slice(&[0; END_MARK_BYTES]);
        bytes.extend_from_slice(&index);
        bytes.extend_from_slice(&count(index.len())?.to_le_bytes());
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.extend_from_slice(&footer.encode(checksum));
        Ok(bytes)
    }

    /// Reads and verifies index and footer of a file whose chunks begin at `chunks_begin`. It does
    /// not read the chunks.
    pub(super) fn read(
        path: &Path,
        file: &dyn ReadableFile,
        header: &FileHeader,
        chunks_begin: u64,
    ) -> Result<(Self, Footer), StoreError> {
        let read = |at: u64, length: usize| {
            let mut bytes = vec![0; length];
            let read = read_up_to(file, &mut bytes, at).map_err(StoreError::io("read", path))?;
            let cut = || StoreError::corrupt(path, file.length(), "more bytes", "the file's end");
            if read == length { Ok(bytes) } else { Err(cut()) }
        };
        let end = file.length();
        let tail_bytes = position(TAIL_BYTES + FOOTER_BYTES);
        let tail_at = end.checked_sub(tail_bytes).filter(|&at| at >= chunks_begin);
        let Some(tail_at) = tail_at else {
            return Err(StoreError::corrupt(path, end, "a footer", "the file's end"));
        };
        let tail = read(tail_at, TAIL_BYTES + FOOTER_BYTES)?;
        let (tail, footer) = tail.split_at(TAIL_BYTES);
        let footer_digest = xxh3_128(footer).to_le_bytes();
        let mut fields = FieldReader::new(tail);
        let length = fields.length().unwrap_or(usize::MAX);
        let stored = fields.u32().unwrap_or(0);
        let footer = Footer::decode(path, tail_at + position(TAIL_BYTES), footer, stored)?;
        let index_at = tail_at.checked_sub(position(length));
        let Some(index_at) = index_at.filter(|&at| at >= chunks_begin) else {
            let expected = "the length of an index that fits into the file";
            return Err(StoreError::corrupt(path, tail_at, expected, length.to_string()));
        };
        let mark_at = index_at.checked_sub(position(END_MARK_BYTES));
        let mark_at = mark_at.filter(|&at| at >= chunks_begin).unwrap_or(chunks_begin);
        let mark = read(mark_at, END_MARK_BYTES)?;
        if mark.iter().any(|&byte| byte != 0) {
            let found = format!("{mark:02x?}");
            return Err(StoreError::corrupt(path, mark_at, "an end mark of zeros", found));
        }
        let bytes = read(index_at, length)?;
        let computed = crc32c::crc32c(&bytes);
        if computed != stored {
            let expected = format!("index checksum {computed:08x}");
            let found = format!("{stored:08x}");
            return Err(StoreError::corrupt(path, tail_at + 4, expected, found));
        }
        let wrong = |expected: &str| {
            StoreError::corrupt(path, index_at, expected.to_owned(), "another index".to_owned())
        };
        let decoded = Self::decode(&bytes, chunks_begin, header.is_change());
        let mut index = decoded.ok_or_else(|| wrong("a whole index"))?;
        index.footer_digest = footer_digest;
        index.check(header, &footer, (chunks_begin, index_at)).map_err(wrong)?;
        Ok((index, footer))
    }

    /// Decodes an index; `None` if its fields do not fit together.
    fn decode(bytes: &[u8], chunks_begin: u64, is_change: bool) -> Option<Self> {
        let mut fields = FieldReader::new(bytes);
        let (mut chunks, mut extents) = (Vec::new(), Vec::new());
        let (mut raw_begin, mut at) = (0_u64, chunks_begin);
        for _ in 0..fields.u32()? {
            let entry = ChunkEntry {
                raw_bytes: fields.u32()?,
                packed_bytes: fields.u32()?,
                checksum: fields.u32()?,
                digest: fields.u64()?,
            };
            let allowed = 1..=u32::try_from(CHUNK_BYTES).ok()?;
            if !allowed.contains(&entry.raw_bytes) || !allowed.contains(&entry.packed_bytes) {
                return None;
            }
            let chunk = Chunk { entry, raw_begin, at };
            (raw_begin, at) = (chunk.raw_end(), chunk.end());
            chunks.push(chunk);
        }
        for _ in 0..fields.u32()? {
            let begin = fields.u64()?;
            let first_keys = FirstKeys::default();
            let mut extent = Extent { begin, parts: Vec::new(), first_keys, change: None };
            let mut end = begin;
            for _ in 0..fields.u32()? {
                let part = Part { bytes: fields.u64()?, entries: fields.u64()? };
                if part.bytes == 0 || part.entries == 0 {
                    return None;
                }
                end = end.checked_add(part.bytes)?;
                extent.parts.push(part);
            }
            extents.push(extent);
        }
        let base = match is_change {
            true => Some(decode_changes(&mut fields, &mut extents)?),
            false => None,
        };
        // Files of early versions end here.
        if !fields.is_at_end() {
            decode_first_keys(&mut fields, &mut extents)?;
        }
        let index = Self { chunks, extents, base, footer_digest: FooterDigest::default() };
        fields.is_at_end().then_some(index)
    }

    /// Checks the index against header and footer. The error is what was expected.
    fn check(
        &self,
        header: &FileHeader,
        footer: &Footer,
        (chunks_begin, index_at): (u64, u64),
    ) -> Result<(), &'static str> {
        let end = self.chunks.last().map_or(chunks_begin, Chunk::end);
        if end.checked_add(position(END_MARK_BYTES)) != Some(index_at) {
            return Err("chunks that reach to the index");
        }
        let packed = self.chunks.iter().map(|chunk| u64::from(chunk.entry.packed_bytes));
        let packed_bytes: u64 = packed.sum();
        if packed_bytes != footer.packed_bytes {
            return Err("chunks with the footer's packed bytes together");
        }
        let raw_bytes = self.chunks.last().map_or(0, Chunk::raw_end);
        let scripts = self.extents.iter().filter_map(|extent| Some(extent.change?.script_bytes));
        let mut behind = scripts.chain([header.appendix_bytes]);
        let expected = behind.try_fold(footer.raw_bytes, u64::checked_add);
        if expected != Some(raw_bytes) {
            return Err("chunks with the footer's raw bytes and what is behind them together");
        }
        let mut after = None;
        for extent in &self.extents {
            let is_ascending = after.is_none_or(|begin| extent.begin > begin);
            after = Some(extent.begin);
            if !is_ascending || extent.end() > footer.raw_bytes {
                return Err("collections inside the content, in their order");
            }
        }
        Ok(())
    }

    /// Returns the chunk that holds the byte at `raw_position`.
    pub(super) fn chunk_at(&self, raw_position: u64) -> Option<&Chunk> {
        let behind = self.chunks.partition_point(|chunk| chunk.raw_begin <= raw_position);
        self.chunks.get(behind.checked_sub(1)?).filter(|chunk| raw_position < chunk.raw_end())
    }

    /// Returns where the reader of `raw_position` may go on somewhere else: where the next
    /// collection in parts begins or ends.
    pub(super) fn next_border(&self, raw_position: u64) -> Option<u64> {
        let next = self.extents.partition_point(|extent| extent.begin <= raw_position);
        let begin = self.extents.get(next).map(|extent| extent.begin);
        let end = next.checked_sub(1).and_then(|before| self.extents.get(before)).map(Extent::end);
        [begin, end].into_iter().flatten().filter(|&border| border > raw_position).min()
    }
}

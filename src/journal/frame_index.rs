//! Owns the sparse index of an archive: where, among its frames, a reader may begin. It is the
//! appendix of the archive's file. Knows nothing of what is in the frames.
//!
//! ```text
//! 0   magic "PREVINDX"
//! 8   entries u32         1 ..= MOST_ENTRIES
//! 12  then for each entry, in their order
//!       sequence u64      the next command's
//!       offset u64        where the next frame begins in the content
//!       chain u32         the chain value before it
//! ```
//!
//! The first entry is the beginning of the archive. Each further one is the first frame that begins
//! at least [`spacing`] bytes behind the entry before.

use super::frame::{FRAME_ALIGNMENT, FrameRef};
use crate::files::{FieldReader, FileHeader, Footer, PackedFile, StoreError, position};

const MAGIC: [u8; 8] = *b"PREVINDX";
const HEAD_BYTES: usize = MAGIC.len() + size_of::<u32>();
const ENTRY_BYTES: usize = size_of::<u64>() + size_of::<u64>() + size_of::<u32>();

/// This bounds the memory that a reader needs. The largest segments fill it with the usual spacing.
const MOST_ENTRIES: usize = 1 << 16;

/// How far entries are from each other at least: a reader unpacks about so much before it reaches
/// the frame that it wants.
fn spacing() -> u64 {
    size!(64 << 10, small: 128)
}

/// A place at which a reader may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub(super) sequence: u64,
    /// Where the frame begins in the content.
    pub(super) offset: u64,
    /// The chain value before it.
    pub(super) chain: u32,
}

impl IndexEntry {
    /// Returns the beginning of a file with this header.
    pub(super) fn first_of(header: &FileHeader) -> Self {
        Self { sequence: header.sequence, offset: 0, chain: header.chain }
    }

    /// Says what the entry states, for an error.
    pub(super) fn told(&self) -> String {
        let Self { sequence, offset, chain } = self;
        format!("sequence {sequence} at byte {offset} of the content, behind chain {chain:08x}")
    }
}

/// The index of an archive. There is at least one entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FrameIndex {
    entries: Vec<IndexEntry>,
    spacing: u64,
    most: usize,
}

impl FrameIndex {
    /// Makes the index of an archive with this header, whose frames are then pushed.
    pub(super) fn new(header: &FileHeader) -> Self {
        let entries = vec![IndexEntry::first_of(header)];
        Self { entries, spacing: spacing(), most: MOST_ENTRIES }
    }

    /// Takes the next frame, which begins at `offset` of the content, and keeps it if it is far
    /// enough from the last one that was kept.
    pub(super) fn push(&mut self, frame: &FrameRef<'_>, offset: u64) {
        let sequence = frame.header.first_sequence;
        self.push_entry(IndexEntry { sequence, offset, chain: frame.chain_before });
    }

    fn push_entry(&mut self, entry: IndexEntry) {
        let is_far = |spacing, last: Option<&IndexEntry>| {
            last.is_none_or(|last| entry.offset - last.offset >= spacing)
        };
        if is_far(self.spacing, self.entries.last()) && self.entries.len() == self.most {
            // Every other one is enough.
            self.spacing *= 2;
            let mut number = 0;
            self.entries.retain(|_| {
                number += 1;
                number % 2 == 1
            });
        }
        if is_far(self.spacing, self.entries.last()) {
            self.entries.push(entry);
        }
    }

    /// Returns the size of the encoded index.
    pub(super) fn encoded_bytes(&self) -> u64 {
        position(HEAD_BYTES + self.entries.len() * ENTRY_BYTES)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let count = u32::try_from(self.entries.len()).expect("there are at most MOST_ENTRIES");
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.entries.len() * ENTRY_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&count.to_le_bytes());
        for IndexEntry { sequence, offset, chain } in &self.entries {
            bytes.extend_from_slice(&sequence.to_le_bytes());
            bytes.extend_from_slice(&offset.to_le_bytes());
            bytes.extend_from_slice(&chain.to_le_bytes());
        }
        debug_assert_eq!(position(bytes.len()), self.encoded_bytes());
        bytes
    }

    /// Reads the entries of an archive's index. There are none if the archive has no index: early
    /// versions wrote none.
    pub(super) fn read(archive: &PackedFile) -> Result<Vec<IndexEntry>, StoreError> {
        let (header, footer) = (&archive.header, &archive.footer);
        if header.appendix_bytes == 0 {
            return Ok(Vec::new());
        }
        let most = position(HEAD_BYTES + MOST_ENTRIES * ENTRY_BYTES);
        if header.appendix_bytes > most {
            let expected = format!("an index of at most {most} bytes");
            return Err(archive.corrupt_content(expected, header.appendix_bytes.to_string()));
        }
        decode(&archive.appendix()?, header, footer)
            .map_err(|(expected, found)| archive.corrupt_content(expected, found))
    }

    /// Checks that an archive that was written has this index.
    pub(super) fn check_written(&self, archive: &PackedFile) -> Result<(), StoreError> {
        if Self::read(archive)? == self.entries {
            return Ok(());
        }
        let expected = "the index that was written".to_owned();
        Err(archive.corrupt_content(expected, "another one".to_owned()))
    }
}

/// Decodes the index of a file with this header and this footer. The error is what was expected and
/// what was found.
pub(super) fn decode(
    bytes: &[u8],
    header: &FileHeader,
    footer: &Footer,
) -> Result<Vec<IndexEntry>, (String, String)> {
    let mut fields = FieldReader::new(bytes);
    let (magic, count) = (fields.array(), fields.length());
    if magic != Some(MAGIC) {
        return Err((format!("index magic {MAGIC:02x?}"), format!("{magic:02x?}")));
    }
    let count = count.filter(|count| (1..=MOST_ENTRIES).contains(count)).unwrap_or(0);
    if bytes.len() != HEAD_BYTES + count * ENTRY_BYTES || count == 0 {
        let expected = format!("an index of 1 to {MOST_ENTRIES} entries, as many as it states");
        return Err((expected, format!("{} bytes", bytes.len())));
    }
    let mut entries: Vec<IndexEntry> = Vec::with_capacity(count);
    while let (Some(sequence), Some(offset), Some(chain)) =
        (fields.u64(), fields.u64(), fields.u32())
    {
        let entry = IndexEntry { sequence, offset, chain };
        let first = IndexEntry::first_of(header);
        let (follows, expected) = match entries.last() {
            None => (entry == first, format!("an index that begins with {}", first.told())),
            Some(last) => {
                let ascends = sequence > last.sequence && offset > last.offset;
                (ascends, format!("an index entry behind {}", last.told()))
            }
        };
        let is_inside = offset == 0 || offset < footer.raw_bytes && sequence <= footer.sequence;
        let is_aligned = offset.is_multiple_of(position(FRAME_ALIGNMENT));
        if !follows || !is_inside || !is_aligned {
            let end = format!(
                ", before sequence {} and byte {}, at a multiple of {FRAME_ALIGNMENT}",
                footer.sequence.saturating_add(1),
                footer.raw_bytes
            );
            return Err((expected + &end, entry.told()));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Returns the number of the last entry that is not behind `sequence`; the first one if all are.
pub(super) fn find(entries: &[IndexEntry], sequence: u64) -> usize {
    entries.partition_point(|entry| entry.sequence <= sequence).saturating_sub(1)
}

#[cfg(test)]
#[path = "tests/frame_index.rs"]
mod tests;

//! Owns the one header layout that segments, snapshots and archives share (`docs::format`). Knows
//! nothing of what follows it.

use std::path::Path;

use super::envelope::{
    CHECKSUM_BYTES, FORMAT_VERSION, check_format, check_magic, checksummed, push_checksum,
};
use super::fields::{FieldReader, position};
use crate::codec::CODEC_ID;
use crate::files::{DatabaseId, StoreError};
use crate::schema::SchemasDigest;
use crate::storage::{ReadableFile, read_up_to};

pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"PREVJRNL";
pub(crate) const SNAPSHOT_MAGIC: [u8; 8] = *b"PREVSNAP";
pub(crate) const ARCHIVE_MAGIC: [u8; 8] = *b"PREVARCH";
pub(crate) const CHECKPOINT_MAGIC: [u8; 8] = *b"PREVCHKP";

/// The size of the fixed part, behind which the variable part begins.
const FIXED_BYTES: usize = 88;
/// The largest size that a header may state. It bounds what is read before the checksum is
/// verified.
pub(crate) const LARGEST_HEADER_BYTES: usize = 1 << 20;

/// The size of the first read, which holds most headers as a whole.
const COMMON_HEADER_BYTES: usize = 4096;

/// What a file states about itself before its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) magic: [u8; 8],
    pub(crate) database: DatabaseId,
    /// How the content is packed; 0 plain, 1 zstd (snapshots only).
    pub(crate) packing: u32,
    pub(crate) model_version: u32,
    /// A segment's or archive's first sequence; a snapshot's sequence.
    pub(crate) sequence: u64,
    /// Nanoseconds since 1970. No command after this file's beginning has an earlier time.
    pub(crate) time_ns: u64,
    /// Makes frame headers of this segment unguessable and unlike those of any other; 0 in
    /// snapshots.
    pub(crate) salt: u64,
    /// The length with which a segment was published, so that an open notices a shortened one. 0 in
    /// packed files, which end in a footer.
    pub(crate) file_bytes: u64,
    /// The chain value after the last command before this segment, or up to this snapshot.
    pub(crate) chain: u32,
    pub(crate) model_name: String,
    /// Tag and name of every command; empty in snapshots.
    pub(crate) commands: Vec<(u16, String)>,
    /// What became of the events of the commands in it, as `options::Events` numbers it; 0 in
    /// snapshots.
    pub(crate) events: u8,
    /// The size of the appendix behind a packed file's content, before packing; 0 in segments.
    pub(crate) appendix_bytes: u64,
    /// The sequence of the snapshot to which this one is a change. A whole file has its own
    /// sequence here.
    pub(crate) base_sequence: u64,
    /// What the model's type looks like in the encoding, as `model::shape` writes it; empty in
    /// other files than snapshots, and in those of earlier builds.
    pub(crate) shape: String,
    /// Names the file that says what is in this one; none in files of earlier builds.
    pub(crate) schemas: SchemasDigest,
}

impl FileHeader {
    /// Returns whether a snapshot holds only what has changed since another one.
    pub(crate) fn is_change(&self) -> bool {
        self.base_sequence != self.sequence
    }

    /// Encodes the header; `None` when the names make it larger than a header may be.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&self.magic);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]); // the length, known below
        bytes.extend_from_slice(&self.database.0);
        bytes.extend_from_slice(&CODEC_ID.to_le_bytes());
        bytes.extend_from_slice(&self.packing.to_le_bytes());
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.time_ns.to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&self.file_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.model_version.to_le_bytes());
        bytes.extend_from_slice(&self.chain.to_le_bytes());
        bytes.extend_from_slice(&u16::try_from(self.commands.len()).ok()?.to_le_bytes());
        bytes.push(self.events);
        bytes.extend_from_slice(&[0; 5]); // reserved
        debug_assert_eq!(bytes.len(), FIXED_BYTES);
        push_name(&mut bytes, &self.model_name)?;
        for (tag, name) in &self.commands {
            bytes.extend_from_slice(&tag.to_le_bytes());
            push_name(&mut bytes, name)?;
        }
        bytes.extend_from_slice(&self.appendix_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.base_sequence.to_le_bytes());
        // Without these two, earlier builds can read the header.
        if !self.shape.is_empty() || !self.schemas.is_none() {
            push_name(&mut bytes, &self.shape)?;
        }
        if !self.schemas.is_none() {
            bytes.extend_from_slice(&self.schemas.0);
        }
        let length = bytes.len() + CHECKSUM_BYTES;
        if length > LARGEST_HEADER_BYTES {
            return None;
        }
        bytes.get_mut(12..16)?.copy_from_slice(&u32::try_from(length).ok()?.to_le_bytes());
        push_checksum(&mut bytes);
        Some(bytes)
    }

    /// Reads the header of an open file. Returns it with its length.
    pub(crate) fn read(
        path: &Path,
        magic: [u8; 8],
        file: &dyn ReadableFile,
    ) -> Result<(Self, usize), StoreError> {
        let begin = |length: usize| {
            let mut bytes = vec![0; length];
            let read = read_up_to(file, &mut bytes, 0).map_err(StoreError::io("read", path))?;
            bytes.truncate(read);
            Ok::<_, StoreError>(bytes)
        };
        let mut bytes = begin(COMMON_HEADER_BYTES)?;
        let stated = FieldReader::new(bytes.get(12..).unwrap_or(&[])).length().unwrap_or(0);
        if (bytes.len() + 1..=LARGEST_HEADER_BYTES).contains(&stated) {
            bytes = begin(stated)?;
        }
        Self::decode(path, magic, &bytes)
    }

    /// Reads the header at the start of `bytes`. Returns it with its length.
    pub(crate) fn decode(
        path: &Path,
        magic: [u8; 8],
        bytes: &[u8],
    ) -> Result<(Self, usize), StoreError> {
        let length = checked_length(path, magic, bytes)?;
        let truncated =
            || StoreError::corrupt(path, 0, "a whole file header", "one with fields cut off");
        let mut fields = FieldReader::new(bytes.get(16..length - CHECKSUM_BYTES).unwrap_or(&[]));
        let mut parse = || {
            let database = DatabaseId(fields.array()?);
            let codec = fields.u32()?;
            let packing = fields.u32()?;
            let sequence = fields.u64()?;
            let time_ns = fields.u64()?;
            let salt = fields.u64()?;
            let file_bytes = fields.u64()?;
            let model_version = fields.u32()?;
            let chain = fields.u32()?;
            let count = fields.u16()?;
            let [events] = fields.array()?;
            fields.bytes(5)?;
            let model_name = read_name(&mut fields)?;
            let commands = (0..count)
                .map(|_| Some((fields.u16()?, read_name(&mut fields)?)))
                .collect::<Option<Vec<_>>>()?;
            // The first builds did not have these two fields, and had one field for both lengths.
            let is_early = fields.is_at_end();
            let is_segment = magic == SEGMENT_MAGIC;
            let (file_bytes, appendix_bytes, base_sequence) = match is_early {
                true if is_segment => (file_bytes, 0, sequence),
                true => (0, file_bytes, sequence),
                false => (file_bytes, fields.u64()?, fields.u64()?),
            };
            let (shape, schemas) = read_types(&mut fields)?;
            let header = Self {
                magic,
                database,
                packing,
                model_version,
                sequence,
                time_ns,
                salt,
                file_bytes,
                chain,
                model_name,
                commands,
                events,
                appendix_bytes,
                base_sequence,
                shape,
                schemas,
            };
            fields.is_at_end().then_some((header, codec))
        };
        let (header, codec) = parse().ok_or_else(truncated)?;
        if codec != CODEC_ID {
            let path = path.to_path_buf();
            return Err(StoreError::UnsupportedCodec { path, found: codec, supported: CODEC_ID });
        }
        Ok((header, length))
    }
}

/// Checks magic, format version, length and checksum, in this order. Returns the length.
fn checked_length(path: &Path, magic: [u8; 8], bytes: &[u8]) -> Result<usize, StoreError> {
    let short = || {
        let found = format!("a file of {} bytes", bytes.len());
        StoreError::corrupt(path, position(bytes.len()), "a whole file header", found)
    };
    if bytes.len() < magic.len() {
        return Err(short());
    }
    check_magic(path, magic, bytes)?;
    let mut fields = FieldReader::new(bytes.get(magic.len()..).unwrap_or(&[]));
    check_format(path, fields.u32().ok_or_else(short)?)?;
    let length = fields.length().ok_or_else(short)?;
    if !(FIXED_BYTES + CHECKSUM_BYTES..=LARGEST_HEADER_BYTES).contains(&length) {
        return Err(StoreError::corrupt(
            path,
            12,
            "a header length within its limits",
            length.to_string(),
        ));
    }
    checksummed(path, bytes.get(..length).ok_or_else(short)?)?;
    Ok(length)
}

fn push_name(bytes: &mut Vec<u8>, name: &str) -> Option<()> {
    bytes.extend_from_slice(&u16::try_from(name.len()).ok()?.to_le_bytes());
    bytes.extend_from_slice(name.as_bytes());
    Some(())
}

/// Reads what the header says of types. Earlier builds wrote nothing, or the shape alone.
fn read_types(fields: &mut FieldReader<'_>) -> Option<(String, SchemasDigest)> {
    if fields.is_at_end() {
        return Some((String::new(), SchemasDigest::default()));
    }
    let shape = read_name(fields)?;
    if fields.is_at_end() {
        return (!shape.is_empty()).then(|| (shape, SchemasDigest::default()));
    }
    let schemas = SchemasDigest(fields.array()?);
    (!schemas.is_none()).then_some((shape, schemas))
}

fn read_name(fields: &mut FieldReader<'_>) -> Option<String> {
    let length = fields.u16()?;
    let name = fields.bytes(length.into())?;
    String::from_utf8(name.to_vec()).ok()
}

#[cfg(test)]
#[path = "tests/header.rs"]
mod tests;

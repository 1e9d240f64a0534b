//! Owns the beginning and the end of every file that this crate reads as a whole: a magic, the
//! format version, and a checksum of everything before it. Knows nothing of the fields in between.

use std::path::Path;

use super::StoreError;
use super::fields::position;

/// The version of all file formats together. A change of any format raises it.
pub(crate) const FORMAT_VERSION: u32 = 1;
pub(crate) const CHECKSUM_BYTES: usize = 4;

/// Checks that `bytes` begin with `magic`.
pub(crate) fn check_magic(path: &Path, magic: [u8; 8], bytes: &[u8]) -> Result<(), StoreError> {
    let found = bytes.get(..magic.len()).unwrap_or(bytes);
    if found == magic {
        return Ok(());
    }
    let expected = format!("magic {}", magic.escape_ascii());
    Err(StoreError::corrupt(path, 0, expected, found.escape_ascii().to_string()))
}

/// Checks that this build reads files of that format version.
pub(crate) fn check_format(path: &Path, found: u32) -> Result<(), StoreError> {
    if found == FORMAT_VERSION {
        return Ok(());
    }
    let path = path.to_path_buf();
    Err(StoreError::UnsupportedFormat { path, found, supported: FORMAT_VERSION })
}

/// Checks that the last bytes are the checksum of the bytes before them. Returns the bytes before.
pub(crate) fn checksummed<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a [u8], StoreError> {
    let (covered, stored) = bytes.split_at(bytes.len().saturating_sub(CHECKSUM_BYTES));
    let computed = crc32c::crc32c(covered);
    if stored == computed.to_le_bytes() {
        return Ok(covered);
    }
    let expected = format!("checksum {:02x?}", computed.to_le_bytes());
    Err(StoreError::corrupt(path, position(covered.len()), expected, format!("{stored:02x?}")))
}

/// Appends the checksum of `bytes` to them.
pub(crate) fn push_checksum(bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
}

//! Owns making the checksums of a snapshot right again after a test or a fuzzer has changed it.
//! Knows nothing of what a snapshot holds.

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// The size of what the index states about a chunk.
pub(crate) const CHUNK_ENTRY_BYTES: usize = 20;
pub(crate) const FOOTER_BYTES: usize = 56;
const TAIL_BYTES: usize = 8;

pub(crate) fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?) as usize)
}

fn put(bytes: &mut [u8], at: usize, with: &[u8]) -> Option<()> {
    bytes.get_mut(at..at.checked_add(with.len())?)?.copy_from_slice(with);
    Some(())
}

/// Returns where the index of a file begins and ends.
pub(crate) fn index(file: &[u8]) -> Option<(usize, usize)> {
    let end = file.len().checked_sub(FOOTER_BYTES + TAIL_BYTES)?;
    Some((end.checked_sub(number(file, end)?)?, end))
}

/// Makes all checksums of a snapshot right whose chunks are stored as they are. Returns the digest
/// of its footer; `None` if its fields lead out of it.
pub(crate) fn seal(file: &mut [u8]) -> Option<[u8; 16]> {
    let (begin, end) = index(file)?;
    let header = number(file, 12)?.checked_sub(4)?;
    let checksum = crc32c::crc32c(file.get(..header)?);
    put(file, header, &checksum.to_le_bytes())?;
    let mut chunk = header + 4;
    for entry in 0..number(file, begin)? {
        let entry = begin + 4 + entry * CHUNK_ENTRY_BYTES;
        let raw = file.get(chunk + 8..chunk.checked_add(8)?.checked_add(number(file, entry)?)?)?;
        let (checksum, digest) = (crc32c::crc32c(raw), xxh3_64(raw));
        let next = chunk + 8 + raw.len();
        put(file, chunk + 4, &checksum.to_le_bytes())?;
        put(file, entry + 8, &checksum.to_le_bytes())?;
        put(file, entry + 12, &digest.to_le_bytes())?;
        chunk = next;
    }
    let checksum = crc32c::crc32c(file.get(begin..end)?);
    put(file, end + 4, &checksum.to_le_bytes())?;
    let (footer, last) = (end + TAIL_BYTES, file.len() - 4);
    let checksum = crc32c::crc32c_append(checksum, file.get(footer..last)?);
    put(file, last, &checksum.to_le_bytes())?;
    Some(xxh3_128(file.get(footer..)?).to_le_bytes())
}

/// Makes a snapshot of changes rest on a base whose footer has this digest, and seals it.
pub(crate) fn seal_upon(file: &mut [u8], base: [u8; 16]) -> Option<()> {
    let (begin, _) = index(file)?;
    let mut at = begin + 4 + number(file, begin)?.checked_mul(CHUNK_ENTRY_BYTES)?;
    let extents = number(file, at)?;
    at += 4;
    for _ in 0..extents {
        at = at.checked_add(12 + number(file, at + 8)?.checked_mul(16)?)?;
    }
    put(file, at, &base)?;
    seal(file).map(drop)
}

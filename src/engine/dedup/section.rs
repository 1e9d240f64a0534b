//! Owns the layout of a log of request ids in a snapshot, where it stands behind the model.
//!
//! ```text
//!  0 magic "PREVRQID"
//!  8 limit u64           the most ids that were kept
//! 16 count u64
//! 24 entries             count times: sequence u64, length u16, id
//!    checksum u32        CRC-32C of everything before
//! ```

use std::io::{self, Write};

use super::{Remembered, RequestLog};
use crate::codec::Blocks;
use crate::files::position;
use crate::options::{MOST_IDS, RequestLimits};

const MAGIC: [u8; 8] = *b"PREVRQID";
const HEADER_BYTES: usize = 24;
const ENTRY_HEADER_BYTES: usize = 10;
const CHECKSUM_BYTES: usize = 4;

/// Returns the length of the section; 0 if there are no ids, because then nothing is written.
pub(crate) fn section_bytes(log: &RequestLog) -> u64 {
    match log.ids() {
        0 => 0,
        ids => position(HEADER_BYTES + ids * ENTRY_HEADER_BYTES + log.bytes() + CHECKSUM_BYTES),
    }
}

/// Writes a log. Writes nothing for an empty one.
pub(crate) fn write_section(log: &RequestLog, target: &mut dyn Write) -> io::Result<()> {
    if log.ids() == 0 {
        return Ok(());
    }
    let mut target = Summed { target, checksum: 0 };
    target.put(&MAGIC)?;
    target.put(&position(log.limits().most_ids).to_le_bytes())?;
    target.put(&position(log.ids()).to_le_bytes())?;
    for Remembered { sequence, id } in log.iter() {
        let length = u16::try_from(id.len()).map_err(io::Error::other)?;
        target.put(&sequence.to_le_bytes())?;
        target.put(&length.to_le_bytes())?;
        target.put(id.as_bytes())?;
    }
    let Summed { target, checksum } = target;
    target.write_all(&checksum.to_le_bytes())
}

struct Summed<'a> {
    target: &'a mut dyn Write,
    checksum: u32,
}

impl Summed<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.checksum = crc32c::crc32c_append(self.checksum, bytes);
        self.target.write_all(bytes)
    }
}

/// Reads the section of a snapshot at `newest_sequence`. The section has `bytes` bytes; 0 means
/// that there is none. Keeps the ids that `limits` allow. An error is what was expected and what
/// was found. Allocates no more than was read.
pub(crate) fn read_section(
    blocks: &mut Blocks<'_>,
    bytes: u64,
    newest_sequence: u64,
    limits: RequestLimits,
) -> Result<RequestLog, (String, String)> {
    let mut log = RequestLog::new(limits);
    if bytes == 0 {
        return Ok(log);
    }
    let mut fields = Fields { blocks, left: bytes, checksum: 0 };
    let written = fields.limits()?;
    let count = fields.count(written.most_ids)?;
    let (mut before, mut id_bytes) = (0, 0);
    for _ in 0..count {
        let remembered = fields.entry()?;
        let sequence = remembered.sequence;
        if sequence <= before || sequence > newest_sequence {
            let expected = format!("a request id with a sequence behind {before}");
            return Err((format!("{expected} and up to {newest_sequence}"), sequence.to_string()));
        }
        before = sequence;
        id_bytes += remembered.id.len();
        log.push(remembered, |_| {});
    }
    if !written.allow(count, id_bytes) {
        let expected = format!("request ids of at most {} bytes together", written.most_bytes());
        return Err((expected, id_bytes.to_string()));
    }
    let computed = fields.checksum;
    let stored = u32::from_le_bytes(fields.array()?);
    if stored != computed {
        let expected = format!("checksum {computed:08x} behind the request ids");
        return Err((expected, format!("{stored:08x}")));
    }
    match fields.left {
        0 => Ok(log),
        left => Err(("no bytes behind the request ids".to_owned(), format!("{left} bytes"))),
    }
}

/// Reads the limits with which a section of `bytes` bytes was written; without a section, the
/// limits that remember nothing. Skips the rest of the section.
pub(crate) fn read_limits(
    blocks: &mut Blocks<'_>,
    bytes: u64,
) -> Result<RequestLimits, (String, String)> {
    if bytes == 0 {
        return Ok(RequestLimits::of(0));
    }
    let limits = Fields { blocks, left: bytes, checksum: 0 }.limits()?;
    blocks.skip();
    Ok(limits)
}

struct Fields<'a, 'b> {
    blocks: &'a mut Blocks<'b>,
    left: u64,
    checksum: u32,
}

impl Fields<'_, '_> {
    /// Reads the beginning of the section: its magic and its limits.
    fn limits(&mut self) -> Result<RequestLimits, (String, String)> {
        let magic = self.array::<8>()?;
        if magic != MAGIC {
            let found = magic.escape_ascii().to_string();
            return Err((format!("magic {} behind the model", MAGIC.escape_ascii()), found));
        }
        Ok(RequestLimits { most_ids: self.count(MOST_IDS)? })
    }

    fn fill(&mut self, target: &mut [u8]) -> Result<(), (String, String)> {
        let short = || ("more bytes of request ids".to_owned(), "their end".to_owned());
        self.left = self.left.checked_sub(position(target.len())).ok_or_else(short)?;
        self.blocks.fill(target).map_err(|_| short())?;
        self.checksum = crc32c::crc32c_append(self.checksum, target);
        Ok(())
    }

    fn array<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], (String, String)> {
        let mut bytes = [0; BYTES];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn count(&mut self, most: usize) -> Result<usize, (String, String)> {
        let count = u64::from_le_bytes(self.array()?);
        let fitting = usize::try_from(count).ok().filter(|&count| count <= most);
        fitting.ok_or_else(|| (format!("at most {most} request ids"), count.to_string()))
    }

    fn entry(&mut self) -> Result<Remembered, (String, String)> {
        let sequence = u64::from_le_bytes(self.array()?);
        let length = u16::from_le_bytes(self.array()?);
        let mut id = vec![0; length.into()];
        self.fill(&mut id)?;
        let id = String::from_utf8(id).ok().filter(|id| !id.is_empty());
        let wrong = || ("a request id in UTF-8".to_owned(), "other bytes, or no bytes".to_owned());
        Ok(Remembered { sequence, id: id.ok_or_else(wrong)?.into() })
    }
}

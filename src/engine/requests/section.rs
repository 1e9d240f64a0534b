//! Owns the layout of a log of requests in a snapshot, where it stands behind the model.
//!
//! ```text
//!  0 magic "PREVREQ2"
//!  8 limit u64            the most ids that were kept
//! 16 count u64
//! 24 promised u64         for so many nanoseconds no id was forgotten
//! 32 output_bytes u32     the most bytes of an output that was kept
//! 36 flags u32            bit 0: each actor has ids of their own
//! 40 entries              count times, see `ENTRY_HEADER_BYTES`
//!    checksum u32         CRC-32C of everything before
//! ```
//!
//! Before, the magic was "PREVRQID". Such a section has no times, tags, actors and outputs, and is
//! still read.

use std::io::{self, Write};

use super::{Remembered, RequestKey, RequestLog};
use crate::codec::Blocks;
use crate::files::position;
use crate::options::{MOST_IDS, MOST_OUTPUT_BYTES, RequestLimits};

const MAGIC: [u8; 8] = *b"PREVREQ2";
const HEADER_BYTES: usize = 40;
/// sequence u64, time u64, tag u16, actor length u16, id length u16, output length u32. Actor, id
/// and output follow.
const ENTRY_HEADER_BYTES: usize = 26;
const CHECKSUM_BYTES: usize = 4;
const BY_ACTOR: u32 = 1;
/// The length of an output that was not kept.
const NO_OUTPUT: u32 = u32::MAX;

/// The magic of a section of ids and sequences alone.
const OLD_MAGIC: [u8; 8] = *b"PREVRQID";

/// What was expected, and what was found.
type Wrong = (String, String);

/// Returns the length of the section; 0 if there are no ids, because then nothing is written.
pub(crate) fn section_bytes(log: &RequestLog) -> u64 {
    match log.ids() {
        0 => 0,
        ids => {
            let texts = log.bytes() + log.output_bytes();
            position(HEADER_BYTES + ids * ENTRY_HEADER_BYTES + texts + CHECKSUM_BYTES)
        }
    }
}

/// Writes a log. Writes nothing for an empty one.
pub(crate) fn write_section(log: &RequestLog, target: &mut dyn Write) -> io::Result<()> {
    if log.ids() == 0 {
        return Ok(());
    }
    let limits = log.limits();
    let output_bytes = u32::try_from(limits.output_bytes).map_err(io::Error::other)?;
    let mut target = Summed { target, checksum: 0 };
    target.put(&MAGIC)?;
    target.put(&position(limits.most_ids).to_le_bytes())?;
    target.put(&position(log.ids()).to_le_bytes())?;
    target.put(&limits.promised_ns.to_le_bytes())?;
    target.put(&output_bytes.to_le_bytes())?;
    target.put(&if limits.by_actor { BY_ACTOR } else { 0 }.to_le_bytes())?;
    for Remembered { sequence, time_ns, tag, key, output } in log.iter() {
        let length = |text: &str| u16::try_from(text.len()).map_err(io::Error::other);
        let output_length = match output {
            Some(output) => u32::try_from(output.len()).map_err(io::Error::other)?,
            None => NO_OUTPUT,
        };
        target.put(&sequence.to_le_bytes())?;
        target.put(&time_ns.to_le_bytes())?;
        target.put(&tag.to_le_bytes())?;
        target.put(&length(key.actor())?.to_le_bytes())?;
        target.put(&length(key.id())?.to_le_bytes())?;
        target.put(&output_length.to_le_bytes())?;
        target.put(key.actor().as_bytes())?;
        target.put(key.id().as_bytes())?;
        target.put(output.as_deref().unwrap_or_default().as_bytes())?;
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

/// Reads the section of a snapshot of this sequence and time. The section has `bytes` bytes; 0
/// means that there is none. Keeps the ids that `limits` allow. An error is what was expected and
/// what was found. Allocates no more than was read.
pub(crate) fn read_section(
    blocks: &mut Blocks<'_>,
    bytes: u64,
    (newest_sequence, newest_time_ns): (u64, u64),
    limits: RequestLimits,
) -> Result<RequestLog, Wrong> {
    let mut log = RequestLog::new(limits);
    if bytes == 0 {
        return Ok(log);
    }
    let mut fields = Fields { blocks, left: bytes, checksum: 0 };
    let header = fields.header()?;
    let (mut before, mut time_before) = (0, 0);
    let (mut oldest_ns, mut id_bytes) = (None, 0);
    for _ in 0..header.count {
        let remembered = fields.entry(&header, newest_time_ns)?;
        let (sequence, time_ns) = (remembered.sequence, remembered.time_ns);
        if sequence <= before || sequence > newest_sequence {
            let expected = format!("a request id with a sequence behind {before}");
            return Err((format!("{expected} and up to {newest_sequence}"), sequence.to_string()));
        }
        if time_ns < time_before || time_ns > newest_time_ns {
            let expected = format!("a request id with a time from {time_before} ns");
            return Err((format!("{expected} to {newest_time_ns} ns"), time_ns.to_string()));
        }
        (before, time_before) = (sequence, time_ns);
        oldest_ns.get_or_insert(time_ns);
        id_bytes += remembered.key.bytes();
        log.push(remembered, |_| {});
    }
    let written = header.limits;
    // More than the limits allow are kept only for the promised time.
    let is_promised = written.promised_still_ns(oldest_ns.unwrap_or_default(), time_before) > 0;
    if !written.allow(header.count, id_bytes) && !is_promised {
        let (most_ids, most_bytes) = (written.most_ids, written.most_bytes());
        let expected = format!("at most {most_ids} request ids of {most_bytes} bytes together");
        return Err((expected, format!("{} ids of {id_bytes} bytes", header.count)));
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
pub(crate) fn read_limits(blocks: &mut Blocks<'_>, bytes: u64) -> Result<RequestLimits, Wrong> {
    if bytes == 0 {
        return Ok(RequestLimits::of(0));
    }
    let header = Fields { blocks, left: bytes, checksum: 0 }.header()?;
    blocks.skip();
    Ok(header.limits)
}

struct Header {
    limits: RequestLimits,
    count: usize,
    is_old: bool,
}

struct Fields<'a, 'b> {
    blocks: &'a mut Blocks<'b>,
    left: u64,
    checksum: u32,
}

impl Fields<'_, '_> {
    /// Reads the beginning of the section.
    fn header(&mut self) -> Result<Header, Wrong> {
        let magic = self.array::<8>()?;
        let is_old = magic == OLD_MAGIC;
        if magic != MAGIC && !is_old {
            let found = magic.escape_ascii().to_string();
            return Err((format!("magic {} behind the model", MAGIC.escape_ascii()), found));
        }
        let mut limits = RequestLimits::of(self.count(MOST_IDS)?);
        let count =
            self.count(if is_old || limits.most_ids == 0 { limits.most_ids } else { MOST_IDS })?;
        if !is_old {
            limits.promised_ns = u64::from_le_bytes(self.array()?);
            limits.output_bytes = self.length(MOST_OUTPUT_BYTES)?.unwrap_or_default();
            let flags = u32::from_le_bytes(self.array()?);
            if flags & !BY_ACTOR != 0 {
                return Err(("known flags of request ids".to_owned(), format!("{flags:08x}")));
            }
            limits.by_actor = flags & BY_ACTOR != 0;
        }
        Ok(Header { limits, count, is_old })
    }

    fn fill(&mut self, target: &mut [u8]) -> Result<(), Wrong> {
        let short = || ("more bytes of request ids".to_owned(), "their end".to_owned());
        self.left = self.left.checked_sub(position(target.len())).ok_or_else(short)?;
        self.blocks.fill(target).map_err(|_| short())?;
        self.checksum = crc32c::crc32c_append(self.checksum, target);
        Ok(())
    }

    fn array<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], Wrong> {
        let mut bytes = [0; BYTES];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn count(&mut self, most: usize) -> Result<usize, Wrong> {
        let count = u64::from_le_bytes(self.array()?);
        let fitting = usize::try_from(count).ok().filter(|&count| count <= most);
        fitting.ok_or_else(|| (format!("at most {most} request ids"), count.to_string()))
    }

    /// Reads the length of an output, if there is one.
    fn length(&mut self, most: usize) -> Result<Option<usize>, Wrong> {
        let length = u32::from_le_bytes(self.array()?);
        if length == NO_OUTPUT {
            return Ok(None);
        }
        let fitting = usize::try_from(length).ok().filter(|&length| length <= most);
        let wrong = || (format!("an output of at most {most} bytes"), length.to_string());
        fitting.map(Some).ok_or_else(wrong)
    }

    fn text(&mut self, length: usize) -> Result<String, Wrong> {
        let mut text = vec![0; length];
        self.fill(&mut text)?;
        let wrong = || ("a request in UTF-8".to_owned(), "other bytes".to_owned());
        String::from_utf8(text).map_err(|_| wrong())
    }

    fn entry(&mut self, header: &Header, newest_time_ns: u64) -> Result<Remembered, Wrong> {
        let sequence = u64::from_le_bytes(self.array()?);
        let mut remembered = Remembered {
            sequence,
            // An old section says nothing of time; nothing in it is younger than the snapshot.
            time_ns: newest_time_ns,
            tag: Remembered::NO_TAG,
            key: RequestKey::new("", "", false),
            output: None,
        };
        let (mut actor_length, mut output_length) = (0, None);
        if !header.is_old {
            remembered.time_ns = u64::from_le_bytes(self.array()?);
            remembered.tag = u16::from_le_bytes(self.array()?);
            actor_length = u16::from_le_bytes(self.array()?).into();
        }
        let id_length = u16::from_le_bytes(self.array()?).into();
        if !header.is_old {
            output_length = self.length(header.limits.output_bytes)?;
        }
        let (actor, id) = (self.text(actor_length)?, self.text(id_length)?);
        if id.is_empty() {
            return Err(("a request id".to_owned(), "no bytes".to_owned()));
        }
        remembered.key = RequestKey::new(&actor, &id, header.limits.by_actor);
        if let Some(length) = output_length {
            remembered.output = Some(self.text(length)?.into());
        }
        Ok(remembered)
    }
}

//! Owns where the journal ends at this moment: it reads the newest segment, which a program may be
//! appending to. Knows nothing of the other files.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::files::{Directory, Manifest, StoreError};
use crate::journal::{Bookmark, Ending, FrameStream, Records};
use crate::model::system_time;
use crate::storage::Storage;

/// How often the end is looked at again while a batch seems to be half written.
const MOST_LOOKS: u32 = 32;
/// The pause before that. A write of a batch takes less.
const PAUSE: Duration = Duration::from_millis(2);

/// Where the journal ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalEnd {
    /// The newest segment.
    pub path: PathBuf,
    /// The sequence of the newest command that can be read.
    pub sequence: u64,
    /// The time of that command; `None` if the newest segment holds none.
    pub time: Option<SystemTime>,
    /// The highest sequence that the files state to be on stable storage. What is behind it may be
    /// in the page cache alone.
    pub durable_sequence: u64,
    /// How many commands are behind `durable_sequence`. After a crash, the next open writes them
    /// again.
    pub unconfirmed_commands: u64,
    /// The byte position in the newest segment behind the last whole batch.
    pub position: u64,
    /// The bytes of a half-written batch behind it, which was never acknowledged. If a program has
    /// the database open, it may be writing that batch at this moment.
    pub torn_bytes: u64,
    /// The damage at which reading ended, if it is not the journal's end.
    pub problem: Option<String>,
}

/// The end of the journal, and what is needed to go on from there.
#[derive(Clone)]
pub(super) struct Tail {
    pub(super) end: JournalEnd,
    pub(super) first_sequence: u64,
    pub(super) chain: u32,
    bookmark: Option<Bookmark>,
}

/// Reads the segment that begins with `first_sequence` to its end. `known` is an earlier look at
/// the end of the journal: if it is of the same segment, only what is new is read.
pub(super) fn read(
    storage: &dyn Storage,
    directory: &Directory,
    manifest: &Manifest,
    first_sequence: u64,
    known: Option<&Tail>,
) -> Result<Tail, StoreError> {
    let mut tail = read_once(storage, directory, manifest, first_sequence, known)?;
    for _ in 0..MOST_LOOKS {
        if tail.end.torn_bytes == 0 && tail.end.problem.is_none() {
            break;
        }
        std::thread::sleep(PAUSE);
        let again = read_once(storage, directory, manifest, first_sequence, Some(&tail))?;
        let is_at_rest =
            (again.end.position, again.end.torn_bytes) == (tail.end.position, tail.end.torn_bytes);
        tail = again;
        if is_at_rest {
            break;
        }
    }
    Ok(tail)
}

fn read_once(
    storage: &dyn Storage,
    directory: &Directory,
    manifest: &Manifest,
    first_sequence: u64,
    known: Option<&Tail>,
) -> Result<Tail, StoreError> {
    let journal = &directory.journal;
    let known = known.filter(|known| known.first_sequence == first_sequence);
    let resumed = match known.and_then(|known| known.bookmark) {
        Some(bookmark) => FrameStream::at_bookmark(storage, journal, bookmark)?,
        None => None,
    };
    let known = known.filter(|_| resumed.is_some());
    let mut frames = match resumed {
        Some(frames) => frames,
        None => FrameStream::of_segment(storage, journal, first_sequence, first_sequence, None)?,
    };
    let mut time = known.and_then(|known| known.end.time);
    loop {
        match frames.advance(u64::MAX) {
            Ok(true) => {}
            // `ending` says what it is.
            Ok(false) | Err(StoreError::Corrupt { .. }) => break,
            Err(error) => return Err(error),
        }
        let records = frames.frame().map(|frame| Records::new(frame.payload));
        let newest = records.and_then(|records| records.filter_map(Result::ok).last());
        time = newest.map(|record| system_time(record.time_ns)).or(time);
    }
    let sequence = frames.next_sequence().saturating_sub(1);
    let mut durable_sequence =
        known.map_or(0, |known| known.end.durable_sequence).max(manifest.sequence);
    let (torn_bytes, problem) = match frames.ending(None, &mut durable_sequence) {
        Ok(Ending::Complete) => (0, None),
        Ok(Ending::Torn { bytes, .. }) => (bytes, None),
        Err(error) => (0, Some(error.to_string())),
    };
    let end = JournalEnd {
        path: frames.file().path.clone(),
        sequence,
        time,
        durable_sequence: durable_sequence.min(sequence),
        unconfirmed_commands: sequence.saturating_sub(durable_sequence),
        position: frames.position(),
        torn_bytes,
        problem,
    };
    Ok(Tail { end, first_sequence, chain: frames.chain(), bookmark: frames.bookmark() })
}

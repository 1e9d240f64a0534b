//! Owns the stored commands as a reader without the program's types sees them. Knows nothing of how
//! the files are found.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::inspection::Inspection;
use super::known::Known;
use crate::error::Error;
use crate::files::StoreError;
use crate::history::{Frames, HistoryFiles};
use crate::journal::{Record, StreamedFile};
use crate::model::{Metadata, REDACTED_NAME, REDACTED_TAG, system_time};
use crate::options::Events;
use crate::recovery::KnownChain;
use crate::schema::SchemasDigest;

/// The name of a command whose file does not name its tag. No undamaged file is like that.
const NOT_NAMED: &str = "(not in the file's table)";

/// One accepted command as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredRecord {
    /// Its sequence.
    pub sequence: u64,
    /// Its journaled time.
    pub time: SystemTime,
    /// Who asked for it. Empty if the caller gave nothing.
    pub metadata: Metadata,
    /// Its stable tag.
    pub tag: u16,
    /// Its name when it was journaled; `(redacted)` if a purge erased it.
    pub command_name: Arc<str>,
    /// Its fields, in the encoding of `docs::format`.
    pub command: Vec<u8>,
    /// The events that it emitted, as a record of events holds them; `None` if events were not
    /// stored with it. It is empty if it emitted none.
    pub events: Option<Vec<u8>>,
    /// Whether a purge erased it. Only its sequence and its time are left.
    pub is_redacted: bool,
    /// `Model::VERSION` of the program that stored it.
    pub model_version: u32,
    /// Names what its type is; see [`StoredTypes`](super::StoredTypes).
    pub schemas: SchemasDigest,
    /// The file that holds it. The file may be archived or removed meanwhile.
    pub path: Arc<Path>,
}

/// What is the same for all commands of a file.
pub(crate) struct Origin {
    file: Arc<StreamedFile>,
    path: Arc<Path>,
    names: BTreeMap<u16, Arc<str>>,
    has_events: bool,
}

impl Origin {
    pub(crate) fn of(file: &Arc<StreamedFile>) -> Self {
        let names = file.header.commands.iter().map(|(tag, name)| (*tag, name.as_str()));
        let names = names.chain([(REDACTED_TAG, REDACTED_NAME)]);
        Self {
            path: file.path.as_path().into(),
            names: names.map(|(tag, name)| (tag, name.into())).collect(),
            has_events: file.header.events == Events::Stored.code(),
            file: file.clone(),
        }
    }

    pub(crate) fn record(&self, sequence: u64, record: &Record<'_>) -> Result<StoredRecord, Error> {
        let metadata = Metadata::decode(record.metadata).map_err(|reason| {
            let expected = format!("metadata of command {sequence} that can be decoded");
            StoreError::corrupt(&self.path, 0, expected, reason)
        })?;
        let name = self.names.get(&record.tag).cloned();
        let events = record.events.map(<[u8]>::to_vec);
        Ok(StoredRecord {
            sequence,
            time: system_time(record.time_ns),
            metadata,
            tag: record.tag,
            command_name: name.unwrap_or_else(|| NOT_NAMED.into()),
            command: record.command.to_vec(),
            events: events.or_else(|| self.has_events.then(Vec::new)),
            is_redacted: record.tag == REDACTED_TAG,
            model_version: self.file.header.model_version,
            schemas: self.file.header.schemas,
            path: self.path.clone(),
        })
    }
}

/// The iterator of [`Inspection::records`]. It holds one batch in memory at a time. It ends after
/// an error, and at the end that the journal had when it was looked at;
/// [`go_on`](Self::go_on) looks again.
pub struct StoredRecords {
    known: Known,
    frames: Frames,
    /// The sequence after the last wanted one.
    end: u64,
    next_sequence: u64,
    /// Where the next record begins in the current frame; `None` if there is no current frame.
    at: Option<usize>,
    origin: Option<Origin>,
    has_failed: bool,
}

impl fmt::Debug for StoredRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredRecords")
            .field("next_sequence", &self.next_sequence)
            .finish_non_exhaustive()
    }
}

impl Inspection {
    /// Returns the stored commands with sequences in `range`, oldest first, from the archive and
    /// the journal. An unbounded start is the oldest stored command. While they are read, files may
    /// be archived and removed.
    ///
    /// If the database is open, commands of the newest batch may be among them that are not on
    /// stable storage yet: see [`JournalEnd::durable_sequence`](super::JournalEnd).
    ///
    /// # Errors
    /// [`Error::HistoryTruncated`] if the first wanted command is no longer stored. Other errors if
    /// a file is damaged or missing; the iterator gives them, too.
    pub fn records(&self, range: impl RangeBounds<u64>) -> Result<StoredRecords, Error> {
        let oldest = self.oldest_sequence().unwrap_or(self.newest_sequence().saturating_add(1));
        let from = match range.start_bound() {
            Bound::Included(&first) => first.max(1),
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => oldest,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        let known = self.known();
        // If nothing is to be read, no file may be reported as missing.
        let files = known.history_files();
        let is_wanted = from < end && from <= files.newest;
        let frames = files.frames(if is_wanted { from } else { files.newest + 1 }, None)?;
        Ok(StoredRecords {
            known,
            frames,
            end,
            next_sequence: from,
            at: None,
            origin: None,
            has_failed: false,
        })
    }

    /// Returns a sequence before which no command has this time or a later one. It is that of the
    /// first command in a file, so some commands behind it may still be earlier.
    #[must_use]
    pub fn sequence_before(&self, time: SystemTime) -> u64 {
        let archives = self.archives().iter().map(|it| (it.first_sequence, it.time));
        let segments = self.segments().iter().map(|it| (it.first_sequence, it.time));
        // All commands before a file are no later than the time in its header.
        let before = archives
            .chain(segments)
            .filter(|(_, made)| made.is_some_and(|made| made < time))
            .map(|(first, _)| first);
        let oldest = self.oldest_sequence().unwrap_or(1);
        before.max().unwrap_or(oldest).max(oldest)
    }
}

impl StoredRecords {
    /// Returns the sequence of the next record.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Looks at the end of the journal again, after the iterator has ended: then it goes on with
    /// what is new. Only what is new is read. Returns the newest sequence.
    ///
    /// # Errors
    /// Those of [`Inspection::open`] and [`Inspection::records`]. They do not end the iterator, so
    /// the call may be repeated.
    pub fn go_on(&mut self) -> Result<u64, Error> {
        let known = self.known.again()?;
        let files: Arc<HistoryFiles> = known.history_files();
        let newest = files.newest;
        if self.at.is_none() && self.next_sequence <= newest && self.next_sequence < self.end {
            let sequence = self.next_sequence - 1;
            let source = self.origin.as_ref().map(|origin| origin.file.path.clone());
            let before = self.frames.chain().zip(source);
            let before = before.map(|(chain, source)| KnownChain { sequence, chain, source });
            let bookmark = self.frames.bookmark();
            self.frames = files.frames_behind(bookmark, self.next_sequence, before)?;
            self.has_failed = false;
        }
        self.known = known;
        Ok(newest)
    }

    fn try_next(&mut self) -> Result<Option<StoredRecord>, Error> {
        while self.next_sequence < self.end {
            if self.at.is_none() && !self.next_frame()? {
                return Ok(None);
            }
            let Some((file, frame)) = self.frames.frame() else { return Ok(None) };
            let at = self.at.unwrap_or(0);
            let (record, next) = frame.record_at(&file.path, at)?;
            let sequence = self.next_sequence;
            self.at = Some(next).filter(|&next| next < frame.payload.len());
            if self.at.is_none() {
                frame.check_count(&file.path, sequence.saturating_add(1))?;
            }
            self.next_sequence = sequence.saturating_add(1);
            if sequence >= self.frames.from() {
                let origin = match &self.origin {
                    Some(origin) if Arc::ptr_eq(&origin.file, file) => origin,
                    _ => self.origin.insert(Origin::of(file)),
                };
                return origin.record(sequence, &record).map(Some);
            }
        }
        Ok(None)
    }

    /// Goes to the next frame. Returns `false` at the end of the history.
    fn next_frame(&mut self) -> Result<bool, Error> {
        if !self.frames.advance()? {
            return Ok(false);
        }
        let Some((_, frame)) = self.frames.frame() else { return Ok(false) };
        self.next_sequence = frame.header.first_sequence;
        self.at = Some(0);
        Ok(true)
    }
}

impl Iterator for StoredRecords {
    type Item = Result<StoredRecord, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let next = self.try_next();
        self.has_failed = next.is_err();
        next.transpose()
    }
}

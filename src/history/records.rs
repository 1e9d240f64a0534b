//! Owns the stored commands as a user reads them, for example for an audit. Knows nothing of how
//! the files are found.

use std::any::TypeId;
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::frames::Frames;
use super::source::HistoryFiles;
use crate::error::Error;
use crate::journal::{FrameRef, RECORD_HEADER_BYTES, Record, Records, StreamedFile};
use crate::model::{
    AnyCommand, Command, CommandTable, Metadata, Model, NoJson, REDACTED_NAME, REDACTED_TAG,
    decode_events, system_time,
};
use crate::options::Events;
use crate::panics::told_of_panics;
use crate::process::stack;
use crate::recovery::{ChangedTypes, unknown_tag};

/// What records come from: their file, and the program's types for its commands.
pub(crate) struct RecordOrigin<M: Model> {
    file: Arc<StreamedFile>,
    table: CommandTable<M>,
    /// The types that were changed since the file was written.
    changed: Arc<ChangedTypes>,
}

impl<M: Model> RecordOrigin<M> {
    pub(crate) fn new(file: Arc<StreamedFile>, changed: Arc<ChangedTypes>) -> Arc<Self> {
        Arc::new(Self { file, table: CommandTable::new(), changed })
    }

    /// Makes the origin of records that this program wrote.
    pub(crate) fn of_this_program(file: StreamedFile) -> Arc<Self> {
        Self::new(Arc::new(file), Arc::default())
    }

    /// Whether a replay tells the events, because they were not stored.
    pub(crate) fn derives_events(&self) -> bool {
        self.file.header.events == Events::Derived.code()
    }

    /// Whether it is this file.
    pub(crate) fn is(&self, file: &Arc<StreamedFile>) -> bool {
        Arc::ptr_eq(&self.file, file)
    }
}

/// Bytes that hold stored records, one behind the other. A record keeps them, so that making one
/// costs a single counter.
pub(crate) struct StoredRecords<M: Model> {
    pub(crate) origin: Arc<RecordOrigin<M>>,
    pub(crate) bytes: Arc<[u8]>,
}

impl<M: Model> StoredRecords<M> {
    pub(crate) fn path(&self) -> &Path {
        &self.origin.file.path
    }
}

/// One accepted command as it is stored, with its time and its metadata.
pub struct HistoryRecord<M: Model> {
    /// Holds this record, and may hold others.
    stored: Arc<StoredRecords<M>>,
    sequence: u64,
    time_ns: u64,
    /// Where its metadata begins. Its command follows, and the record with its events.
    begin: u32,
    command_bytes: u32,
    /// `None` if the command emitted none.
    events_bytes: Option<u32>,
    metadata_bytes: u16,
    tag: u16,
}

impl<M: Model> HistoryRecord<M> {
    /// Makes a record of the one that begins at `at` in `stored`. Returns also where it ends;
    /// `None` if there is no record.
    #[inline]
    pub(crate) fn read(
        stored: &Arc<StoredRecords<M>>,
        sequence: u64,
        at: usize,
    ) -> Option<(Self, usize)> {
        let record = Record::read(stored.bytes.get(at..)?)?;
        let length = |bytes: &[u8]| {
            u32::try_from(bytes.len()).expect("a payload is limited to far less than 4 GiB")
        };
        let made = Self {
            stored: stored.clone(),
            sequence,
            time_ns: record.time_ns,
            begin: length(stored.bytes.get(..at + RECORD_HEADER_BYTES)?),
            command_bytes: length(record.command),
            events_bytes: record.events.map(length),
            metadata_bytes: u16::try_from(record.metadata.len()).ok()?,
            tag: record.tag,
        };
        Some((made, at + record.bytes()))
    }

    /// Returns the command's sequence.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns the command's journaled time, which [`Context::now`](crate::Context::now) gave it.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        system_time(self.time_ns)
    }

    /// Returns the command's metadata, for example who asked for it. It is empty if the caller gave
    /// none.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        match self.metadata_bytes {
            0 => Metadata::default(),
            _ => Metadata::decode(self.record().metadata).unwrap_or_default(),
        }
    }

    pub(crate) fn has_metadata(&self) -> bool {
        self.metadata_bytes > 0
    }

    /// Returns the command's stable tag.
    #[must_use]
    pub fn tag(&self) -> u16 {
        self.tag
    }

    /// Returns whether a [`purge`](crate::purge()) erased the command. Only its sequence and its
    /// time are left.
    #[must_use]
    pub fn is_redacted(&self) -> bool {
        self.tag == REDACTED_TAG
    }

    /// Returns the command's name when it was journaled; `(redacted)` if a purge erased it.
    #[must_use]
    pub fn command_name(&self) -> &str {
        if self.is_redacted() {
            return REDACTED_NAME;
        }
        let commands = &self.file().header.commands;
        let named = commands.iter().find(|(tag, _)| *tag == self.tag);
        named.map_or("", |(_, name)| name) // there is a name: `load_frame` has checked it
    }

    /// Decodes the command, if its type is `C`. `C` is the type that is applied: with the line
    /// `2 => WithdrawV1 as Withdraw` in `commands!`, a command that was stored as `WithdrawV1` is a
    /// `Withdraw`. `None` if the command has another type, if `commands!` does not list it, or if a
    /// purge erased it.
    #[must_use]
    pub fn command<C: Command<M>>(&self) -> Option<Result<C, Error>> {
        if self.is_redacted() {
            return None;
        }
        let entry = self.stored.origin.table.get(self.tag)?;
        if entry.applied() == TypeId::of::<C>()
            && let Err(error) = self.check_type()
        {
            return Some(Err(error));
        }
        let decoded = entry.decode(self.record().command)?;
        Some(decoded.map_err(|reason| self.undecodable(reason)))
    }

    /// Decodes the command as one type for all commands of the model, which
    /// [`commands!`](crate::commands!#all-commands-as-one-type) makes.
    ///
    /// # Errors
    /// [`Error::Erased`] if a purge erased the command; [`Error::UnknownTag`] if the list of `E`
    /// does not have it; [`Error::CommandChanged`] if its type was changed since;
    /// [`Error::CommandUndecodable`] if its bytes cannot be decoded as its type.
    pub fn decode<E: AnyCommand<M>>(&self) -> Result<E, Error> {
        if self.is_redacted() {
            return Err(Error::Erased { sequence: self.sequence });
        }
        self.check_type()?;
        let StreamedFile { path, header, .. } = &**self.file();
        let decoded = E::of(self.tag, self.record().command)
            .ok_or_else(|| unknown_tag(path, header, self.sequence, self.tag))?;
        decoded.map_err(|reason| self.undecodable(reason))
    }

    /// Returns the command as JSON, which serde makes from the type that is applied. It is `null`
    /// if a purge erased the command.
    ///
    /// # Errors
    /// [`Error::UnknownTag`] if `commands!` no longer lists the command.
    /// [`Error::CommandUndecodable`] if its bytes cannot be decoded as its type. [`Error::Encode`]
    /// if JSON cannot express it, as in [`Database::export_json`](crate::Database::export_json).
    pub fn command_json(&self) -> Result<String, Error> {
        let StreamedFile { path, header, .. } = &**self.file();
        let entry = self
            .stored
            .origin
            .table
            .get(self.tag)
            .ok_or_else(|| unknown_tag(path, header, self.sequence, self.tag))?;
        self.check_type()?;
        let bytes = self.record().command;
        stack::try_here_first(|| entry.json(bytes)).map_err(|why| match why {
            NoJson::Undecodable(reason) => self.undecodable(reason),
            NoJson::NoForm(reason) => {
                let (name, sequence) = (self.command_name(), self.sequence);
                Error::Encode {
                    what: format!("command `{name}` at sequence {sequence} as JSON"),
                    reason,
                }
            }
        })
    }

    /// Returns the events that the command emitted, as they were stored with it. `None` if events
    /// were not stored then; see [`Builder::events`](crate::Builder::events). An empty list says
    /// that it emitted none.
    ///
    /// # Errors
    /// [`Error::EventsUndecodable`] if they cannot be decoded as the model's event type. If an
    /// earlier version of the program has stored them, read them in
    /// [`Model::read_event`](crate::Model::read_event).
    pub fn events(&self) -> Result<Option<Vec<M::Event>>, Error> {
        if self.file().header.events != Events::Stored.code() {
            return Ok(None);
        }
        let Some(bytes) = self.record().events else { return Ok(Some(Vec::new())) };
        let decoded = match self.stored.origin.changed.why_not_events(bytes) {
            Some(reason) => Err(format!("their type was changed: {reason}")),
            None => stack::try_here_first(|| {
                told_of_panics("event's Deserialize", || decode_events::<M>(bytes))?
            }),
        };
        decoded.map(Some).map_err(|reason| Error::EventsUndecodable {
            path: self.file().path.clone(),
            sequence: self.sequence,
            command: self.command_name().to_owned(),
            reason,
        })
    }

    pub(crate) fn file(&self) -> &Arc<StreamedFile> {
        &self.stored.origin.file
    }

    pub(crate) fn path(&self) -> &Path {
        self.stored.path()
    }

    /// Whether a replay tells its events, because they were not stored.
    pub(crate) fn has_derived_events(&self) -> bool {
        self.stored.origin.derives_events()
    }

    #[inline]
    pub(crate) fn record(&self) -> Record<'_> {
        let part =
            |begin: usize, bytes: usize| self.stored.bytes.get(begin..begin + bytes).unwrap_or(&[]);
        let (begin, metadata_bytes) = (in_memory(self.begin), usize::from(self.metadata_bytes));
        let (command, command_bytes) = (begin + metadata_bytes, in_memory(self.command_bytes));
        let events = command + command_bytes + RECORD_HEADER_BYTES;
        Record {
            tag: self.tag,
            time_ns: self.time_ns,
            metadata: part(begin, metadata_bytes),
            command: part(command, command_bytes),
            events: self.events_bytes.map(|bytes| part(events, in_memory(bytes))),
        }
    }

    /// Returns the record as a frame holds it, with its events.
    pub(crate) fn encoded(&self) -> &[u8] {
        let begin = in_memory(self.begin).saturating_sub(RECORD_HEADER_BYTES);
        self.stored.bytes.get(begin..begin + self.record().bytes()).unwrap_or(&[])
    }

    /// Checks that the command has the type with which it was stored.
    fn check_type(&self) -> Result<(), Error> {
        let StreamedFile { path, header, .. } = &**self.file();
        self.stored.origin.changed.check_command(path, header, self.sequence, self.tag)
    }

    fn undecodable(&self, reason: String) -> Error {
        Error::CommandUndecodable {
            path: self.file().path.clone(),
            sequence: self.sequence,
            command: self.command_name().to_owned(),
            reason,
        }
    }
}

impl<M: Model> fmt::Debug for HistoryRecord<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistoryRecord")
            .field("sequence", &self.sequence)
            .field("time", &self.time())
            .field("command", &self.command_name())
            .field("metadata", &self.metadata())
            .finish_non_exhaustive()
    }
}

/// Every length here is that of a part of a payload in memory.
fn in_memory(length: u32) -> usize {
    usize::try_from(length).expect("it is in memory")
}

/// Checks that a frame holds as many commands as it states, and that its file names each of them.
pub(crate) fn check_frame(file: &StreamedFile, frame: &FrameRef<'_>) -> Result<(), Error> {
    frame.each_record(&file.path, |sequence, record| {
        let tag = record.tag;
        let named = file.header.commands.iter().any(|(known, _)| *known == tag);
        if named || tag == REDACTED_TAG {
            Ok(())
        } else {
            Err(unknown_tag(&file.path, &file.header, sequence, tag))
        }
    })
}

/// The iterator of [`History::records`](crate::History::records). It ends after an error.
pub struct HistoryRecords<M: Model> {
    frames: Frames,
    /// The sequence after the last wanted one.
    end: u64,
    payload: Vec<u8>,
    at: usize,
    next_sequence: u64,
    origin: Option<Arc<RecordOrigin<M>>>,
    failed: bool,
}

impl<M: Model> HistoryRecords<M> {
    pub(crate) fn new(
        files: &Arc<HistoryFiles>,
        range: &impl RangeBounds<u64>,
    ) -> Result<Self, Error> {
        let from = match range.start_bound() {
            Bound::Included(&first) => first.max(1),
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 1,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        let end = end.min(files.newest + 1);
        // If nothing is to be read, no file may be reported as missing.
        let from = if from < end { from } else { files.newest + 1 };
        Ok(Self {
            frames: files.frames(from, None)?,
            end,
            payload: Vec::new(),
            at: 0,
            next_sequence: from,
            origin: None,
            failed: false,
        })
    }

    fn try_next(&mut self) -> Result<Option<HistoryRecord<M>>, Error> {
        while self.next_sequence < self.end {
            if self.at == self.payload.len() && !self.load_frame()? {
                return Ok(None);
            }
            let sequence = self.next_sequence;
            let record = self.take_record()?;
            self.next_sequence += 1;
            if sequence >= self.frames.from() {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Checks and copies the next frame. Returns `false` at the end of the history.
    fn load_frame(&mut self) -> Result<bool, Error> {
        if !self.frames.advance()? {
            return Ok(false);
        }
        let files = self.frames.files().clone();
        let Some((file, frame)) = self.frames.frame() else { return Ok(false) };
        check_frame(file, &frame)?;
        if self.origin.as_ref().is_none_or(|known| !known.is(file)) {
            let changed = files.check_types::<M>(&file.path, &file.header)?;
            self.origin = Some(RecordOrigin::new(file.clone(), changed));
        }
        self.payload.clear();
        self.payload.extend_from_slice(frame.payload);
        self.at = 0;
        self.next_sequence = frame.header.first_sequence;
        Ok(true)
    }

    fn take_record(&mut self) -> Result<HistoryRecord<M>, Error> {
        let rest = self.payload.get(self.at..).unwrap_or(&[]);
        let record = Records::new(rest).next();
        let record = record.and_then(Result::ok).expect("`load_frame` has read it");
        let origin = self.origin.clone().expect("`load_frame` has set it");
        // A copy: whoever keeps a record does not keep the others of its batch.
        let bytes = rest.get(..record.bytes()).unwrap_or(&[]).into();
        self.at += record.bytes();
        let stored = Arc::new(StoredRecords { origin, bytes });
        let made = HistoryRecord::read(&stored, self.next_sequence, 0);
        Ok(made.expect("it was read just now").0)
    }
}

impl<M: Model> Iterator for HistoryRecords<M> {
    type Item = Result<HistoryRecord<M>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.try_next();
        self.failed = next.is_err();
        next.transpose()
    }
}

impl<M: Model> fmt::Debug for HistoryRecords<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistoryRecords")
            .field("next_sequence", &self.next_sequence)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

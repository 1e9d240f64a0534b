//! Owns the stored commands as a user reads them, for example for an audit. Knows nothing of how
//! the files are found.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;
use std::time::SystemTime;

use super::frames::Frames;
use super::source::HistoryFiles;
use crate::error::Error;
use crate::journal::{FrameRef, RECORD_HEADER_BYTES, Record, Records, StreamedFile};
use crate::model::{
    Command, CommandTable, Metadata, Model, NoJson, REDACTED_NAME, REDACTED_TAG, decode_events,
    system_time,
};
use crate::options::Events;
use crate::process::{stack, told_of_panics};
use crate::recovery::{check_tags, unknown_tag};

/// One accepted command as it is stored, with its time and its metadata.
pub struct HistoryRecord<M: Model> {
    file: Arc<StreamedFile>,
    sequence: u64,
    time_ns: u64,
    tag: u16,
    /// Bytes that hold the stored record.
    bytes: Arc<[u8]>,
    /// Where they hold its metadata, and its command.
    metadata: Range<usize>,
    command: Range<usize>,
    /// Where they hold its encoded events; `None` if the command emitted none.
    events: Option<Range<usize>>,
    table: Arc<CommandTable<M>>,
}

impl<M: Model> HistoryRecord<M> {
    /// Makes a record of the one that begins at `at` in `bytes`, which are of `file`. Returns also
    /// where it ends; `None` if there is no record.
    pub(crate) fn read(
        file: &Arc<StreamedFile>,
        sequence: u64,
        (bytes, at): (&Arc<[u8]>, usize),
        table: &Arc<CommandTable<M>>,
    ) -> Option<(Self, usize)> {
        let record = Records::new(bytes.get(at..)?).next()?.ok()?;
        let metadata = at + RECORD_HEADER_BYTES;
        let command = metadata + record.metadata.len();
        let end = command + record.command.len();
        let events = end + RECORD_HEADER_BYTES;
        let made = Self {
            file: file.clone(),
            sequence,
            time_ns: record.time_ns,
            tag: record.tag,
            bytes: bytes.clone(),
            metadata: metadata..command,
            command: command..end,
            events: record.events.map(|it| events..events + it.len()),
            table: table.clone(),
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
        let bytes = self.bytes.get(self.metadata.clone()).unwrap_or(&[]);
        Metadata::decode(bytes).unwrap_or_default()
    }

    pub(crate) fn has_metadata(&self) -> bool {
        !self.metadata.is_empty()
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
        let commands = &self.file.header.commands;
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
        let decoded = self.table.get(self.tag)?.decode(self.command_bytes())?;
        Some(decoded.map_err(|reason| self.undecodable(reason)))
    }

    /// Returns the command as JSON, which serde makes from the type that is applied. It is `null`
    /// if a purge erased the command.
    ///
    /// # Errors
    /// [`Error::UnknownTag`] if `commands!` no longer lists the command.
    /// [`Error::CommandUndecodable`] if its bytes cannot be decoded as its type. [`Error::Encode`]
    /// if JSON cannot express it, as in [`Database::export_json`](crate::Database::export_json).
    pub fn command_json(&self) -> Result<String, Error> {
        let StreamedFile { path, header, .. } = &*self.file;
        let entry = self
            .table
            .get(self.tag)
            .ok_or_else(|| unknown_tag(path, header, self.sequence, self.tag))?;
        let bytes = self.command_bytes();
        stack::try_here_first(|| entry.to_json(bytes)).map_err(|why| match why {
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
        if self.file.header.events != Events::Stored.code() {
            return Ok(None);
        }
        let Some(range) = self.events.clone() else { return Ok(Some(Vec::new())) };
        let bytes = self.bytes.get(range).unwrap_or(&[]);
        let decoded = stack::try_here_first(|| {
            told_of_panics("event's Deserialize", || decode_events::<M>(bytes))?
        });
        decoded.map(Some).map_err(|reason| Error::EventsUndecodable {
            path: self.file.path.clone(),
            sequence: self.sequence,
            command: self.command_name().to_owned(),
            reason,
        })
    }

    pub(crate) fn file(&self) -> &Arc<StreamedFile> {
        &self.file
    }

    /// Whether a replay tells its events, because they were not stored.
    pub(crate) fn has_derived_events(&self) -> bool {
        self.file.header.events == Events::Derived.code()
    }

    pub(crate) fn record(&self) -> Record<'_> {
        let bytes = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or(&[]);
        Record {
            tag: self.tag,
            time_ns: self.time_ns,
            metadata: bytes(&self.metadata),
            command: bytes(&self.command),
            events: self.events.as_ref().map(bytes),
        }
    }

    /// Returns the record as a frame holds it, with its events.
    pub(crate) fn encoded(&self) -> &[u8] {
        let begin = self.metadata.start.saturating_sub(RECORD_HEADER_BYTES);
        let end = self.events.as_ref().map_or(self.command.end, |events| events.end);
        self.bytes.get(begin..end).unwrap_or(&[])
    }

    fn command_bytes(&self) -> &[u8] {
        self.bytes.get(self.command.clone()).unwrap_or(&[])
    }

    fn undecodable(&self, reason: String) -> Error {
        Error::CommandUndecodable {
            path: self.file.path.clone(),
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
    file: Option<Arc<StreamedFile>>,
    table: Arc<CommandTable<M>>,
    failed: bool,
    model: PhantomData<fn() -> M>,
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
            file: None,
            table: Arc::new(CommandTable::new()),
            failed: false,
            model: PhantomData,
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
        let Some((file, frame)) = self.frames.frame() else { return Ok(false) };
        check_frame(file, &frame)?;
        if self.file.as_ref().is_none_or(|known| !Arc::ptr_eq(known, file)) {
            check_tags::<M>(&file.path, &file.header)?;
            self.file = Some(file.clone());
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
        let file = self.file.as_ref().expect("`load_frame` has set it");
        // A copy: whoever keeps a record does not keep the others of its batch.
        let bytes = rest.get(..record.bytes()).unwrap_or(&[]).into();
        self.at += record.bytes();
        let made = HistoryRecord::read(file, self.next_sequence, (&bytes, 0), &self.table);
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

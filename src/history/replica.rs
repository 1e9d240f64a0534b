//! Owns a model to which stored commands are applied one by one, exactly as they were applied when
//! they were accepted. Knows nothing of where the commands come from.

use std::sync::Arc;
use std::time::Duration;

use super::source::HistoryFiles;
use crate::engine::{Applier, EngineThread, RequestLog};
use crate::error::Error;
use crate::files::SchemaFiles;
use crate::journal::{Record, StreamedFile};
use crate::model::{Model, RandomSeed};
use crate::options::RequestLimits;
use crate::recovery::{ChangedTypes, Replayed, check_tags, unknown_tag};

/// A model that is replayed from a history.
pub(crate) struct Replica<M: Model> {
    pub(crate) replayed: Replayed<M>,
    /// How many commands were skipped because `commands!` does not list them. `None`: such a
    /// command is an error.
    pub(crate) skipped: Option<u64>,
    applier: Applier<M>,
    /// The file whose table of command names was checked last.
    checked: Option<Arc<StreamedFile>>,
    /// Which types were changed since that file was written.
    changed: Arc<ChangedTypes>,
    schemas: SchemaFiles,
    /// Whether the next command was encoded by this program, although it is in the place of one in
    /// the file.
    pub(crate) is_of_this_program: bool,
}

impl<M: Model> Replica<M> {
    /// Makes a replica that begins with `model`, which has all commands up to `sequence` in it.
    pub(crate) fn new(files: &HistoryFiles, model: M, sequence: u64, time_ns: u64) -> Self {
        let replayed = Replayed {
            model,
            sequence,
            time_ns,
            // A history does not answer requests, so it remembers no request ids.
            requests: RequestLog::new(RequestLimits::of(0)),
            commands: 0,
            payload_bytes: 0,
            apply_time: Duration::ZERO,
        };
        Self {
            replayed,
            skipped: None,
            applier: Applier::new(RandomSeed::new(files.database)),
            checked: None,
            changed: Arc::default(),
            schemas: files.schema_files(),
            is_of_this_program: false,
        }
    }

    /// Applies the command with the next sequence.
    pub(crate) fn apply(
        &mut self,
        file: &Arc<StreamedFile>,
        record: &Record<'_>,
    ) -> Result<(), Error> {
        self.apply_with(file, record, None)
    }

    /// Applies as [`apply`](Self::apply), and appends the events that the command emits now to
    /// `events`.
    pub(crate) fn apply_and_emit(
        &mut self,
        file: &Arc<StreamedFile>,
        record: &Record<'_>,
        events: &mut Vec<M::Event>,
    ) -> Result<(), Error> {
        self.apply_with(file, record, Some(events))
    }

    fn apply_with(
        &mut self,
        file: &Arc<StreamedFile>,
        record: &Record<'_>,
        events: Option<&mut Vec<M::Event>>,
    ) -> Result<(), Error> {
        if self.checked.as_ref().is_none_or(|checked| !Arc::ptr_eq(checked, file)) {
            check_tags::<M>(&file.path, &file.header)?;
            self.changed = ChangedTypes::since::<M>(&self.schemas, &file.header)?;
            self.checked = Some(file.clone());
        }
        let Some(entry) = self.applier.entry(record.tag) else {
            let sequence = self.replayed.sequence + 1;
            let Some(skipped) = &mut self.skipped else {
                return Err(unknown_tag(&file.path, &file.header, sequence, record.tag));
            };
            *skipped += 1;
            self.replayed.sequence = sequence;
            self.replayed.time_ns = self.replayed.time_ns.max(record.time_ns);
            return Ok(());
        };
        let sequence = self.replayed.sequence + 1;
        if !self.is_of_this_program {
            self.changed.check_command(&file.path, &file.header, sequence, record.tag)?;
        }
        // A command must not wait for the engine, here as in the database.
        let _guard = EngineThread::enter();
        match events {
            Some(events) => self.replayed.apply_and_emit(entry, record, &self.applier, events),
            None => self.replayed.apply(entry, record, &mut self.applier),
        }
    }
}

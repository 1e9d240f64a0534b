//! Owns a model that stored commands are applied to, one after the other, exactly as when they were
//! live. Knows nothing of where they come from.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::{EngineThread, RequestLog};
use crate::error::Error;
use crate::files::DatabaseId;
use crate::journal::{Record, StreamedFile};
use crate::model::{CommandTable, Model, RandomSeed};
use crate::options::RequestLimits;
use crate::recovery::{Replayed, check_tags, unknown_tag};

/// A model on its way through a history.
pub(crate) struct Replica<M: Model> {
    pub(crate) replayed: Replayed<M>,
    /// What becomes of commands that `commands!` does not list: skipped and counted, or an error.
    pub(crate) skipped: Option<u64>,
    table: CommandTable<M>,
    seed: RandomSeed,
    /// The file whose table of names was compared last.
    checked: Option<Arc<StreamedFile>>,
    events: Vec<M::Event>,
}

impl<M: Model> Replica<M> {
    /// A replica that begins with `model`, which holds everything up to `sequence`.
    pub(crate) fn new(database: DatabaseId, model: M, sequence: u64, time_ns: u64) -> Self {
        let replayed = Replayed {
            model,
            sequence,
            time_ns,
            // Nobody asks a history whether a request is known.
            requests: RequestLog::new(RequestLimits::of(0)),
            commands: 0,
            payload_bytes: 0,
            apply_time: Duration::ZERO,
        };
        Self {
            replayed,
            skipped: None,
            table: CommandTable::new(),
            seed: RandomSeed::new(database),
            checked: None,
            events: Vec::new(),
        }
    }

    /// Applies the command with the next sequence.
    pub(crate) fn apply(
        &mut self,
        file: &Arc<StreamedFile>,
        record: &Record<'_>,
    ) -> Result<(), Error> {
        if self.checked.as_ref().is_none_or(|checked| !Arc::ptr_eq(checked, file)) {
            check_tags::<M>(&file.path, &file.header)?;
            self.checked = Some(file.clone());
        }
        let Some(entry) = self.table.get(record.tag) else {
            let sequence = self.replayed.sequence + 1;
            let Some(skipped) = &mut self.skipped else {
                return Err(unknown_tag(&file.path, &file.header, sequence, record.tag));
            };
            *skipped += 1;
            self.replayed.sequence = sequence;
            self.replayed.time_ns = self.replayed.time_ns.max(record.time_ns);
            return Ok(());
        };
        // What a command must not do in the database it must not do here.
        let _guard = EngineThread::enter();
        self.replayed.apply(entry, record, self.seed, &mut self.events)
    }
}

//! Owns what stored commands and events are, by the schemas that the directory has of them. Knows
//! nothing of how records are found.

use std::collections::HashMap;
use std::sync::Arc;

use super::inspection::Inspection;
use super::records::StoredRecord;
use crate::files::SchemaFiles;
use crate::model::split_events;
use crate::schema::{CommandSchema, Schemas, SchemasDigest};

/// So many releases are kept in memory.
const MOST_KNOWN: usize = 64;

/// Makes JSON of stored commands and events, with the schemas that the files name.
/// [`Inspection::types`] makes it.
pub struct StoredTypes {
    files: SchemaFiles,
    known: HashMap<SchemasDigest, Result<Arc<Schemas>, String>>,
}

impl std::fmt::Debug for StoredTypes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredTypes").field("releases", &self.known.len()).finish_non_exhaustive()
    }
}

impl Inspection {
    /// Returns what makes JSON of the stored commands and events.
    #[must_use]
    pub fn types(&self) -> StoredTypes {
        let files = self.known().history_files().schema_files();
        StoredTypes { files, known: HashMap::new() }
    }
}

impl StoredTypes {
    /// Returns the schemas with this digest. The error says why there are none.
    ///
    /// # Errors
    /// The file that names them was written without schemas, or theirs is missing or damaged.
    pub fn schemas(&mut self, digest: SchemasDigest) -> Result<Arc<Schemas>, String> {
        if let Some(known) = self.known.get(&digest) {
            return known.clone();
        }
        let read = self.read(digest).map(Arc::new);
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
        self.known.insert(digest, read.clone());
        read
    }

    fn read(&self, digest: SchemasDigest) -> Result<Schemas, String> {
        if digest.is_none() {
            return Err("its file does not say what is in it".to_owned());
        }
        let text = self.files.read(digest).map_err(|error| error.to_string())?;
        let text = text.ok_or_else(|| format!("schemas/{digest}.json is missing"))?;
        Schemas::decode(&text)
            .map_err(|reason| format!("schemas/{digest}.json cannot be read: {reason}"))
    }

    /// Returns the fields of a stored command as JSON; `null` if a purge erased it. The error says
    /// why they are not known.
    ///
    /// # Errors
    /// The directory has no schema of the command, or one that does not say enough or does not fit.
    pub fn command_json(&mut self, record: &StoredRecord) -> Result<String, String> {
        if record.is_redacted {
            return Ok("null".to_owned());
        }
        let schemas = self.schemas(record.schemas)?;
        let CommandSchema { schema, .. } = schemas
            .command(record.tag)
            .ok_or_else(|| format!("schemas/{}.json has no tag {}", record.schemas, record.tag))?;
        schema.json(&record.command).map_err(|error| error.to_string())
    }

    /// Returns the events of a stored command, each as JSON; `None` if events were not stored with
    /// it.
    ///
    /// # Errors
    /// As [`command_json`](Self::command_json).
    pub fn events_json(&mut self, record: &StoredRecord) -> Result<Option<Vec<String>>, String> {
        let Some(stored) = record.events.as_deref() else { return Ok(None) };
        if stored.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let (version, events) = split_events(stored).ok_or("the record of events is not whole")?;
        let schemas = self.schemas(record.schemas)?;
        // A program may store events of one version only, and says which in its schemas.
        if version != schemas.events.version {
            let stated = schemas.events.version;
            return Err(format!("they have version {version}, and their schema version {stated}"));
        }
        let json = |event: &&[u8]| schemas.events.schema.json(event);
        let all = events.iter().map(json).collect::<Result<Vec<_>, _>>();
        all.map(Some).map_err(|error| error.to_string())
    }
}

//! Owns which types of commands and events a program has changed since a file was written: what was
//! stored with them could be misread. Knows nothing of when they are decoded.

use std::any::TypeId;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::error::{Error, TypeChange};
use crate::files::{FileHeader, PackedFile, SchemaFiles, StoreError};
use crate::model::{CommandTable, GivenSchemas, Model, program_schemas, split_events};
use crate::schema::{
    Described, Schema, Schemas, SchemasDigest, Shape, TRACED_BY, described, moved_name,
};

/// So many characters of a type are shown in an error.
const SHOWN_CHARS: usize = 2_000;

/// Types with which something was stored, and which are others in this program.
#[derive(Debug, Default)]
pub(crate) struct ChangedTypes {
    commands: HashMap<u16, TypeChange>,
    /// The `EVENT_VERSION` of both, and what differs.
    events: Option<(u32, String)>,
    /// The `VERSION` of both, and which field of the model has changed places.
    model: Option<(u32, String)>,
}

/// What is known of a release, by the model's type and the digest of its schemas. A digest never
/// means something else, so nothing of this becomes outdated.
type Known = HashMap<(TypeId, SchemasDigest), Arc<ChangedTypes>>;

/// Reading takes no lock, which in the child of a fork could stay locked for ever.
static KNOWN: ArcSwapOption<Known> = ArcSwapOption::const_empty();

/// So many are kept. There are as many as releases have written into the databases of a process.
const MOST_KNOWN: usize = 1_024;

impl ChangedTypes {
    /// Compares the types of this program with those of the release that wrote a file. If the file
    /// does not say them, or its schemas are lost or damaged, nothing is known to be changed: they
    /// are a safeguard, and no open depends on them. If they cannot be read, this is an error, for
    /// it may be over soon.
    pub(crate) fn since<M: Model>(
        files: &SchemaFiles,
        header: &FileHeader,
    ) -> Result<Arc<Self>, Error> {
        let key = (TypeId::of::<M>(), header.schemas);
        if let Some(known) = KNOWN.load().as_deref().and_then(|known| known.get(&key)) {
            return Ok(known.clone());
        }
        // What this program has written itself. (With schemas by hand it is read and compared.)
        if header.schemas == program_schemas::<M>(&GivenSchemas::default()).digest {
            return Ok(Arc::default());
        }
        let stored = match files.read(header.schemas) {
            Ok(stored) => stored,
            Err(StoreError::Corrupt { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let Some(stored) = stored.and_then(|text| Schemas::decode(&text).ok()) else {
            return Ok(Arc::default());
        };
        let made = Arc::new(Self::of::<M>(&stored));
        KNOWN.rcu(|known| {
            let mut known = known.as_deref().cloned().unwrap_or_default();
            if known.len() >= MOST_KNOWN {
                known.clear();
            }
            known.insert(key, made.clone());
            Some(Arc::new(known))
        });
        Ok(made)
    }

    fn of<M: Model>(stored: &Schemas) -> Self {
        if stored.traced_by != TRACED_BY {
            return Self::default(); // another build sees other things of the same types
        }
        let table = CommandTable::<M>::new();
        let commands = stored.commands.iter().filter_map(|command| {
            let present = table.get(command.tag)?.described();
            let reason = difference(&command.schema, &present)?;
            let stored = shown(&command.schema);
            Some((command.tag, TypeChange { reason, stored, present: shown(&present.schema) }))
        });
        let version = stored.events.version;
        let events = (version == M::EVENT_VERSION)
            .then(|| difference(&stored.events.schema, &described::<M::Event>()))
            .flatten()
            .map(|reason| (version, reason));
        // What else has changed in the model is told by the shape in a snapshot's header.
        let version = stored.model.version;
        let (stored, present) = (&stored.model.schema, described::<M>());
        let is_alike = || present.shape().difference_to_type(&Shape::of(stored)).is_none();
        let model = (version == M::VERSION && *stored != present.schema && is_alike())
            .then(|| moved_name(stored, &present.schema))
            .flatten()
            .map(|reason| (version, reason));
        Self { commands: commands.collect(), events, model }
    }

    /// Checks that no field and no variant of the model has changed places since a snapshot was
    /// written, with this `VERSION`.
    pub(crate) fn check_model<M: Model>(
        files: &SchemaFiles,
        snapshot: &PackedFile,
    ) -> Result<(), Error> {
        let FileHeader { model_name, model_version, .. } = &snapshot.header;
        if *model_version != M::VERSION {
            return Ok(()); // it is migrated
        }
        match &Self::since::<M>(files, &snapshot.header)?.model {
            Some((version, reason)) if version == model_version => Err(Error::ModelChanged {
                path: snapshot.path.clone(),
                model: model_name.clone(),
                version: *version,
                reason: reason.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Returns whether one of these commands was changed.
    pub(crate) fn has_any(&self, commands: &[(u16, String)]) -> bool {
        commands.iter().any(|(tag, _)| self.commands.contains_key(tag))
    }

    /// Returns an error if a command has another type now.
    #[inline]
    pub(crate) fn check_command(
        &self,
        path: &Path,
        header: &FileHeader,
        sequence: u64,
        tag: u16,
    ) -> Result<(), Error> {
        if self.commands.is_empty() {
            return Ok(());
        }
        self.changed_command(path, header, sequence, tag).map_or(Ok(()), Err)
    }

    #[cold]
    fn changed_command(
        &self,
        path: &Path,
        header: &FileHeader,
        sequence: u64,
        tag: u16,
    ) -> Option<Error> {
        let change = Box::new(self.commands.get(&tag)?.clone());
        let name = header.commands.iter().find(|(known, _)| *known == tag);
        Some(Error::CommandChanged {
            path: path.to_path_buf(),
            sequence,
            tag,
            command: name.map_or_else(String::new, |(_, name)| name.clone()),
            change,
        })
    }

    /// Returns why the stored events of a command cannot be read now. They are looked at only if
    /// their type was changed, because every follower asks for each command.
    #[inline]
    pub(crate) fn why_not_events(&self, stored: &[u8]) -> Option<&str> {
        let (known, reason) = self.events.as_ref()?;
        let (version, _) = split_events(stored)?;
        (*known == version).then_some(reason)
    }
}

fn difference(stored: &Schema, present: &Described) -> Option<String> {
    if *stored == present.schema {
        return None;
    }
    let difference = present.shape().difference_to_type(&Shape::of(stored));
    difference.or_else(|| moved_name(stored, &present.schema))
}

/// Returns a type as text, or its beginning.
fn shown(schema: &Schema) -> String {
    let text = schema.to_string();
    match text.char_indices().nth(SHOWN_CHARS) {
        None => text,
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

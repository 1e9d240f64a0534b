//! Owns what a program says of its own types: the schemas of its model, commands and events. Knows
//! nothing of files.

use std::any::TypeId;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;

use super::vocabulary::Entry;
use super::{Metadata, Model, model_name};
use crate::schema::{
    CommandSchema, Described, EventsSchema, ModelSchema, Schema, Schemas, SchemasDigest, described,
};

/// The schemas that the user has given by hand, by their types.
#[derive(Clone, Default)]
pub(crate) struct GivenSchemas(HashMap<TypeId, Arc<Described>>);

impl fmt::Debug for GivenSchemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GivenSchemas").field(&self.0.len()).finish()
    }
}

impl GivenSchemas {
    pub(crate) fn give<T: 'static>(&mut self, schema: Schema) {
        self.0.insert(TypeId::of::<T>(), Arc::new(Described::by(schema)));
    }

    fn or_traced(&self, id: TypeId, trace: impl FnOnce() -> Arc<Described>) -> Arc<Described> {
        self.0.get(&id).cloned().unwrap_or_else(trace)
    }

    /// Returns what is known of the type of the model.
    pub(crate) fn of_model<M: Model>(&self) -> Arc<Described> {
        self.or_traced(TypeId::of::<M>(), described::<M>)
    }

    /// Returns what is known of the type of the events.
    pub(crate) fn of_events<M: Model>(&self) -> Arc<Described> {
        self.or_traced(TypeId::of::<M::Event>(), described::<M::Event>)
    }

    /// Returns what is known of the type with which a command is stored.
    pub(crate) fn of_command<M: Model>(&self, entry: &Entry<M>) -> Arc<Described> {
        self.or_traced(entry.stored(), || entry.described())
    }

    /// Returns how one of them contradicts what is seen of its type: later opens would take the type
    /// for changed.
    pub(crate) fn contradiction<M: Model>(&self) -> Option<String> {
        let differs = |id: TypeId, seen: &dyn Fn() -> Arc<Described>| {
            let given = self.0.get(&id)?.shape();
            seen().shape().difference_to_type(&given)
        };
        differs(TypeId::of::<M>(), &described::<M>)
            .or_else(|| differs(TypeId::of::<M::Event>(), &described::<M::Event>))
            .or_else(|| {
                let mut commands = M::entries().iter();
                commands.find_map(|entry| differs(entry.stored(), &|| entry.described()))
            })
    }

    /// Returns whether each of them is of a type that the model's files hold.
    pub(crate) fn are_of<M: Model>(&self) -> bool {
        let known = |id: &TypeId| {
            *id == TypeId::of::<M>()
                || *id == TypeId::of::<M::Event>()
                || M::entries().iter().any(|entry| entry.stored() == *id)
        };
        self.0.keys().all(known)
    }
}

/// What the files of a model's database hold, as a text and its digest.
#[derive(Clone, Debug)]
pub(crate) struct ProgramSchemas {
    pub(crate) text: Arc<[u8]>,
    pub(crate) digest: SchemasDigest,
    /// The same as a value, once somebody has asked for it.
    decoded: Arc<OnceLock<Result<Schemas, String>>>,
}

impl ProgramSchemas {
    /// Returns the text as a value. The child of a fork must not ask: another thread may have been
    /// decoding it.
    pub(crate) fn decoded(&self) -> Result<&Schemas, String> {
        let decoded = self.decoded.get_or_init(|| Schemas::decode(&self.text));
        decoded.as_ref().map_err(Clone::clone)
    }
}

/// What programs have described without schemas by hand, by the types of their models. Reading takes
/// no lock, which in the child of a fork could stay locked for ever.
static DESCRIBED: ArcSwapOption<HashMap<TypeId, ProgramSchemas>> = ArcSwapOption::const_empty();

/// Describes the types of a program.
pub(crate) fn program_schemas<M: Model>(given: &GivenSchemas) -> ProgramSchemas {
    if !given.0.is_empty() {
        return describe::<M>(given);
    }
    let id = TypeId::of::<M>();
    if let Some(known) = DESCRIBED.load().as_deref().and_then(|known| known.get(&id)) {
        return known.clone();
    }
    let made = describe::<M>(given);
    DESCRIBED.rcu(|known| {
        let mut known = known.as_deref().cloned().unwrap_or_default();
        known.insert(id, made.clone());
        Some(Arc::new(known))
    });
    made
}

fn describe<M: Model>(given: &GivenSchemas) -> ProgramSchemas {
    let command = |entry: &Entry<M>| CommandSchema {
        tag: entry.tag(),
        name: entry.name().to_owned(),
        schema: given.of_command(entry).schema.clone(),
    };
    let mut schemas = Schemas::new(
        ModelSchema {
            name: model_name::<M>().to_owned(),
            version: M::VERSION,
            schema: given.of_model::<M>().schema.clone(),
        },
        EventsSchema { version: M::EVENT_VERSION, schema: given.of_events::<M>().schema.clone() },
        described::<Metadata>().schema.clone(),
        M::entries().iter().map(command).collect(),
    );
    let text = schemas.encode();
    ProgramSchemas { digest: SchemasDigest::of(&text), text: text.into(), decoded: Arc::default() }
}

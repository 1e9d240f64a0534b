//! Schemas: what is in the files of a database, so that they can be read without the program that
//! wrote them.
//!
//! Nothing tells a program the fields of a type but its `Deserialize`. So [`Schema::of`] calls that
//! with a deserializer that makes up values, and notes what it is asked for.
//!
//! Owns schemas, how they are found out, and what a type looks like in an encoding. Knows nothing
//! of files, models and commands.
//!
//! - `types`: what a schema is made of; `display`: the same as a short text
//! - `trace`: finds the schema of a type out
//! - `shape`: a type as it is in an encoding, without names, and whether two are equal there
//! - `names`: whether fields or variants have changed places
//! - `document`: the schemas of one release as one text
//! - `json`: a stored value as JSON; `leaves`: the simple ones; `entries`: those of collections,
//!   also out of several snapshots; `select`: only a part of a value; `encode`: the way back from
//!   JSON

mod display;
mod document;
mod encode;
mod entries;
mod json;
mod leaves;
mod names;
mod select;
mod shape;
mod trace;
mod types;

pub use document::{CommandSchema, EventsSchema, ModelSchema, Schemas, SchemasDigest};
pub use json::JsonError;
pub use types::{Content, Leaf, Part, Schema, Type};

pub(crate) use document::{LARGEST_SCHEMAS_BYTES, TRACED_BY};
pub(crate) use names::moved_name;
pub(crate) use select::write_stored;
pub(crate) use shape::Shape;

use std::any::TypeId;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde::de::DeserializeOwned;

/// What is known of a type of this program.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) schema: Schema,
    /// Made when it is asked for: that of most commands never is.
    shape: ArcSwapOption<Shape>,
}

impl Described {
    pub(crate) fn by(schema: Schema) -> Self {
        Self { schema, shape: ArcSwapOption::empty() }
    }

    /// Returns the type's shape. No other thread is waited for: in the child of a fork there may be
    /// none.
    pub(crate) fn shape(&self) -> Arc<Shape> {
        if let Some(known) = self.shape.load_full() {
            return known;
        }
        let made = Arc::new(Shape::of(&self.schema));
        self.shape.store(Some(made.clone()));
        made
    }
}

type Known = HashMap<TypeId, Arc<Described>>;

/// A new type copies the map that it comes into: with so many maps, even that of a program with
/// thousands of commands is short.
const MAPS: usize = 64;
const MAPS_U64: u64 = 64;

/// The types that this process has used: as many as it has types of models, commands and events.
/// Reading takes no lock, which in the child of a fork could stay locked for ever.
static DESCRIBED: [ArcSwapOption<Known>; MAPS] = [const { ArcSwapOption::const_empty() }; MAPS];

/// Returns the map in which a type is.
fn map_of(id: TypeId) -> &'static ArcSwapOption<Known> {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(id);
    let [first, ..] = &DESCRIBED;
    let place = usize::try_from(hash % MAPS_U64).ok();
    place.and_then(|place| DESCRIBED.get(place)).unwrap_or(first)
}

/// Returns what is known of a type, which is found out once in each process.
pub(crate) fn described<T: DeserializeOwned + 'static>() -> Arc<Described> {
    let id = TypeId::of::<T>();
    let map = map_of(id);
    if let Some(known) = map.load().as_deref().and_then(|known| known.get(&id)) {
        return known.clone();
    }
    let made = Arc::new(Described::by(trace::trace::<T>()));
    // Another thread may have found it meanwhile; it is the same.
    map.rcu(|known| {
        let mut known = known.as_deref().cloned().unwrap_or_default();
        known.insert(id, made.clone());
        Some(Arc::new(known))
    });
    made
}

impl Schema {
    /// Finds out the schema of a type. The first call for a type in a process deserialises it from
    /// made-up values; the values that it makes are dropped at once.
    #[must_use]
    pub fn of<T: DeserializeOwned + 'static>() -> Self {
        described::<T>().schema.clone()
    }
}

#[cfg(test)]
#[path = "tests/named.rs"]
mod named;

//! Owns the shape of a model's type: what serde and the codec write for it, as a short text. It is
//! stored in every snapshot, so that a type that was changed without a new `VERSION` is an error,
//! and no misread. Knows nothing of files.
//!
//! Nothing tells a program the fields of a type but its `Deserialize`. So `trace` calls that with a
//! deserializer that makes up values and notes what it is asked for. What cannot be seen in this
//! way is noted as unknown, and is equal to everything: a shape never differs without cause.

mod compare;
mod deserializer;
mod text;
mod trace;
mod values;

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::Model;
use compare::compare;
use text::{Node, parse, write};
use trace::trace;

/// What a model's type looks like in an encoding.
#[derive(Debug)]
pub(crate) struct Shape {
    text: String,
    values: Vec<Node>,
}

impl Shape {
    /// Returns the text that snapshots store.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns how this type differs from the one whose shape was stored. `None` if what was
    /// written with that type can be read with this one, or if it is not known.
    pub(crate) fn difference_to(&self, stored: &str) -> Option<String> {
        if stored == self.text {
            return None;
        }
        // A text that a later build wrote may say things that this one does not understand.
        let stored = parse(stored)?;
        compare(&stored, &self.values).err()
    }
}

/// The shapes of the models that this process has used: as many as it has types of models. Reading
/// takes no lock, which in the child of a fork could stay locked for ever.
static SHAPES: ArcSwapOption<HashMap<TypeId, Arc<Shape>>> = ArcSwapOption::const_empty();

/// Returns the shape of a model's type, which is found out once in each process.
pub(crate) fn shape_of<M: Model>() -> Arc<Shape> {
    let id = TypeId::of::<M>();
    if let Some(shape) = SHAPES.load().as_deref().and_then(|shapes| shapes.get(&id)) {
        return shape.clone();
    }
    let values = trace::<M>();
    let shape = Arc::new(Shape { text: write(&values), values });
    // Another thread may have found it meanwhile; it is the same.
    SHAPES.rcu(|shapes| {
        let mut shapes = shapes.as_deref().cloned().unwrap_or_default();
        shapes.insert(id, shape.clone());
        Some(Arc::new(shapes))
    });
    shape
}

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;

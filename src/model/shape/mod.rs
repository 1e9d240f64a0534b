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
use std::sync::{Arc, Mutex};

use super::Model;
use crate::mutex::lock;
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

/// The shapes of the models that this process has used: as many as it has types of models.
static SHAPES: Mutex<Vec<(TypeId, Arc<Shape>)>> = Mutex::new(Vec::new());

/// Returns the shape of a model's type, which is found out once in each process.
pub(crate) fn shape_of<M: Model>() -> Arc<Shape> {
    let known = |shapes: &[(TypeId, Arc<Shape>)]| {
        shapes.iter().find(|(id, _)| *id == TypeId::of::<M>()).map(|(_, shape)| shape.clone())
    };
    if let Some(shape) = known(&lock(&SHAPES)) {
        return shape;
    }
    // The user's code runs without the lock.
    let values = trace::<M>();
    let shape = Arc::new(Shape { text: write(&values), values });
    let mut shapes = lock(&SHAPES);
    known(&shapes).unwrap_or_else(|| {
        shapes.push((TypeId::of::<M>(), shape.clone()));
        shape
    })
}

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;

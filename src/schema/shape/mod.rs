//! Owns the shape of a type: what serde and the codec write for it, as a short text without names.
//! Snapshots store that of the model, so that a type that was changed without a new `VERSION` is an
//! error, and no misread. Knows nothing of files.

mod compare;
mod nodes;
mod text;

use super::types::Schema;
use compare::compare;
use nodes::nodes_of;
use text::{Node, parse, write};

/// What a type looks like in an encoding. What could not be seen of it is equal to everything: a
/// shape never differs without cause.
#[derive(Debug)]
pub(crate) struct Shape {
    text: String,
    values: Vec<Node>,
}

impl Shape {
    pub(crate) fn of(schema: &Schema) -> Self {
        let values = nodes_of(schema);
        Self { text: write(&values), values }
    }

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

    /// Returns how this type differs from another one with which values were stored.
    pub(crate) fn difference_to_type(&self, stored: &Self) -> Option<String> {
        compare(&stored.values, &self.values).err()
    }
}

#[cfg(test)]
#[path = "../tests/mod.rs"]
mod tests;

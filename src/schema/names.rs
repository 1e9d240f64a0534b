//! Owns whether names have changed places: then what was stored looks as it did, and means
//! something else. Knows nothing of encodings.
//!
//! A shape has no names, because a field may be renamed: the name that was stored is gone then. A
//! name that is there in another place is that of a field that was moved, or of one that took the
//! place of another. Values that were stored for the one would be read as the other.

use std::collections::HashSet;

use super::types::{Content, Part, Schema, Type};

/// So many pairs of types are compared. A type that is larger is compared in part.
const MOST_PAIRS: usize = 1 << 16;

/// Returns where a field or a variant of this program has a name that stood in another place when
/// values were stored. `None` if there is none. Both types have the same shape.
pub(crate) fn moved_name(stored: &Schema, present: &Schema) -> Option<String> {
    let mut comparison = Comparison { stored, present, seen: HashSet::new(), next: Vec::new() };
    comparison.pair(&stored.root, &present.root);
    while let Some((stored, present)) = comparison.next.pop() {
        if let Some(moved) = comparison.types(stored, present) {
            return Some(moved);
        }
    }
    None
}

struct Comparison<'a> {
    stored: &'a Schema,
    present: &'a Schema,
    /// The numbers of types that were compared with each other: a type may contain itself.
    seen: HashSet<(u32, u32)>,
    next: Vec<(&'a Type, &'a Type)>,
}

impl<'a> Comparison<'a> {
    /// Takes two parts that stand in the same place.
    fn pair(&mut self, stored: &'a Part, present: &'a Part) {
        let (Part::Type(old), Part::Type(new)) = (stored, present) else { return };
        if self.seen.len() >= MOST_PAIRS || !self.seen.insert((*old, *new)) {
            return;
        }
        let (stored, present): (&'a Schema, &'a Schema) = (self.stored, self.present);
        if let (Some(old), Some(new)) = (type_of(stored, *old), type_of(present, *new)) {
            self.next.push((old, new));
        }
    }

    /// Compares the names of two types, and takes what is in them.
    fn types(&mut self, stored: &'a Type, present: &'a Type) -> Option<String> {
        match (stored, present) {
            (Type::Option(old), Type::Option(new)) | (Type::Sequence(old), Type::Sequence(new)) => {
                self.pair(old, new)
            }
            (Type::Map(key, value), Type::Map(new_key, new_value)) => {
                self.pair(key, new_key);
                self.pair(value, new_value);
            }
            (Type::Tuple(old), Type::Tuple(new)) => self.parts(old, new),
            (Type::Struct(old), Type::Struct(new)) => return self.fields(old, new),
            (Type::Enum { variants: old, .. }, Type::Enum { variants: new, .. }) => {
                let moved = moved("variant", &names(old), &names(new));
                if moved.is_some() {
                    return moved;
                }
                for ((_, old), (_, new)) in old.iter().zip(new) {
                    let moved = self.contents(old, new);
                    if moved.is_some() {
                        return moved;
                    }
                }
            }
            // One is wrapped in something: what is in the same place is not known here.
            _ => {}
        }
        None
    }

    fn contents(&mut self, stored: &'a Content, present: &'a Content) -> Option<String> {
        match (stored, present) {
            (Content::Newtype(old), Content::Newtype(new)) => self.pair(old, new),
            (Content::Tuple(old), Content::Tuple(new)) => self.parts(old, new),
            (Content::Struct(old), Content::Struct(new)) => return self.fields(old, new),
            _ => {}
        }
        None
    }

    fn parts(&mut self, stored: &'a [Part], present: &'a [Part]) {
        if stored.len() == present.len() {
            stored.iter().zip(present).for_each(|(old, new)| self.pair(old, new));
        }
    }

    fn fields(
        &mut self,
        stored: &'a [(String, Part)],
        present: &'a [(String, Part)],
    ) -> Option<String> {
        if stored.len() != present.len() {
            return None;
        }
        stored.iter().zip(present).for_each(|((_, old), (_, new))| self.pair(old, new));
        moved("field", &names(stored), &names(present))
    }
}

fn type_of(schema: &Schema, number: u32) -> Option<&Type> {
    schema.types.get(usize::try_from(number).ok()?)
}

fn names<T>(named: &[(String, T)]) -> Vec<&str> {
    named.iter().map(|(name, _)| name.as_str()).collect()
}

/// Returns the first name that stands in another place now.
fn moved(what: &str, stored: &[&str], present: &[&str]) -> Option<String> {
    for (at, name) in stored.iter().enumerate() {
        // A name that could not be seen is a number.
        let is_seen = name.bytes().any(|it| !it.is_ascii_digit());
        let now = present.iter().position(|other| other == name).filter(|_| is_seen);
        if let Some(now) = now.filter(|now| *now != at) {
            let (at, now) = (at + 1, now + 1);
            return Some(format!(
                "`{name}` was {what} number {at} when it was stored, and is number {now} in this \
                 program"
            ));
        }
    }
    None
}

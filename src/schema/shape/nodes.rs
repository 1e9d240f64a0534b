//! Owns what of a schema is in an encoding: without structs, tuples and names of types.

use super::super::types::{Content, Leaf as SchemaLeaf, Part, Schema, Type};
use super::text::{Kind, Leaf, Node, Variants};

/// More nodes are not made: a type that is used in many places is followed in each of them.
const MOST_NODES: usize = 40_000;

/// A longer path to a field is not told.
const MOST_PATH_BYTES: usize = 300;

/// Values are not followed deeper than this.
const MOST_LEVELS: usize = 128;

/// Returns the values that are written for one value of a type.
pub(super) fn nodes_of(schema: &Schema) -> Vec<Node> {
    let mut flat = Flat { schema, around: Vec::new(), left: MOST_NODES };
    flat.group(|flat, nodes| flat.part(&schema.root, "", nodes))
}

struct Flat<'s> {
    schema: &'s Schema,
    /// The types around the present place.
    around: Vec<u32>,
    /// How many nodes may still be made.
    left: usize,
}

impl<'s> Flat<'s> {
    fn group(&mut self, make: impl FnOnce(&mut Self, &mut Vec<Node>)) -> Vec<Node> {
        let mut nodes = Vec::new();
        make(self, &mut nodes);
        // One unknown value stands for any number of them.
        nodes.dedup_by(|second, first| first.kind == Kind::Unknown && second.kind == Kind::Unknown);
        nodes
    }

    fn part(&mut self, part: &'s Part, field: &str, nodes: &mut Vec<Node>) {
        let mut push = |kind| nodes.push(Node { kind, field: field.to_owned() });
        let Some(left) = self.left.checked_sub(1) else { return push(Kind::Unknown) };
        self.left = left;
        match part {
            Part::Leaf(leaf) => {
                if let Some(leaf) = form(*leaf) {
                    push(Kind::Leaf(leaf));
                }
            }
            Part::Opaque { .. } => push(Kind::Unknown),
            Part::Type(number) => match self.schema.get(*number) {
                Some(found) if !self.around.contains(number) && self.around.len() < MOST_LEVELS => {
                    self.around.push(*number);
                    self.type_in(found, field, nodes);
                    self.around.pop();
                }
                // A type inside itself has been seen there.
                _ => push(Kind::Unknown),
            },
        }
    }

    fn type_in(&mut self, of: &'s Type, field: &str, nodes: &mut Vec<Node>) {
        let kind = match of {
            Type::Tuple(parts) => return self.parts(parts, field, nodes),
            Type::Struct(fields) => return self.fields(fields, field, nodes),
            Type::Option(inner) => {
                Kind::Option(self.group(|flat, nodes| flat.part(inner, "", nodes)))
            }
            Type::Sequence(inner) => {
                Kind::Sequence(self.group(|flat, nodes| flat.part(inner, "", nodes)))
            }
            Type::Map(key, value) => Kind::Map(self.group(|flat, nodes| {
                flat.part(key, "", nodes);
                flat.part(value, "", nodes);
            })),
            Type::Enum { variants, more } => Kind::Enum(self.variants(variants, *more)),
        };
        nodes.push(Node { kind, field: field.to_owned() });
    }

    fn parts(&mut self, parts: &'s [Part], within: &str, nodes: &mut Vec<Node>) {
        for (at, part) in parts.iter().enumerate() {
            self.part(part, &path(within, &at.to_string()), nodes);
        }
    }

    fn fields(&mut self, fields: &'s [(String, Part)], within: &str, nodes: &mut Vec<Node>) {
        for (name, part) in fields {
            self.part(part, &path(within, name), nodes);
        }
    }

    fn variants(&mut self, variants: &'s [(String, Content)], more: bool) -> Variants {
        let all = variants.iter().map(|(_, content)| {
            self.group(|flat, nodes| match content {
                Content::Unit => {}
                Content::Newtype(part) => flat.part(part, "", nodes),
                Content::Tuple(parts) => flat.parts(parts, "", nodes),
                Content::Struct(fields) => flat.fields(fields, "", nodes),
            })
        });
        let all = all.collect();
        let is_number = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
        let has_names = !variants.iter().any(|(name, _)| is_number(name));
        let names = variants.iter().filter(|_| has_names).map(|(name, _)| name.clone()).collect();
        Variants { all, more, names }
    }
}

fn path(within: &str, field: &str) -> String {
    if within.len() + field.len() > MOST_PATH_BYTES {
        return within.to_owned();
    }
    if within.is_empty() { field.to_owned() } else { format!("{within}.{field}") }
}

/// Returns how a leaf is written; `None` if it is nothing in an encoding.
fn form(leaf: SchemaLeaf) -> Option<Leaf> {
    Some(match leaf {
        SchemaLeaf::Unit => return None,
        SchemaLeaf::Bool => Leaf::Bool,
        SchemaLeaf::U8 => Leaf::U8,
        SchemaLeaf::U16 | SchemaLeaf::U32 | SchemaLeaf::U64 | SchemaLeaf::U128 => Leaf::Unsigned,
        SchemaLeaf::I8 => Leaf::I8,
        SchemaLeaf::I16 | SchemaLeaf::I32 | SchemaLeaf::I64 | SchemaLeaf::I128 => Leaf::Signed,
        SchemaLeaf::F32 => Leaf::F32,
        SchemaLeaf::F64 => Leaf::F64,
        SchemaLeaf::Char => Leaf::Char,
        SchemaLeaf::String => Leaf::Text,
        SchemaLeaf::Bytes => Leaf::Bytes,
    })
}

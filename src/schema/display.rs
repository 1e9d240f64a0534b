//! Owns a schema as a short text for people, much like the type in Rust. Knows nothing of encodings.

use std::fmt::{self, Display, Formatter};

use super::types::{Content, Leaf, Part, Schema, Type};

/// A text does not become much longer: what is behind it is `…`.
const MOST_STEPS: usize = 500;

/// `{ account: u32, cents: Option<u64> }`, for example. A type inside itself is `…`.
impl Display for Schema {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Text { schema: self, around: Vec::new(), steps: 0 }.part(&self.root, f)
    }
}

struct Text<'a> {
    schema: &'a Schema,
    around: Vec<u32>,
    steps: usize,
}

impl<'a> Text<'a> {
    fn part(&mut self, part: &'a Part, f: &mut Formatter<'_>) -> fmt::Result {
        self.steps += 1;
        match part {
            Part::Leaf(leaf) => f.write_str(name(*leaf)),
            Part::Opaque { .. } => f.write_str("?"),
            Part::Type(number) => match self.schema.get(*number) {
                Some(found) if !self.around.contains(number) && self.steps < MOST_STEPS => {
                    self.around.push(*number);
                    self.type_in(found, f)?;
                    self.around.pop();
                    Ok(())
                }
                _ => f.write_str("…"),
            },
        }
    }

    fn type_in(&mut self, of: &'a Type, f: &mut Formatter<'_>) -> fmt::Result {
        match of {
            Type::Option(inner) => {
                f.write_str("Option<")?;
                self.part(inner, f)?;
                f.write_str(">")
            }
            Type::Sequence(inner) => {
                f.write_str("[")?;
                self.part(inner, f)?;
                f.write_str("]")
            }
            Type::Map(key, value) => {
                f.write_str("Map<")?;
                self.part(key, f)?;
                f.write_str(", ")?;
                self.part(value, f)?;
                f.write_str(">")
            }
            Type::Tuple(parts) => self.parts(parts, f),
            Type::Struct(fields) => self.fields(fields, f),
            Type::Enum { variants, more } => self.variants(variants, *more, f),
        }
    }

    fn variants(
        &mut self,
        variants: &'a [(String, Content)],
        more: bool,
        f: &mut Formatter<'_>,
    ) -> fmt::Result {
        f.write_str("enum { ")?;
        for (at, (name, content)) in variants.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            f.write_str(name)?;
            match content {
                Content::Unit => {}
                Content::Newtype(part) => {
                    f.write_str("(")?;
                    self.part(part, f)?;
                    f.write_str(")")?;
                }
                Content::Tuple(parts) => self.parts(parts, f)?,
                Content::Struct(fields) => {
                    f.write_str(" ")?;
                    self.fields(fields, f)?;
                }
            }
        }
        f.write_str(if more { ", … }" } else { " }" })
    }

    fn parts(&mut self, parts: &'a [Part], f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (at, part) in parts.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            self.part(part, f)?;
        }
        f.write_str(")")
    }

    fn fields(&mut self, fields: &'a [(String, Part)], f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("{ ")?;
        for (at, (name, part)) in fields.iter().enumerate() {
            write!(f, "{}{name}: ", if at == 0 { "" } else { ", " })?;
            self.part(part, f)?;
        }
        f.write_str(" }")
    }
}

fn name(leaf: Leaf) -> &'static str {
    match leaf {
        Leaf::Unit => "()",
        Leaf::Bool => "bool",
        Leaf::U8 => "u8",
        Leaf::U16 => "u16",
        Leaf::U32 => "u32",
        Leaf::U64 => "u64",
        Leaf::U128 => "u128",
        Leaf::I8 => "i8",
        Leaf::I16 => "i16",
        Leaf::I32 => "i32",
        Leaf::I64 => "i64",
        Leaf::I128 => "i128",
        Leaf::F32 => "f32",
        Leaf::F64 => "f64",
        Leaf::Char => "char",
        Leaf::String => "String",
        Leaf::Bytes => "bytes",
    }
}

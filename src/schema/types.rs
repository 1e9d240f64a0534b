//! Owns what a schema is made of. Knows nothing of how types are traced, and of files.

use serde::{Deserialize, Serialize};

/// What is written as one value that says by itself where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Leaf {
    /// `()`, or a struct without fields: nothing is written.
    Unit,
    /// A `bool`.
    Bool,
    /// A `u8`.
    U8,
    /// A `u16`.
    U16,
    /// A `u32`.
    U32,
    /// A `u64` or a `usize`.
    U64,
    /// A `u128`.
    U128,
    /// An `i8`.
    I8,
    /// An `i16`.
    I16,
    /// An `i32`.
    I32,
    /// An `i64` or an `isize`.
    I64,
    /// An `i128`.
    I128,
    /// An `f32`.
    F32,
    /// An `f64`.
    F64,
    /// A `char`.
    Char,
    /// A text.
    String,
    /// A byte string, as `serde_bytes` writes it. A `Vec<u8>` is a sequence.
    Bytes,
}

/// A value inside another one, or the whole.
///
/// In JSON it is the name of a leaf, the number of a type, or `{"opaque":"why"}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Part {
    /// A simple value.
    Leaf(Leaf),
    /// A value of the type with this number among [`Schema::types`]. It may be a type that contains
    /// this one.
    Type(u32),
    /// Any number of values: nothing is known of them.
    Opaque {
        /// Why nothing is known of them.
        opaque: String,
    },
}

impl Part {
    pub(crate) fn opaque(reason: &str) -> Self {
        Self::Opaque { opaque: reason.to_owned() }
    }
}

/// A type that holds other values.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Type {
    /// An `Option` of this.
    Option(Part),
    /// Any number of these.
    Sequence(Part),
    /// Any number of entries: key, value.
    Map(Part, Part),
    /// A tuple, an array, or a struct whose fields have no names.
    Tuple(Vec<Part>),
    /// A struct, with the names of its fields in the order in which they are written. A name is a
    /// number where it cannot be seen, as in a struct with `#[serde(alias)]`.
    Struct(Vec<(String, Part)>),
    /// An enum.
    Enum {
        /// Its variants in the order of their numbers. A name may be a number, as in a struct.
        variants: Vec<(String, Content)>,
        /// Whether there may be others behind these.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        more: bool,
    },
}

/// What a variant of an enum holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Content {
    /// Nothing.
    Unit,
    /// One value.
    Newtype(Part),
    /// Values without names.
    Tuple(Vec<Part>),
    /// Fields.
    Struct(Vec<(String, Part)>),
}

/// What [the codec](crate::docs::format) writes for a value of a type, with the names of fields and
/// variants. So a program that does not have the type can read what was stored.
///
/// It is found out by deserialising the type from made-up values; where that fails, a part of it is
/// [opaque](Part::Opaque). It can be written as JSON and read back, with serde:
///
/// ```
/// use prevalence::schema::{Leaf, Part, Schema};
/// use serde::Deserialize;
///
/// # #[allow(dead_code)]
/// #[derive(Deserialize)]
/// struct Deposit {
///     account: u32,
///     cents: u64,
/// }
///
/// let schema = Schema::of::<Deposit>();
/// let json = serde_json::to_string(&schema)?;
/// assert_eq!(json, r#"{"root":0,"types":[{"struct":[["account","u32"],["cents","u64"]]}]}"#);
/// assert_eq!(serde_json::from_str::<Schema>(&json)?, schema);
/// assert_eq!(Schema::of::<u16>().root, Part::Leaf(Leaf::U16));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Schema {
    /// The value itself.
    pub root: Part,
    /// The types that parts name by their number, counted from 0.
    pub types: Vec<Type>,
}

impl Schema {
    /// Makes the schema of a type of which nothing is known.
    #[must_use]
    pub fn opaque(reason: &str) -> Self {
        Self { root: Part::opaque(reason), types: Vec::new() }
    }

    /// Returns the type with this number.
    pub(crate) fn get(&self, number: u32) -> Option<&Type> {
        self.types.get(usize::try_from(number).ok()?)
    }

    /// Returns why a part of the type is not known; `None` if all of it is.
    #[must_use]
    pub fn why_opaque(&self) -> Option<&str> {
        fn of(part: &Part) -> Option<&str> {
            match part {
                Part::Opaque { opaque } => Some(opaque),
                Part::Leaf(_) | Part::Type(_) => None,
            }
        }
        let of_type = |it| match it {
            &Type::Option(ref part) | &Type::Sequence(ref part) => of(part),
            Type::Map(key, value) => of(key).or_else(|| of(value)),
            Type::Tuple(parts) => parts.iter().find_map(of),
            Type::Struct(fields) => fields.iter().find_map(|(_, part)| of(part)),
            Type::Enum { variants, .. } => variants.iter().find_map(|(_, content)| match content {
                Content::Unit => None,
                Content::Newtype(part) => of(part),
                Content::Tuple(parts) => parts.iter().find_map(of),
                Content::Struct(fields) => fields.iter().find_map(|(_, part)| of(part)),
            }),
        };
        of(&self.root).or_else(|| self.types.iter().find_map(of_type))
    }
}

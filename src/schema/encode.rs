//! Owns what a value in JSON is as the codec writes it, by its schema: the inverse of `json`. Knows
//! nothing of where the value is stored.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::json::{JsonError, unfit};
use super::types::{Content, Leaf, Part, Schema, Type};
use crate::codec;

/// The largest encoding that is made.
const MOST_BYTES: usize = codec::LARGEST_COMMAND_BYTES;

impl Schema {
    /// Returns the value that the JSON text holds as the codec writes it: the inverse of
    /// [`json`](Self::json). The fields of a struct may come in any order, and an optional one may
    /// be missing. The JSON may be at most 128 levels deep.
    ///
    /// ```
    /// use prevalence::schema::Schema;
    /// use serde::Deserialize;
    ///
    /// # #[allow(dead_code)]
    /// #[derive(Deserialize)]
    /// struct Deposit {
    ///     account: u32,
    ///     cents: Option<u64>,
    /// }
    ///
    /// let stored = Schema::of::<Deposit>().encode_json(r#"{"cents":250,"account":7}"#)?;
    /// assert_eq!(stored, [7, 1, 250]);
    /// # Ok::<(), prevalence::schema::JsonError>(())
    /// ```
    ///
    /// # Errors
    /// [`JsonError::Opaque`] if the schema does not say enough; [`JsonError::Unfit`] if the text is
    /// no JSON, or no value of the schema.
    pub fn encode_json(&self, json: &str) -> Result<Vec<u8>, JsonError> {
        if let Some(reason) = self.why_opaque() {
            return Err(JsonError::Opaque(reason.to_owned()));
        }
        let mut bytes = Vec::with_capacity(json.len());
        let mut text = serde_json::Deserializer::from_str(json);
        let seed = Encode { schema: self, part: &self.root, bytes: &mut bytes };
        seed.deserialize(&mut text)
            .and_then(|()| text.end())
            .map_err(|error| unfit(error.to_string()))?;
        Ok(bytes)
    }
}

/// Encodes the next value as this part.
struct Encode<'a> {
    schema: &'a Schema,
    part: &'a Part,
    bytes: &'a mut Vec<u8>,
}

/// Appends a value of a simple type.
fn push<T: serde::Serialize, E: serde::de::Error>(value: &T, bytes: &mut Vec<u8>) -> Result<(), E> {
    codec::encode_onto(value, bytes, MOST_BYTES).map_err(|failure| match failure {
        codec::EncodeFailure::TooLarge { bytes } => E::custom(format!("it takes {bytes} bytes")),
        codec::EncodeFailure::Failed(reason) => E::custom(reason),
    })
}

fn push_length<E: serde::de::Error>(length: usize, bytes: &mut Vec<u8>) -> Result<(), E> {
    push(&u64::try_from(length).unwrap_or(u64::MAX), bytes)
}

impl Encode<'_> {
    /// Appends a simple value that comes as a JSON value of its own kind.
    fn leaf<'de, D: Deserializer<'de>>(self, leaf: Leaf, from: D) -> Result<(), D::Error> {
        macro_rules! simple {
            ($type:ty) => {
                push(&<$type>::deserialize(from)?, self.bytes)
            };
        }
        match leaf {
            Leaf::Unit => simple!(()),
            Leaf::Bool => simple!(bool),
            Leaf::U8 => simple!(u8),
            Leaf::U16 => simple!(u16),
            Leaf::U32 => simple!(u32),
            Leaf::U64 => simple!(u64),
            Leaf::U128 => simple!(u128),
            Leaf::I8 => simple!(i8),
            Leaf::I16 => simple!(i16),
            Leaf::I32 => simple!(i32),
            Leaf::I64 => simple!(i64),
            Leaf::I128 => simple!(i128),
            #[expect(clippy::cast_possible_truncation, reason = "it was written as an f32")]
            Leaf::F32 => push(&(Float::deserialize(from)?.0 as f32), self.bytes),
            Leaf::F64 => push(&Float::deserialize(from)?.0, self.bytes),
            Leaf::Char => simple!(char),
            Leaf::String => simple!(String),
            Leaf::Bytes => {
                let content = Vec::<u8>::deserialize(from)?;
                push_length(content.len(), self.bytes)?;
                self.bytes.extend_from_slice(&content);
                Ok(())
            }
        }
    }
}

/// A number, or the name of one that JSON does not have.
struct Float(f64);

impl<'de> Deserialize<'de> for Float {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f64),
            Name(String),
        }
        match Written::deserialize(from)? {
            Written::Number(number) => Ok(Self(number)),
            Written::Name(name) => {
                named_float(&name).map(Self).ok_or_else(|| D::Error::custom("not a number"))
            }
        }
    }
}

fn named_float(name: &str) -> Option<f64> {
    match name {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

impl<'de> DeserializeSeed<'de> for Encode<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let number = match self.part {
            Part::Leaf(leaf) => return self.leaf(*leaf, from),
            Part::Opaque { opaque } => return Err(D::Error::custom(opaque)),
            Part::Type(number) => *number,
        };
        let Some(of) = self.schema.get(number) else {
            return Err(D::Error::custom(format!("there is no type {number}")));
        };
        let visitor = Typed { schema: self.schema, of, bytes: self.bytes };
        match of {
            Type::Option(_) => from.deserialize_option(visitor),
            // JSON says by itself what it holds.
            _ => from.deserialize_any(visitor),
        }
    }
}

/// Encodes the value that it is shown as this type.
struct Typed<'a> {
    schema: &'a Schema,
    of: &'a Type,
    bytes: &'a mut Vec<u8>,
}

impl<'a> Typed<'a> {
    fn part<'b>(&'b mut self, part: &'b Part) -> Encode<'b>
    where
        'a: 'b,
    {
        Encode { schema: self.schema, part, bytes: self.bytes }
    }

    /// Encodes as many values as these parts.
    fn parts<'de, A: SeqAccess<'de>>(
        &mut self,
        parts: &[Part],
        from: &mut A,
    ) -> Result<(), A::Error> {
        for (at, part) in parts.iter().enumerate() {
            if from.next_element_seed(self.part(part))?.is_none() {
                return Err(A::Error::invalid_length(at, &&*format!("{} values", parts.len())));
            }
        }
        match from.next_element::<serde::de::IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(A::Error::custom(format!("more than {} values", parts.len()))),
        }
    }

    /// Encodes fields, in whatever order they come.
    fn fields<'de, A: MapAccess<'de>>(
        &mut self,
        fields: &[(String, Part)],
        from: &mut A,
    ) -> Result<(), A::Error> {
        let mut found: Vec<Option<Vec<u8>>> = vec![None; fields.len()];
        while let Some(name) = from.next_key::<String>()? {
            let at = fields.iter().position(|(known, _)| *known == name);
            let place = at.and_then(|at| Some((fields.get(at)?, found.get_mut(at)?)));
            let Some(((_, part), place)) = place else {
                return Err(A::Error::custom(format!("there is no field `{name}`")));
            };
            if place.is_some() {
                return Err(A::Error::custom(format!("the field `{name}` comes twice")));
            }
            let mut bytes = Vec::new();
            from.next_value_seed(Encode { schema: self.schema, part, bytes: &mut bytes })?;
            *place = Some(bytes);
        }
        for ((name, part), found) in fields.iter().zip(found) {
            match found {
                Some(bytes) => self.bytes.extend_from_slice(&bytes),
                None if self.is_option(part) => self.bytes.push(0),
                None => return Err(A::Error::custom(format!("the field `{name}` is missing"))),
            }
        }
        Ok(())
    }

    fn is_option(&self, part: &Part) -> bool {
        let Part::Type(number) = part else { return false };
        matches!(self.schema.get(*number), Some(Type::Option(_)))
    }

    /// Finds a variant, and encodes its number.
    fn variant<E: serde::de::Error>(&mut self, name: &str) -> Result<&'a Content, E> {
        let Type::Enum { variants, .. } = self.of else {
            return Err(E::custom(format!("`{name}` where no variant can be")));
        };
        let found = (0_u32..).zip(variants).find(|(_, (known, _))| known == name);
        let (number, (_, content)) =
            found.ok_or_else(|| E::custom(format!("there is no variant `{name}`")))?;
        push(&number, self.bytes)?;
        Ok(content)
    }

    /// Encodes elements, of which it is not known before how many there are.
    fn counted<E: serde::de::Error>(
        self,
        mut encode_next: impl FnMut(&'a Schema, &mut Vec<u8>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let (mut count, mut bytes) = (0, Vec::new());
        while encode_next(self.schema, &mut bytes)? {
            count += 1;
        }
        push_length(count, self.bytes)?;
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }
}

impl<'de> Visitor<'de> for Typed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.of {
            Type::Option(_) => "null or a value",
            Type::Sequence(_) | Type::Tuple(_) => "an array",
            Type::Map(..) => "an object, or an array of pairs",
            Type::Struct(_) => "an object",
            Type::Enum { .. } => "a variant: its name, or an object with its name",
        })
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        match self.of {
            Type::Option(_) => {
                self.bytes.push(0);
                Ok(())
            }
            _ => Err(E::invalid_type(serde::de::Unexpected::Unit, &self)),
        }
    }

    fn visit_some<D: Deserializer<'de>>(mut self, from: D) -> Result<(), D::Error> {
        let Type::Option(inner) = self.of else { return Err(D::Error::custom("no option")) };
        self.bytes.push(1);
        self.part(inner).deserialize(from)
    }

    fn visit_str<E: serde::de::Error>(mut self, name: &str) -> Result<(), E> {
        match self.variant(name)? {
            Content::Unit => Ok(()),
            _ => Err(E::custom(format!("the variant `{name}` without what it holds"))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut from: A) -> Result<(), A::Error> {
        match self.of {
            Type::Tuple(parts) => self.parts(parts, &mut from),
            Type::Sequence(part) => self.counted(|schema, bytes| {
                Ok(from.next_element_seed(Encode { schema, part, bytes })?.is_some())
            }),
            Type::Map(key, value) => {
                let pair = Type::Tuple(vec![key.clone(), value.clone()]);
                self.counted(|schema, bytes| {
                    let of = &pair;
                    Ok(from.next_element_seed(Whole(Typed { schema, of, bytes }))?.is_some())
                })
            }
            _ => Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut from: A) -> Result<(), A::Error> {
        match self.of {
            Type::Struct(fields) => self.fields(fields, &mut from),
            Type::Map(key, value) => self.counted(|schema, bytes| {
                if from.next_key_seed(Key { schema, part: key, bytes })?.is_none() {
                    return Ok(false);
                }
                from.next_value_seed(Encode { schema, part: value, bytes })?;
                Ok(true)
            }),
            Type::Enum { .. } => {
                let Some(name) = from.next_key::<String>()? else {
                    return Err(A::Error::custom("an object without the name of a variant"));
                };
                let content = self.variant(&name)?;
                let Self { schema, bytes, .. } = self;
                from.next_value_seed(Inside { schema, content, bytes })?;
                match from.next_key::<serde::de::IgnoredAny>()? {
                    None => Ok(()),
                    Some(_) => Err(A::Error::custom("more than one variant")),
                }
            }
            _ => Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self)),
        }
    }
}

/// Encodes the next value as this type.
struct Whole<'a>(Typed<'a>);

impl<'de> DeserializeSeed<'de> for Whole<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self.0)
    }
}

/// Encodes the next value as what a variant holds.
struct Inside<'a> {
    schema: &'a Schema,
    content: &'a Content,
    bytes: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Inside<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let Self { schema, content, bytes } = self;
        let of = match content {
            Content::Unit => return <()>::deserialize(from),
            Content::Newtype(part) => return Encode { schema, part, bytes }.deserialize(from),
            Content::Tuple(parts) => Type::Tuple(parts.clone()),
            Content::Struct(fields) => Type::Struct(fields.clone()),
        };
        from.deserialize_any(Typed { schema, of: &of, bytes })
    }
}

/// Encodes the key of an object.
struct Key<'a> {
    schema: &'a Schema,
    part: &'a Part,
    bytes: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let text = String::deserialize(from)?;
        let Self { schema, part, bytes } = self;
        let wrong = || D::Error::custom(format!("the key `{text}` is not of its type"));
        macro_rules! parsed {
            ($type:ty) => {
                push(&text.parse::<$type>().map_err(|_| wrong())?, bytes)
            };
        }
        match part {
            Part::Leaf(Leaf::String) => push(&text, bytes),
            Part::Leaf(Leaf::Char) => parsed!(char),
            Part::Leaf(Leaf::Bool) => parsed!(bool),
            Part::Leaf(Leaf::U8) => parsed!(u8),
            Part::Leaf(Leaf::U16) => parsed!(u16),
            Part::Leaf(Leaf::U32) => parsed!(u32),
            Part::Leaf(Leaf::U64) => parsed!(u64),
            Part::Leaf(Leaf::U128) => parsed!(u128),
            Part::Leaf(Leaf::I8) => parsed!(i8),
            Part::Leaf(Leaf::I16) => parsed!(i16),
            Part::Leaf(Leaf::I32) => parsed!(i32),
            Part::Leaf(Leaf::I64) => parsed!(i64),
            Part::Leaf(Leaf::I128) => parsed!(i128),
            // Rust reads the names of those that JSON does not have, too.
            Part::Leaf(Leaf::F32) => parsed!(f32),
            Part::Leaf(Leaf::F64) => parsed!(f64),
            Part::Leaf(Leaf::Unit | Leaf::Bytes) | Part::Opaque { .. } => Err(wrong()),
            Part::Type(number) => {
                let of = schema.get(*number).ok_or_else(wrong)?;
                Typed { schema, of, bytes }.visit_str(&text)
            }
        }
    }
}

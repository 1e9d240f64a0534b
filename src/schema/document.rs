//! Owns the schemas of one release of a program as one text, which a database keeps in a file. Knows
//! nothing of that file's place.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::types::Schema;

/// The form of the text.
const FORMAT: u32 = 1;

/// Which build has found out the types. If a later one sees more, or other things, of the same type,
/// it has another number: then they are not compared.
pub(crate) const TRACED_BY: u32 = 1;

/// A larger text is not read, so that a wrong file cannot take the memory.
pub(crate) const LARGEST_SCHEMAS_BYTES: usize = 16 << 20;
/// What a type may take in the text. A larger one is opaque.
const LARGEST_SCHEMA_BYTES: usize = 64 << 10;
/// What all types together may take. What comes behind it is opaque.
const ALL_SCHEMAS_BYTES: usize = 4 << 20;

/// Names a text of schemas: the XXH3-128 of it. The file's name is this in hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchemasDigest(pub(crate) [u8; 16]);

impl SchemasDigest {
    pub(crate) fn of(text: &[u8]) -> Self {
        Self(xxh3_128(text).to_le_bytes())
    }

    /// Reads the hexadecimal digits of a digest; `None` if they are none.
    pub(crate) fn parse(digits: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        if digits.len() != 2 * bytes.len() || digits.bytes().any(|it| it.is_ascii_uppercase()) {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        let digest = Self(bytes);
        (digest.to_string() == digits && !digest.is_none()).then_some(digest)
    }

    /// Whether it names no text: the file does not say what is in it.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for SchemasDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What one release of a program stores: its model, its commands and their events. A database keeps
/// it in `schemas/`, and each of its files names the one that it was written with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Schemas {
    /// The form of this text: 1.
    pub format: u32,
    /// How the types were found out: 1.
    pub traced_by: u32,
    /// The model.
    pub model: ModelSchema,
    /// The events that commands emit.
    pub events: EventsSchema,
    /// Who asked for a command; see [`Metadata`](crate::Metadata).
    pub metadata: Schema,
    /// The commands, in the order of the lines of [`commands!`](crate::commands!).
    pub commands: Vec<CommandSchema>,
}

/// What a model is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelSchema {
    /// Its name in `commands!`.
    pub name: String,
    /// Its `VERSION`.
    pub version: u32,
    /// Its type.
    pub schema: Schema,
}

/// What the events of a model are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EventsSchema {
    /// The model's `EVENT_VERSION`.
    pub version: u32,
    /// The type of one event.
    pub schema: Schema,
}

/// What a command is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CommandSchema {
    /// Its tag in `commands!`.
    pub tag: u16,
    /// Its name there.
    pub name: String,
    /// The type with which it is stored.
    pub schema: Schema,
}

impl Schemas {
    pub(crate) fn new(
        model: ModelSchema,
        events: EventsSchema,
        metadata: Schema,
        commands: Vec<CommandSchema>,
    ) -> Self {
        Self { format: FORMAT, traced_by: TRACED_BY, model, events, metadata, commands }
    }

    /// Makes opaque what takes too much room.
    fn bound(&mut self) {
        let commands = self.commands.iter_mut().map(|command| &mut command.schema);
        let mut bytes = 0;
        for schema in [&mut self.model.schema, &mut self.events.schema].into_iter().chain(commands)
        {
            let taken = serde_json::to_vec(schema).map_or(usize::MAX, |text| text.len());
            if taken > LARGEST_SCHEMA_BYTES || bytes + taken > ALL_SCHEMAS_BYTES {
                *schema = Schema::opaque("its description takes too much room");
            } else {
                bytes += taken;
            }
        }
    }

    /// Returns the schema of the command with this tag.
    #[must_use]
    pub fn command(&self, tag: u16) -> Option<&CommandSchema> {
        self.commands.iter().find(|command| command.tag == tag)
    }

    /// Returns the text, which ends with a line feed. What takes too much room in it becomes opaque.
    pub(crate) fn encode(&mut self) -> Vec<u8> {
        let mut text = serde_json::to_vec(self).unwrap_or_default();
        // In a small text, each schema is small.
        if text.len() > LARGEST_SCHEMA_BYTES {
            self.bound();
            text = serde_json::to_vec(self).unwrap_or_default();
        }
        text.push(b'\n');
        text
    }

    /// Reads a text. The error says why it is none.
    pub(crate) fn decode(text: &[u8]) -> Result<Self, String> {
        let schemas: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        match schemas.format {
            FORMAT => Ok(schemas),
            later => Err(format!("it has form {later}, and this build reads form {FORMAT}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::types::{Part, Type};

    #[test]
    fn what_takes_too_much_room_is_opaque_and_the_rest_is_not() {
        let wide = |fields: usize| Schema {
            root: Part::Type(0),
            types: vec![Type::Struct(
                (0..fields).map(|at| (format!("field_{at}"), Part::Type(0))).collect(),
            )],
        };
        let command =
            |tag, fields| CommandSchema { tag, name: format!("C{tag}"), schema: wide(fields) };
        let mut commands = vec![command(0, 1), command(1, 10_000), command(2, 1)];
        commands.extend((3..200).map(|tag| command(tag, 3_000)));
        let mut schemas = Schemas::new(
            ModelSchema { name: "M".to_owned(), version: 1, schema: wide(2) },
            EventsSchema { version: 1, schema: Schema::of::<()>() },
            Schema::of::<crate::Metadata>(),
            commands,
        );
        let text = schemas.encode();
        let is_opaque = |tag| schemas.command(tag).unwrap().schema.why_opaque().is_some();
        assert!(!is_opaque(0) && is_opaque(1) && !is_opaque(2) && !is_opaque(3) && is_opaque(199));
        assert!(text.len() < LARGEST_SCHEMAS_BYTES);
        assert_eq!(Schemas::decode(&text).unwrap(), schemas);
        assert!(Schemas::decode(&text[..text.len() - 2]).is_err());
        let later = String::from_utf8(text).unwrap().replace("\"format\":1", "\"format\":2");
        assert!(Schemas::decode(later.as_bytes()).unwrap_err().contains("form 2"));
    }
}

//! Owns what a stored value is as JSON, by its schema. Knows nothing of where the value is stored.
//!
//! The JSON is that of serde_json for the value as the codec writes it (an `IpAddr` is bytes, a text
//! in serde_json's own JSON), with two exceptions, because nothing here may stop: a number that JSON does not have is a text (`"NaN"`, `"Infinity"`, `"-Infinity"`), and a
//! map whose keys are no texts, numbers, truths or variants is an array of pairs.

use std::io::{self, BufRead, Write};

use super::entries::{Entry, Go};
use super::types::{Content, Leaf, Part, Schema, Type};
use crate::codec::alone;
use crate::json::DEEPEST_LEVEL;

/// So many values in a row may take no bytes: a damaged length could ask for any number of them.
const MOST_IDLE: u64 = 1 << 20;

/// Why a stored value could not be written as JSON.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The schema does not say what is stored at this place.
    #[error("its schema does not say what is stored: {0}")]
    Opaque(String),
    /// What is stored is no value of this schema.
    #[error("its bytes are no value of its schema: {0}")]
    Unfit(String),
    /// It could not be read or written.
    #[error("it could not be read or written: {0}")]
    Io(#[from] io::Error),
}

impl Schema {
    /// Returns the value that `bytes` hold as JSON text. It must use all of them.
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
    /// let stored = [7, 1, 250]; // as a journal holds it
    /// assert_eq!(Schema::of::<Deposit>().json(&stored)?, r#"{"account":7,"cents":250}"#);
    /// # Ok::<(), prevalence::schema::JsonError>(())
    /// ```
    ///
    /// # Errors
    /// [`JsonError::Opaque`] if the schema does not say enough; [`JsonError::Unfit`] if the bytes
    /// are no value of it.
    pub fn json(&self, bytes: &[u8]) -> Result<String, JsonError> {
        let (json, used) = self.json_at_beginning(bytes)?;
        match used == bytes.len() {
            true => Ok(json),
            false => Err(unfit(format!("it ends after {used} of {} bytes", bytes.len()))),
        }
    }

    /// Reads one value, and writes it as JSON. However large it is, it needs little memory.
    ///
    /// # Errors
    /// As [`json`](Self::json); [`JsonError::Io`] if reading or writing fails. A part of the JSON
    /// may have been written then.
    pub fn write_json(
        &self,
        reader: &mut impl BufRead,
        writer: &mut impl Write,
    ) -> Result<(), JsonError> {
        // Nobody's collections are decoded here, even if this is called while some are.
        alone(|| Writing::new(self, reader, writer).part(&self.root))
    }

    /// Returns the value at the beginning of `bytes` as JSON text, and how many bytes it has.
    pub(crate) fn json_at_beginning(&self, bytes: &[u8]) -> Result<(String, usize), JsonError> {
        let mut json = Vec::with_capacity(bytes.len() * 2);
        let mut rest = bytes;
        self.write_json(&mut rest, &mut json)?;
        let json = String::from_utf8(json).map_err(|error| unfit(error.to_string()))?;
        Ok((json, bytes.len() - rest.len()))
    }
}

pub(super) fn unfit(reason: impl Into<String>) -> JsonError {
    JsonError::Unfit(reason.into())
}

/// A value that is read and written.
pub(super) struct Writing<'s, 'a, R, W> {
    pub(super) schema: &'s Schema,
    pub(super) reader: &'a mut R,
    pub(super) writer: &'a mut W,
    /// Whether values are only read.
    pub(super) is_silent: bool,
    level: usize,
    /// How many values were written that the bytes which were read do not account for.
    pub(super) idle: u64,
}

impl<'s, 'a, R: BufRead, W: Write> Writing<'s, 'a, R, W> {
    pub(super) fn new(schema: &'s Schema, reader: &'a mut R, writer: &'a mut W) -> Self {
        Self { schema, reader, writer, is_silent: false, level: 0, idle: 0 }
    }

    pub(super) fn part(&mut self, part: &'s Part) -> Result<(), JsonError> {
        self.idle += 1;
        if self.idle > MOST_IDLE {
            return Err(unfit(format!("more than {MOST_IDLE} values take no bytes")));
        }
        match part {
            Part::Leaf(leaf) => self.leaf(*leaf, false),
            Part::Opaque { opaque } => Err(JsonError::Opaque(opaque.clone())),
            Part::Type(number) => {
                let found = self.schema.get(*number);
                let found = found.ok_or_else(|| unfit(format!("there is no type {number}")))?;
                self.deeper(|writing| writing.type_in(found))
            }
        }
    }

    /// Does what calls itself for a value inside this one.
    pub(super) fn deeper<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, JsonError>,
    ) -> Result<T, JsonError> {
        if self.level == DEEPEST_LEVEL {
            return Err(unfit(format!("it is more than {DEEPEST_LEVEL} levels deep")));
        }
        self.level += 1;
        let result = read(self);
        self.level -= 1;
        result
    }

    fn type_in(&mut self, of: &'s Type) -> Result<(), JsonError> {
        match of {
            Type::Option(inner) => match self.byte()? {
                0 => self.put(b"null"),
                1 => self.part(inner),
                other => Err(unfit(format!("an option begins with {other}"))),
            },
            Type::Sequence(inner) => {
                self.put(b"[")?;
                self.entries(&mut Elements { inner })?;
                self.put(b"]")
            }
            Type::Map(key, value) => self.map(key, value),
            Type::Tuple(parts) => self.parts(parts),
            Type::Struct(fields) => self.fields(fields),
            Type::Enum { variants, more } => {
                let number = self.length()?;
                let found = usize::try_from(number).ok().and_then(|number| variants.get(number));
                match found {
                    Some((name, content)) => self.variant(name, content),
                    None if *more => Err(JsonError::Opaque(format!("variant {number} of an enum"))),
                    None => Err(unfit(format!("an enum has no variant {number}"))),
                }
            }
        }
    }

    fn map(&mut self, key: &'s Part, value: &'s Part) -> Result<(), JsonError> {
        let is_object = self.is_key(key);
        self.put(if is_object { b"{" } else { b"[" })?;
        self.entries(&mut Pairs { key, value, is_object })?;
        self.put(if is_object { b"}" } else { b"]" })
    }

    /// Reads what `read` reads, and writes nothing.
    pub(super) fn silently<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, JsonError>,
    ) -> Result<T, JsonError> {
        let before = std::mem::replace(&mut self.is_silent, true);
        let result = read(self);
        self.is_silent = before;
        result
    }

    /// Makes the same of other bytes.
    pub(super) fn on<'b, 't>(
        &'b mut self,
        reader: &'b mut &'t [u8],
    ) -> Writing<'s, 'b, &'t [u8], W> {
        let Self { schema, is_silent, level, .. } = *self;
        Writing { schema, reader, writer: &mut *self.writer, is_silent, level, idle: 0 }
    }

    /// Reads a value, and returns its JSON.
    pub(super) fn text_of(&mut self, part: &'s Part) -> Result<String, JsonError> {
        let mut text = Vec::new();
        let Self { schema, level, .. } = *self;
        let reader = &mut *self.reader;
        let writer = &mut text;
        Writing { schema, reader, writer, is_silent: false, level, idle: 0 }.part(part)?;
        String::from_utf8(text).map_err(|error| unfit(error.to_string()))
    }

    /// Whether each value of this part can be a key of a JSON object.
    fn is_key(&self, part: &Part) -> bool {
        match part {
            Part::Leaf(leaf) => !matches!(leaf, Leaf::Unit | Leaf::Bytes),
            Part::Opaque { .. } => false,
            Part::Type(number) => match self.schema.get(*number) {
                Some(Type::Enum { variants, .. }) => {
                    variants.iter().all(|(_, content)| *content == Content::Unit)
                }
                _ => false,
            },
        }
    }

    pub(super) fn key(&mut self, part: &'s Part) -> Result<(), JsonError> {
        match part {
            Part::Leaf(leaf) => self.leaf(*leaf, true),
            _ => self.part(part), // the name of a variant
        }
    }

    pub(super) fn variant(&mut self, name: &str, content: &'s Content) -> Result<(), JsonError> {
        if *content == Content::Unit {
            return self.text(name);
        }
        self.put(b"{")?;
        self.text(name)?;
        self.put(b":")?;
        self.content(content)?;
        self.put(b"}")
    }

    pub(super) fn content(&mut self, content: &'s Content) -> Result<(), JsonError> {
        match content {
            Content::Unit => Ok(()),
            Content::Newtype(part) => self.part(part),
            Content::Tuple(parts) => self.parts(parts),
            Content::Struct(fields) => self.fields(fields),
        }
    }

    fn parts(&mut self, parts: &'s [Part]) -> Result<(), JsonError> {
        self.put(b"[")?;
        for (at, part) in (0..).zip(parts) {
            self.separator(at)?;
            self.part(part)?;
        }
        self.put(b"]")
    }

    fn fields(&mut self, fields: &'s [(String, Part)]) -> Result<(), JsonError> {
        self.put(b"{")?;
        for (at, (name, part)) in (0..).zip(fields) {
            self.separator(at)?;
            self.text(name)?;
            self.put(b":")?;
            self.part(part)?;
        }
        self.put(b"}")
    }

    pub(super) fn text(&mut self, text: &str) -> Result<(), JsonError> {
        match self.is_silent {
            true => Ok(()),
            false => serde_json::to_writer(&mut *self.writer, text)
                .map_err(|error| JsonError::Io(error.into())),
        }
    }

    pub(super) fn separator(&mut self, at: u64) -> Result<(), JsonError> {
        if at == 0 { Ok(()) } else { self.put(b",") }
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), JsonError> {
        match self.is_silent {
            true => Ok(()),
            false => Ok(self.writer.write_all(bytes)?),
        }
    }
}

/// All elements of a sequence.
struct Elements<'s> {
    inner: &'s Part,
}

impl<'s> Entry<'s> for Elements<'s> {
    fn read<R: BufRead, W: Write>(
        &mut self,
        writing: &mut Writing<'s, '_, R, W>,
        at: u64,
    ) -> Result<Go, JsonError> {
        writing.separator(at)?;
        writing.part(self.inner)?;
        Ok(Go::On)
    }

    fn skip<R: BufRead, W: Write>(
        &mut self,
        writing: &mut Writing<'s, '_, R, W>,
    ) -> Result<(), JsonError> {
        writing.part(self.inner)
    }
}

/// All entries of a map.
struct Pairs<'s> {
    key: &'s Part,
    value: &'s Part,
    is_object: bool,
}

impl<'s> Entry<'s> for Pairs<'s> {
    fn read<R: BufRead, W: Write>(
        &mut self,
        writing: &mut Writing<'s, '_, R, W>,
        at: u64,
    ) -> Result<Go, JsonError> {
        writing.separator(at)?;
        if self.is_object {
            writing.key(self.key)?;
            writing.put(b":")?;
            writing.part(self.value)?;
        } else {
            writing.put(b"[")?;
            writing.part(self.key)?;
            writing.put(b",")?;
            writing.part(self.value)?;
            writing.put(b"]")?;
        }
        Ok(Go::On)
    }

    fn skip<R: BufRead, W: Write>(
        &mut self,
        writing: &mut Writing<'s, '_, R, W>,
    ) -> Result<(), JsonError> {
        writing.part(self.key)?;
        writing.part(self.value)
    }
}

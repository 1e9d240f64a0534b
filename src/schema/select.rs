//! Owns the way to a value inside another one. Knows nothing of how values are written.

use std::io::{BufRead, Write};

use super::entries::{Entry, Go};
use super::json::{JsonError, Writing, unfit};
use super::types::{Content, Part, Schema, Type};

/// Writes the value of a model that is being decoded, or the part of it to which `path` leads.
/// Returns whether there is one. What is behind that part is not read.
pub(crate) fn write_stored(
    schema: &Schema,
    path: &[String],
    reader: &mut impl BufRead,
    writer: &mut impl Write,
) -> Result<bool, JsonError> {
    Writing::new(schema, reader, writer).select(&schema.root, path)
}

impl<'s, R: BufRead, W: Write> Writing<'s, '_, R, W> {
    /// Writes only the value to which `path` leads: names of fields and variants, keys of maps, and
    /// numbers of elements, counted from 0. Returns whether there is one. What is behind it is not
    /// read.
    pub(super) fn select(&mut self, part: &'s Part, path: &[String]) -> Result<bool, JsonError> {
        let Some((step, rest)) = path.split_first() else {
            self.part(part)?;
            return Ok(true);
        };
        let found = match part {
            Part::Type(number) => self.schema.get(*number),
            Part::Leaf(_) | Part::Opaque { .. } => None,
        };
        match found {
            Some(Type::Option(inner)) => match self.byte()? {
                0 => Ok(false),
                1 => self.deeper(|writing| writing.select(inner, path)),
                other => Err(unfit(format!("an option begins with {other}"))),
            },
            Some(Type::Sequence(inner)) => {
                let wanted = step.parse().ok();
                let mut chosen = Chosen { wanted, inner, rest, found: false };
                self.entries(&mut chosen)?;
                Ok(chosen.found)
            }
            Some(Type::Map(key, value)) => {
                let mut chosen = ChosenKey { step, key, value, rest, found: false };
                self.entries(&mut chosen)?;
                Ok(chosen.found)
            }
            Some(Type::Tuple(parts)) => self.select_part(parts, step, rest),
            Some(Type::Struct(fields)) => self.select_field(fields, step, rest),
            Some(Type::Enum { variants, .. }) => {
                let number = usize::try_from(self.length()?).unwrap_or(usize::MAX);
                match variants.get(number) {
                    Some((name, content)) if name == step => match (content, rest.split_first()) {
                        (Content::Unit, _) => Ok(false),
                        (Content::Newtype(part), _) => {
                            self.deeper(|writing| writing.select(part, rest))
                        }
                        (Content::Tuple(parts), Some((step, rest))) => {
                            self.select_part(parts, step, rest)
                        }
                        (Content::Struct(fields), Some((step, rest))) => {
                            self.select_field(fields, step, rest)
                        }
                        (Content::Tuple(_) | Content::Struct(_), None) => {
                            self.content(content)?;
                            Ok(true)
                        }
                    },
                    _ => Ok(false),
                }
            }
            None => Ok(false),
        }
    }

    fn select_part(
        &mut self,
        parts: &'s [Part],
        step: &str,
        rest: &[String],
    ) -> Result<bool, JsonError> {
        for (at, part) in parts.iter().enumerate() {
            if step.parse() == Ok(at) {
                return self.select(part, rest);
            }
            self.silently(|writing| writing.part(part))?;
        }
        Ok(false)
    }

    fn select_field(
        &mut self,
        fields: &'s [(String, Part)],
        step: &str,
        rest: &[String],
    ) -> Result<bool, JsonError> {
        for (name, part) in fields {
            if name == step {
                return self.select(part, rest);
            }
            self.silently(|writing| writing.part(part))?;
        }
        Ok(false)
    }
}

/// One element of a sequence.
struct Chosen<'s, 'p> {
    wanted: Option<u64>,
    inner: &'s Part,
    rest: &'p [String],
    found: bool,
}

impl<'s> Entry<'s> for Chosen<'s, '_> {
    fn read<R: BufRead, W: Write>(
        &mut self,
        writing: &mut Writing<'s, '_, R, W>,
        at: u64,
    ) -> Result<Go, JsonError> {
        if self.wanted == Some(at) {
            self.found = writing.select(self.inner, self.rest)?;
            return Ok(Go::Done);
        }
        self.skip(writing)?;
        Ok(Go::On)
    }

    fn skip<R: BufRead, W: Write>(
        &mut self,
        writing: &mut Writing<'s, '_, R, W>,
    ) -> Result<(), JsonError> {
        writing.silently(|writing| writing.part(self.inner))
    }
}

/// The value under one key of a map.
struct ChosenKey<'s, 'p> {
    step: &'p str,
    key: &'s Part,
    value: &'s Part,
    rest: &'p [String],
    found: bool,
}

impl<'s> Entry<'s> for ChosenKey<'s, '_> {
    fn read<R: BufRead, W: Write>(
        &mut self,
        writing: &mut Writing<'s, '_, R, W>,
        _: u64,
    ) -> Result<Go, JsonError> {
        let key = writing.text_of(self.key)?;
        let bare = key.strip_prefix('"').and_then(|key| key.strip_suffix('"'));
        if key == self.step || bare == Some(self.step) {
            self.found = writing.select(self.value, self.rest)?;
            return Ok(Go::Done);
        }
        writing.silently(|writing| writing.part(self.value))?;
        Ok(Go::On)
    }

    fn skip<R: BufRead, W: Write>(
        &mut self,
        writing: &mut Writing<'s, '_, R, W>,
    ) -> Result<(), JsonError> {
        writing.silently(|writing| {
            writing.part(self.key)?;
            writing.part(self.value)
        })
    }
}

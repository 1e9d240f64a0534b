//! Owns what a trace looks like to serde: as the codec's decoder, whose input holds made-up values.

use std::any::type_name;
use std::fmt;

use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::values::{self, pick};
use super::{Enclosing, Fields, Tracer, VariantForm};
use crate::schema::types::Leaf;

/// That a pass has ended early. Its reason is of no use.
#[derive(Debug)]
pub(super) struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the type refuses a made-up value")
    }
}

impl std::error::Error for Refused {}

impl Error for Refused {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl Tracer {
    fn step(&mut self) -> Result<(), Refused> {
        if self.may_go_on() { Ok(()) } else { Err(Refused) }
    }

    fn make_up<T: Copy + Default>(&mut self, leaf: Leaf, values: &[T]) -> Result<T, Refused> {
        self.step()?;
        Ok(pick(values, self.leaf(leaf)))
    }

    /// Reads values that follow each other without a length.
    fn flat<'de, V: Visitor<'de>>(
        &mut self,
        length: usize,
        names: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.step()?;
        let (is_struct, names) = (names.is_some(), names.unwrap_or(&[]));
        self.visit(type_name::<V>(), |tracer| {
            tracer.begin(Fields { names, length, is_struct });
            let mut taken = 0;
            let values = Values { tracer: &mut *tracer, length, taken: &mut taken };
            let value = visitor.visit_seq(values)?;
            if taken < names.len() {
                tracer.has_aliases(names);
            }
            tracer.end_of_fields();
            Ok(value)
        })
    }
}

macro_rules! numbers {
    ($($deserialize:ident, $visit:ident, $leaf:ident, $values:ident;)*) => {
        $(fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            visitor.$visit(self.make_up(Leaf::$leaf, &values::$values)?.into())
        })*
    };
}

/// As the codec, this refuses what only a format can answer that describes itself.
macro_rules! not_described {
    ($($deserialize:ident),*) => {
        $(fn $deserialize<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refused> {
            self.unknown("it asks for a format that describes itself");
            Err(Refused)
        })*
    };
}

impl<'de> Deserializer<'de> for &mut Tracer {
    type Error = Refused;

    numbers! {
        deserialize_bool, visit_bool, Bool, TRUTHS;
        deserialize_u8, visit_u8, U8, NUMBERS;
        deserialize_u16, visit_u16, U16, NUMBERS;
        deserialize_u32, visit_u32, U32, NUMBERS;
        deserialize_u64, visit_u64, U64, NUMBERS;
        deserialize_u128, visit_u128, U128, NUMBERS;
        deserialize_i16, visit_i16, I16, NUMBERS;
        deserialize_i32, visit_i32, I32, NUMBERS;
        deserialize_i64, visit_i64, I64, NUMBERS;
        deserialize_i128, visit_i128, I128, NUMBERS;
        deserialize_f32, visit_f32, F32, FLOATS;
        deserialize_f64, visit_f64, F64, FLOATS;
        deserialize_char, visit_char, Char, LETTERS;
    }

    not_described!(deserialize_any, deserialize_identifier, deserialize_ignored_any);

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let value = self.make_up(Leaf::I8, &values::NUMBERS)?;
        visitor.visit_i8(value.cast_signed())
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let text = self.make_up(Leaf::String, &values::TEXTS)?;
        visitor.visit_string(text.to_owned())
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_byte_buf(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let length = self.make_up(Leaf::Bytes, &values::BYTES)?;
        visitor.visit_byte_buf(vec![0; length])
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.step()?;
        self.visit(type_name::<V>(), |tracer| match tracer.enclosed(Enclosing::Option) {
            Some(group) => tracer.inside(group, |tracer| visitor.visit_some(tracer)),
            None => visitor.visit_none(),
        })
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.step()?;
        self.unit();
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.step()?;
        self.visit(type_name::<V>(), |tracer| visitor.visit_newtype_struct(tracer))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.step()?;
        self.visit(type_name::<V>(), |tracer| {
            let left = tracer.enclosed(Enclosing::Sequence);
            visitor.visit_seq(Entries { tracer, left, within: None })
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.step()?;
        self.visit(type_name::<V>(), |tracer| {
            let left = tracer.enclosed(Enclosing::Map);
            visitor.visit_map(Entries { tracer, left, within: None })
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.flat(length, None, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.flat(length, None, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.flat(names.len(), Some(names), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.step()?;
        let name = type_name::<V>();
        self.visit(name, |tracer| {
            let (index, followed) = tracer.variant(name, names);
            let value = visitor.visit_enum(Variant { tracer: &mut *tracer, index, followed })?;
            tracer.is_finite(name, index);
            Ok(value)
        })
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The values of a struct or a tuple.
struct Values<'t> {
    tracer: &'t mut Tracer,
    length: usize,
    taken: &'t mut usize,
}

impl<'de> SeqAccess<'de> for Values<'_> {
    type Error = Refused;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Refused> {
        if *self.taken == self.length {
            return Ok(None);
        }
        *self.taken += 1;
        seed.deserialize(&mut *self.tracer).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.length - *self.taken)
    }
}

/// The entries of a sequence or a map: one, or none.
struct Entries<'t> {
    tracer: &'t mut Tracer,
    /// The group of the entry that was not read yet.
    left: Option<usize>,
    /// The entry whose key was read, and the place of its value.
    within: Option<(usize, usize)>,
}

impl<'de> SeqAccess<'de> for Entries<'_> {
    type Error = Refused;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Refused> {
        let Some(group) = self.left.take() else { return Ok(None) };
        self.tracer.inside(group, |tracer| seed.deserialize(tracer)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(usize::from(self.left.is_some()))
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Refused;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Refused> {
        let Some(group) = self.left.take() else { return Ok(None) };
        let (key, place) = self.tracer.inside_from(group, 0, |tracer| seed.deserialize(tracer));
        self.within = Some((group, place));
        key.map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        let (group, place) = self.within.take().ok_or(Refused)?;
        let (value, place) =
            self.tracer.inside_from(group, place, |tracer| seed.deserialize(tracer));
        if value.is_ok() {
            self.tracer.end(group, place);
        }
        value
    }

    fn size_hint(&self) -> Option<usize> {
        Some(usize::from(self.left.is_some()))
    }
}

/// A variant of an enum.
struct Variant<'t> {
    tracer: &'t mut Tracer,
    index: usize,
    /// Its enum and its group, if it is followed.
    followed: Option<(usize, usize)>,
}

impl<'t, 'de> EnumAccess<'de> for Variant<'t> {
    type Error = Refused;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Refused> {
        let index = u32::try_from(self.index).map_err(|_| Refused)?;
        let index: U32Deserializer<Refused> = index.into_deserializer();
        match (seed.deserialize(index), self.followed) {
            (Ok(value), _) => Ok((value, self)),
            (Err(refused), None) => Err(refused),
            (Err(refused), Some((id, _))) => {
                self.tracer.no_such_variant(id, self.index);
                Err(refused)
            }
        }
    }
}

impl Variant<'_> {
    fn inside<R>(
        self,
        form: VariantForm,
        run: impl FnOnce(&mut Tracer) -> Result<R, Refused>,
    ) -> Result<R, Refused> {
        match self.followed {
            Some((id, group)) => {
                self.tracer.has_form(id, self.index, form);
                self.tracer.inside(group, run)
            }
            None => run(self.tracer),
        }
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Refused;

    fn unit_variant(self) -> Result<(), Refused> {
        self.inside(VariantForm::Unit, |_| Ok(()))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Refused> {
        self.inside(VariantForm::Newtype, |tracer| seed.deserialize(tracer))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.inside(VariantForm::Tuple, |tracer| tracer.flat(length, None, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.inside(VariantForm::Struct, |tracer| tracer.flat(names.len(), Some(names), visitor))
    }
}

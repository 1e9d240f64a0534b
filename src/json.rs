//! Owns the JSON form of models and commands. Refuses values that JSON cannot represent. Knows
//! nothing of where the JSON goes.
//!
//! serde_json writes NaN and infinity as `null`. It also calls itself once for each level of a
//! value, however deep the value is. So a serializer that writes nothing walks the value first.

use std::fmt::{self, Display, Write as _};

use serde::Serialize;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// How many levels of values may be nested; an `Option` and a newtype count as one level each. In a
/// debug build a level takes 0.7 to 1.9 KiB of stack, here and in serde_json. So the limit takes at
/// most half of the 2 MiB that a std thread has, because the caller may have used the other half.
pub(crate) const DEEPEST_LEVEL: usize = 512;

/// How many steps of a path are shown, from the outside, and how many characters of a key.
const SHOWN_STEPS: usize = 16;
const SHOWN_KEY_CHARS: usize = 40;

/// Writes `value` as JSON. Writes nothing if it refuses the value because of a number or its depth.
pub(crate) fn write<T: Serialize + ?Sized>(
    value: &T,
    writer: impl std::io::Write,
) -> Result<(), String> {
    check(value)?;
    serde_json::to_writer(writer, value).map_err(|error| error.to_string())
}

/// Returns `value` as JSON text, if that takes at most so many bytes.
pub(crate) fn text_within<T: Serialize + ?Sized>(
    value: &T,
    most_bytes: usize,
) -> Result<String, String> {
    /// Fails at its bound, so that whoever writes stops.
    struct Bounded(Vec<u8>, usize);

    impl std::io::Write for Bounded {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0.len() + bytes.len() > self.1 {
                return Err(std::io::Error::other("it takes more bytes than may be kept"));
            }
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let mut bounded = Bounded(Vec::new(), most_bytes);
    write(value, &mut bounded)?;
    String::from_utf8(bounded.0).map_err(|error| error.to_string())
}

/// Returns `value` as JSON text.
pub(crate) fn text<T: Serialize + ?Sized>(value: &T) -> Result<String, String> {
    check(value)?;
    serde_json::to_string(value).map_err(|error| error.to_string())
}

fn check<T: Serialize + ?Sized>(value: &T) -> Result<(), String> {
    value.serialize(Walk { level: 0 }).map_err(|refusal| refusal.to_string())
}

/// Why a value is refused, and the path to it, from the inside out. Boxed because each level of a
/// walk reserves space for one on the stack.
#[derive(Debug)]
struct Refusal(Box<Refused>);

#[derive(Debug)]
struct Refused {
    reason: String,
    way: Vec<String>,
}

impl Refusal {
    fn new(reason: String) -> Self {
        Self(Box::new(Refused { reason, way: Vec::new() }))
    }

    #[cold]
    fn too_deep() -> Self {
        Self::new(format!(
            "it is more than {DEEPEST_LEVEL} levels deep, and writing it could use up the caller's \
             stack. Serialize deeply nested data as a flat list"
        ))
    }

    #[cold]
    fn at(mut self, step: impl FnOnce() -> String) -> Self {
        self.0.way.push(step());
        self
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refused { reason, way } = &*self.0;
        if way.is_empty() {
            return f.write_str(reason);
        }
        f.write_str("at `")?;
        for (at, step) in way.iter().rev().take(SHOWN_STEPS).enumerate() {
            f.write_str(if at == 0 { step.strip_prefix('.').unwrap_or(step) } else { step })?;
        }
        let rest = if way.len() > SHOWN_STEPS { "…" } else { "" };
        write!(f, "{rest}`: {reason}")
    }
}

impl std::error::Error for Refusal {}

impl serde::ser::Error for Refusal {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(message.to_string())
    }
}

type Walked = Result<(), Refusal>;

/// The serializer that checks a value and writes nothing.
#[derive(Clone, Copy)]
struct Walk {
    level: usize,
}

impl Walk {
    /// Walks `value` one level deeper. `step` names that level if something in it is refused.
    fn into<T: Serialize + ?Sized>(self, value: &T, step: impl FnOnce() -> String) -> Walked {
        let walked = match self.level {
            DEEPEST_LEVEL => Err(Refusal::too_deep()),
            level => value.serialize(Self { level: level + 1 }),
        };
        match walked {
            Ok(()) => Ok(()),
            Err(refusal) => Err(refusal.at(step)),
        }
    }

    fn float(finite: bool, number: impl Display) -> Walked {
        if finite {
            return Ok(());
        }
        Err(Refusal::new(format!(
            "the number is {number}, but JSON has neither NaN nor infinity. Serialize it in \
             another form when `Serializer::is_human_readable` is true, or keep it out of the model"
        )))
    }

    fn parts(self) -> Parts {
        Parts { walk: self, place: 0 }
    }
}

/// The parts of one value, and how many of them were walked.
struct Parts {
    walk: Walk,
    place: u64,
}

impl Parts {
    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Walked {
        self.walk.into(value, || format!(".{name}"))
    }

    fn next<T: Serialize + ?Sized>(&mut self, value: &T) -> Walked {
        let place = self.place;
        self.place += 1;
        self.walk.into(value, || format!("[{place}]"))
    }
}

/// Returns a key in the form in which paths show it.
fn shown<K: Serialize + ?Sized>(key: &K) -> String {
    let Ok(key) = serde_json::to_string(key) else { return "[?]".to_owned() };
    let mut step = "[".to_owned();
    step.extend(key.chars().take(SHOWN_KEY_CHARS));
    if key.chars().nth(SHOWN_KEY_CHARS).is_some() {
        step.push('…');
    }
    step.write_char(']').ok(); // writing to a String cannot fail
    step
}

macro_rules! nothing_to_refuse {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {
        $(fn $method(self, $($argument: $type),*) -> Walked {
            let _ = ($($argument,)*);
            Ok(())
        })*
    };
}

impl Serializer for Walk {
    type Ok = ();
    type Error = Refusal;
    type SerializeSeq = Parts;
    type SerializeTuple = Parts;
    type SerializeTupleStruct = Parts;
    type SerializeTupleVariant = Parts;
    type SerializeMap = Parts;
    type SerializeStruct = Parts;
    type SerializeStructVariant = Parts;

    nothing_to_refuse! {
        serialize_bool(value: bool);
        serialize_i8(value: i8);
        serialize_i16(value: i16);
        serialize_i32(value: i32);
        serialize_i64(value: i64);
        serialize_i128(value: i128);
        serialize_u8(value: u8);
        serialize_u16(value: u16);
        serialize_u32(value: u32);
        serialize_u64(value: u64);
        serialize_u128(value: u128);
        serialize_char(value: char);
        serialize_str(value: &str);
        serialize_bytes(value: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    fn serialize_f32(self, value: f32) -> Walked {
        Self::float(value.is_finite(), value)
    }

    fn serialize_f64(self, value: f64) -> Walked {
        Self::float(value.is_finite(), value)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Walked {
        self.into(value, String::new)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Walked {
        self.into(value, String::new)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Walked {
        self.into(value, || format!(".{variant}"))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts, Refusal> {
        Ok(self.parts())
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts, Refusal> {
        Ok(self.parts())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Parts, Refusal> {
        Ok(self.parts())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Parts, Refusal> {
        Ok(self.parts())
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Parts, Refusal> {
        Ok(self.parts())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts, Refusal> {
        Ok(self.parts())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Parts, Refusal> {
        Ok(self.parts())
    }

    /// Accepts every text, so there is no need to format it.
    fn collect_str<T: Display + ?Sized>(self, _: &T) -> Walked {
        Ok(())
    }
}

macro_rules! walks_each {
    ($($compound:ident::$method:ident($($name:ident)?) by $walk:ident;)*) => {
        $(impl $compound for Parts {
            type Ok = ();
            type Error = Refusal;

            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($name: &'static str,)?
                value: &T,
            ) -> Walked {
                self.$walk($($name,)? value)
            }

            fn end(self) -> Walked {
                Ok(())
            }
        })*
    };
}

walks_each! {
    SerializeSeq::serialize_element() by next;
    SerializeTuple::serialize_element() by next;
    SerializeTupleStruct::serialize_field() by next;
    SerializeTupleVariant::serialize_field() by next;
    SerializeStruct::serialize_field(name) by field;
    SerializeStructVariant::serialize_field(name) by field;
}

impl SerializeMap for Parts {
    type Ok = ();
    type Error = Refusal;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Walked {
        let place = self.place;
        self.walk.into(key, || format!("[the key of entry {place}]"))
    }

    /// Names the entry by its place, because its key is no longer available.
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Walked {
        self.next(value)
    }

    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Walked {
        self.serialize_key(key)?;
        self.place += 1;
        self.walk.into(value, || shown(key))
    }

    fn end(self) -> Walked {
        Ok(())
    }
}

#[cfg(test)]
mod tests;

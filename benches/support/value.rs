//! A value of 100 bytes.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::mix;

const VALUE_BYTES: usize = 100;

/// A value that serde writes and reads as bytes.
#[derive(Clone)]
pub struct Value([u8; VALUE_BYTES]);

impl Value {
    /// Makes a value that packs well.
    pub fn of(index: u64) -> Self {
        let mut bytes = [b'.'; VALUE_BYTES];
        bytes[..8].copy_from_slice(&index.to_le_bytes());
        Self(bytes)
    }

    /// Makes a value that does not pack.
    pub fn random(index: u64) -> Self {
        let mut bytes = [0; VALUE_BYTES];
        for (word, part) in (0..).zip(bytes.chunks_mut(8)) {
            let mixed = mix(index.wrapping_mul(16).wrapping_add(word)).to_le_bytes();
            part.copy_from_slice(&mixed[..part.len()]);
        }
        Self(bytes)
    }

    /// Returns the first byte: a look at the value.
    pub fn first(&self) -> u64 {
        self.0[0].into()
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl de::Visitor<'_> for Bytes {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{VALUE_BYTES} bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Value, E> {
                let bytes = bytes.try_into();
                bytes.map(Value).map_err(|_| E::custom("a value of another length"))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

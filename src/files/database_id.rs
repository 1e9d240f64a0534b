//! Owns the identity that all files of one database share. Knows nothing of what they hold.

use std::fmt;

/// The random 128-bit identity that all files of one database share.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DatabaseId(pub(crate) [u8; 16]);

impl DatabaseId {
    /// Returns the identity that these bytes are. Tests of a [`Sink`](crate::Sink) need one.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the identity as bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseId({self})")
    }
}

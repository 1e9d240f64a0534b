//! Owns how a type was changed. Knows nothing of how that was found out.

/// How the type of a command differs from the one with which the command was stored; see
/// [`Error::CommandChanged`](crate::Error::CommandChanged).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeChange {
    /// What differs, and where.
    pub reason: String,
    /// The type with which it was stored, much as it is written in Rust.
    pub stored: String,
    /// The type in this program.
    pub present: String,
}

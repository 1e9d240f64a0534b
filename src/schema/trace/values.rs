//! Owns the values that a trace makes up. A type may refuse some of them: a name that must not be
//! empty, or a date. So there are several of each kind, which are tried in their order.

use crate::schema::types::Leaf;

/// The first is accepted by most types: a `NonZero`, too.
pub(super) const NUMBERS: [u8; 3] = [1, 0, 20];

pub(super) const FLOATS: [f32; 2] = [0.5, 1.0];

pub(super) const TRUTHS: [bool; 2] = [false, true];

pub(super) const LETTERS: [char; 2] = ['a', '1'];

pub(super) const TEXTS: [&str; 13] = [
    "",
    "a",
    "1",
    "1970-01-01T00:00:00Z",
    "1970-01-01T00:00:00",
    "1970-01-01",
    "00:00:00",
    "00000000-0000-0000-0000-000000000000",
    "127.0.0.1",
    "127.0.0.1:1",
    "a@example.org",
    "https://example.org/",
    "1.0.0",
];

/// Lengths of byte strings: an id or a key may need a certain one.
pub(super) const BYTES: [usize; 7] = [0, 16, 32, 12, 20, 64, 8];

/// Returns how many values there are of this kind.
pub(super) fn count(leaf: Leaf) -> usize {
    match leaf {
        Leaf::U8 | Leaf::U16 | Leaf::U32 | Leaf::U64 | Leaf::U128 => NUMBERS.len(),
        Leaf::I8 | Leaf::I16 | Leaf::I32 | Leaf::I64 | Leaf::I128 => NUMBERS.len(),
        Leaf::F32 | Leaf::F64 => FLOATS.len(),
        Leaf::Bool => TRUTHS.len(),
        Leaf::Char => LETTERS.len(),
        Leaf::String => TEXTS.len(),
        Leaf::Bytes => BYTES.len(),
        Leaf::Unit => 1,
    }
}

/// Returns the value with this number.
pub(super) fn pick<T: Copy + Default>(values: &[T], number: usize) -> T {
    values.get(number).copied().unwrap_or_default()
}

//! Owns a faster way to decode a number that stands alone: as the key or the value of an entry.
//! Knows nothing of entries.
//!
//! The format is bincode's: one byte for a number up to 250, otherwise a mark and two, four or
//! eight bytes. A signed number is zigzagged before. bincode decodes each number through several
//! calls that pass large errors; for a collection of numbers that is most of the time.

use std::any::{Any, TypeId};

/// The largest number that is one byte, and the marks before longer ones.
const LARGEST_ALONE: u8 = 250;
const TWO_BYTES: u8 = 251;
const FOUR_BYTES: u8 = 252;
const EIGHT_BYTES: u8 = 253;

/// Decodes a number at the beginning of `bytes`, and takes it from there. Returns `None` if `T` is
/// no number that this knows, or if there is none: then the bytes stay as they are. The compiler
/// knows the type, so nothing is left of this for others.
#[inline(always)]
pub(super) fn decode<T: Any>(bytes: &mut &[u8]) -> Option<T> {
    macro_rules! numbers {
        ($($number:ty: $take:ident),*) => {
            $(if TypeId::of::<T>() == TypeId::of::<$number>() {
                let mut rest = *bytes;
                let mut number = Some(<$number>::try_from($take(&mut rest)?).ok()?);
                *bytes = rest;
                let number: &mut dyn Any = &mut number;
                return number.downcast_mut::<Option<T>>().and_then(Option::take);
            })*
        };
    }
    numbers!(u16: unsigned, u32: unsigned, u64: unsigned, usize: unsigned);
    numbers!(i16: signed, i32: signed, i64: signed, isize: signed);
    None
}

#[inline(always)]
fn unsigned(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(match first {
        0..=LARGEST_ALONE => u64::from(first),
        TWO_BYTES => u64::from(u16::from_le_bytes(take(bytes)?)),
        FOUR_BYTES => u64::from(u32::from_le_bytes(take(bytes)?)),
        EIGHT_BYTES => u64::from_le_bytes(take(bytes)?),
        _ => return None,
    })
}

#[inline(always)]
fn signed(bytes: &mut &[u8]) -> Option<i64> {
    let zigzag = unsigned(bytes)?;
    let half = (zigzag >> 1).cast_signed();
    Some(if zigzag & 1 == 0 { half } else { !half })
}

#[inline(always)]
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use bincode::config;

    use super::*;

    fn as_bincode_does<T>(bytes: &[u8])
    where
        T: serde::de::DeserializeOwned + Any + PartialEq + std::fmt::Debug,
    {
        let expected = bincode::serde::decode_from_slice::<T, _>(bytes, config::standard()).ok();
        let mut rest = bytes;
        let found = decode::<T>(&mut rest).map(|number| (number, bytes.len() - rest.len()));
        assert_eq!(found, expected, "{bytes:?} as {}", std::any::type_name::<T>());
        assert!(found.is_some() || rest == bytes);
    }

    fn all(bytes: &[u8]) {
        as_bincode_does::<u16>(bytes);
        as_bincode_does::<u32>(bytes);
        as_bincode_does::<u64>(bytes);
        as_bincode_does::<usize>(bytes);
        as_bincode_does::<i16>(bytes);
        as_bincode_does::<i32>(bytes);
        as_bincode_does::<i64>(bytes);
        as_bincode_does::<isize>(bytes);
    }

    #[test]
    fn numbers_are_what_bincode_decodes() {
        for first in 0..=u8::MAX {
            for length in 0..12 {
                let mut bytes = vec![first];
                bytes.extend((0..length).map(|at| if at % 2 == 0 { 0xFF } else { first }));
                all(&bytes);
                all(&vec![first; length]);
            }
        }
        for power in 0..64 {
            for number in [(1_u64 << power) - 1, 1 << power, (1 << power) + 1] {
                for signed in [number.cast_signed(), number.cast_signed().wrapping_neg()] {
                    all(&bincode::serde::encode_to_vec(signed, config::standard()).unwrap());
                }
                all(&bincode::serde::encode_to_vec(number, config::standard()).unwrap());
            }
        }
    }

    #[test]
    fn other_types_are_left_alone() {
        let mut bytes = &[1, 2, 3][..];
        assert_eq!(decode::<u8>(&mut bytes), None);
        assert_eq!(decode::<(u64,)>(&mut bytes), None);
        assert_eq!(bytes, [1, 2, 3]);
    }
}

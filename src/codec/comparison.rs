//! Owns the comparison of values by their encodings: what has the same encoding need not be written
//! again. Knows nothing of where the values are.

use std::any::Any;

use bincode::config;
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use serde::Serialize;

use super::{LEVEL_BYTES, TOO_DEEP};
use crate::process::Floor;

/// Values with longer encodings are taken for different, so that no large one is in memory twice.
const LONGEST_BYTES: usize = 1 << 20;

/// Compares values by their encodings.
#[derive(Default)]
pub(crate) struct Comparison([Vec<u8>; 2]);

impl Comparison {
    /// Returns whether both values have the same encoding. What cannot be encoded, or is long, is
    /// equal to nothing.
    pub(crate) fn are_equal<T: Serialize + 'static>(&mut self, left: &T, right: &T) -> bool {
        if let Some(are_equal) = are_equal_numbers(left, right) {
            return are_equal;
        }
        let Self([one, other]) = self;
        let floor = Floor::of_encoding();
        let encode = |value: &T, target: &mut Vec<u8>| {
            target.clear();
            let writer = BufferWriter { buffer: target, floor };
            bincode::serde::encode_into_writer(value, writer, config::standard()).is_ok()
        };
        encode(left, one) && encode(right, other) && one == other
    }
}

/// Compares numbers without their encodings; `None` if the values are of another type. The compiler
/// knows the type, so nothing is left of this for others.
#[inline(always)]
fn are_equal_numbers<T: 'static>(left: &T, right: &T) -> Option<bool> {
    let (left, right): (&dyn Any, &dyn Any) = (left, right);
    macro_rules! numbers {
        ($($number:ty),*) => {
            $(if let (Some(left), Some(right)) =
                (left.downcast_ref::<$number>(), right.downcast_ref::<$number>())
            {
                return Some(left == right);
            })*
        };
    }
    numbers!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, bool, char);
    None
}

/// Writes into memory until the stack has reached its floor.
struct BufferWriter<'a> {
    buffer: &'a mut Vec<u8>,
    floor: Floor,
}

impl Writer for BufferWriter<'_> {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        if bytes.len() == LEVEL_BYTES && self.floor.is_reached() {
            return Err(EncodeError::Other(TOO_DEEP));
        }
        if bytes.len() > LONGEST_BYTES - self.buffer.len().min(LONGEST_BYTES) {
            return Err(EncodeError::UnexpectedEnd);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_equal_if_their_encodings_are() {
        let mut comparison = Comparison::default();
        assert!(comparison.are_equal(&7_u64, &7) && !comparison.are_equal(&7_u64, &8));
        assert!(comparison.are_equal(&-7_i8, &-7) && !comparison.are_equal(&'a', &'b'));
        assert!(comparison.are_equal(&(), &()));
        let pairs = [(1_u32, "a"), (1, "b"), (2, "a"), (1, "")];
        for (a, left) in pairs.iter().enumerate() {
            for (b, right) in pairs.iter().enumerate() {
                assert_eq!(comparison.are_equal(left, right), a == b);
            }
        }
        let long = "x".repeat(LONGEST_BYTES - 5);
        assert!(comparison.are_equal(&long, &long.clone()));
        let longer = "x".repeat(LONGEST_BYTES);
        assert!(!comparison.are_equal(&longer, &longer.clone()));
        // As numbers they are equal, or not even to themselves.
        assert!(!comparison.are_equal(&0.0_f64, &-0.0));
        assert!(comparison.are_equal(&f64::NAN, &f64::NAN));
    }
}

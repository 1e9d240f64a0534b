//! Owns numbers that take one byte for seven bits. Knows nothing of what they count.

const MORE: u8 = 0x80;

#[expect(clippy::cast_possible_truncation, reason = "the byte takes the lowest bits")]
/// Appends a number: each byte takes seven bits, the lowest first.
pub(crate) fn push(target: &mut Vec<u8>, mut number: u64) {
    while number >= u64::from(MORE) {
        target.push(number as u8 | MORE);
        number >>= 7;
    }
    target.push(number as u8);
}

/// Decodes a number at the beginning of `bytes`, and takes it from there; `None` if there is none.
#[inline]
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & !MORE);
        if part.leading_zeros() < shift {
            return None; // it does not fit
        }
        number |= part << shift;
        if byte & MORE == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_size_come_back() {
        for number in (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit]).chain([u64::MAX]) {
            let mut bytes = Vec::new();
            push(&mut bytes, number);
            assert_eq!(take(&mut &bytes[..]), Some(number));
        }
        assert_eq!(take(&mut &[0xff; 10][..]), None);
    }
}

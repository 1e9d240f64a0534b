//! Owns numbers as JSON writes them, and their order, with all digits. Knows nothing of where they
//! come from.

use std::cmp::Ordering;

/// A number: the digits as a fraction 0.DIGITS, times ten to the power of `exponent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal {
    is_negative: bool,
    /// Without zeros at the beginning and the end; empty for zero.
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// Reads a number of JSON; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (is_negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, power(exponent)?),
            None => (rest, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) if is_all_digits(fraction) => (whole, fraction),
            Some(_) => return None,
            None => (mantissa, ""),
        };
        let has_needless_zero = whole.len() > 1 && whole.starts_with('0');
        if !is_all_digits(whole) || has_needless_zero {
            return None;
        }
        let all = format!("{whole}{fraction}");
        let digits = all.trim_start_matches('0');
        let zeros = i64::try_from(all.len() - digits.len()).ok()?;
        let digits = digits.trim_end_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self { is_negative: false, digits, exponent: 0 });
        }
        let point = i64::try_from(whole.len()).ok()?;
        let exponent = exponent.saturating_add(point).saturating_sub(zeros);
        Some(Self { is_negative, digits, exponent })
    }
}

fn is_all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit())
}

/// Reads the power of ten. One of more digits than anything has is as good as the largest.
fn power(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !is_all_digits(digits) {
        return None;
    }
    let most = i64::MAX / 2;
    let power = digits.parse::<i64>().map_or(most, |power| power.min(most));
    Some(if text.starts_with('-') { -power } else { power })
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |it: &Self| match (it.digits.is_empty(), it.is_negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        // The digits of a fraction compare as texts do.
        let size = || (self.exponent, &self.digits).cmp(&(other.exponent, &other.digits));
        sign(self).cmp(&sign(other)).then_with(|| match self.is_negative {
            true => size().reverse(),
            false => size(),
        })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_their_order() {
        let rising = [
            "-1e999999999999999999999",
            "-340282366920938463463374607431768211456",
            "-340282366920938463463374607431768211455",
            "-10",
            "-9.5",
            "-0.01",
            "-1e-9",
            "0",
            "1e-9",
            "0.01",
            "0.1",
            "0.11",
            "1",
            "1.5",
            "9",
            "10",
            "99",
            "100",
            "18446744073709551615",
            "18446744073709551616",
            "1e400",
        ];
        for (at, left) in rising.iter().enumerate() {
            for (other, right) in rising.iter().enumerate() {
                let (parsed, compared) = (Decimal::parse(left), Decimal::parse(right));
                assert_eq!(
                    parsed.unwrap().cmp(&compared.unwrap()),
                    at.cmp(&other),
                    "{left} {right}"
                );
            }
        }
    }

    #[test]
    fn one_number_has_several_forms() {
        for (one, other) in [
            ("150", "150.0"),
            ("150", "1.5e2"),
            ("150", "1500E-1"),
            ("0", "-0"),
            ("0", "0.000e9"),
            ("0.5", "5e-1"),
            ("1e+2", "100"),
        ] {
            assert_eq!(Decimal::parse(one).unwrap(), Decimal::parse(other).unwrap(), "{one}");
        }
        for none in
            ["", "-", "+1", "01", "1.", ".5", "1e", "1e+", "0x1", "1 ", "NaN", "\"1\"", "--1"]
        {
            assert_eq!(Decimal::parse(none), None, "{none}");
        }
    }
}

//! Decimals of JSON to integers of core and back. The only place where the two meet.
//!
//! Reading works on the number's text, so that 0.1 is one tenth and not its nearest double.

use serde::{Serialize, Serializer};
use serde_json::Number;

/// Bytes of a MiB.
pub const MIB: u64 = 1024 * 1024;
/// Thousandths of one.
pub const MILLI: u64 = 1000;
/// Millionths of one.
pub const PPM: u64 = 1_000_000;

/// Digits after the point that tell any byte count apart when written in MiB (2^-20 > 10^-7).
const MIB_DIGITS_MAX: u32 = 7;

/// Why a number has no place in core's integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    Negative,
    TooLarge,
    NotWhole,
}

/// Give `number * factor`, rounded half up.
///
/// # Errors
/// When the number is below zero or the result above `u64::MAX`.
pub fn scaled(number: &Number, factor: u64) -> Result<u64, Misfit> {
    let (digits, exponent) = decimal(number)?;
    let product = digits.checked_mul(u128::from(factor)).ok_or(Misfit::TooLarge)?;
    let result = match power_of_ten(exponent.unsigned_abs()) {
        _ if product == 0 => 0,
        Some(power) if exponent >= 0 => product.checked_mul(power).ok_or(Misfit::TooLarge)?,
        Some(power) => product / power + u128::from(product % power >= power.div_ceil(2)),
        None if exponent >= 0 => return Err(Misfit::TooLarge),
        None => 0,
    };
    u64::try_from(result).map_err(|_| Misfit::TooLarge)
}

/// Give a number that must be whole; `3.0` is.
///
/// # Errors
/// When it is below zero, above `u64::MAX`, or has a fraction.
pub fn whole(number: &Number) -> Result<u64, Misfit> {
    let (digits, exponent) = decimal(number)?;
    let has_fraction = exponent < 0
        && power_of_ten(exponent.unsigned_abs()).is_none_or(|p| digits % p != 0)
        && digits != 0;
    if has_fraction { Err(Misfit::NotWhole) } else { scaled(number, 1) }
}

/// Split into digits and the power of ten they are multiplied with.
fn decimal(number: &Number) -> Result<(u128, i32), Misfit> {
    let text = number.to_string();
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse().unwrap_or(i32::MAX / 2)),
        None => (text.as_str(), 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_negative = whole.starts_with('-');
    let mut digits: u128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()).filter(u8::is_ascii_digit) {
        digits = digits
            .checked_mul(10)
            .and_then(|d| d.checked_add(u128::from(digit - b'0')))
            .ok_or(Misfit::TooLarge)?;
    }
    if is_negative && digits != 0 {
        return Err(Misfit::Negative);
    }
    Ok((digits, exponent - i32::try_from(fraction.len()).unwrap_or(0)))
}

fn power_of_ten(exponent: u32) -> Option<u128> {
    10u128.checked_pow(exponent)
}

/// A number of core written as a decimal: whole where it is whole (`128`), else shortest (`0.1`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decimal {
    Whole(u64),
    Fraction(f64),
}

impl Decimal {
    /// From thousandths (cpus).
    pub fn from_milli(value: u64) -> Self {
        Self::quotient(value, MILLI)
    }

    /// From parts per million (factors, ratios).
    pub fn from_ppm(value: u64) -> Self {
        Self::quotient(value, PPM)
    }

    /// From bytes, in MiB: the shortest decimal that reads back as the same bytes.
    pub fn from_bytes(bytes: u64) -> Self {
        if bytes.is_multiple_of(MIB) {
            return Self::Whole(bytes / MIB);
        }
        let (wide, mib) = (u128::from(bytes), u128::from(MIB));
        let mut power: u128 = 1;
        for _ in 0..MIB_DIGITS_MAX {
            power *= 10;
            let digits = (wide * power + mib / 2) / mib;
            if (digits * mib + power / 2) / power == wide {
                return Self::Fraction(digits as f64 / power as f64);
            }
        }
        Self::Fraction(bytes as f64 / MIB as f64)
    }

    fn quotient(value: u64, divisor: u64) -> Self {
        if value.is_multiple_of(divisor) {
            Self::Whole(value / divisor)
        } else {
            Self::Fraction(value as f64 / divisor as f64)
        }
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Decimal::Whole(value) => serializer.serialize_u64(*value),
            Decimal::Fraction(value) => serializer.serialize_f64(*value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn number(text: &str) -> Number {
        match serde_json::from_str(text).unwrap() {
            Value::Number(number) => number,
            other => panic!("{other} is no number"),
        }
    }

    #[test]
    fn decimals_become_integers() {
        let cases = [
            ("0.1", MILLI, Ok(100)),
            ("0.001", MILLI, Ok(1)),
            ("0.0005", MILLI, Ok(1)),
            ("0.0004", MILLI, Ok(0)),
            ("1e-9", MILLI, Ok(0)),
            ("5e-324", MILLI, Ok(0)),
            ("1.15", PPM, Ok(1_150_000)),
            ("2", MIB, Ok(2 * MIB)),
            ("0.5", MIB, Ok(MIB / 2)),
            ("1e3", MILLI, Ok(1_000_000)),
            ("-0.0", MILLI, Ok(0)),
            ("-0.1", MILLI, Err(Misfit::Negative)),
            ("-5", MIB, Err(Misfit::Negative)),
            ("1e300", MIB, Err(Misfit::TooLarge)),
            ("18446744073709551615", MIB, Err(Misfit::TooLarge)),
        ];
        for (text, factor, expected) in cases {
            assert_eq!(scaled(&number(text), factor), expected, "{text} * {factor}");
        }
    }

    #[test]
    fn whole_numbers_may_be_written_as_decimals() {
        let cases = [
            ("3", Ok(3)),
            ("3.0", Ok(3)),
            ("3e0", Ok(3)),
            ("0.0", Ok(0)),
            ("3.5", Err(Misfit::NotWhole)),
            ("1e-3", Err(Misfit::NotWhole)),
            ("-1", Err(Misfit::Negative)),
            ("1e40", Err(Misfit::TooLarge)),
        ];
        for (text, expected) in cases {
            assert_eq!(whole(&number(text)), expected, "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in ["0.1", "128", "0.25", "65", "1.7", "0.000001", "4095.9999999", "333.333"] {
            let bytes = scaled(&number(text), MIB).unwrap();
            let written = serde_json::to_string(&Decimal::from_bytes(bytes)).unwrap();
            assert_eq!(scaled(&number(&written), MIB).unwrap(), bytes, "{text} -> {written}");
        }
        for bytes in [1, 2, 1023, 1025, MIB - 1, MIB + 1, 3 * MIB / 7, 1 << 40 | 1] {
            let written = serde_json::to_string(&Decimal::from_bytes(bytes)).unwrap();
            assert_eq!(scaled(&number(&written), MIB).unwrap(), bytes, "{written}");
        }
        let text = |d: Decimal| serde_json::to_string(&d).unwrap();
        assert_eq!(text(Decimal::from_bytes(scaled(&number("0.1"), MIB).unwrap())), "0.1");
        assert_eq!(text(Decimal::from_milli(100)), "0.1");
        assert_eq!(text(Decimal::from_milli(2000)), "2");
        assert_eq!(text(Decimal::from_ppm(1_150_000)), "1.15");
    }
}

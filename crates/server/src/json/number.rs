//! Whole numbers as JSON may write them: `100`, `1e2` and `100.0` are one.

/// The whole number that a JSON number is, in decimal digits. `None` if it is none, or has more digits than any field.
fn whole(number: &str) -> Option<i128> {
    /// No field holds more.
    const DIGITS_MAX: usize = 20;
    let (is_negative, number) = number.strip_prefix('-').map_or((false, number), |rest| (true, rest));
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (number, 0),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let (before, after) = (before.trim_start_matches('0'), after.trim_end_matches('0'));
    if before.is_empty() && after.is_empty() {
        return Some(0);
    }
    let digits = [before, after].concat();
    // By so many places the point stands to the right of the last digit.
    let shift = i64::from(exponent) - after.len() as i64;
    let digits = match usize::try_from(shift) {
        Ok(zeros) if digits.len() + zeros <= DIGITS_MAX => digits + &"0".repeat(zeros),
        Ok(_) => return None,
        Err(_) => {
            let kept = digits.len().checked_sub(usize::try_from(-shift).ok()?)?;
            let (kept, dropped) = digits.split_at(kept);
            if dropped.bytes().any(|digit| digit != b'0') || kept.len() > DIGITS_MAX {
                return None;
            }
            kept.to_owned()
        }
    };
    let magnitude: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    Some(if is_negative { -magnitude } else { magnitude })
}

/// The integer of a field's type that a JSON number is.
pub(super) fn integer<N: TryFrom<i128>>(number: &str) -> Option<N> {
    N::try_from(whole(number)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_whole_however_it_is_written() {
        let rows = [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("0.000e-999999999", Some(0)),
            ("1e2", Some(100)),
            ("1.0", Some(1)),
            ("10e-1", Some(1)),
            ("120.0e-1", Some(12)),
            ("1.50e1", Some(15)),
            ("1.5", None),
            ("15e-1", None),
            ("1e-1", None),
            ("1e19", None),
            ("1e999999999", None),
            ("1e-999999999", None),
            ("1e999999999999", None),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("-9223372036854775808", Some(i64::MIN)),
            ("-9223372036854775809", None),
        ];
        for (text, expected) in rows {
            assert_eq!(integer::<i64>(text), expected, "{text}");
        }
        assert_eq!(integer::<u64>("18446744073709551615"), Some(u64::MAX));
        assert_eq!(integer::<u64>("-1"), None);
        assert_eq!(integer::<i32>("2147483648"), None);
        assert_eq!(integer::<u64>(&"9".repeat(1_000_000)), None);
    }
}

//! Numbers and times as the log holds them, as the text that MySQL prints.
//!
//! Source: MySQL's `strings/decimal.cc` (`bin2decimal`) and `sql-common/my_time.cc` (`my_time_packed_from_binary` and its
//! like); MySQL internals manual, "Date and Time Data Type Representation".

use crate::time::{self, LONGEST_USUAL, put, put_hms, put_ymd};

/// How many bytes so many decimal digits take.
const BYTES_OF_DIGITS: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// How many digits the four bytes of a whole group hold.
const GROUP: usize = 9;

/// The length of a decimal in bytes.
pub(super) fn decimal_length(precision: usize, scale: usize) -> usize {
    let whole = precision.saturating_sub(scale);
    let of = |digits: usize| digits / GROUP * 4 + BYTES_OF_DIGITS[digits % GROUP];
    of(whole) + of(scale)
}

/// A decimal: groups of nine digits in four bytes, the odd digits at both ends in fewer, the sign in the first bit, which is
/// inverted, and with it all bytes of a negative number.
pub(super) fn decimal(bytes: &[u8], precision: usize, scale: usize) -> String {
    let is_negative = bytes.first().is_some_and(|first| first & 0x80 == 0);
    let mask = if is_negative { 0xff } else { 0 };
    let mut plain = bytes.iter().enumerate().map(|(at, byte)| byte ^ mask ^ if at == 0 { 0x80 } else { 0 });
    let mut digits = String::with_capacity(precision + 1);
    let mut take = |count: usize, digits: &mut String| {
        let group = plain.by_ref().take(BYTES_OF_DIGITS[count]);
        let number = group.fold(0_u64, |number, byte| number << 8 | u64::from(byte));
        if count > 0 {
            put(digits, number, count);
        }
    };
    let whole = precision.saturating_sub(scale);
    take(whole % GROUP, &mut digits);
    (0..whole / GROUP).for_each(|_| take(GROUP, &mut digits));
    let point = digits.len();
    (0..scale / GROUP).for_each(|_| take(GROUP, &mut digits));
    take(scale % GROUP, &mut digits);
    let (whole, fraction) = digits.split_at(point);
    let whole = whole.trim_start_matches('0');
    let sign = if is_negative { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { whole };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// How many bytes a fraction of so many digits takes.
pub(super) fn fraction_length(digits: u8) -> usize {
    usize::from(digits).div_ceil(2)
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A fraction of a second, in microseconds.
fn micros(bytes: &[u8]) -> u64 {
    big_endian(bytes) * 100_u64.pow(3 - u32::try_from(bytes.len()).unwrap_or(3).min(3))
}

/// Writes a fraction with its point, as many digits as the column has.
fn put_fraction(text: &mut String, micros: u64, digits: u8) {
    let digits = digits.min(6);
    if digits > 0 {
        text.push('.');
        put(text, micros / 10_u64.pow(6 - u32::from(digits)), digits.into());
    }
}

/// `DATE`: five bits of the day, four of the month, the rest is the year.
pub(super) fn date(bytes: &[u8]) -> String {
    let packed = bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let mut text = String::with_capacity(10);
    put_ymd(&mut text, packed >> 9, packed >> 5 & 15, packed & 31);
    text
}

/// `DATETIME`: a sign, 17 bits of years and months, 5 of the day, 5, 6 and 6 of hour, minute and second, and the fraction.
pub(super) fn datetime(bytes: &[u8], digits: u8) -> String {
    let (whole, rest) = bytes.split_at(5.min(bytes.len()));
    let packed = big_endian(whole) & 0x7f_ffff_ffff;
    let (months, day) = (packed >> 22, packed >> 17 & 31);
    let mut text = String::with_capacity(LONGEST_USUAL);
    put_ymd(&mut text, months / 13, months % 13, day);
    text.push(' ');
    put_hms(&mut text, packed >> 12 & 31, packed >> 6 & 63, packed & 63);
    put_fraction(&mut text, micros(rest), digits);
    text
}

/// The second that was read last, and its text: rows that were written together are mostly of one.
#[derive(Debug, Default)]
pub(super) struct Second {
    number: u64,
    text: String,
}

impl Second {
    fn text(&mut self, number: u64) -> &str {
        if self.number != number || self.text.is_empty() {
            *self = Self { number, text: time::timestamp(i128::from(number) * 1_000_000) };
        }
        &self.text
    }
}

/// `TIMESTAMP`: seconds since 1970-01-01 00:00 UTC, and the fraction. Nought is the zero date, which is no moment.
pub(super) fn timestamp(bytes: &[u8], digits: u8, latest: &mut Second) -> String {
    let (seconds, rest) = bytes.split_at(4.min(bytes.len()));
    let (seconds, micros) = (big_endian(seconds), micros(rest));
    let mut text = String::with_capacity(LONGEST_USUAL);
    text += if seconds == 0 && micros == 0 { "0000-00-00 00:00:00" } else { latest.text(seconds) };
    put_fraction(&mut text, micros, digits);
    text
}

/// `TIME`: a sign, one unused bit, ten bits of the hour, six each of minute and second, and the fraction. A negative one is
/// the complement of the whole number that all its bytes are.
pub(super) fn time_of_day(bytes: &[u8], digits: u8) -> String {
    let bits = bytes.len() * 8;
    let packed = big_endian(bytes);
    let offset = 1_u64 << bits.saturating_sub(1);
    let (sign, magnitude) = if packed >= offset { ("", packed - offset) } else { ("-", offset - packed) };
    let fraction_bits = bits.saturating_sub(24);
    let (whole, rest) = (magnitude >> fraction_bits, magnitude & ((1 << fraction_bits) - 1));
    let rest = rest * 100_u64.pow(3 - u32::try_from(fraction_bits / 8).unwrap_or(3).min(3));
    let mut text = String::with_capacity(LONGEST_USUAL);
    text += sign;
    put_hms(&mut text, whole >> 12 & 0x3ff, whole >> 6 & 63, whole & 63);
    put_fraction(&mut text, rest, digits);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_unpacked() {
        // The example of MySQL's own source: 1234567890.1234 as decimal(14,4).
        let bytes = [0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2];
        assert_eq!((decimal_length(14, 4), decimal(&bytes, 14, 4)), (7, "1234567890.1234".to_owned()));
        let negative: Vec<_> = bytes.iter().map(|byte| byte ^ 0xff).collect();
        assert_eq!(decimal(&negative, 14, 4), "-1234567890.1234");
        assert_eq!(decimal(&[0x80, 0x00], 3, 2), "0.00");
        assert_eq!(decimal(&[0x80, 0x05], 2, 2).as_str(), "0.00", "a number of two digits has one byte");
        assert_eq!(decimal(&[0x85], 2, 0), "5");
        assert_eq!(decimal(&[0x7a], 2, 2), "-0.05");
    }

    #[test]
    fn times_are_unpacked() {
        assert_eq!(date(&[0x5d, 0xd0, 0x0f]), "2024-02-29");
        assert_eq!(date(&[0, 0, 0]), "0000-00-00");
        assert_eq!(datetime(&[0x80, 0, 0, 0, 0], 0), "0000-00-00 00:00:00");
        let mut latest = Second::default();
        assert_eq!(timestamp(&[0, 0, 0, 0, 0, 0, 0], 6, &mut latest), "0000-00-00 00:00:00.000000");
        assert_eq!(timestamp(&[0, 0, 0, 0, 0, 0, 1], 6, &mut latest), "1970-01-01 00:00:00.000001");
        assert_eq!(timestamp(&[0, 0, 0, 1, 0x04, 0xd2], 4, &mut latest), "1970-01-01 00:00:01.1234");
        assert_eq!(time_of_day(&[0x80, 0, 0], 0), "00:00:00");
        assert_eq!(time_of_day(&[0xb4, 0x6e, 0xfb], 0), "838:59:59");
        assert_eq!(time_of_day(&[0x4b, 0x91, 0x05], 0), "-838:59:59");
        assert_eq!(time_of_day(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff], 6), "-00:00:00.000001");
        assert_eq!(time_of_day(&[0x7f, 0xff, 0xff, 0xf6], 2), "-00:00:00.10");
    }
}

//! Dates and times as the text that PostgreSQL prints, from numbers and from ISO 8601, over its whole range: from 4713 BC to
//! the year 5874897, which calendar libraries don't cover.

const DAY_US: i64 = 86_400_000_000;

/// `YYYY-MM-DD HH:MM:SS.ffffff+00`, and some room.
pub(crate) const LONGEST_USUAL: usize = 32;

/// The present moment in microseconds since 1970-01-01 00:00 UTC, by this machine's clock.
pub(crate) fn now_us() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

/// A date, from its days since 1970-01-01.
///
/// The calendar is the proleptic Gregorian one (PostgreSQL manual, appendix B.6 "History of Units"); years before 1 are
/// counted as before Christ, and there is no year 0.
pub fn date(days: i64) -> String {
    let mut text = String::with_capacity(LONGEST_USUAL);
    let era = put_date(&mut text, days);
    text + era
}

/// A timestamp without a zone, from its microseconds since 1970-01-01.
pub fn timestamp(micros: i128) -> String {
    let mut text = String::with_capacity(LONGEST_USUAL);
    let era = put_timestamp(&mut text, micros);
    text + era
}

/// A timestamp with its zone, as ISO 8601 writes it, in UTC.
pub(crate) fn zoned_timestamp(text: &str) -> Option<String> {
    let (date, time) = text.split_once('T')?;
    let at = time.find(['Z', '+', '-'])?;
    let (time, zone) = time.split_at(at);
    let offset = match zone {
        "Z" => 0,
        zone => time_of_day(&format!("{}:00", &zone[1..]))? * if zone.starts_with('-') { -1 } else { 1 },
    };
    let micros = days_of(date)? * i128::from(DAY_US) + time_of_day(time)? - offset;
    let mut text = String::with_capacity(LONGEST_USUAL);
    let era = put_timestamp(&mut text, micros);
    Some(text + "+00" + era)
}

/// A time of day, from its microseconds; PostgreSQL has 24:00 as well.
pub(crate) fn time(micros: i64) -> Option<String> {
    (0..=DAY_US).contains(&micros).then(|| clock(micros.unsigned_abs()))
}

/// A span of time, from its microseconds; it may be negative, and longer than a day.
pub(crate) fn span(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    format!("{sign}{}", clock(micros.unsigned_abs()))
}

fn clock(micros: u64) -> String {
    let mut text = String::with_capacity(LONGEST_USUAL);
    put_clock(&mut text, micros);
    text
}

/// Writes a number with so many digits, or more. Times come by the hundred thousand, and `format!` takes several times as long.
pub(crate) fn put(text: &mut String, number: u64, digits: usize) {
    let mut written = [b'0'; 20];
    let (mut at, mut rest) = (written.len(), number);
    while rest > 0 || written.len() - at < digits {
        at -= 1;
        written[at] += u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
    text.extend(written[at..].iter().copied().map(char::from));
}

/// Writes `HH:MM:SS`.
pub(crate) fn put_hms(text: &mut String, hours: u64, minutes: u64, seconds: u64) {
    put(text, hours, 2);
    text.push(':');
    put(text, minutes, 2);
    text.push(':');
    put(text, seconds, 2);
}

/// Writes `YYYY-MM-DD`.
pub(crate) fn put_ymd(text: &mut String, year: u64, month: u64, day: u64) {
    put(text, year, 4);
    text.push('-');
    put(text, month, 2);
    text.push('-');
    put(text, day, 2);
}

/// Writes a time of day, or a longer one, without the zeros at its fraction's end.
fn put_clock(text: &mut String, micros: u64) {
    let (seconds, mut fraction) = (micros / 1_000_000, micros % 1_000_000);
    put_hms(text, seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction > 0 {
        let mut digits = 6;
        while fraction % 10 == 0 {
            fraction /= 10;
            digits -= 1;
        }
        text.push('.');
        put(text, fraction, digits);
    }
}

/// Writes a timestamp. Returns its era, which stands behind the zone.
fn put_timestamp(text: &mut String, micros: i128) -> &'static str {
    // Whole numbers of 128 bits are divided many times slower than those of 64, and few timestamps need them.
    let (days, micros) = if let Ok(micros) = i64::try_from(micros) {
        (micros.div_euclid(DAY_US), micros.rem_euclid(DAY_US))
    } else {
        let (days, micros) = (micros.div_euclid(DAY_US.into()), micros.rem_euclid(DAY_US.into()));
        (i64::try_from(days).unwrap_or(i64::MAX / 2), i64::try_from(micros).unwrap_or_default())
    };
    let era = put_date(text, days);
    text.push(' ');
    put_clock(text, micros.unsigned_abs());
    era
}

/// `HH:MM[:SS[.fraction]]` in microseconds.
fn time_of_day(text: &str) -> Option<i128> {
    let mut parts = text.split(':');
    let (hours, minutes): (i128, i128) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let (seconds, fraction) =
        parts.next().unwrap_or("0").split_once('.').unwrap_or((text.get(6..8).unwrap_or("0"), ""));
    let fraction: i128 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    Some(((hours * 60 + minutes) * 60 + seconds.parse::<i128>().ok()?) * 1_000_000 + fraction)
}

/// Writes a date of its days since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
/// `civil_from_days`). Returns its era.
fn put_date(text: &mut String, days: i64) -> &'static str {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    put_ymd(text, year.unsigned_abs(), month.unsigned_abs(), day.unsigned_abs());
    era
}

/// The days since 1970-01-01 of a date as ISO 8601 writes it, with a sign where the year needs one (`days_from_civil`).
fn days_of(date: &str) -> Option<i128> {
    let (sign, digits) = match date.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, date.trim_start_matches('+')),
    };
    let mut parts = digits.split('-').map(|part| part.parse::<i128>().ok());
    let (year, month, day) = (sign * parts.next()??, parts.next()??, parts.next()??);
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    Some(era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_postgres_from_one_end_of_its_range_to_the_other() {
        for (days, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (19_782, "2024-02-29"),
            (-719_163, "0001-12-31 BC"),
            (-735_160, "0044-03-15 BC"),
            (2_145_042_905, "5874897-12-31"),
        ] {
            assert_eq!(date(days), text);
        }
        for days in (-2_000_000..2_000_000).step_by(997) {
            let date = date(days);
            if !date.ends_with("BC") {
                assert_eq!(days_of(&date), Some(days.into()), "{date}");
            }
        }
    }

    #[test]
    fn moments_are_turned_to_utc_and_written_as_postgres_writes_them() {
        for (iso, text) in [
            ("2024-02-29T12:00:00.5+02:00", "2024-02-29 10:00:00.5+00"),
            ("-0043-03-15T12:00:00Z", "0044-03-15 12:00:00+00 BC"),
            ("+294276-12-31T23:59:59.999999Z", "294276-12-31 23:59:59.999999+00"),
            ("2024-01-01T00:00Z", "2024-01-01 00:00:00+00"),
        ] {
            assert_eq!(zoned_timestamp(iso).as_deref(), Some(text));
        }
        assert_eq!(timestamp(9_224_318_015_999_000_000), "294276-12-31 23:59:59");
        assert_eq!(timestamp(-1), "1969-12-31 23:59:59.999999");
        assert_eq!(zoned_timestamp("infinity"), None);
        assert_eq!(
            (time(86_400_000_000).as_deref(), time(-1), time(60_000_000).as_deref()),
            (Some("24:00:00"), None, Some("00:01:00"))
        );
    }
}

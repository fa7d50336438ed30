//! RFC 3339 parsing of dates and times.

use std::str::FromStr;

use pmx_core::time::Timestamp;

/// Parses a date and time with its zone. Times before 1970 become the beginning of 1970, which has
/// passed as well.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_once(['T', 't'])?;
    let days = days(date)?;
    let (clock, east) = zone(rest)?;
    let seconds = days * 86_400 - east * 60;
    let millis = seconds * 1_000 + time(clock)?;
    Some(Timestamp::from_millis(u64::try_from(millis).unwrap_or(0)))
}

/// Parses exactly `count` digits.
fn digits<N: FromStr>(text: &str, count: usize) -> Option<N> {
    let plain = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Days from 1970-01-01 to a day of the Gregorian calendar. The computation begins years in March,
/// so that a leap day is the last of its year.
fn days(date: &str) -> Option<i64> {
    let mut parts = date.split('-');
    let year: i64 = digits(parts.next()?, 4)?;
    let month: i64 = digits(parts.next()?, 2)?;
    let day: i64 = digits(parts.next()?, 2)?;
    if parts.next().is_some() || !(1..=12).contains(&month) {
        return None;
    }
    if day < 1 || day > days_of(year, month) {
        return None;
    }
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // From March on, months have 31, 30, 31, 30, 31 days in turn.
    let in_year = (month * 153 + 2) / 5 + day - 1;
    Some(year * 365 + leap_days + in_year - DAYS_TO_1970)
}

/// Days from March 1 of the year 0 to the beginning of 1970.
const DAYS_TO_1970: i64 = 719_468;

fn days_of(year: i64, month: i64) -> i64 {
    let leaps = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leaps => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Milliseconds since midnight. A leap second counts as the second before it.
fn time(clock: &str) -> Option<i64> {
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, fraction)) => (clock, millis(fraction)?),
        None => (clock, 0),
    };
    let mut parts = clock.split(':');
    let hour: i64 = digits(parts.next()?, 2)?;
    let minute: i64 = digits(parts.next()?, 2)?;
    let second: i64 = digits(parts.next()?, 2)?;
    let fits = hour < 24 && minute < 60 && second <= 60 && parts.next().is_none();
    fits.then(|| ((hour * 60 + minute) * 60 + second.min(59)) * 1_000 + fraction)
}

fn millis(fraction: &str) -> Option<i64> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let first: String = fraction.chars().chain("00".chars()).take(3).collect();
    digits(&first, 3)
}

/// Splits off the zone. Returns the time before it, and the zone's offset in minutes.
fn zone(rest: &str) -> Option<(&str, i64)> {
    if let Some(clock) = rest.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let sign = rest.rfind(['+', '-'])?;
    let (clock, zone) = (rest.get(..sign)?, rest.get(sign + 1..)?);
    let (hours, minutes) = zone.split_once(':')?;
    let (hours, minutes): (i64, i64) = (digits(hours, 2)?, digits(minutes, 2)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let east = hours * 60 + minutes;
    let east = if rest.contains('+') { east } else { -east };
    Some((clock, east))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_accepts_rfc3339_only() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T00:00:00.5Z", Some(500)),
            ("1970-01-01T00:00:01.123456789z", Some(1_123)),
            ("1970-01-01t01:00:00+01:00", Some(0)),
            ("1969-12-31T23:00:00-01:00", Some(0)),
            ("1969-12-31T23:59:59Z", Some(0)),
            ("0000-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T00:00:00Z", Some(951_782_400_000)),
            ("2024-10-09T00:00:00Z", Some(1_728_432_000_000)),
            ("2024-12-31T23:59:60Z", Some(1_735_689_599_000)),
            ("9999-12-31T23:59:59.999Z", Some(253_402_300_799_999)),
            ("2023-02-29T00:00:00Z", None),
            ("2023-13-01T00:00:00Z", None),
            ("2023-00-01T00:00:00Z", None),
            ("2023-01-32T00:00:00Z", None),
            ("2023-01-01T24:00:00Z", None),
            ("2023-01-01T00:00:00", None),
            ("2023-01-01T00:00:00.Z", None),
            ("2023-01-01T00:00:00+1:00", None),
            ("2023-01-01T00:00:00+24:00", None),
            ("2023-01-01", None),
            ("+023-01-01T00:00:00Z", None),
            ("2023-1-01T00:00:00Z", None),
            ("2023-01-01T00:00Z", None),
            ("2023-01-01T00:00:00\u{e9}Z", None),
            ("not-a-timestamp", None),
            ("T", None),
            ("", None),
        ] {
            let found = parse(text).map(Timestamp::as_millis);
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn days_count_every_day_of_the_calendar() {
        let mut expected = 0;
        for year in 1970..2110 {
            for month in 1..=12 {
                for day in 1..=days_of(year, month) {
                    let date = format!("{year:04}-{month:02}-{day:02}");
                    assert_eq!(days(&date), Some(expected), "{date}");
                    expected += 1;
                }
            }
        }
    }
}

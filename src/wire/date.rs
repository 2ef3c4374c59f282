//! Dates: IMF-fixdate in and out (RFC 3261 20.17, `Sat, 13 Nov 2010 23:29:00 GMT`), and out in RFC 3339's form.
//!
//! Our own rather than a crate's: a peer's weekday may be wrong and is not looked at, zones other than GMT are no
//! date at all, and writing needs no allocation and knows no time it would panic at.

use super::scan;

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
const WEEKDAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const DAY_S: u64 = 86_400;
/// 9999-12-31 23:59:59: years have four digits.
const LAST_S: u64 = 253_402_300_799;

/// Appends the date of `unix_seconds` (since 1970-01-01 UTC). Beyond the year 9999 it is that year's last second.
pub fn write_imf(out: &mut Vec<u8>, unix_seconds: u64) {
    let unix_seconds = unix_seconds.min(LAST_S);
    let (days, second) = (unix_seconds / DAY_S, unix_seconds % DAY_S);
    let (year, month, day) = civil(days);
    let weekday = WEEKDAYS.get((days % 7) as usize).copied().unwrap_or(b"Thu");
    let month = MONTHS.get(month as usize - 1).copied().unwrap_or(b"Jan");
    out.extend_from_slice(weekday);
    out.extend_from_slice(b", ");
    two_digits(out, day);
    out.push(b' ');
    out.extend_from_slice(month);
    out.push(b' ');
    two_digits(out, year / 100);
    two_digits(out, year % 100);
    out.push(b' ');
    two_digits(out, second / 3600);
    out.push(b':');
    two_digits(out, second / 60 % 60);
    out.push(b':');
    two_digits(out, second % 60);
    out.extend_from_slice(b" GMT");
}

/// Appends the date of `unix_seconds` as CPIM and XML write it: `2026-02-01T10:00:00Z` (RFC 3339 5.6). Beyond the year 9999 as
/// [`write_imf`].
pub fn write_rfc3339(out: &mut Vec<u8>, unix_seconds: u64) {
    let unix_seconds = unix_seconds.min(LAST_S);
    let (days, second) = (unix_seconds / DAY_S, unix_seconds % DAY_S);
    let (year, month, day) = civil(days);
    two_digits(out, year / 100);
    let rest = [
        (0, year % 100),
        (b'-', month),
        (b'-', day),
        (b'T', second / 3600),
        (b':', second / 60 % 60),
        (b':', second % 60),
    ];
    for (before, number) in rest {
        if before != 0 {
            out.push(before);
        }
        two_digits(out, number);
    }
    out.push(b'Z');
}

/// Seconds since 1970-01-01 UTC. `None`: not this form, a zone other than GMT, a day that does not exist, or before 1970.
pub fn parse(value: &[u8]) -> Option<u64> {
    let value = scan::trim(value);
    // The weekday says nothing that the date does not, and is often wrong.
    let rest = match scan::split_once(value, b',') {
        Some((weekday, rest)) if weekday.iter().all(u8::is_ascii_alphabetic) => rest,
        Some(_) => return None,
        None => value,
    };
    let mut words = rest.split(|&octet| scan::is_lws(octet)).filter(|word| !word.is_empty());
    let day = number(words.next()?, 1, 2)?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))? as u64 + 1;
    let year = number(words.next()?, 4, 4)?;
    let mut clock = words.next()?.split(|&octet| octet == b':');
    let hour = number(clock.next()?, 2, 2)?;
    let minute = number(clock.next()?, 2, 2)?;
    let second = number(clock.next()?, 2, 2)?;
    //= RFC 4475 3.1.2.12: a time zone other than GMT is no valid date; the header is ignored
    let zone = words.next()?;
    if clock.next().is_some() || words.next().is_some() || !zone.eq_ignore_ascii_case(b"GMT") {
        return None;
    }
    let day_exists = (1..=days_in(year, month)).contains(&day);
    // 60: a leap second, which this clock does not have.
    if year < 1970 || !day_exists || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(days_since_epoch(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second.min(59))
}

fn number(digits: &[u8], least: usize, most: usize) -> Option<u64> {
    if (least..=most).contains(&digits.len()) { scan::decimal(digits) } else { None }
}

fn two_digits(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&[b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]);
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date not before it. Years are counted from March, so that the leap day is the last of its year.
fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = (month + 9) % 12;
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

/// The other way round: year, month and day of a number of days since 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn written(unix_seconds: u64) -> String {
        let mut out = Vec::new();
        write_imf(&mut out, unix_seconds);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates_are_read_and_written() {
        assert_eq!(parse(b"Thu, 21 Feb 2002 13:02:03 GMT"), Some(1_014_296_523));
        assert_eq!(written(1_014_296_523), "Thu, 21 Feb 2002 13:02:03 GMT");
        assert_eq!(written(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(written(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(parse(b"Sat, 29 Feb 2020 00:00:60 GMT"), Some(1_582_934_459));
    }

    #[test]
    fn the_same_seconds_are_written_as_rfc_3339_has_them() {
        let written = |seconds| {
            let mut out = Vec::new();
            write_rfc3339(&mut out, seconds);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(1_014_296_523), "2002-02-21T13:02:03Z");
        assert_eq!(written(1_582_934_400), "2020-02-29T00:00:00Z");
        assert_eq!(written(u64::MAX), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn a_wrong_weekday_does_not_matter() {
        assert_eq!(parse(b"Thu, 21 Feb 2005 13:02:03 GMT"), parse(b"Mon, 21 Feb 2005 13:02:03 GMT"));
    }

    #[test]
    fn what_is_no_date_is_none() {
        let none: &[&[u8]] = &[
            b"",
            b"Fri, 01 Jan 2010 16:00:00 EST",
            b"Fri, 01 Jan 2010 16:00:00 UTC",
            b"Fri, 01 Jan 2010 16:00:00",
            b"Sun, 29 Feb 2021 00:00:00 GMT",
            b"Fri, 01 Foo 2010 16:00:00 GMT",
            b"Fri, 01 Jan 1969 16:00:00 GMT",
            b"Fri, 00 Jan 2010 16:00:00 GMT",
            b"Fri, 01 Jan 2010 24:00:00 GMT",
            b"Fri, 01 Jan 2010 16:00 GMT",
            b"3600",
        ];
        for value in none {
            assert_eq!(parse(value), None, "{}", String::from_utf8_lossy(value));
        }
    }

    proptest! {
        #[test]
        fn the_calendar_is_that_of_httpdate(seconds in 0..=LAST_S) {
            let text = written(seconds);
            prop_assert_eq!(&text, &httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds)));
            prop_assert_eq!(parse(text.as_bytes()), Some(seconds));
        }

        #[test]
        fn any_octets_are_read_without_harm(octets in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&octets);
        }
    }
}

//! Moments as people write them: Unix milliseconds, dates in UTC, or so long ago. No clock: `now`
//! is given.

const DAY_MS: i64 = 86_400_000;

/// Reads a moment in Unix milliseconds: `1767225600000`, `2026-01-01`, `2026-01-01T12:30:00Z`,
/// `2026-01-01T12:30:00.5+02:00`, or `-90s`, `-15m`, `-2h`, `-3d` before `now_ms`.
pub(crate) fn parse(text: &str, now_ms: i64) -> Option<i64> {
    if let Some(ago) = text.strip_prefix('-') {
        return now_ms.checked_sub(duration_ms(ago)?);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let midnight_ms = days_of(date)?.checked_mul(DAY_MS)?;
    match time {
        None => Some(midnight_ms),
        Some(time) => midnight_ms.checked_add(time_ms(time)?),
    }
}

/// `90s`, `15m`, `2h`, `3d`; a bare number is milliseconds.
pub(crate) fn duration_ms(text: &str) -> Option<i64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "" | "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => DAY_MS,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit_ms)
}

/// A moment as `2026-01-01T12:30:00.500Z`.
pub(crate) fn show(moment_ms: i64) -> String {
    let (year, month, day) = date_of(moment_ms.div_euclid(DAY_MS));
    let ms = moment_ms.rem_euclid(DAY_MS);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    let ms = ms % 1_000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// `HH:MM[:SS[.fff]]` with `Z`, an offset, or neither (UTC). The offset is taken off.
fn time_ms(text: &str) -> Option<i64> {
    let (clock, offset_ms) = match text.find(['Z', '+', '-']) {
        None => (text, 0),
        Some(at) if &text[at..] == "Z" => (&text[..at], 0),
        Some(at) => {
            let (hours, minutes) = text.get(at + 1..)?.split_once(':')?;
            let offset_ms = field(hours, 23)? * 3_600_000 + field(minutes, 59)? * 60_000;
            (
                &text[..at],
                if text[at..].starts_with('-') {
                    -offset_ms
                } else {
                    offset_ms
                },
            )
        }
    };
    let mut parts = clock.splitn(3, ':');
    let (hour, minute) = (field(parts.next()?, 23)?, field(parts.next()?, 59)?);
    let seconds = parts.next().unwrap_or("0");
    let (second, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let fraction_ms = match fraction.len() {
        1..=9 => format!("{fraction:0<3}").get(..3)?.parse::<i64>().ok()?,
        _ => return None,
    };
    let second = field(second, 59)?;
    Some(((hour * 60 + minute) * 60 + second) * 1_000 + fraction_ms - offset_ms)
}

fn field(text: &str, max: i64) -> Option<i64> {
    let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let number: i64 = digits.then(|| text.parse().ok()).flatten()?;
    (number <= max).then_some(number)
}

/// `YYYY-MM-DD` as days since 1970.
fn days_of(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, '-');
    let year = parts
        .next()
        .filter(|year| year.len() == 4)?
        .parse::<i64>()
        .ok()?;
    let (month, day) = (field(parts.next()?, 12)?, field(parts.next()?, 31)?);
    let days = days_from_civil(year, month, day);
    // A day that does not exist (30 February) comes back as another one.
    (date_of(days) == (year, month, day)).then_some(days)
}

/// Days since 1970 in the Gregorian calendar, counted from 1 March, so that the leap day ends the
/// year, in eras of 400 years.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW_YEAR_2026_MS: i64 = 1_767_225_600_000;

    #[test]
    fn every_way_to_write_a_moment() {
        let cases = [
            ("1767225600000", NEW_YEAR_2026_MS),
            ("2026-01-01", NEW_YEAR_2026_MS),
            ("2026-01-01T00:00", NEW_YEAR_2026_MS),
            ("2026-01-01T00:00:00Z", NEW_YEAR_2026_MS),
            ("2026-01-01 00:00:01.5", NEW_YEAR_2026_MS + 1_500),
            ("2026-01-01T02:00:00+02:00", NEW_YEAR_2026_MS),
            ("2025-12-31T23:30:00-00:30", NEW_YEAR_2026_MS),
            ("1970-01-01", 0),
            ("2024-02-29", 1_709_164_800_000),
            ("-90s", NEW_YEAR_2026_MS - 90_000),
            ("-1d", NEW_YEAR_2026_MS - DAY_MS),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text, NEW_YEAR_2026_MS), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment() {
        for text in [
            "",
            "now",
            "2026-13-01",
            "2025-02-29",
            "2026-01-01T24:00",
            "2026-01-01T1:2:3:4",
            "-",
            "-5y",
        ] {
            let parsed = parse(text, 0);
            assert!(parsed.is_none() || text.is_empty(), "{text}: {parsed:?}");
        }
        assert_eq!(parse("", 0), None);
    }

    #[test]
    fn dates_survive_the_round_trip() {
        for days in (-800_000..800_000).step_by(137) {
            let (year, month, day) = date_of(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
        assert_eq!(show(NEW_YEAR_2026_MS + 1_500), "2026-01-01T00:00:01.500Z");
        assert_eq!(show(-1), "1969-12-31T23:59:59.999Z");
    }
}

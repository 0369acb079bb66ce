//! Numbers and times as people read them.

use jiff::Timestamp;

/// A rate or count with three digits and an SI prefix: `0`, `3.5`, `210`, `12.3k`, `1.20M`.
pub(super) fn si(value: f64) -> String {
    const PREFIXES: [&str; 6] = ["", "k", "M", "G", "T", "P"];
    if !value.is_finite() || value <= 0.0 {
        return "0".to_owned();
    }
    let mut scaled = value;
    for (index, prefix) in PREFIXES.iter().enumerate() {
        let is_last = index + 1 == PREFIXES.len();
        // 999.6 of a unit rounds to 1000: it is 1.00 of the next.
        if scaled >= 999.5 && !is_last {
            scaled /= 1000.0;
            continue;
        }
        let decimals = match (index, scaled) {
            (0, ..10.0) => 1,
            (0, _) => 0,
            (_, ..9.995) => 2,
            (_, ..99.95) => 1,
            _ => 0,
        };
        let digits = format!("{scaled:.decimals$}");
        let digits = digits.strip_suffix(".0").unwrap_or(&digits);
        return format!("{digits}{prefix}");
    }
    "0".to_owned()
}

/// As [`si`], for counts.
#[expect(
    clippy::cast_precision_loss,
    reason = "three digits of it are shown, of 53 bits"
)]
pub(super) fn si_count(value: u64) -> String {
    si(value as f64)
}

/// Traffic in bytes: `3.20 MB`, `512 B`.
pub(super) fn si_bytes(value: f64) -> String {
    let text = si(value);
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    format!("{digits} {}B", &text[digits.len()..])
}

/// As [`si_bytes`], for counts.
#[expect(
    clippy::cast_precision_loss,
    reason = "three digits of it are shown, of 53 bits"
)]
pub(super) fn si_count_bytes(value: u64) -> String {
    si_bytes(value as f64)
}

/// Memory in bytes with a binary prefix: `512 B`, `118 MiB`.
pub(super) fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut rest = value;
    while rest >= 10_000 && unit + 1 < UNITS.len() {
        rest = (rest + 512) / 1024;
        unit += 1;
    }
    format!("{rest} {}", UNITS[unit])
}

/// A share of 0 to 1 as `33.3 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// How long ago an RFC 3339 time was, in its two largest units: `12s`, `3m12s`, `4d2h`. A text that
/// is no time is shown as it is.
pub(super) fn ago(since: &str, now: Timestamp) -> String {
    since.parse().map_or_else(
        |_| since.to_owned(),
        |since: Timestamp| span(now.as_second().saturating_sub(since.as_second())),
    )
}

/// How long it is until an RFC 3339 time, in the same words.
pub(super) fn until_then(until: &str, now: Timestamp) -> String {
    until.parse().map_or_else(
        |_| until.to_owned(),
        |until: Timestamp| span(until.as_second().saturating_sub(now.as_second())),
    )
}

/// A span of seconds in its two largest units. Clocks that were set back give no negative times.
fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

/// Microseconds as `14 µs`, `12.3 ms` or `1.25 s`.
pub(super) fn microseconds(value: u64) -> String {
    let digits = |whole: u64, thousandths: u64| match whole {
        0..10 => format!("{whole}.{:02}", thousandths / 10),
        10..100 => format!("{whole}.{}", thousandths / 100),
        _ => whole.to_string(),
    };
    match value {
        0..1_000 => format!("{value} µs"),
        1_000..1_000_000 => format!("{} ms", digits(value / 1_000, value % 1_000)),
        _ => format!("{} s", digits(value / 1_000_000, value / 1_000 % 1_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        for (value, shown) in [
            (0.0, "0"),
            (-1.0, "0"),
            (f64::NAN, "0"),
            (0.04, "0"),
            (0.4, "0.4"),
            (3.0, "3"),
            (3.46, "3.5"),
            (12.4, "12"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (1_200.0, "1.20k"),
            (9_996.0, "10k"),
            (12_345.0, "12.3k"),
            (123_456.0, "123k"),
            (999_999.0, "1.00M"),
            (1.2e6, "1.20M"),
            (3.4e18, "3400P"),
        ] {
            assert_eq!(si(value), shown, "{value}");
        }
    }

    #[test]
    fn traffic_in_bytes_has_its_unit_apart() {
        assert_eq!(si_bytes(3_200_000.0), "3.20 MB");
        assert_eq!(si_count_bytes(12), "12 B");
    }

    #[test]
    fn bytes_are_whole_numbers_of_a_binary_unit() {
        for (value, shown) in [
            (0, "0 B"),
            (9_999, "9999 B"),
            (123_731_968, "118 MiB"),
            (536_870_912, "512 MiB"),
        ] {
            assert_eq!(bytes(value), shown);
        }
    }

    #[test]
    fn times_are_told_in_their_two_largest_units() {
        for (seconds, shown) in [
            (-5, "0s"),
            (0, "0s"),
            (59, "59s"),
            (60, "1m0s"),
            (192, "3m12s"),
            (3_599, "59m59s"),
            (3_600, "1h0m"),
            (86_399, "23h59m"),
            (86_400, "1d0h"),
            (8_640_000, "100d0h"),
        ] {
            assert_eq!(span(seconds), shown);
        }
    }

    #[test]
    fn ago_reads_rfc_3339_and_shows_anything_else_as_it_is() {
        let now = "2026-01-02T03:04:05Z".parse().expect("a time");
        assert_eq!(ago("2026-01-02T03:00:53.5Z", now), "3m12s");
        assert_eq!(ago("2026-01-02T05:00:53+02:00", now), "3m12s");
        assert_eq!(ago("yesterday", now), "yesterday");
    }

    #[test]
    fn microseconds_grow_into_seconds() {
        for (value, shown) in [
            (14, "14 µs"),
            (999, "999 µs"),
            (1_234, "1.23 ms"),
            (12_345, "12.3 ms"),
            (250_000, "250 ms"),
            (1_250_000, "1.25 s"),
        ] {
            assert_eq!(microseconds(value), shown);
        }
    }
}

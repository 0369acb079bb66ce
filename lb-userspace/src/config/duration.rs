//! Durations as people write them: a whole number and a unit, `"100ms"`, `"5m"`.

use std::time::Duration;

/// Units, longest first, with their length in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// No digits at the beginning, or something other than a whole number.
    #[error("does not begin with a whole number")]
    NoNumber,
    /// A number alone.
    #[error("has no unit")]
    NoUnit,
    /// Something else than a unit after the number.
    #[error("has an unknown unit")]
    UnknownUnit,
    /// More than 584 million years.
    #[error("is too long")]
    TooLong,
}

/// Reads `"100ms"`, `"2s"`, `"5m"`, `"1h"`, `"1d"`.
///
/// # Errors
/// [`DurationError`] says which part is not right.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    if number.is_empty() || unit.starts_with(['.', ',']) {
        return Err(DurationError::NoNumber);
    }
    if unit.is_empty() {
        return Err(DurationError::NoUnit);
    }
    let (_, unit_ms) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(DurationError::UnknownUnit)?;
    let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
    number
        .checked_mul(*unit_ms)
        .map(Duration::from_millis)
        .ok_or(DurationError::TooLong)
}

/// Writes a duration as [`parse_duration`] reads it, in the longest unit that is exact; parts of a
/// millisecond are left out.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    UNITS
        .iter()
        .find(|(_, unit_ms)| ms > 0 && ms.is_multiple_of(u128::from(*unit_ms)))
        .map_or_else(
            || "0s".to_owned(),
            |(name, unit_ms)| format!("{}{name}", ms / u128::from(*unit_ms)),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_written() {
        for (text, ms) in [
            ("1ms", 1),
            ("100ms", 100),
            ("2s", 2_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
            assert_eq!(format_duration(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn what_is_no_duration_says_why() {
        for (text, error) in [
            ("", DurationError::NoNumber),
            ("s", DurationError::NoNumber),
            ("-1s", DurationError::NoNumber),
            ("1.5s", DurationError::NoNumber),
            ("100", DurationError::NoUnit),
            ("5 m", DurationError::UnknownUnit),
            ("5min", DurationError::UnknownUnit),
            ("5S", DurationError::UnknownUnit),
            ("99999999999999999999s", DurationError::TooLong),
            ("18446744073709551615d", DurationError::TooLong),
        ] {
            assert_eq!(parse_duration(text), Err(error), "{text}");
        }
    }
}

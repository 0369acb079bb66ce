//! Values on their own: numbers and durations in their ranges, names, paths.

use std::{fmt::Display, ops::RangeInclusive, path::PathBuf, time::Duration};

use crate::config::{
    error::Diagnostics, field::Field, format_duration, keys::Section, suggest::shown,
};

/// The most bytes of a name.
const NAME_BYTES_MAX: usize = 63;
/// The most bytes of a path; Linux takes no longer ones (`PATH_MAX`, with its zero byte).
const PATH_BYTES_MAX: usize = 4095;
/// The most bytes of the path of a Unix socket, its name included.
pub(super) const SOCKET_BYTES_MAX: usize = 107;

/// A whole number within `range`, or the default when left out.
pub(super) fn number<T>(
    field: &Field<i64>,
    default: T,
    range: RangeInclusive<T>,
    out: &mut Diagnostics<'_>,
) -> T
where
    T: TryFrom<i64> + PartialOrd + Display,
{
    let Some(&written) = field.written() else {
        return default;
    };
    match T::try_from(written)
        .ok()
        .filter(|number| range.contains(number))
    {
        Some(number) => number,
        None => {
            let right = format!(
                "write a whole number from {} to {}",
                range.start(),
                range.end()
            );
            field.refuse(out, format!("is {written}"), right);
            default
        }
    }
}

/// A duration within `range`, or the default when left out.
pub(super) fn duration(
    field: &Field<Duration>,
    default: Duration,
    range: RangeInclusive<Duration>,
    out: &mut Diagnostics<'_>,
) -> Duration {
    let Some(&written) = field.written() else {
        return default;
    };
    if range.contains(&written) {
        return written;
    }
    let [shortest, longest] = [*range.start(), *range.end()].map(format_duration);
    let wrong = format!("is {}", format_duration(written));
    field.refuse(
        out,
        wrong,
        format!("write a duration from {shortest} to {longest}"),
    );
    default
}

/// A name that must be given.
pub(super) fn required_name(
    field: &Field<String>,
    section: Section,
    out: &mut Diagnostics<'_>,
) -> Option<String> {
    field.required(section, out)?;
    name(field, out)
}

/// A name, if there is a good one.
pub(super) fn name(field: &Field<String>, out: &mut Diagnostics<'_>) -> Option<String> {
    let name = field.written()?;
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_good) {
        return Some(name.clone());
    }
    let right = format!("write 1 to {NAME_BYTES_MAX} letters, digits, '.', '_' or '-'");
    field.refuse(out, format!("{} is not a name", shown(name)), right);
    None
}

/// An absolute path of at most `bytes_max` bytes, or the default when left out.
pub(super) fn path(
    field: &Field<String>,
    default: &str,
    bytes_max: usize,
    out: &mut Diagnostics<'_>,
) -> PathBuf {
    let path = field.or(default.to_owned());
    if !path.starts_with('/') {
        let right = format!("write an absolute path, such as {default:?}");
        field.refuse(
            out,
            format!("{} is not an absolute path", shown(&path)),
            right,
        );
    } else if path.chars().any(char::is_control) {
        let wrong = format!("{} has a control character in it", shown(&path));
        field.refuse(out, wrong, "write a path of visible characters");
    } else if path.len() > bytes_max {
        field.refuse(
            out,
            format!("has {} bytes", path.len()),
            format!("at most {bytes_max} fit"),
        );
    }
    path.into()
}

/// The path of a Unix socket, or the default when left out.
pub(super) fn socket(field: &Field<String>, default: &str, out: &mut Diagnostics<'_>) -> PathBuf {
    path(field, default, SOCKET_BYTES_MAX, out)
}

/// A directory: as a path, as long as the system allows.
pub(super) fn directory(
    field: &Field<String>,
    default: &str,
    out: &mut Diagnostics<'_>,
) -> PathBuf {
    path(field, default, PATH_BYTES_MAX, out)
}

//! Where the keys of a command stand, and which part of a key decides its server.

use super::command::Word;
use super::commands::{Begin, Command, Find, KeySpec};

/// Why the keys of a command are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKeys {
    /// It has a number of keys that is none.
    Count,
    /// It has fewer words than it needs.
    TooFew,
}

/// Calls `each` with the place of every key among `words`, and its specification.
///
/// # Errors
/// [`NoKeys`]: the server would refuse the command as well.
pub fn each_key<'c>(
    command: &'c Command,
    buffer: &[u8],
    words: &[Word],
    mut each: impl FnMut(usize, &'c KeySpec),
) -> Result<(), NoKeys> {
    for spec in &command.keys {
        let Some(first) = begin(&spec.begin, buffer, words) else {
            continue;
        };
        match spec.find {
            Find::Range { last, step, limit } => {
                let last = match usize::try_from(last) {
                    Ok(last) => first + last,
                    Err(_) => {
                        // From the end: -1 is the last word.
                        let from_end = last.unsigned_abs() as usize;
                        let Some(end) = words.len().checked_sub(from_end) else {
                            continue;
                        };
                        if limit > 1 && end >= first {
                            first + (end - first).div_ceil(limit) - 1
                        } else {
                            end
                        }
                    }
                };
                if first >= words.len() {
                    // Further keys, of which there are none: PFMERGE with its target only.
                    continue;
                }
                (first..=last.min(words.len() - 1))
                    .step_by(step)
                    .for_each(|at| each(at, spec));
            }
            Find::Count {
                count,
                first: first_key,
                step,
            } => {
                let word = words.get(first + count).ok_or(NoKeys::TooFew)?;
                let count = parse(word.of(buffer)).ok_or(NoKeys::Count)?;
                let from = first + first_key;
                if count > words.len().saturating_sub(from) {
                    return Err(NoKeys::Count);
                }
                (from..)
                    .step_by(step)
                    .take(count)
                    .for_each(|at| each(at, spec));
            }
            Find::Unknown => {}
        }
    }
    Ok(())
}

fn begin(begin: &Begin, buffer: &[u8], words: &[Word]) -> Option<usize> {
    match *begin {
        Begin::Index(index) => Some(index),
        Begin::Keyword(keyword, from) => {
            let is_it = |at: &usize| {
                let word = words[*at].of(buffer);
                word.eq_ignore_ascii_case(keyword.as_bytes())
            };
            let found = match usize::try_from(from) {
                Ok(from) => (from..words.len()).find(is_it),
                Err(_) => {
                    let last = words.len().checked_sub(from.unsigned_abs() as usize)?;
                    (0..=last).rev().find(is_it)
                }
            };
            found.map(|at| at + 1)
        }
        Begin::Unknown => None,
    }
}

/// A whole number of at most nine digits.
#[must_use]
pub fn parse(text: &[u8]) -> Option<usize> {
    if text.is_empty() || text.len() > 9 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The part of a key that decides its server: what stands between the first `{` and the next `}`, if
/// that is anything, as in Redis Cluster.
#[must_use]
pub fn tag(key: &[u8]) -> &[u8] {
    let Some(open) = memchr::memchr(b'{', key) else {
        return key;
    };
    let inside = &key[open + 1..];
    match memchr::memchr(b'}', inside) {
        None | Some(0) => key,
        Some(close) => &inside[..close],
    }
}

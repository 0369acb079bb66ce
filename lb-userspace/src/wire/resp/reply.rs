//! Replies of servers: where one ends, without looking at values.
//!
//! Nesting needs no stack: a reply ends when as many elements have been passed as its headers, and
//! those inside, announced.

use super::command::number;
use super::error::ProtocolError;

/// The longest line of a simple reply that is looked for, in bytes: errors are short, verbatim texts
/// are bulk.
const LINE_BYTES_MAX: usize = 1 << 20;

/// How far a reply has been passed. Begins anew with each reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Up to where the bytes have been passed; beyond the buffer where a string has not come yet.
    at: usize,
    /// How many elements are still to come.
    left: u64,
}

impl Default for Scan {
    fn default() -> Self {
        Self { at: 0, left: 1 }
    }
}

/// What a reply is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `>`: not an answer to anything.
    Push,
    /// `-` or `!`.
    Error,
    /// Anything else.
    Value,
}

/// The kind of a reply that begins with these bytes.
#[must_use]
pub fn kind(reply: &[u8]) -> Kind {
    match reply.first() {
        Some(b'>') => Kind::Push,
        Some(b'-' | b'!') => Kind::Error,
        _ => Kind::Value,
    }
}

impl Scan {
    /// Looks for the end of the reply at the start of `buffer`; the same bytes must come again, with
    /// more behind them, as long as the answer is `None`.
    ///
    /// # Errors
    /// [`ProtocolError`]: nothing that follows can be understood.
    pub fn end(&mut self, buffer: &[u8]) -> Result<Option<usize>, ProtocolError> {
        while self.left > 0 {
            let Some(&kind) = buffer.get(self.at) else {
                return Ok(None);
            };
            let line = self.at + 1;
            match kind {
                b'+' | b'-' | b':' | b',' | b'(' | b'_' | b'#' => {
                    let Some(end) = line_end(buffer, line)? else {
                        return Ok(None);
                    };
                    self.at = end;
                    self.left -= 1;
                }
                b'$' | b'=' | b'!' => {
                    let wrong = ProtocolError::BulkLength;
                    let Some((length, after)) = number(buffer, line, wrong)? else {
                        return Ok(None);
                    };
                    let end = match usize::try_from(length) {
                        Ok(length) => after.checked_add(length + 2).ok_or(wrong)?,
                        Err(_) if length == -1 => after,
                        Err(_) => return Err(wrong),
                    };
                    // Its end may still have to come.
                    self.at = end;
                    self.left -= 1;
                }
                b'*' | b'~' | b'>' | b'%' | b'|' => {
                    let wrong = ProtocolError::ArrayLength;
                    let Some((count, after)) = number(buffer, line, wrong)? else {
                        return Ok(None);
                    };
                    let count = match u64::try_from(count) {
                        Ok(count) => count,
                        Err(_) if count == -1 => 0,
                        Err(_) => return Err(wrong),
                    };
                    let elements = match kind {
                        b'%' => count.checked_mul(2).ok_or(wrong)?,
                        // What it says comes in front of what it is said about.
                        b'|' => count
                            .checked_mul(2)
                            .and_then(|n| n.checked_add(1))
                            .ok_or(wrong)?,
                        _ => count,
                    };
                    self.at = after;
                    self.left = (self.left - 1).checked_add(elements).ok_or(wrong)?;
                }
                other => return Err(ProtocolError::ReplyKind(other)),
            }
        }
        Ok((self.at <= buffer.len()).then_some(self.at))
    }

    /// How many of the first `available` bytes do not have to come again.
    #[must_use]
    pub fn passable(&self, available: usize) -> usize {
        self.at.min(available)
    }

    /// So many bytes will not come again.
    pub fn pass(&mut self, count: usize) {
        self.at -= count.min(self.at);
    }
}

/// Behind the end of the line that has `start` in it.
fn line_end(buffer: &[u8], start: usize) -> Result<Option<usize>, ProtocolError> {
    let rest = buffer.get(start..).unwrap_or_default();
    match memchr::memchr(b'\n', rest) {
        Some(end) => Ok(Some(start + end + 1)),
        None if rest.len() > LINE_BYTES_MAX => Err(ProtocolError::LineTooLong),
        None => Ok(None),
    }
}

/// A reply that is one whole number.
#[must_use]
pub fn integer(reply: &[u8]) -> Option<i64> {
    let line = reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    std::str::from_utf8(line).ok()?.parse().ok()
}

/// A reply that is one string, simple or bulk; `None` for nil and anything else.
#[must_use]
pub fn text(reply: &[u8]) -> Option<&[u8]> {
    match reply.first()? {
        b'+' | b':' | b'-' => reply.get(1..)?.strip_suffix(b"\r\n"),
        b'$' | b'=' | b'!' => {
            let (length, after) = number(reply, 1, ProtocolError::BulkLength).ok()??;
            let end = after.checked_add(usize::try_from(length).ok()?)?;
            reply.get(after..end)
        }
        _ => None,
    }
}

/// The elements of a reply that is an array, a set, a push or a map (keys and values in turn);
/// `None` for nil and anything else.
#[must_use]
pub fn elements(reply: &[u8]) -> Option<Vec<&[u8]>> {
    let factor = match reply.first()? {
        b'*' | b'~' | b'>' => 1,
        b'%' => 2,
        _ => return None,
    };
    let (count, mut at) = number(reply, 1, ProtocolError::ArrayLength).ok()??;
    let count = usize::try_from(count).ok()?.checked_mul(factor)?;
    let mut elements = Vec::new();
    for _ in 0..count {
        let rest = reply.get(at..)?;
        let end = Scan::default().end(rest).ok()??;
        elements.push(rest.get(..end)?);
        at += end;
    }
    Some(elements)
}

/// Whether a reply is nil: `$-1`, `*-1` or `_`.
#[must_use]
pub fn is_nil(reply: &[u8]) -> bool {
    matches!(reply, b"$-1\r\n" | b"*-1\r\n" | b"_\r\n")
}

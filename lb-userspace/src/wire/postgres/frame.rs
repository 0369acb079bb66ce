//! Where one message ends and the next begins: a tag, a length that counts itself, a body.

/// Bytes of a tag and a length.
pub const HEADER_BYTES: usize = 5;
/// The longest message that PostgreSQL itself takes (`PQ_LARGE_MESSAGE_LIMIT`), length included.
pub const MESSAGE_BYTES_MAX: usize = 0x3fff_ffff;

/// The head of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What kind of message it is.
    pub tag: u8,
    /// Bytes of the whole message: tag, length and body.
    pub total: usize,
}

/// A length that no message has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message with the tag {tag:#04x} says that it has {length} bytes")]
pub struct BadLength {
    /// The message's tag.
    pub tag: u8,
    /// What it said.
    pub length: u32,
}

/// Reads the head of the message that `bytes` begin with; `None` while it is not all there.
///
/// # Errors
/// If the length is below its own size or above [`MESSAGE_BYTES_MAX`].
#[inline]
pub fn header(bytes: &[u8]) -> Result<Option<Header>, BadLength> {
    let &[tag, a, b, c, d, ..] = bytes else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    if length < 4 || length as usize > MESSAGE_BYTES_MAX {
        return Err(BadLength { tag, length });
    }
    Ok(Some(Header {
        tag,
        total: length as usize + 1,
    }))
}

/// The text up to a zero byte, and what follows the zero byte.
#[must_use]
pub fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

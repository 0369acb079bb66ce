//! Commands of clients: arrays of bulk strings, or a line of words.
//!
//! Parsing is resumed where it stopped: a command that arrives in a thousand pieces is not read a
//! thousand times over.

use super::error::ProtocolError;

/// The longest inline command, and the longest line of a length, in bytes: Redis's own limit.
pub const LINE_BYTES_MAX: usize = 64 << 10;
/// The most words of one command: Redis's own limit.
pub const WORDS_MAX: usize = 1 << 20;
/// The longest word, in bytes: Redis's own default (`proto-max-bulk-len`).
pub const WORD_BYTES_MAX: usize = 512 << 20;

/// Where a word of a command stands in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Its first byte.
    pub start: u32,
    /// Behind its last byte.
    pub end: u32,
}

impl Word {
    /// The word itself.
    #[must_use]
    pub fn of<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        buffer
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// What was found at the start of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A whole command, of so many bytes; its words are in the parser.
    Command(usize),
    /// An inline command of so many bytes, its words in the parser: they have to be written anew.
    Inline(usize),
    /// Nothing to do in so many bytes: an empty line or array.
    Nothing(usize),
    /// It needs at least this many bytes in all.
    Partial(usize),
}

/// Finds one command after the other. One serves a whole thread: what of a command is incomplete is
/// remembered by [`Progress`], which belongs to its client.
#[derive(Debug, Default)]
pub struct Parser {
    /// The words of the command that was found last.
    pub words: Vec<Word>,
}

/// How far the command at the start of a buffer has been read.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// How many words there are still to come; 0: its head has not been read.
    left: usize,
    /// Where the next one begins.
    at: usize,
    words: Vec<Word>,
}

impl Parser {
    /// Looks for a command at the start of `buffer`. After [`Found::Partial`] the same bytes must come
    /// again, with more behind them.
    ///
    /// # Errors
    /// [`ProtocolError`]: nothing that follows can be understood.
    pub fn next(&mut self, buffer: &[u8], progress: &mut Progress) -> Result<Found, ProtocolError> {
        self.words.clear();
        match buffer.first() {
            None => return Ok(Found::Partial(1)),
            Some(b'*') => {}
            Some(_) => return self.inline(buffer),
        }
        let (mut at, mut left) = (progress.at, progress.left);
        if left == 0 {
            let Some((count, after)) = number(buffer, 1, ProtocolError::ArrayLength)? else {
                return Ok(Found::Partial(buffer.len() + 1));
            };
            if count > WORDS_MAX as i64 {
                return Err(ProtocolError::ArrayLength);
            }
            if count <= 0 {
                return Ok(Found::Nothing(after));
            }
            (at, left) = (after, count as usize);
        } else {
            self.words.append(&mut progress.words);
        }
        while left > 0 {
            let (word, after) = match word(buffer, at)? {
                Step::Word(word, after) => (word, after),
                Step::Needs(bytes) => {
                    progress.left = left;
                    progress.at = at;
                    progress.words.clear();
                    progress.words.append(&mut self.words);
                    return Ok(Found::Partial(bytes));
                }
            };
            self.words.push(word);
            at = after;
            left -= 1;
        }
        progress.left = 0;
        Ok(Found::Command(at))
    }

    /// A line of words, as people type it into telnet.
    fn inline(&mut self, buffer: &[u8]) -> Result<Found, ProtocolError> {
        let window = &buffer[..buffer.len().min(LINE_BYTES_MAX)];
        let Some(end) = memchr::memchr(b'\n', window) else {
            if buffer.len() >= LINE_BYTES_MAX {
                return Err(ProtocolError::LineTooLong);
            }
            return Ok(Found::Partial(buffer.len() + 1));
        };
        let line = buffer[..end].strip_suffix(b"\r").unwrap_or(&buffer[..end]);
        let is_blank = line.iter().all(u8::is_ascii_whitespace);
        if is_blank {
            return Ok(Found::Nothing(end + 1));
        }
        Ok(Found::Inline(end + 1))
    }
}

enum Step {
    Word(Word, usize),
    Needs(usize),
}

fn word(buffer: &[u8], at: usize) -> Result<Step, ProtocolError> {
    match buffer.get(at) {
        None => return Ok(Step::Needs(at + 1)),
        Some(b'$') => {}
        Some(&other) => return Err(ProtocolError::NotBulk(other)),
    }
    let Some((length, start)) = number(buffer, at + 1, ProtocolError::BulkLength)? else {
        return Ok(Step::Needs(buffer.len() + 1));
    };
    if !(0..=WORD_BYTES_MAX as i64).contains(&length) {
        return Err(ProtocolError::BulkLength);
    }
    let end = start + length as usize;
    if end > u32::MAX as usize - 2 {
        return Err(ProtocolError::TooBig);
    }
    if buffer.len() < end + 2 {
        return Ok(Step::Needs(end + 2));
    }
    let word = Word {
        start: start as u32,
        end: end as u32,
    };
    Ok(Step::Word(word, end + 2))
}

/// A number and the end of its line, and where the next line begins; `None` where the line does not
/// end yet.
pub(super) fn number(
    buffer: &[u8],
    start: usize,
    wrong: ProtocolError,
) -> Result<Option<(i64, usize)>, ProtocolError> {
    let mut at = start;
    let is_negative = buffer.get(at) == Some(&b'-');
    if is_negative {
        at += 1;
    }
    let first = at;
    let mut value = 0_i64;
    loop {
        match buffer.get(at) {
            Some(digit @ b'0'..=b'9') => {
                // Longer than any number that is allowed: it cannot become right again.
                if at - first >= 18 {
                    return Err(wrong);
                }
                value = value * 10 + i64::from(digit - b'0');
                at += 1;
            }
            Some(b'\r') if at > first => break,
            None => return Ok(None),
            Some(_) => return Err(wrong),
        }
    }
    match buffer.get(at + 1) {
        Some(b'\n') => {}
        None => return Ok(None),
        Some(_) => return Err(wrong),
    }
    let value = if is_negative { -value } else { value };
    Ok(Some((value, at + 2)))
}

/// The words of an inline command, quotes and escapes resolved as Redis does.
///
/// # Errors
/// [`ProtocolError::Quotes`].
pub fn inline_words(line: &[u8]) -> Result<Vec<Vec<u8>>, ProtocolError> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let blanks = rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
        rest = &rest[blanks..];
        if rest.is_empty() {
            return Ok(words);
        }
        let mut word = Vec::new();
        rest = inline_word(rest, &mut word)?;
        words.push(word);
    }
}

fn inline_word<'l>(mut rest: &'l [u8], word: &mut Vec<u8>) -> Result<&'l [u8], ProtocolError> {
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b'"' | b'\'' => {
                rest = quoted(after, byte, word)?;
                // Redis wants a blank behind the closing quote.
                return match rest.first() {
                    Some(next) if !next.is_ascii_whitespace() => Err(ProtocolError::Quotes),
                    _ => Ok(rest),
                };
            }
            blank if blank.is_ascii_whitespace() => return Ok(rest),
            other => {
                word.push(other);
                rest = after;
            }
        }
    }
    Ok(rest)
}

fn quoted<'l>(
    mut rest: &'l [u8],
    quote: u8,
    word: &mut Vec<u8>,
) -> Result<&'l [u8], ProtocolError> {
    let hex = |digits: &[u8]| {
        let digits = std::str::from_utf8(digits).ok()?;
        u8::from_str_radix(digits, 16).ok()
    };
    loop {
        match rest {
            [byte, after @ ..] if *byte == quote => return Ok(after),
            [b'\\', b'\'', after @ ..] if quote == b'\'' => {
                word.push(b'\'');
                rest = after;
            }
            [b'\\', b'x', high, low, after @ ..]
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.extend(hex(&[*high, *low]));
                rest = after;
            }
            [b'\\', escaped, after @ ..] if quote == b'"' => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = after;
            }
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
            [] => return Err(ProtocolError::Quotes),
        }
    }
}

//! What a Redis server answers, in both versions of its protocol.

use std::fmt;
use std::io::{self, BufRead};

/// One reply. Ordered, so that what comes in no order can be put into one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reply {
    /// `+OK`
    Simple(String),
    /// `-ERR …`
    Error(String),
    /// `:1`
    Integer(i64),
    /// `$3 abc`; none is RESP2's null
    Bulk(Option<Vec<u8>>),
    /// `*2 …`; none is RESP2's null array
    Array(Option<Vec<Reply>>),
    /// `_`
    Null,
    /// `,1.5`, as it was written
    Double(String),
    /// `#t`
    Boolean(bool),
    /// `(123…`
    Big(String),
    /// `=15 txt:…`
    Verbatim(Vec<u8>),
    /// `%1 …`
    Map(Vec<(Reply, Reply)>),
    /// `~2 …`
    Set(Vec<Reply>),
    /// `>2 …`
    Push(Vec<Reply>),
}

impl Reply {
    /// Reads one.
    ///
    /// # Errors
    /// If the connection ends, or what comes is no reply.
    pub fn read(from: &mut impl BufRead) -> io::Result<Reply> {
        let line = line(from)?;
        let Some((&kind, rest)) = line.split_first() else {
            return Err(wrong("an empty line"));
        };
        let text = || String::from_utf8_lossy(rest).into_owned();
        Ok(match kind {
            b'+' => Reply::Simple(text()),
            b'-' => Reply::Error(text()),
            b':' => Reply::Integer(number(rest)?),
            b'$' => Reply::Bulk(bytes(from, number(rest)?)?),
            b'*' => Reply::Array(replies(from, number(rest)?)?),
            b'_' => Reply::Null,
            b',' => Reply::Double(text()),
            b'#' => Reply::Boolean(rest == b"t"),
            b'(' => Reply::Big(text()),
            b'!' => {
                let bytes = bytes(from, number(rest)?)?.unwrap_or_default();
                Reply::Error(String::from_utf8_lossy(&bytes).into_owned())
            }
            b'=' => Reply::Verbatim(bytes(from, number(rest)?)?.unwrap_or_default()),
            b'~' => Reply::Set(replies(from, number(rest)?)?.unwrap_or_default()),
            b'>' => Reply::Push(replies(from, number(rest)?)?.unwrap_or_default()),
            b'%' => {
                let both = replies(from, 2 * number(rest)?)?.unwrap_or_default();
                let mut pairs = Vec::new();
                let mut both = both.into_iter();
                while let (Some(key), Some(value)) = (both.next(), both.next()) {
                    pairs.push((key, value));
                }
                Reply::Map(pairs)
            }
            _ => return Err(wrong(&String::from_utf8_lossy(&line))),
        })
    }

    /// Whether it is a refusal.
    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_))
    }

    /// Whether it says that there is nothing.
    pub fn is_null(&self) -> bool {
        matches!(self, Reply::Null | Reply::Bulk(None) | Reply::Array(None))
    }

    /// What it says, as text; empty for what holds others.
    pub fn text(&self) -> String {
        match self {
            Reply::Simple(text) | Reply::Error(text) | Reply::Double(text) | Reply::Big(text) => {
                text.clone()
            }
            Reply::Integer(number) => number.to_string(),
            Reply::Bulk(Some(bytes)) | Reply::Verbatim(bytes) => {
                String::from_utf8_lossy(bytes).into_owned()
            }
            _ => String::new(),
        }
    }

    /// Its parts, if it is a list of any kind.
    pub fn parts(&self) -> &[Reply] {
        match self {
            Reply::Array(Some(parts)) | Reply::Set(parts) | Reply::Push(parts) => parts,
            _ => &[],
        }
    }

    /// The value after a name, in a list of names and values.
    pub fn field(&self, name: &str) -> Option<String> {
        let mut parts = self.parts().chunks_exact(2);
        parts
            .find(|pair| pair[0].text() == name)
            .map(|pair| pair[1].text())
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Simple(text) => write!(f, "+{text}"),
            Reply::Error(text) => write!(f, "-{text}"),
            Reply::Integer(number) => write!(f, ":{number}"),
            Reply::Bulk(Some(bytes)) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Reply::Bulk(None) => f.write_str("$-1"),
            Reply::Array(None) => f.write_str("*-1"),
            Reply::Array(Some(parts)) => f.debug_list().entries(parts).finish(),
            Reply::Null => f.write_str("_"),
            Reply::Double(text) => write!(f, ",{text}"),
            Reply::Boolean(is) => write!(f, "#{is}"),
            Reply::Big(text) => write!(f, "({text}"),
            Reply::Verbatim(bytes) => write!(f, "=\"{}\"", bytes.escape_ascii()),
            Reply::Map(pairs) => f
                .debug_map()
                .entries(pairs.iter().map(|(key, value)| (key, value)))
                .finish(),
            Reply::Set(parts) => f.debug_set().entries(parts).finish(),
            Reply::Push(parts) => write!(f, ">{parts:?}"),
        }
    }
}

fn line(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.strip_suffix(b"\r\n")
        .map(<[u8]>::to_vec)
        .ok_or_else(|| wrong("a line without an end"))
}

fn number(text: &[u8]) -> io::Result<i64> {
    let number = std::str::from_utf8(text).ok();
    let number = number.and_then(|text| text.parse().ok());
    number.ok_or_else(|| wrong(&String::from_utf8_lossy(text)))
}

fn bytes(from: &mut impl BufRead, length: i64) -> io::Result<Option<Vec<u8>>> {
    let Ok(length) = usize::try_from(length) else {
        return Ok(None);
    };
    let mut bytes = vec![0; length + 2];
    from.read_exact(&mut bytes)?;
    if !bytes.ends_with(b"\r\n") {
        return Err(wrong("a string that does not end where it says"));
    }
    bytes.truncate(length);
    Ok(Some(bytes))
}

fn replies(from: &mut impl BufRead, count: i64) -> io::Result<Option<Vec<Reply>>> {
    if count < 0 {
        return Ok(None);
    }
    (0..count)
        .map(|_| Reply::read(from))
        .collect::<io::Result<_>>()
        .map(Some)
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no reply: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_to_their_end() {
        for (bytes, expected) in [
            ("+OK\r\n", "+OK"),
            ("-ERR no\r\n", "-ERR no"),
            (":-7\r\n", ":-7"),
            ("$3\r\na\r\n\r\n", r#""a\r\n""#),
            ("$-1\r\n", "$-1"),
            ("*2\r\n:1\r\n*0\r\n", "[:1, []]"),
            ("*-1\r\n", "*-1"),
            ("%1\r\n+a\r\n~1\r\n_\r\n", "{+a: {_}}"),
            (">2\r\n#t\r\n,1.5\r\n", ">[#true, ,1.5]"),
            ("=7\r\ntxt:abc\r\n", r#"="txt:abc""#),
        ] {
            let mut rest = format!("{bytes}+next\r\n").into_bytes();
            let mut from = rest.as_slice();
            let reply = Reply::read(&mut from).unwrap();
            assert_eq!(format!("{reply:?}"), expected);
            assert_eq!(from, b"+next\r\n");
            rest.truncate(bytes.len() - 1);
            assert!(Reply::read(&mut rest.as_slice()).is_err(), "{bytes:?}");
        }
    }
}

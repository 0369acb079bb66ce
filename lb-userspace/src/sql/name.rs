//! Names of functions, relations and types as the catalog's keys.

use super::scan::Token;

/// PostgreSQL cuts longer names.
const NAME_MAX: usize = 63;
/// Between a schema and a name; no name has it in it.
const SEPARATOR: u8 = 0;

/// A name in the form of the catalog's keys: folded as PostgreSQL folds, with its schema if it has one.
#[derive(Clone, Copy)]
pub(super) struct Name {
    bytes: [u8; 2 * NAME_MAX + 1],
    length: usize,
}

impl Name {
    /// The name that a token stands for; `None` if it is too long, or none.
    pub(super) fn of(token: Token<'_>) -> Option<Self> {
        let mut name = Self {
            bytes: [0; 2 * NAME_MAX + 1],
            length: 0,
        };
        name.push(token)?;
        Some(name)
    }

    /// This name as a schema's, and the name within.
    pub(super) fn qualify(&mut self, token: Token<'_>) -> Option<()> {
        // Of database.schema.name only the last two count: there is only one database here.
        if let Some(separator) = self.key().iter().position(|&byte| byte == SEPARATOR) {
            self.bytes.copy_within(separator + 1..self.length, 0);
            self.length -= separator + 1;
        }
        *self.bytes.get_mut(self.length)? = SEPARATOR;
        self.length += 1;
        self.push(token)
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn push(&mut self, token: Token<'_>) -> Option<()> {
        let start = self.length;
        match token {
            Token::Word(word) if word.len() <= NAME_MAX => {
                self.append(word)?;
                self.bytes[start..self.length].make_ascii_lowercase();
            }
            Token::Quoted(quoted) if quoted.len() <= NAME_MAX => {
                if memchr::memchr(b'"', quoted).is_none() {
                    self.append(quoted)?;
                } else {
                    let mut pieces = quoted.split(|&byte| byte == b'"');
                    self.append(pieces.next()?)?;
                    // Each doubled quote gives an empty piece between its halves.
                    while let (Some(_), Some(piece)) = (pieces.next(), pieces.next()) {
                        self.append(b"\"")?;
                        self.append(piece)?;
                    }
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn append(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.length + bytes.len();
        self.bytes.get_mut(self.length..end)?.copy_from_slice(bytes);
        self.length = end;
        Some(())
    }
}

/// The key of a name in a schema.
pub(super) fn qualified(schema: &[u8], name: &[u8]) -> Box<[u8]> {
    [schema, &[SEPARATOR], name].concat().into_boxed_slice()
}

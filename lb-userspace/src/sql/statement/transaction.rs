//! Statements that begin and end transactions, and what they say of them.

use crate::sql::class::{Access, Class, Isolation, Kind};
use crate::sql::scan::{Scanner, Token};
use crate::sql::word;

/// Reads what follows the first word, up to what ends the statement.
pub(super) fn class(first: word::Code, scanner: &mut Scanner<'_>) -> Class {
    let mut words = Words(scanner);
    Class::of(match first {
        word::BEGIN | word::START => modes(&mut words),
        word::SAVEPOINT | word::RELEASE => Kind::Savepoint,
        word::COMMIT | word::ROLLBACK if words.contains(word::PREPARED) => Kind::Write,
        word::ROLLBACK | word::ABORT if words.contains(word::TO) => Kind::Savepoint,
        word::ROLLBACK | word::ABORT => Kind::Rollback,
        _ => Kind::Commit,
    })
}

fn modes(words: &mut Words<'_, '_>) -> Kind {
    let (mut access, mut isolation) = (Access::Default, Isolation::Default);
    let mut before = word::LONG;
    for code in words {
        match (before, code) {
            (word::READ, word::ONLY) => access = Access::ReadOnly,
            (word::READ, word::WRITE) => access = Access::ReadWrite,
            (word::READ, word::COMMITTED | word::UNCOMMITTED) => {
                isolation = Isolation::ReadCommitted;
            }
            (word::REPEATABLE, word::READ) => isolation = Isolation::RepeatableRead,
            (word::LEVEL, word::SERIALIZABLE) => isolation = Isolation::Serializable,
            _ => {}
        }
        before = code;
    }
    Kind::Begin { access, isolation }
}

/// The words up to the end of the statement.
struct Words<'s, 'a>(&'s mut Scanner<'a>);

impl Words<'_, '_> {
    /// Without moving on.
    fn contains(&self, code: word::Code) -> bool {
        Words(&mut self.0.clone()).any(|word| word == code)
    }
}

impl Iterator for Words<'_, '_> {
    type Item = word::Code;

    fn next(&mut self) -> Option<word::Code> {
        loop {
            match self.0.peek()? {
                Token::Semicolon | Token::Unreadable => return None,
                Token::Word(text) => {
                    self.0.advance();
                    return Some(word::code(text));
                }
                _ => self.0.advance(),
            }
        }
    }
}

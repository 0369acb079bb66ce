//! What SQL statements mean for where they may run: which are reads that a standby can answer, which
//! begin and end transactions, which leave something in their session, and which shard they are for.
//!
//! `lb logic` asks for every statement; nothing here looks at a socket or a clock, or allocates
//! (the [`Cache`] and the [`Catalog`] apart). It reads tokens, not grammar: what a token could mean
//! in the worst case decides, and whatever is not surely a read belongs on a primary. So a mistake
//! that this module may make costs a trip to the primary, and no more; tests hold it to that against
//! PostgreSQL's own parser. A second grammar that nearly is PostgreSQL's could err the other way.
//!
//! Names are looked up in the [`Catalog`], which is loaded from a server: a function may be volatile,
//! a view may hide one, and so may a cast, an operator, a policy or a default.

mod cache;
mod catalog;
mod class;
mod name;
mod query;
mod scan;
mod shard_key;
mod statement;
mod word;

#[cfg(test)]
mod tests;

pub use self::cache::{CACHE_BYTES_MAX, CACHE_SLOTS, CACHE_TEXT_MAX, CACHE_TEXT_MIN, Cache};
pub use self::catalog::{Catalog, LOAD, LoadError, Row, VERSION};
pub use self::class::{Access, Class, Isolation, Kind, Marks, Why};
use self::scan::{Scanner, Token};
pub use self::shard_key::{SHARD_KEY, ShardKey, shard_key};

/// Says what a query is, which may hold several statements: then the class is that of the strictest.
///
/// The text must be in an encoding of which [`is_readable`] says that it can be read.
#[must_use]
pub fn classify(sql: &[u8], catalog: &Catalog) -> Class {
    let mut scanner = Scanner::new(sql);
    let mut whole = Class::EMPTY;
    loop {
        match scanner.peek() {
            None => return whole,
            Some(Token::Semicolon) => scanner.advance(),
            Some(_) => whole = whole.and(statement::class(&mut scanner, catalog)),
        }
        if whole.why == Why::Unreadable {
            return whole;
        }
    }
}

/// Whether text in this `client_encoding` can be read: every byte below 128 must stand for itself,
/// which is not so within the characters of some encodings of East Asia.
#[must_use]
pub fn is_readable(client_encoding: &str) -> bool {
    const UNREADABLE: [&str; 8] = [
        "SJIS",
        "SHIFTJIS2004",
        "SHIFT_JIS_2004",
        "BIG5",
        "GBK",
        "UHC",
        "GB18030",
        "JOHAB",
    ];
    !UNREADABLE
        .iter()
        .any(|name| name.eq_ignore_ascii_case(client_encoding))
}

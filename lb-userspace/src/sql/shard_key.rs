//! Which shard a statement says that it is for: `/* lb.shard_key=… */`, or SET lb.shard_key.

use std::borrow::Cow;

use memchr::memmem;

use super::scan::{Scanner, Token};
use super::word;

/// The name, as a setting and in comments.
pub const SHARD_KEY: &str = "lb.shard_key";
const NAME: &[u8] = SHARD_KEY.as_bytes();
const SETTING: &[u8] = b"shard_key";

/// What a query says of shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardKey<'a> {
    /// This query is for the shard of this key: a comment in it says so.
    Query(&'a [u8]),
    /// From now on this is the session's key: `SET lb.shard_key = 'x'`, or with TO.
    Session(Cow<'a, [u8]>),
    /// From now on the session has none: SET … TO DEFAULT, or RESET.
    Unset,
}

/// Looks for a shard key. `None` if the query mentions none, or in no way that is understood.
#[must_use]
pub fn shard_key(sql: &[u8]) -> Option<ShardKey<'_>> {
    setting(sql).or_else(|| comment(sql, memmem::find(sql, NAME)?))
}

/// `key=value` in a comment in front of the statement or behind it; in between it may be in a string.
fn comment(sql: &[u8], at: usize) -> Option<ShardKey<'_>> {
    let value = sql[at + NAME.len()..]
        .trim_ascii_start()
        .strip_prefix(b"=")?;
    let end = memmem::find(value, b"*/")?;
    let before = &sql[..at];
    let start = memmem::rfind(before, b"/*")?;
    // Other tags may stand in the same comment, as tracing libraries write them.
    let is_own = memmem::find(&before[start..], b"*/").is_none();
    let is_outside = Scanner::new(&before[..start]).all(|token| token != Token::Unreadable);
    let value = &value[..end];
    let value = value.split(|&byte| byte == b',').next()?.trim_ascii();
    let value = value
        .strip_prefix(b"'")
        .and_then(|value| value.strip_suffix(b"'"))
        .unwrap_or(value);
    (is_own && is_outside && !value.is_empty()).then_some(ShardKey::Query(value))
}

fn setting(sql: &[u8]) -> Option<ShardKey<'_>> {
    let mut tokens = Scanner::new(sql);
    let first = code(tokens.next()?);
    if first != word::SET && first != word::RESET {
        return None;
    }
    let mut next = tokens.next()?;
    if code(next) == word::SESSION {
        next = tokens.next()?;
    }
    // In quotes a login's settings are set.
    let is = |token: Token<'_>, name: &[u8]| matches!(token, Token::Word(word) | Token::Quoted(word) if word.eq_ignore_ascii_case(name));
    let is_named = is(next, b"lb") && tokens.next()? == Token::Dot && is(tokens.next()?, SETTING);
    if !is_named {
        return None;
    }
    if first == word::RESET {
        return Some(ShardKey::Unset);
    }
    match tokens.next()? {
        Token::Operator(b"=") => {}
        token if code(token) == word::TO => {}
        _ => return None,
    }
    let key = match tokens.next()? {
        Token::Word(word) if word.eq_ignore_ascii_case(b"default") => return Some(ShardKey::Unset),
        Token::Text(text) => unquoted(text)?,
        Token::Word(word) => Cow::Owned(word.to_ascii_lowercase()),
        Token::Number(number) => Cow::Borrowed(number),
        _ => return None,
    };
    let is_over = matches!(tokens.next(), None | Some(Token::Semicolon)) && tokens.next().is_none();
    is_over.then_some(ShardKey::Session(key))
}

fn code(token: Token<'_>) -> word::Code {
    match token {
        Token::Word(text) => word::code(text),
        _ => word::LONG,
    }
}

/// A string's value; none where it depends on settings, or is empty.
fn unquoted(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if text.is_empty() || text.contains(&b'\\') {
        return None;
    }
    if !text.contains(&b'\'') {
        return Some(Cow::Borrowed(text));
    }
    let mut value = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        value.push(byte);
        if byte == b'\'' {
            let _ = bytes.next();
        }
    }
    Some(Cow::Owned(value))
}

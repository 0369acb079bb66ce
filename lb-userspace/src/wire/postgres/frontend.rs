//! What a client's messages say of names: which statement and portal they are about.

use super::frame::text;

/// The first part of a Parse message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'b> {
    /// Name of the statement; empty for the unnamed one.
    pub name: &'b [u8],
    /// The query with its zero byte, and the types of its parameters: what makes two statements equal.
    pub definition: &'b [u8],
    /// The query alone.
    pub query: &'b [u8],
}

/// Reads the body of a Parse message.
#[must_use]
pub fn parse(body: &[u8]) -> Option<Parse<'_>> {
    let (name, definition) = text(body)?;
    let (query, _types) = text(definition)?;
    Some(Parse {
        name,
        definition,
        query,
    })
}

/// The first part of a Bind message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<'b> {
    /// Name of the portal; empty for the unnamed one.
    pub portal: &'b [u8],
    /// Name of the statement; empty for the unnamed one.
    pub statement: &'b [u8],
    /// How many bytes of the body the two names take, zero bytes included.
    pub names_bytes: usize,
}

/// Reads the names of a Bind message, of which the body may be only begun.
#[must_use]
pub fn bind(body: &[u8]) -> Option<Bind<'_>> {
    let (portal, rest) = text(body)?;
    let (statement, after) = text(rest)?;
    Some(Bind {
        portal,
        statement,
        names_bytes: body.len() - after.len(),
    })
}

/// What a Describe or Close message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object<'b> {
    /// A statement.
    Statement(&'b [u8]),
    /// A portal.
    Portal(&'b [u8]),
}

/// Reads the body of a Describe or Close message.
#[must_use]
pub fn object(body: &[u8]) -> Option<Object<'_>> {
    let (kind, rest) = body.split_first()?;
    let (name, _) = text(rest)?;
    match kind {
        b'S' => Some(Object::Statement(name)),
        b'P' => Some(Object::Portal(name)),
        _ => None,
    }
}

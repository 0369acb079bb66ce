//! What is wrong with bytes of a peer.

/// Bytes that are no RESP. The texts are Redis's own, so that clients see what they know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The line of an inline command, or of a length, does not end.
    #[error("Protocol error: too big inline request")]
    LineTooLong,
    /// `*n` with an n that is none, or too large.
    #[error("Protocol error: invalid multibulk length")]
    ArrayLength,
    /// `$n` with an n that is none, or too large.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// Something else than `$` in the array of a command.
    #[error("Protocol error: expected '$', got '{}'", (*.0 as char).escape_default())]
    NotBulk(u8),
    /// Quotes of an inline command that do not match.
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
    /// A reply of a kind that there is not.
    #[error("Protocol error: reply begins with '{}'", (*.0 as char).escape_default())]
    ReplyKind(u8),
    /// A command that takes more bytes than are allowed.
    #[error("Protocol error: request too big")]
    TooBig,
}

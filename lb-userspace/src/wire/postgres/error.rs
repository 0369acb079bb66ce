//! ErrorResponse and NoticeResponse: written by us, read from servers.

use super::frame;
use super::write::{message, text};

/// An error as PostgreSQL tells it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (SQLSTATE {code})")]
pub struct PgError {
    /// `ERROR`, `FATAL` or `PANIC`.
    pub severity: String,
    /// SQLSTATE.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// More about it, or what to do.
    pub hint: Option<String>,
}

/// SQLSTATEs that we send.
pub mod code {
    /// protocol_violation
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    /// connection_failure
    pub const CONNECTION_FAILURE: &str = "08006";
    /// transaction_resolution_unknown
    pub const TRANSACTION_RESOLUTION_UNKNOWN: &str = "08007";
    /// feature_not_supported
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    /// invalid_password
    pub const INVALID_PASSWORD: &str = "28P01";
    /// invalid_authorization_specification
    pub const INVALID_AUTHORIZATION: &str = "28000";
    /// too_many_connections
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    /// program_limit_exceeded
    pub const PROGRAM_LIMIT_EXCEEDED: &str = "54000";
    /// query_canceled
    pub const QUERY_CANCELED: &str = "57014";
    /// admin_shutdown
    pub const ADMIN_SHUTDOWN: &str = "57P01";
    /// object_not_in_prerequisite_state
    pub const OBJECT_NOT_IN_STATE: &str = "55000";
    /// cannot_connect_now
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
    /// read_only_sql_transaction
    pub const READ_ONLY_TRANSACTION: &str = "25006";
    /// syntax_error
    pub const SYNTAX_ERROR: &str = "42601";
    /// undefined_object
    pub const UNDEFINED_OBJECT: &str = "42704";
}

impl PgError {
    /// An error that ends the connection.
    #[must_use]
    pub fn fatal(code: &str, message: impl Into<String>) -> Self {
        Self::new("FATAL", code, message)
    }

    /// An error that ends a command.
    #[must_use]
    pub fn error(code: &str, message: impl Into<String>) -> Self {
        Self::new("ERROR", code, message)
    }

    fn new(severity: &str, code: &str, message: impl Into<String>) -> Self {
        Self {
            severity: severity.to_owned(),
            code: code.to_owned(),
            message: message.into(),
            hint: None,
        }
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        message(out, b'E', |out| {
            let fields = [
                (b'S', Some(&self.severity)),
                (b'V', Some(&self.severity)),
                (b'C', Some(&self.code)),
                (b'M', Some(&self.message)),
                (b'H', self.hint.as_ref()),
            ];
            for (field, value) in fields {
                if let Some(value) = value {
                    out.push(field);
                    text(out, value.as_bytes());
                }
            }
            out.push(0);
        });
    }

    /// Reads the body of an ErrorResponse; fields that are missing are empty.
    #[must_use]
    pub fn read(body: &[u8]) -> Self {
        let mut error = Self::new("", "", "");
        let mut rest = body;
        while let Some((&field, after)) = rest.split_first()
            && field != 0
            && let Some((value, after)) = frame::text(after)
        {
            let value = || String::from_utf8_lossy(value).into_owned();
            match field {
                b'S' if error.severity.is_empty() => error.severity = value(),
                b'V' => error.severity = value(),
                b'C' => error.code = value(),
                b'M' => error.message = value(),
                b'H' => error.hint = Some(value()),
                _ => {}
            }
            rest = after;
        }
        error
    }
}

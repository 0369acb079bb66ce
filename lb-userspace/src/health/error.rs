//! Why a probe failed, in a form to decide on and in words for people.

use std::time::Duration;

use super::statuses::Statuses;

/// Why a probe failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// Nothing listens there.
    #[error("connection refused")]
    Refused,
    /// The server reset the connection.
    #[error("connection reset")]
    Reset,
    /// No complete answer in time.
    #[error("no answer within {} ms", millis(*.after))]
    Timeout {
        /// The time allowed.
        after: Duration,
    },
    /// The network says that it cannot get there.
    #[error("{0}")]
    Unreachable(Unreachable),
    /// The server closed the connection before its answer was complete.
    #[error("connection closed before the answer was complete")]
    Closed,
    /// An HTTP answer with another status than those expected.
    #[error("HTTP {got}, expected {expected}")]
    WrongStatus {
        /// The status of the answer.
        got: u16,
        /// The statuses that would have passed.
        expected: Statuses,
    },
    /// An answer that is not of the protocol, or goes over a limit.
    #[error("not a valid answer: {0}")]
    Malformed(String),
    /// Another error of the connection.
    #[error("connection failed: {0}")]
    Other(String),
    /// This host could not probe (no free port or file descriptor, not permitted): says nothing
    /// about the backend.
    #[error("this host could not probe: {0}")]
    Local(String),
}

/// What the network says it cannot reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// Nobody answers for the address, or a router or firewall said so.
    #[error("no route to host")]
    Host,
    /// No route, or its interface is down.
    #[error("network is unreachable")]
    Network,
}

impl ProbeError {
    /// Whether one such failure is proof enough: the server's own kernel answered that nobody
    /// is there, so waiting for more failures only loses requests.
    pub fn is_decisive(&self) -> bool {
        matches!(self, Self::Refused | Self::Reset)
    }

    /// Whether the failure is this host's own and says nothing about the backend.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// The kind of failure, without its particulars.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused => ErrorKind::Refused,
            Self::Reset => ErrorKind::Reset,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Unreachable(_) => ErrorKind::Unreachable,
            Self::Closed => ErrorKind::Closed,
            Self::WrongStatus { .. } => ErrorKind::WrongStatus,
            Self::Malformed(_) => ErrorKind::Malformed,
            Self::Other(_) => ErrorKind::Other,
            Self::Local(_) => ErrorKind::Local,
        }
    }
}

/// The kinds of [`ProbeError`], to count by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    /// [`ProbeError::Refused`].
    Refused,
    /// [`ProbeError::Reset`].
    Reset,
    /// [`ProbeError::Timeout`].
    Timeout,
    /// [`ProbeError::Unreachable`].
    Unreachable,
    /// [`ProbeError::Closed`].
    Closed,
    /// [`ProbeError::WrongStatus`].
    WrongStatus,
    /// [`ProbeError::Malformed`].
    Malformed,
    /// [`ProbeError::Other`].
    Other,
    /// [`ProbeError::Local`].
    Local,
}

impl ErrorKind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Refused,
        Self::Reset,
        Self::Timeout,
        Self::Unreachable,
        Self::Closed,
        Self::WrongStatus,
        Self::Malformed,
        Self::Other,
        Self::Local,
    ];

    /// The kind as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Closed => "closed",
            Self::WrongStatus => "wrong_status",
            Self::Malformed => "malformed",
            Self::Other => "other",
            Self::Local => "local",
        }
    }
}

/// Milliseconds with as many decimals as they need: 40, 1.5.
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_reads_as_a_plain_sentence() {
        let cases = [
            (ProbeError::Refused, "connection refused"),
            (
                ProbeError::Timeout {
                    after: Duration::from_millis(40),
                },
                "no answer within 40 ms",
            ),
            (
                ProbeError::Timeout {
                    after: Duration::from_micros(1500),
                },
                "no answer within 1.5 ms",
            ),
            (
                ProbeError::Unreachable(Unreachable::Host),
                "no route to host",
            ),
            (
                ProbeError::WrongStatus {
                    got: 503,
                    expected: Statuses::default(),
                },
                "HTTP 503, expected 200-399",
            ),
        ];
        for (error, expected) in cases {
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn every_kind_is_listed_at_its_own_number() {
        for (number, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number, "{}", kind.as_str());
        }
    }
}

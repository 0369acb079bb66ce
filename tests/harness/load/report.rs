//! What became of a load's requests.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::distribution::Distribution;

/// How a request failed, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// RST in answer to the SYN (UDP: port unreachable).
    Refused,
    /// RST in the middle.
    Reset,
    /// Closed in good order before the answer was whole.
    Closed,
    /// Nothing came in time.
    TimedOut,
    /// No route, or a router said that there is none.
    Unreachable,
    /// An answer with this status instead of 200.
    Status(u16),
    /// An answer that is none.
    Garbled,
    /// An error of PostgreSQL's or a proxy's, by its SQLSTATE.
    Sql([u8; 5]),
    /// An answer that says that nobody knows whether it was done.
    Unknown,
    /// What was there is not found any more.
    Missing,
    /// The client's own fault: out of ports or descriptors, say.
    Local,
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused => f.write_str("refused"),
            Failure::Reset => f.write_str("reset"),
            Failure::Closed => f.write_str("closed"),
            Failure::TimedOut => f.write_str("timed out"),
            Failure::Unreachable => f.write_str("unreachable"),
            Failure::Status(status) => write!(f, "status {status}"),
            Failure::Garbled => f.write_str("garbled"),
            Failure::Sql(state) => write!(f, "SQLSTATE {}", String::from_utf8_lossy(state)),
            Failure::Unknown => f.write_str("nobody knows whether it was done"),
            Failure::Missing => f.write_str("not found"),
            Failure::Local => f.write_str("local error"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            ErrorKind::ConnectionRefused => Failure::Refused,
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
                Failure::Reset
            }
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Failure::TimedOut,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Failure::Unreachable,
            _ => Failure::Local,
        }
    }
}

/// A request's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, by the backend of this name.
    Answered {
        /// The backend's name.
        by: Arc<str>,
    },
    /// Not answered.
    Failed(Failure),
}

impl Outcome {
    /// Whether the request failed.
    pub fn is_failure(&self) -> bool {
        matches!(self, Outcome::Failed(_))
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When its client began, connecting included.
    pub start: Instant,
    /// When its client knew the result.
    pub end: Instant,
    /// The client's address and port, if it got that far.
    pub from: Option<SocketAddr>,
    /// The result.
    pub outcome: Outcome,
}

/// All requests of a load, in the order of their beginning.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The requests.
    pub requests: Vec<Record>,
}

impl Report {
    pub(super) fn new(requests: impl Iterator<Item = Record>) -> Report {
        let mut requests: Vec<Record> = requests.collect();
        requests.sort_by_key(|request| request.start);
        Report { requests }
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.requests.len()
    }

    /// How many failed.
    pub fn failed(&self) -> usize {
        self.failures().values().sum()
    }

    /// How many failed, by kind.
    pub fn failures(&self) -> BTreeMap<Failure, usize> {
        let mut failures = BTreeMap::new();
        for request in &self.requests {
            if let Outcome::Failed(failure) = request.outcome {
                *failures.entry(failure).or_default() += 1;
            }
        }
        failures
    }

    /// How many were answered, by backend.
    pub fn answered_by(&self) -> BTreeMap<String, usize> {
        let mut answered = BTreeMap::new();
        for request in &self.requests {
            if let Outcome::Answered { by } = &request.outcome {
                *answered.entry(by.to_string()).or_default() += 1;
            }
        }
        answered
    }

    /// Only the requests that began in this time: `report.between(detection, end).failed()`.
    #[must_use]
    pub fn between(&self, from: Instant, to: Instant) -> Report {
        let began_then = |request: &&Record| (from..to).contains(&request.start);
        Report {
            requests: self.requests.iter().filter(began_then).cloned().collect(),
        }
    }

    /// Only the requests that began at `instant` or later.
    #[must_use]
    pub fn since(&self, instant: Instant) -> Report {
        let began_then = |request: &&Record| request.start >= instant;
        Report {
            requests: self.requests.iter().filter(began_then).cloned().collect(),
        }
    }

    /// The longest time without an answer to anybody, from the first beginning to the last end.
    pub fn longest_stall(&self) -> Duration {
        let mut answers: Vec<Instant> = self
            .requests
            .iter()
            .filter(|request| !request.outcome.is_failure())
            .map(|request| request.end)
            .chain(self.requests.first().map(|first| first.start))
            .chain(self.requests.iter().map(|request| request.end).max())
            .collect();
        answers.sort();
        let gaps = answers.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }

    /// How long the answered requests took.
    pub fn latencies(&self) -> Distribution {
        let answered = self
            .requests
            .iter()
            .filter(|request| !request.outcome.is_failure());
        Distribution::of_durations(answered.map(|request| request.end - request.start))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests, {} failed", self.count(), self.failed())?;
        for (failure, count) in self.failures() {
            write!(f, ", {count} {failure}")?;
        }
        for (backend, count) in self.answered_by() {
            write!(f, "; {backend} {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_time_without_an_answer_to_anybody() {
        let zero = Instant::now();
        let record = |start, end, answered| Record {
            start: zero + Duration::from_millis(start),
            end: zero + Duration::from_millis(end),
            from: None,
            outcome: if answered {
                Outcome::Answered { by: Arc::from("a") }
            } else {
                Outcome::Failed(Failure::TimedOut)
            },
        };
        let requests = [
            record(0, 10, true),
            record(10, 50, false),
            record(12, 60, true),
        ];
        let report = Report::new(requests.into_iter());
        assert_eq!(report.longest_stall(), Duration::from_millis(50));
        assert_eq!(report.failed(), 1);
        assert_eq!(report.since(zero + Duration::from_millis(11)).count(), 1);
        assert_eq!(Report::default().longest_stall(), Duration::ZERO);
    }
}

//! One question to a backend, and its answer. One file per protocol.
//!
//! A probe knows nothing of timing: the checker bounds it, repeats it and may drop it at any
//! point; every connection it opened is closed by then.

mod http;
mod tcp;

use std::net::SocketAddr;

use super::error::ProbeError;
use super::statuses::Statuses;

pub(super) use tcp::connect;

/// What a probe asks of a backend.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// Does it accept a connection?
    Tcp,
    /// Does it answer a request with an expected status?
    Http(HttpProbe),
}

/// An HTTP/1.1 request and the statuses that count as passed.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProbe {
    /// The path and query asked for, as it stands in the request line.
    pub path: String,
    /// The `Host` header; the target's address and port if `None`.
    pub host: Option<String>,
    /// The statuses that pass.
    pub expect: Statuses,
}

/// A [`Probe`] made ready for one address, with the buffers it reuses.
pub(super) enum Prober {
    Tcp(SocketAddr),
    Http(http::Prober),
}

impl Prober {
    pub(super) fn new(probe: &Probe, address: SocketAddr) -> Self {
        match probe {
            Probe::Tcp => Self::Tcp(address),
            Probe::Http(probe) => Self::Http(http::Prober::new(probe, address)),
        }
    }

    /// Probes once. Takes as long as the backend lets it: the caller sets the limit.
    pub(super) async fn run(&mut self) -> Result<(), ProbeError> {
        match self {
            Self::Tcp(address) => connect(*address).await.map(drop),
            Self::Http(prober) => prober.run().await,
        }
    }
}

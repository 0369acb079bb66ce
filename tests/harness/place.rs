//! Where a process runs, and at which address others reach it.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::namespace::Namespace;
use crate::postgres::free_port;
use crate::process::Process;

/// A connection that takes longer than this is none.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// Loopback here, or a host of its own.
#[derive(Clone, Debug)]
pub struct Place {
    namespace: Option<Arc<Namespace>>,
    address: Ipv4Addr,
}

impl Place {
    /// Loopback, where the test itself is.
    pub fn here() -> Self {
        Self {
            namespace: None,
            address: Ipv4Addr::LOCALHOST,
        }
    }

    /// A host with an address.
    pub fn host(namespace: Arc<Namespace>, address: Ipv4Addr) -> Self {
        Self {
            namespace: Some(namespace),
            address,
        }
    }

    /// Where others reach it.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The namespace of a host of its own.
    pub fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_deref()
    }

    /// The port that is usual, on a host of its own; on loopback a free one.
    pub(crate) fn port(&self, usual: u16) -> Result<u16> {
        if self.namespace.is_some() {
            Ok(usual)
        } else {
            free_port()
        }
    }

    /// Starts a process here.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(&self, name: &str, command: &mut Command, logs: &Path) -> Result<Process> {
        match &self.namespace {
            Some(namespace) => Process::spawn(namespace, name, command, logs),
            None => Process::spawn_here(name, command, logs),
        }
    }

    /// Runs work here: what it connects and starts is here as well.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.namespace {
            Some(namespace) => namespace.run(work),
            None => work(),
        }
    }

    /// A connection from here, without Nagle's delay.
    ///
    /// # Errors
    /// If nobody listens, or the network is silent.
    pub fn connect(&self, to: SocketAddr) -> Result<TcpStream> {
        let stream = self
            .run(|| TcpStream::connect_timeout(&to, CONNECT_MAX))
            .with_context(|| format!("connect to {to}"))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

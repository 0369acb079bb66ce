//! A running `lbt-web`: the HTTP and UDP server that stands behind a backend.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::load::http;
use crate::namespace::Namespace;
use crate::process::{Process, built};

/// A server starts within 50 ms; a busy machine may take longer.
const READY_MAX: Duration = Duration::from_secs(5);
/// How long the server may take to answer a request to its own switches.
const ADMIN_MAX: Duration = Duration::from_secs(2);

/// A server process; killed on drop.
#[derive(Debug)]
pub struct Web {
    process: Process,
}

impl Web {
    /// Starts a server called `name` in `namespace`: HTTP on every address, UDP echo on `udp`
    /// (one socket for each address, so that answers leave from the address that was asked), and
    /// plain TCP connections on the port `talk`.
    ///
    /// # Errors
    /// If the port is taken or the program is not built.
    pub fn start(
        namespace: &Namespace,
        name: &str,
        port: u16,
        udp: &[IpAddr],
        talk: Option<u16>,
        logs: &Path,
    ) -> Result<Web> {
        let mut command = Command::new(built("lbt-web", "lb-tests")?);
        command.args(["--name", name, "--listen", &format!("[::]:{port}")]);
        for address in udp {
            command.args(["--udp", &SocketAddr::new(*address, port).to_string()]);
        }
        if let Some(port) = talk {
            command.args(["--talk", &format!("[::]:{port}")]);
        }
        let mut process = Process::spawn(namespace, &format!("web-{name}"), &mut command, logs)?;
        process.wait_for_line("listening", READY_MAX)?;
        Ok(Web { process })
    }

    /// The process, to be killed, frozen or waited for.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Kills the server at once: its kernel answers connections with RST from then on.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// Sets what `/readyz` of the server at `address` says.
///
/// # Errors
/// If the server does not answer.
pub fn set_ready(namespace: &Namespace, address: SocketAddr, ready: bool) -> Result<()> {
    let path = format!("/admin/ready?on={ready}");
    let answer = namespace
        .run(|| http::request(address, "POST", &path, ADMIN_MAX))
        .with_context(|| format!("switch /readyz of {address}"))?;
    ensure!(
        answer.status == 200,
        "switch /readyz of {address}: status {}",
        answer.status
    );
    Ok(())
}

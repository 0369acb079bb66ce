//! A running `lb db-proxy` in front of a [`Postgres`].

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::place::Place;
use crate::postgres::{Postgres, free_port};
use crate::process::{Process, built};
use crate::run_directory::{RunDirectory, next_number};

/// The port of a proxy that has a host of its own.
const PORT: u16 = 6432;
/// The proxy connects to nothing before it listens.
const READY_MAX: Duration = Duration::from_secs(10);

/// A proxy; killed on drop.
#[derive(Debug)]
pub struct DbProxy {
    process: Process,
    config: PathBuf,
    control: PathBuf,
    place: Place,
    port: u16,
    metrics: u16,
    head: String,
}

impl DbProxy {
    /// Starts one in front of `server`; `settings` are further lines of `[db_proxy]`.
    ///
    /// # Errors
    /// If `lb` is not built, or the proxy does not listen: with the end of its log.
    pub fn start(run: &RunDirectory, server: &Postgres, settings: &str) -> Result<Self> {
        Self::start_before(run, Self::server(server), settings)
    }

    /// Starts one on the host of `server`, with the log that a user has, not a test's.
    ///
    /// # Errors
    /// As [`DbProxy::start`].
    pub fn start_quiet(
        run: &RunDirectory,
        place: &Place,
        server: &Postgres,
        settings: &str,
    ) -> Result<Self> {
        Self::start_with(run, place, Self::server(server), settings, "info")
    }

    /// Starts one on the host of `server`.
    ///
    /// # Errors
    /// As [`DbProxy::start`].
    pub fn start_on(
        run: &RunDirectory,
        place: &Place,
        server: &Postgres,
        settings: &str,
    ) -> Result<Self> {
        Self::start_with(run, place, Self::server(server), settings, "debug")
    }

    fn server(server: &Postgres) -> String {
        format!(
            "server = \"{}\"\nserver_port = {}\n",
            server.socket_directory().display(),
            server.port()
        )
    }

    /// Starts one in front of whatever `head` names: `server`, and what belongs to it.
    ///
    /// # Errors
    /// As [`DbProxy::start`].
    pub fn start_before(run: &RunDirectory, head: String, settings: &str) -> Result<Self> {
        Self::start_with(run, &Place::here(), head, settings, "debug")
    }

    fn start_with(
        run: &RunDirectory,
        place: &Place,
        head: String,
        settings: &str,
        log: &str,
    ) -> Result<Self> {
        let (port, metrics) = (place.port(PORT)?, free_port()?);
        let address = place.address();
        let number = next_number();
        let config = run.join(&format!("db-proxy-{number}.toml"));
        let state = run.join(&format!("db-proxy-{number}"));
        let head = format!(
            "[db_proxy]\nlisten = \"{address}:{port}\"\nmetrics = \"{address}:{metrics}\"\n\
             state = \"{0}\"\ncontrol = \"{0}.sock\"\n{head}",
            state.display()
        );
        let control = state.with_added_extension("sock");
        fs::write(&config, format!("{head}{settings}\n"))?;
        let process = Self::spawn(run, place, &config, port, log)?;
        Ok(Self {
            process,
            config,
            control,
            place: place.clone(),
            port,
            metrics,
            head,
        })
    }

    fn spawn(
        run: &RunDirectory,
        place: &Place,
        config: &Path,
        port: u16,
        log: &str,
    ) -> Result<Process> {
        let mut command = Command::new(built("lb", "lb-userspace")?);
        command.arg("db-proxy").arg("--config").arg(config);
        command.args(["--log-level", log]);
        let mut process = place.spawn("db-proxy", &mut command, &run.logs())?;
        let address = SocketAddr::new(place.address().into(), port);
        process.wait_until("the proxy listens", READY_MAX, || {
            place.connect(address).is_ok()
        })?;
        Ok(process)
    }

    /// Kills it, and starts another with the same configuration and state.
    ///
    /// # Errors
    /// If it does not listen.
    pub fn restart(&mut self, run: &RunDirectory) -> Result<()> {
        self.process.kill();
        self.process = Self::spawn(run, &self.place, &self.config, self.port, "debug")?;
        Ok(())
    }

    /// The port where clients connect; on 127.0.0.1, unless it has a host of its own.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.place.address().into(), self.port)
    }

    /// Where commands of `lb` reach it.
    pub fn control_socket(&self) -> &Path {
        &self.control
    }

    /// The process, to be killed, signalled or waited for.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Writes other settings; the proxy reads them when it is told to.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn configure(&self, settings: &str) -> Result<()> {
        fs::write(&self.config, format!("{}{settings}\n", self.head)).context("write lb.toml")
    }

    /// Runs a command of `lb` that asks the proxy; returns what it printed.
    ///
    /// # Errors
    /// If it fails, with what it said.
    pub fn command(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(built("lb", "lb-userspace")?);
        command.args(words).arg("--socket").arg(&self.control);
        let output = command.stdin(Stdio::null()).output().context("run lb")?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "lb {words:?}: {said}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What Prometheus would get.
    ///
    /// # Errors
    /// If nobody answers.
    pub fn metrics(&self) -> Result<String> {
        use std::io::{Read, Write};
        let address = SocketAddr::new(self.place.address().into(), self.metrics);
        let mut stream = self.place.connect(address)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: lb\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// A client program of PostgreSQL's that connects here as the superuser.
    ///
    /// # Errors
    /// If it is not installed.
    pub fn client(&self, program: &str) -> Result<Command> {
        let mut command = crate::postgres::tool(program)?;
        command.envs([
            ("PGHOST", &*self.place.address().to_string()),
            ("PGPORT", &*self.port.to_string()),
            ("PGUSER", "postgres"),
            ("PGDATABASE", "postgres"),
            ("PGCONNECT_TIMEOUT", "10"),
        ]);
        Ok(command)
    }
}

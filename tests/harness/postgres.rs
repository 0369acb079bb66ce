//! Real PostgreSQL servers of Debian's package, made and removed by tests: a primary, its standbys,
//! and what happens to them.
//!
//! PostgreSQL refuses to be root, so under root everything runs as the user `postgres`. Data lie
//! below the run directory and go with it. Clients reach a server through the Unix socket in its
//! directory; nothing listens on TCP unless a setting says so, or the server has a host of its own (a
//! namespace), which it shows its port to and its standbys stream from.

mod fault;
mod make;
mod rewind;
mod small_disk;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use self::small_disk::SmallDisk;
use crate::place::Place;
use crate::process::Process;
use crate::run_directory::RunDirectory;

/// How long a server may take until it answers.
pub const READY_MAX: Duration = Duration::from_secs(30);
/// The user that the servers run as when we are root.
const USER: &str = "postgres";
/// Ports of tests begin here: below the ephemeral ones, so that no client takes them.
const PORT_FIRST: u16 = 20_000;
const PORTS: u16 = 10_000;
/// The port of a server that has a host of its own.
const PORT: u16 = 5432;

/// One PostgreSQL server; ended and reaped on drop.
#[derive(Debug)]
pub struct Postgres {
    name: String,
    place: Place,
    directory: PathBuf,
    logs: PathBuf,
    port: u16,
    process: Option<Process>,
    // After the process: it must not be busy when it is unmounted.
    disk: Option<SmallDisk>,
}

/// Whether a standby's primary waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// A commit is acknowledged when a standby has it on disk.
    Synchronous,
    /// A commit is acknowledged before any standby has it.
    Asynchronous,
}

impl Postgres {
    /// Makes a server with these lines in its `postgresql.conf`, and starts it.
    ///
    /// # Errors
    /// If PostgreSQL is not installed, or does not start: with the end of its log.
    pub fn start_new(run: &RunDirectory, name: &str, settings: &str) -> Result<Self> {
        Self::start_new_on(run, &Place::here(), name, settings)
    }

    /// The same on a host of its own.
    ///
    /// # Errors
    /// As [`Postgres::start_new`].
    pub fn start_new_on(
        run: &RunDirectory,
        place: &Place,
        name: &str,
        settings: &str,
    ) -> Result<Self> {
        let mut server = Self::empty(run, place, name)?;
        server.init(settings)?;
        server.start()?;
        Ok(server)
    }

    /// Makes a standby of this server by `pg_basebackup`, and starts it. The primary's
    /// `synchronous_standby_names` stay as they are.
    ///
    /// # Errors
    /// If the backup fails, or the standby does not start.
    pub fn standby(&self, run: &RunDirectory, name: &str) -> Result<Self> {
        self.standby_on(run, &Place::here(), name)
    }

    /// The same on a host of its own, if this server has one too.
    ///
    /// # Errors
    /// As [`Postgres::standby`].
    pub fn standby_on(&self, run: &RunDirectory, place: &Place, name: &str) -> Result<Self> {
        let mut standby = Self::empty(run, place, name)?;
        standby.copy_of(self)?;
        standby.start()?;
        Ok(standby)
    }

    /// Says whether this server waits for its standbys.
    ///
    /// # Errors
    /// If it does not take the setting.
    pub fn replicate(&self, replication: Replication, standbys: &[&str]) -> Result<()> {
        let names = match replication {
            Replication::Synchronous => {
                let names: Vec<_> = standbys.iter().map(|it| format!("\"{it}\"")).collect();
                format!("ANY 1 ({})", names.join(", "))
            }
            Replication::Asynchronous => String::new(),
        };
        self.sql(&format!(
            "ALTER SYSTEM SET synchronous_standby_names = '{names}'"
        ))?;
        self.sql("SELECT pg_reload_conf()").map(drop)
    }

    /// What it is called; also its `application_name` towards its primary.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory of its Unix socket.
    pub fn socket_directory(&self) -> &Path {
        &self.directory
    }

    /// Its port, which is also in the name of its socket.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of its data.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Runs SQL as the superuser, past every proxy; returns rows, columns separated by `|`.
    ///
    /// # Errors
    /// psql's.
    pub fn sql(&self, sql: &str) -> Result<String> {
        let mut psql = tool("psql")?;
        psql.arg("-h").arg(&self.directory);
        psql.args(["-p", &self.port.to_string(), "-U", USER, "-d", "postgres"]);
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        said(&mut psql).with_context(|| format!("{} runs {sql:?}", self.name))
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    fn process(&mut self) -> Result<&mut Process> {
        let name = &self.name;
        self.process
            .as_mut()
            .with_context(|| format!("{name} does not run"))
    }
}

/// A port below the ephemeral ones that nobody listens on now.
///
/// # Errors
/// If all are taken.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two test programs at the same time begin at different places.
    let start = u16::try_from(std::process::id() % 100).unwrap_or(0) * 100;
    for _ in 0..PORTS {
        let offset = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let port = PORT_FIRST + offset;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("every port from {PORT_FIRST} on is taken");
}

/// A program of PostgreSQL's: of the newest version that is installed, or from the path.
///
/// # Errors
/// If there is none.
pub fn tool(name: &str) -> Result<Command> {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let newest = versions
        .flatten()
        .map(|version| version.path().join("bin").join(name))
        .filter(|program| program.is_file())
        .max();
    let program = newest.with_context(|| {
        format!("{name} is not there: install it with `cargo xtask setup` (package postgresql)")
    })?;
    Ok(Command::new(program))
}

/// A program that PostgreSQL does not let root run.
fn tool_as_postgres(name: &str) -> Result<Command> {
    let command = tool(name)?;
    if !nix::unistd::geteuid().is_root() {
        return Ok(command);
    }
    let mut as_postgres = Command::new("setpriv");
    as_postgres
        .args(["--reuid", USER, "--regid", USER, "--init-groups"])
        .arg(command.get_program());
    // It would complain that it cannot come back to where we are.
    as_postgres.current_dir("/");
    Ok(as_postgres)
}

/// Runs a program to its end; returns what it printed.
fn said(command: &mut Command) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .with_context(|| format!("run {}", command.get_program().display()))?;
    ensure!(
        status.success(),
        "{} ({status}): {}",
        command.get_program().display(),
        String::from_utf8_lossy(&stderr).trim()
    );
    Ok(String::from_utf8_lossy(&stdout).trim_end().to_owned())
}

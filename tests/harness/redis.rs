//! Real Redis servers and Sentinels of Debian's packages, made and removed by tests: layer-one
//! servers, their copies, spares, and what happens to them.
//!
//! A server runs on loopback, or on a host of its own (a namespace) that can be cut off from any
//! other. Data lie below the run directory and go with it.

mod connection;
mod fault;
mod reply;
mod sentinel;
mod tier;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

pub use crate::place::Place;
use crate::process::Process;
use crate::run_directory::RunDirectory;
pub use crate::segment::Segment;
use crate::wait;

pub use connection::{Connection, encode};
pub use reply::Reply;
pub use sentinel::Sentinel;
pub use tier::{Tier, TierBuilder};

/// How long a server may take until it answers.
pub const READY_MAX: Duration = Duration::from_secs(20);
/// How long a copy may take to catch up.
const COPIED_MAX: Duration = Duration::from_secs(20);
/// The port of a server that has a host of its own.
const PORT: u16 = 6379;
/// Nothing written to a disk by itself, nothing waited for that a test would wait for.
const SETTINGS: &str = "\
daemonize no
protected-mode no
save \"\"
appendonly no
dbfilename dump.rdb
repl-diskless-sync yes
repl-diskless-sync-delay 0
repl-ping-replica-period 1
repl-timeout 5
repl-backlog-size 64mb
maxclients 20000
";

/// One Redis server; ended and reaped on drop.
#[derive(Debug)]
pub struct Redis {
    name: String,
    place: Place,
    port: u16,
    directory: PathBuf,
    logs: PathBuf,
    /// The configuration that it was made with; Sentinel rewrites the file.
    settings: String,
    process: Option<Process>,
}

impl Redis {
    /// Makes a server with these further lines in its configuration, and starts it.
    ///
    /// # Errors
    /// If Redis is not installed, or does not start: with the end of its log.
    pub fn start_new(
        run: &RunDirectory,
        place: &Place,
        name: &str,
        settings: &str,
    ) -> Result<Self> {
        let directory = run.join(name);
        fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        let mut server = Self {
            name: name.to_owned(),
            place: place.clone(),
            port: place.port(PORT)?,
            directory,
            logs: run.logs(),
            settings: settings.to_owned(),
            process: None,
        };
        server.write_settings()?;
        server.start()?;
        Ok(server)
    }

    /// Makes a copy of this server, a native replica, and waits until it has caught up.
    ///
    /// # Errors
    /// If the copy does not start, or does not catch up.
    pub fn copy(&self, run: &RunDirectory, place: &Place, name: &str) -> Result<Self> {
        let address = self.address();
        let follow = format!("replicaof {} {}\n", address.ip(), address.port());
        let copy = Self::start_new(run, place, name, &format!("{}{follow}", self.settings))?;
        copy.wait_until_copied()?;
        Ok(copy)
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where others reach it.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.place.address().into(), self.port)
    }

    /// The host that it runs on.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Everything it has logged since it was started last.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// A connection from its own host, past every proxy and every cut.
    ///
    /// # Errors
    /// If it does not listen.
    pub fn connect(&self) -> Result<Connection> {
        Connection::open(&self.place, self.address())
            .with_context(|| format!("connect to {}", self.name))
    }

    /// Runs one command, past every proxy.
    ///
    /// # Errors
    /// If it does not answer. A refusal is an answer.
    pub fn command(&self, words: &[&str]) -> Result<Reply> {
        self.connect()?.command(words)
    }

    /// One field of `INFO`.
    ///
    /// # Errors
    /// If it does not answer, or has no such field.
    pub fn info(&self, field: &str) -> Result<String> {
        let text = self.command(&["INFO", "everything"])?.text();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let value = value.with_context(|| format!("{} says nothing of {field}", self.name))?;
        Ok(value.trim().to_owned())
    }

    /// Waits until this copy follows its primary and has everything that it had.
    ///
    /// # Errors
    /// At the deadline.
    pub fn wait_until_copied(&self) -> Result<()> {
        let what = format!("{} to catch up", self.name);
        wait::until(&what, COPIED_MAX, || {
            self.info("master_link_status").is_ok_and(|is| is == "up")
        })
    }

    /// The program that clients of Redis use, connected here.
    ///
    /// # Errors
    /// If it is not installed.
    pub fn client(&self, program: &str) -> Result<Command> {
        client(program, self.address())
    }

    fn directory(&self) -> &Path {
        &self.directory
    }

    fn config(&self) -> PathBuf {
        self.directory.join("redis.conf")
    }

    /// Writes its configuration as it was at first.
    fn write_settings(&self) -> Result<()> {
        let text = format!(
            "port {}\nbind {}\ndir {}\n{SETTINGS}{}",
            self.port,
            self.place.address(),
            self.directory.display(),
            self.settings
        );
        let path = self.config();
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    /// Starts it and waits until it answers; with the data and the configuration that lie there.
    ///
    /// # Errors
    /// If it runs already, or does not answer: with the end of its log.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "{} runs already", self.name);
        let mut command = tool("redis-server")?;
        command.arg(self.config());
        let process = self.place.spawn(&self.name, &mut command, &self.logs)?;
        let (place, address) = (self.place.clone(), self.address());
        let process = self.process.insert(process);
        process.wait_until("Redis answers", READY_MAX, || {
            Connection::open(&place, address)
                .and_then(|mut connection| connection.command(&["PING"]))
                .is_ok_and(|reply| matches!(reply, Reply::Simple(_)))
        })
    }

    fn process(&mut self) -> Result<&mut Process> {
        let name = &self.name;
        self.process
            .as_mut()
            .with_context(|| format!("{name} does not run"))
    }
}

/// A program of Redis's packages.
///
/// # Errors
/// If it is not installed.
pub fn tool(name: &str) -> Result<Command> {
    let program = Path::new("/usr/bin").join(name);
    ensure!(
        program.is_file(),
        "{name} is not there: install it with `cargo xtask setup`"
    );
    Ok(Command::new(program))
}

/// `redis-cli` or `redis-benchmark`, connected to an address.
///
/// # Errors
/// If it is not installed.
pub fn client(program: &str, address: SocketAddr) -> Result<Command> {
    let mut command = tool(program)?;
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    command.args(["-h", &host, "-p", &port]);
    Ok(command)
}

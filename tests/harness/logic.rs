//! A running `lb logic`.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::postgres::free_port;
use crate::process::{Process, built};
use crate::redis::{Connection, Place};
use crate::run_directory::RunDirectory;

/// How long it may take until it listens.
const READY_MAX: Duration = Duration::from_secs(10);
/// The RESP listener's port on a host of its own.
const RESP_PORT: u16 = 6379;
const METRICS_PORT: u16 = 9181;

/// A logic server that listens for RESP; killed on drop.
#[derive(Debug)]
pub struct Logic {
    process: Process,
    place: Place,
    resp: SocketAddr,
    metrics: SocketAddr,
    control: PathBuf,
    config: PathBuf,
    lb: PathBuf,
}

/// What else than the tables below `[logic]` a logic server is started with.
#[derive(Debug, Default, Clone)]
pub struct Options {
    /// Further lines of `[logic]`.
    pub settings: String,
    /// Further keys of the RESP listener, each with a comma before it.
    pub resp: String,
    /// The address that it listens on, if it is not its host's own: a VIP.
    pub listen: Option<SocketAddr>,
    /// Its log level, if it is not a test's.
    pub log: Option<String>,
}

impl Logic {
    /// Starts one; `tables` is the rest of its configuration.
    ///
    /// # Errors
    /// If `lb` is not built, or it does not listen: with the end of its log.
    pub fn start(run: &RunDirectory, place: &Place, name: &str, tables: &str) -> Result<Self> {
        Self::start_with(run, place, name, tables, &Options::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`Logic::start`].
    pub fn start_with(
        run: &RunDirectory,
        place: &Place,
        name: &str,
        tables: &str,
        options: &Options,
    ) -> Result<Self> {
        let port = |usual| match place.namespace() {
            Some(_) => Ok(usual),
            None => free_port(),
        };
        let address = place.address().into();
        let resp = match options.listen {
            Some(listen) => listen,
            None => SocketAddr::new(address, port(RESP_PORT)?),
        };
        let metrics = SocketAddr::new(address, port(METRICS_PORT)?);
        let control = run.join(&format!("{name}.sock"));
        let state = run.join(&format!("{name}-state"));
        let config = run.join(&format!("{name}.toml"));
        let text = format!(
            "[logic]\ncontrol = \"{}\"\nmetrics = \"{metrics}\"\nstate = \"{}\"\n\
             resp = {{ listen = \"{resp}\"{} }}\n{}\n{tables}",
            control.display(),
            state.display(),
            options.resp,
            options.settings
        );
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let lb = built("lb", "lb-userspace")?;
        let mut command = Command::new(&lb);
        command.arg("logic").arg("--config").arg(&config);
        command.args(["--log-level", options.log.as_deref().unwrap_or("debug")]);
        let mut process = place.spawn(name, &mut command, &run.logs())?;
        process.wait_until("the RESP listener listens", READY_MAX, || {
            place.connect(resp).is_ok() && place.connect(metrics).is_ok()
        })?;
        Ok(Self {
            process,
            place: place.clone(),
            resp,
            metrics,
            control,
            config,
            lb,
        })
    }

    /// Where clients of Redis connect.
    pub fn resp(&self) -> SocketAddr {
        self.resp
    }

    /// The host that it runs on.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The process, to be killed, signalled or waited for.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The file that it was started with.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Where commands of `lb` reach it.
    pub fn control_socket(&self) -> &Path {
        &self.control
    }

    /// A connection of a client on its own host.
    ///
    /// # Errors
    /// If it does not listen.
    pub fn connect(&self) -> Result<Connection> {
        Connection::open(&self.place, self.resp)
    }

    /// One command of a new client.
    ///
    /// # Errors
    /// If it does not answer. A refusal is an answer.
    pub fn command(&self, words: &[&str]) -> Result<crate::redis::Reply> {
        self.connect()?.command(words)
    }

    /// Runs `lb ARGUMENTS --socket …`, whatever its exit code.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn cli_output(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.lb);
        command.args(arguments).arg("--socket").arg(&self.control);
        command.output().context("start lb")
    }

    /// Runs `lb ARGUMENTS --socket …` and returns what it printed.
    ///
    /// # Errors
    /// If it ends with anything but 0: with what it said.
    pub fn cli(&self, arguments: &[&str]) -> Result<String> {
        let output = self.cli_output(arguments)?;
        ensure!(
            output.status.success(),
            "lb {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What it says of itself to whoever counts.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn metrics(&self) -> Result<String> {
        self.counted().text()
    }

    /// Where it counts, for a thread of its own.
    pub fn counted(&self) -> Counted {
        Counted {
            place: self.place.clone(),
            address: self.metrics,
        }
    }

    /// The sum of a metric's values over those of its labels that contain `label`; none if there
    /// are none.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn metric(&self, name: &str, label: &str) -> Result<Option<f64>> {
        self.counted().metric(name, label)
    }
}

/// What a logic server says of itself to whoever counts.
#[derive(Debug, Clone)]
pub struct Counted {
    place: Place,
    address: SocketAddr,
}

impl Counted {
    /// All of it.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn text(&self) -> Result<String> {
        let mut stream = self.place.connect(self.address)?;
        stream.set_read_timeout(Some(READY_MAX))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: lb\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// As [`Logic::metric`].
    ///
    /// # Errors
    /// If it does not answer.
    pub fn metric(&self, name: &str, label: &str) -> Result<Option<f64>> {
        let text = self.text()?;
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let is_it = rest.starts_with(['{', ' ']) && rest.contains(label);
            let value = rest.rsplit_once(' ')?.1.parse::<f64>().ok()?;
            is_it.then_some(value)
        });
        Ok(values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value)))
    }
}

//! The host that forwards: where `lb agent` runs.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Host;
use crate::agent::Agent;
use crate::bpffs::BpfFs;
use crate::poll::Polling;

/// The gateway. Whatever a [`Host`] can do, it can.
#[derive(Debug)]
pub struct Gateway {
    host: Host,
    interfaces: Vec<String>,
    bpffs: BpfFs,
    // What its devices are wired to takes at once what it sends back.
    _polling: Vec<Polling>,
    run: PathBuf,
}

impl Gateway {
    pub(super) fn new(
        host: Host,
        interfaces: Vec<String>,
        bpffs: BpfFs,
        polling: Vec<Polling>,
        run: &Path,
    ) -> Gateway {
        Gateway {
            host,
            interfaces,
            bpffs,
            _polling: polling,
            run: run.to_owned(),
        }
    }

    /// Its interfaces; clients come in by the first.
    pub fn interfaces(&self) -> &[String] {
        &self.interfaces
    }

    /// Where the agent pins its program and maps.
    pub fn pins(&self) -> PathBuf {
        self.bpffs.path().join("lb")
    }

    /// Where the agent listens for the command line.
    pub fn control_socket(&self) -> PathBuf {
        self.run.join("agent.sock")
    }

    /// The `[agent]` table that fits this site.
    pub fn agent_table(&self) -> String {
        let interfaces: Vec<String> = self
            .interfaces
            .iter()
            .map(|name| format!("\"{name}\""))
            .collect();
        format!(
            "[agent]\ninterfaces = [{}]\npin = \"{}\"\nstate = \"{}\"\ncontrol = \"{}\"\n\
             metrics = \"127.0.0.1:9180\"\nflows_max = 65536\n",
            interfaces.join(", "),
            self.pins().display(),
            self.run.join("state").display(),
            self.control_socket().display(),
        )
    }

    /// Writes a configuration for the agent and says where. If it has no `[agent]` table,
    /// [`Gateway::agent_table`] is put before it; one of your own must name
    /// [`Gateway::control_socket`].
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_config(&self, config: &str) -> Result<PathBuf> {
        let path = self.run.join("lb.toml");
        let has_agent = config.lines().any(|line| line.trim() == "[agent]");
        let table = if has_agent {
            String::new()
        } else {
            self.agent_table()
        };
        fs::write(&path, format!("{table}\n{config}"))
            .with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Writes the configuration, starts `lb agent` on this host and waits until it answers.
    ///
    /// # Errors
    /// If `lb` is not built, or the agent ends or stays silent: with the end of its log.
    pub fn start_agent(&self, config: &str) -> Result<Agent> {
        let config = self.write_config(config)?;
        Agent::start(
            &self.host,
            &config,
            self.control_socket(),
            &self.run.join("log"),
        )
    }
}

impl Deref for Gateway {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

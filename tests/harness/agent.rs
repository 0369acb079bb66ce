//! A running `lb agent`, and the command line that talks to it.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::namespace::Namespace;
use crate::process::{Process, built};

/// The agent loads and verifies its program before it answers.
const READY_MAX: Duration = Duration::from_secs(20);

/// An agent process; killed on drop (its program and maps stay pinned, as they would anywhere).
#[derive(Debug)]
pub struct Agent {
    process: Process,
    lb: PathBuf,
    control: PathBuf,
}

impl Agent {
    /// Starts `lb agent` in `namespace` and waits until it answers at `control`.
    ///
    /// # Errors
    /// If `lb` is not built, or the agent ends or stays silent: with the end of its log.
    pub fn start(
        namespace: &Namespace,
        config: &Path,
        control: PathBuf,
        logs: &Path,
    ) -> Result<Agent> {
        let lb = built("lb", "lb-userspace")?;
        let mut command = Command::new(&lb);
        command.arg("agent").arg("--config").arg(config);
        let mut process = Process::spawn(namespace, "agent", &mut command, logs)?;
        // A socket that a killed agent left behind exists but does not answer.
        let answers = || UnixStream::connect(&control).is_ok();
        process.wait_until(
            "the agent answers at its control socket",
            READY_MAX,
            answers,
        )?;
        Ok(Agent {
            process,
            lb,
            control,
        })
    }

    /// The process, to be killed, frozen, signalled or waited for.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The control socket.
    pub fn control_socket(&self) -> &Path {
        &self.control
    }

    /// Runs `lb ARGUMENTS --socket …` to its end, whatever its exit code.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn cli_output(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.lb);
        command.args(arguments).arg("--socket").arg(&self.control);
        command
            .output()
            .with_context(|| format!("start lb {}", arguments.join(" ")))
    }

    /// Runs `lb ARGUMENTS --socket …` and returns what it printed.
    ///
    /// # Errors
    /// If it ends with anything but 0: with what it said.
    pub fn cli(&self, arguments: &[&str]) -> Result<String> {
        let output = self.cli_output(arguments)?;
        ensure!(
            output.status.success(),
            "lb {}: {}: {}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        String::from_utf8(output.stdout).context("lb printed something that is not UTF-8")
    }

    /// Runs `lb ARGUMENTS --json --socket …` and reads what it printed.
    ///
    /// # Errors
    /// As [`Agent::cli`], and if it is not JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let text = self.cli(&[arguments, &["--json"]].concat())?;
        serde_json::from_str(&text)
            .with_context(|| format!("lb {} --json printed {text:?}", arguments.join(" ")))
    }
}

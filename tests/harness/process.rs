//! Guards for child processes: started in a namespace, logged to a file, always ended and reaped.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::namespace::Namespace;
use crate::run_directory::next_number;
use crate::sweep::OWNER_VARIABLE;
use crate::wait;

/// How many bytes of a log an error message quotes.
const LOG_TAIL_MAX: usize = 4096;

/// A running child process; killed and reaped on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
    log: PathBuf,
    // An open pipe: our own helpers end themselves when it closes, however this process dies.
    _stdin: Option<std::process::ChildStdin>,
}

impl Process {
    /// Starts `command` in `namespace`; what it prints goes to a file in the directory `logs`.
    ///
    /// # Errors
    /// If the program cannot be started or the log cannot be made.
    pub fn spawn(
        namespace: &Namespace,
        name: &str,
        command: &mut Command,
        logs: &Path,
    ) -> Result<Process> {
        let place = format!(" in {}", namespace.name());
        Self::start(name, command, logs, &place, |command| {
            namespace.spawn(command)
        })
    }

    /// The same where this process is, for what needs no namespace.
    ///
    /// # Errors
    /// If the program cannot be started or the log cannot be made.
    pub fn spawn_here(name: &str, command: &mut Command, logs: &Path) -> Result<Process> {
        command.env(OWNER_VARIABLE, std::process::id().to_string());
        Self::start(name, command, logs, "", Command::spawn)
    }

    fn start(
        name: &str,
        command: &mut Command,
        logs: &Path,
        place: &str,
        spawn: impl FnOnce(&mut Command) -> io::Result<Child>,
    ) -> Result<Process> {
        let log = logs.join(format!("{name}-{}.log", next_number()));
        let file = File::create(&log).with_context(|| format!("make {}", log.display()))?;
        command
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file);
        let mut child = spawn(command).with_context(|| {
            let program = command.get_program().display();
            format!("cannot start {name} ({program}){place}")
        })?;
        let stdin = child.stdin.take();
        Ok(Process {
            name: name.to_owned(),
            child,
            ended: None,
            log,
            _stdin: stdin,
        })
    }

    /// What it was started as.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has printed so far.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Returns as soon as it has printed a line that contains `text`.
    ///
    /// # Errors
    /// If it ends first, or at the deadline: with the end of its log.
    pub fn wait_for_line(&mut self, text: &str, deadline: Duration) -> Result<()> {
        let log = self.log.clone();
        let printed = move || {
            fs::read(&log).is_ok_and(|bytes| {
                // Only whole lines count: the rest of a line may still be on its way.
                let whole = bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
                String::from_utf8_lossy(&bytes[..whole]).contains(text)
            })
        };
        self.wait_until(&format!("to print {text:?}"), deadline, printed)
    }

    /// Returns as soon as `ready` holds while the process runs.
    ///
    /// # Errors
    /// If it ends first, or at the deadline: with the end of its log.
    pub fn wait_until(
        &mut self,
        what: &str,
        deadline: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> Result<()> {
        let mut ended = None;
        let waited = wait::until(what, deadline, || {
            ready() || {
                ended = self.child.try_wait().ok().flatten();
                ended.is_some()
            }
        });
        if let Some(status) = ended {
            self.ended = Some(status);
            bail!(
                "{} ended ({status}) before {what}\n{}",
                self.name,
                self.log_tail()
            );
        }
        waited.with_context(|| format!("{} is not ready\n{}", self.name, self.log_tail()))
    }

    /// Ends it at once (SIGKILL) and reaps it.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// Freezes it (SIGSTOP): its kernel still accepts connections, nobody answers on them.
    ///
    /// # Errors
    /// If it has ended already.
    pub fn freeze(&mut self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets a frozen process go on (SIGCONT).
    ///
    /// # Errors
    /// If it has ended already.
    pub fn thaw(&mut self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Asks it to end (SIGTERM) and waits until it did.
    ///
    /// # Errors
    /// If it is still there at the deadline.
    pub fn terminate(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(deadline)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// If it is still there at the deadline.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        let what = format!("{} (pid {}) to end", self.name, self.pid());
        let child = &mut self.child;
        let status = wait::until_some(&what, deadline, || child.try_wait().ok().flatten())
            .with_context(|| self.log_tail())?;
        self.ended = Some(status);
        Ok(status)
    }

    /// Sends any signal.
    ///
    /// # Errors
    /// If it has ended already.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        // Only an unreaped child's pid is surely still its own.
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        if let Some(status) = self.ended {
            let by = status.signal().map(|number| format!(" by signal {number}"));
            bail!(
                "{} has ended{} already: no {signal}",
                self.name,
                by.unwrap_or_default()
            );
        }
        let pid = i32::try_from(self.pid()).context("a pid beyond i32")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let start = log.floor_char_boundary(log.len().saturating_sub(LOG_TAIL_MAX));
        format!("--- log of {}:\n{}---", self.name, &log[start..])
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Finds a program that this workspace builds, beside the running one: `target/<profile>/NAME`.
///
/// # Errors
/// If it has not been built, saying how to.
pub fn built(name: &str, package: &str) -> Result<PathBuf> {
    let program = profile_directory()?.join(name);
    if !program.is_file() {
        bail!(
            "{} is not there: build it first with `cargo build --package {package}`",
            program.display()
        );
    }
    Ok(program)
}

/// `target/<profile>`, where the running program lies or its tests do.
pub(crate) fn profile_directory() -> Result<PathBuf> {
    let own = std::env::current_exe().context("where does this program lie?")?;
    let profile = own
        .ancestors()
        .skip(1)
        .find(|directory| !directory.ends_with("deps") && !directory.ends_with("examples"));
    profile
        .map(Path::to_owned)
        .context("this program lies nowhere")
}

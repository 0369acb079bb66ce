//! Network namespaces: made, entered by threads of their own, always removed.
//!
//! Each is also bound to `/run/netns/NAME`, so that people can look inside with
//! `ip netns exec NAME …` while a test or the demo runs. The harness itself never uses that
//! command: it mounts a fresh /sys and thereby hides bpffs.

use std::fs::{self, File};
use std::io::{self, Write};
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::run_directory::{PREFIX, next_number};
use crate::sweep::OWNER_VARIABLE;

/// Where iproute2 looks for named namespaces.
pub(crate) const NETNS: &str = "/run/netns";

/// Settings that every namespace starts with, as `/proc/sys/net` paths.
const DEFAULTS: &[(&str, &str)] = &[
    // Duplicate address detection would keep IPv6 addresses unusable for a second or two.
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/dad_transmits", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    ("ipv6/conf/default/keep_addr_on_down", "1"),
    // Answers do not return the way requests came (direct server return), and tunnelled packets
    // come from addresses without a route.
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
];

/// One network namespace, `lbt-<pid>-<n>-<role>`; removed on drop.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: File,
    // Declared last: the name disappears after the handle is closed.
    _binding: Binding,
}

/// The bind mount that gives a namespace its name.
#[derive(Debug)]
struct Binding(PathBuf);

impl Drop for Binding {
    fn drop(&mut self) {
        remove_binding(&self.0);
    }
}

/// Removes a name from `/run/netns`. The namespace itself goes when nothing lives in it any more.
pub(crate) fn remove_binding(path: &Path) {
    let _ = umount2(path, MntFlags::MNT_DETACH);
    let _ = fs::remove_file(path);
}

impl Namespace {
    /// Makes a namespace with loopback up. `role` says what it plays: `client`, `gateway`, …
    ///
    /// # Errors
    /// Without the right to make namespaces (root is needed).
    pub fn new(role: &str) -> Result<Namespace> {
        let name = format!("{PREFIX}{}-{}-{role}", std::process::id(), next_number());
        let path = Path::new(NETNS).join(&name);
        prepare_directory().with_context(|| format!("cannot prepare {NETNS} (run as root)"))?;
        File::create_new(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let binding = Binding(path.clone());
        on_a_thread(|| bind_a_new_namespace_to(&path))
            .with_context(|| format!("cannot make network namespace {name} (run as root)"))?;
        let handle = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let namespace = Namespace {
            name,
            handle,
            _binding: binding,
        };
        for (setting, value) in DEFAULTS {
            namespace.sysctl(setting, value)?;
        }
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name, as `ip netns list` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` on a thread inside the namespace and returns its value. Threads and processes
    /// that it starts are inside as well. A panic goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_a_thread(|| {
            self.enter();
            work()
        })
    }

    /// Starts `work` on a thread inside the namespace and returns at once.
    pub fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        self.run(|| thread::spawn(work))
    }

    /// Starts a child process inside the namespace, marked with its owner's pid so that an orphan
    /// can be found. Prefer [`crate::process::Process`], which also ends it.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        command.env(OWNER_VARIABLE, std::process::id().to_string());
        self.run(|| command.spawn())
    }

    /// Runs a program inside the namespace to its end.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn output(&self, command: &mut Command) -> io::Result<Output> {
        command.env(OWNER_VARIABLE, std::process::id().to_string());
        self.run(|| command.output())
    }

    /// Runs `ip ARGUMENTS` (iproute2) inside and returns what it printed.
    ///
    /// # Errors
    /// If `ip` refuses: with the command, the namespace and what `ip` said.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        self.tool("ip", arguments)
    }

    /// Runs many `ip` commands, one on each line, in one process.
    ///
    /// # Errors
    /// At the first command that `ip` refuses.
    pub fn ip_batch(&self, commands: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["-batch", "-"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = self
            .spawn(&mut command)
            .context("cannot start ip (install iproute2)")?;
        if let Some(mut stdin) = child.stdin.take() {
            // A refusal closes the pipe; the exit status below tells about it.
            let _ = stdin.write_all(commands.as_bytes());
        }
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "in {}: ip: {}\n{commands}",
            self.name,
            said.trim()
        );
        Ok(())
    }

    /// Runs a program inside and returns what it printed.
    ///
    /// # Errors
    /// If it cannot be started or ends with anything but 0: with what it said.
    pub fn tool(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self
            .output(Command::new(program).args(arguments))
            .with_context(|| format!("cannot start {program} (is it installed?)"))?;
        ensure!(
            output.status.success(),
            "in {}: {program} {}: {}",
            self.name,
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim(),
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Writes one setting, named by its path below `/proc/sys/net`.
    ///
    /// # Errors
    /// If there is no such setting, or it does not take the value.
    pub fn sysctl(&self, setting: &str, value: &str) -> Result<()> {
        // The kernel resolves /proc/sys/net by the namespace of the thread that opens it.
        self.run(|| fs::write(Path::new("/proc/sys/net").join(setting), value))
            .with_context(|| format!("in {}: set net/{setting} to {value}", self.name))
    }

    fn enter(&self) {
        setns(&self.handle, CloneFlags::CLONE_NEWNET)
            .expect("who could make a namespace may enter it, and the handle keeps it alive");
    }
}

/// Runs `work` on a thread that ends with it, so that no other thread changes its namespace.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|payload| panic::resume_unwind(payload))
}

/// Makes `/run/netns` a shared mount, once for each boot, under the lock that `ip netns add` takes.
///
/// That command does the same when it comes first. If it came second, its mount would hide ours
/// below and their names could not be removed any more.
fn prepare_directory() -> io::Result<()> {
    fs::create_dir_all(NETNS)?;
    let directory = File::open(NETNS)?;
    directory.lock()?;
    let share = || {
        let flags = MsFlags::MS_SHARED | MsFlags::MS_REC;
        mount(None::<&str>, NETNS, None::<&str>, flags, None::<&str>)
    };
    if share().is_err() {
        // Not a mount point yet.
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(NETNS), NETNS, None::<&str>, flags, None::<&str>)?;
        share()?;
    }
    Ok(())
}

fn bind_a_new_namespace_to(path: &Path) -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let own = "/proc/thread-self/ns/net";
    mount(
        Some(own),
        path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
}

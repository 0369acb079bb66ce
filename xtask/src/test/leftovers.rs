//! What a test run must not leave behind: processes, mounts, namespaces, links, pins, directories.
//!
//! The harness writes the pid of the owner into every name it makes (`lbt-<pid>-…`), so what belongs
//! to a living process, of this run or of another one beside it, is never touched. Processes are
//! known by a mark in their environment, which their children inherit.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::shell;

/// The variable that marks the processes of a test run; its value is the pid of this command.
const RUN_VARIABLE: &str = "LBT_RUN";
/// The harness's own mark on what a test starts; its value is the pid of the test.
const OWNER_VARIABLE: &str = "LBT_OWNER";

const PREFIX: &str = "lbt-";
const NAMESPACES: &str = "/run/netns";
const LINKS: &str = "/sys/class/net";
const PINS: &str = "/sys/fs/bpf";
/// Directories of single tests, named without the prefix.
const RUN_DIRECTORIES: &str = "/run/lbt";

/// Marks a command, and all that it starts, as part of this run.
pub(super) fn mark(command: &mut Command) {
    command.env(RUN_VARIABLE, std::process::id().to_string());
}

/// A thing of ours whose owner has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Leftover {
    Process { pid: u32, command: String },
    Mount(PathBuf),
    Namespace(String),
    Link(String),
    Directory(PathBuf),
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, command } => write!(f, "process {pid} ({command})"),
            Self::Mount(path) => write!(f, "mount {}", path.display()),
            Self::Namespace(name) => write!(f, "network namespace {name}"),
            Self::Link(name) => write!(f, "link {name}"),
            Self::Directory(path) => write!(f, "directory {}", path.display()),
        }
    }
}

/// All that is there, in an order in which it can be removed.
pub(super) fn find() -> Vec<Leftover> {
    let named = |directory| entries(directory).filter(|name| is_orphaned(name, PREFIX));
    let pins = named(PINS).map(|name| Path::new(PINS).join(name));
    let runs = entries(RUN_DIRECTORIES).filter(|name| is_orphaned(name, ""));
    let runs = runs.map(|name| Path::new(RUN_DIRECTORIES).join(name));
    processes()
        .chain(mounts().map(Leftover::Mount))
        .chain(named(NAMESPACES).map(Leftover::Namespace))
        .chain(named(LINKS).map(Leftover::Link))
        .chain(pins.chain(runs).map(Leftover::Directory))
        .collect()
}

impl Leftover {
    /// As far as the caller may; what stays is found by the next run.
    pub(super) fn remove(&self) {
        match self {
            Self::Process { pid, .. } => quietly("sh", &["-c", &format!("kill -KILL {pid}")]),
            Self::Mount(path) => quietly("umount", &["--lazy", &path.to_string_lossy()]),
            Self::Namespace(name) => quietly("ip", &["netns", "delete", name]),
            Self::Link(name) => quietly("ip", &["link", "delete", name]),
            Self::Directory(path) => drop(fs::remove_dir_all(path)),
        }
    }
}

fn quietly(program: &str, arguments: &[&str]) {
    if let Some(program) = shell::find(program) {
        let mut command = Command::new(program);
        let _ = command
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

fn entries(directory: &str) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// Whether a name of ours, `<prefix><pid>-…`, is that of a process that has ended.
fn is_orphaned(name: &str, prefix: &str) -> bool {
    let owner = || name.strip_prefix(prefix)?.split_once('-')?.0.parse().ok();
    owner().is_some_and(|pid| !is_alive(pid))
}

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// Processes whose test or whose run is over, and those of this run: it is asked between suites only,
/// when nothing of this run should be alive.
fn processes() -> impl Iterator<Item = Leftover> {
    let pids = entries("/proc").filter_map(|name| name.parse().ok());
    pids.filter_map(|pid: u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let is_left = is_left_behind(&environment, std::process::id(), is_alive);
        is_left.then(|| Leftover::Process {
            pid,
            command: command_of(pid),
        })
    })
}

fn is_left_behind(environment: &[u8], this_run: u32, is_alive: impl Fn(u32) -> bool) -> bool {
    let pid_in = |name: &str| {
        let variables = environment.split(|byte| *byte == 0);
        let mut variables = variables.filter_map(|variable| str::from_utf8(variable).ok());
        let value = variables.find_map(|variable| variable.strip_prefix(name)?.strip_prefix('='));
        value.and_then(|value| value.parse::<u32>().ok())
    };
    pid_in(RUN_VARIABLE).is_some_and(|run| run == this_run || !is_alive(run))
        || pid_in(OWNER_VARIABLE).is_some_and(|test| !is_alive(test))
}

fn command_of(pid: u32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words)
        .replace('\0', " ")
        .trim()
        .to_owned()
}

/// Mount points in directories of ours, the innermost first.
fn mounts() -> impl Iterator<Item = PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from);
    let orphaned: Vec<_> = points.filter(|point| is_orphaned_mount(point)).collect();
    orphaned.into_iter().rev()
}

fn is_orphaned_mount(point: &Path) -> bool {
    // A namespace's name is a mount as well, and is removed by that name.
    if point.starts_with(NAMESPACES) {
        return false;
    }
    let in_run_directory = point.strip_prefix(RUN_DIRECTORIES).ok();
    let run = in_run_directory.and_then(|inside| inside.iter().next());
    run.is_some_and(|run| is_orphaned(&run.to_string_lossy(), ""))
        || point
            .iter()
            .any(|part| is_orphaned(&part.to_string_lossy(), PREFIX))
}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::time::{Duration, Instant};

    use super::*;

    /// Above the largest pid that a kernel gives away.
    const DEAD: u32 = 4_194_305;

    #[test]
    fn what_a_living_process_owns_is_left_alone() {
        let own = std::process::id();
        for (name, expected) in [
            (format!("lbt-{own}-1-client"), false),
            (format!("lbt-{DEAD}-1-client"), true),
            ("lbt-client".to_owned(), false),
            ("eth0".to_owned(), false),
        ] {
            assert_eq!(is_orphaned(&name, PREFIX), expected, "{name}");
        }
    }

    #[test]
    fn processes_are_known_by_their_marks() {
        let is_alive = |pid| pid < 100;
        for (what, environment, expected) in [
            ("no mark", "PATH=/bin\0HOME=/root\0", false),
            ("of this run", "LBT_RUN=7\0", true),
            ("of another run, which goes on", "LBT_RUN=8\0", false),
            ("of another run, which is over", "LBT_RUN=800\0", true),
            ("of a test that goes on", "LBT_OWNER=9\0", false),
            ("of a test that is over", "A=B\0LBT_OWNER=900\0", true),
            ("another name", "NOT_LBT_RUN=800\0", false),
        ] {
            let is_left = is_left_behind(environment.as_bytes(), 7, is_alive);
            assert_eq!(is_left, expected, "{what}");
        }
    }

    #[test]
    fn mounts_are_known_by_the_directory_they_are_in() {
        let own = std::process::id();
        for (point, expected) in [
            (format!("/run/lbt/{DEAD}-1/bpf"), true),
            (format!("/run/lbt/{own}-1/bpf"), false),
            (format!("/tmp/lbt-{DEAD}-2/bpf"), true),
            ("/sys/fs/bpf".to_owned(), false),
            (format!("/run/netns/lbt-{DEAD}-1-client"), false),
        ] {
            assert_eq!(is_orphaned_mount(Path::new(&point)), expected, "{point}");
        }
    }

    #[test]
    fn a_process_that_outlives_its_run_is_found_and_ended() {
        let mut command = Command::new("sleep");
        mark(&mut command);
        let mut child = command.arg("60").spawn().expect("there is a sleep");
        let of_child =
            |left: &Leftover| matches!(left, Leftover::Process { pid, .. } if *pid == child.id());
        // Its environment can be read a moment after its program started.
        let deadline = Instant::now() + Duration::from_secs(10);
        let found = iter::from_fn(|| Some(processes().find(of_child)))
            .take_while(|_| Instant::now() < deadline)
            .find_map(|found| found);
        // Ends it in any case: what this test leaves behind would fail the run.
        let ended = found.as_ref().map(Leftover::remove);
        let _ = child.kill();
        assert!(ended.is_some(), "it carries the mark");
        assert!(!child.wait().expect("it is our child").success());
    }
}

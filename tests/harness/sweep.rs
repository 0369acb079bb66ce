//! Removes what a killed test left behind.
//!
//! A guard's drop never runs when its process is killed. Everything a guard makes therefore says
//! whose it is: names carry the owner's pid, processes the variable `LBT_OWNER`. What belongs to
//! a living process is never touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::namespace::{NETNS, remove_binding};
use crate::run_directory::{PREFIX, RUN, owner_of};
use crate::wait;

/// The environment variable that marks a child process with its owner's pid.
pub const OWNER_VARIABLE: &str = "LBT_OWNER";
/// How long a killed orphan may take to disappear.
const ORPHAN_GONE_MAX: Duration = Duration::from_secs(2);
const BPFFS: &str = "/sys/fs/bpf";

/// What a sweep removed, by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Orphaned processes, by pid.
    pub processes: Vec<u32>,
    /// Names in `/run/netns`.
    pub namespaces: Vec<String>,
    /// Links in the namespace of the caller.
    pub links: Vec<String>,
    /// Run directories (with the bpffs mounted in them) and pin directories.
    pub directories: Vec<PathBuf>,
}

/// Removes the namespaces, links, pins, directories and processes whose owner is dead.
///
/// What cannot be removed is left: the next sweep tries again, and another sweep at the same time
/// may have been quicker.
pub fn sweep_leftovers() -> Swept {
    Swept {
        // Processes first: they keep namespaces and mounts alive.
        processes: sweep_processes(),
        namespaces: sweep_namespaces(),
        links: sweep_links(),
        directories: sweep_directories(),
    }
}

fn is_orphaned(owner: u32) -> bool {
    let Ok(pid) = i32::try_from(owner) else {
        return false;
    };
    kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)
}

fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Names in `directory` that are ours and whose owner is dead.
fn orphaned_names(directory: &Path) -> impl Iterator<Item = String> {
    names_in(directory)
        .into_iter()
        .filter(|name| name.starts_with(PREFIX))
        .filter(|name| owner_of(name).is_some_and(is_orphaned))
}

fn sweep_processes() -> Vec<u32> {
    let mut swept = Vec::new();
    for pid in names_in(Path::new("/proc"))
        .iter()
        .filter_map(|name| name.parse::<u32>().ok())
    {
        if owner_of_process(pid).is_some_and(is_orphaned) && end(pid) {
            swept.push(pid);
        }
    }
    swept
}

/// The value of `LBT_OWNER` in a process's environment.
fn owner_of_process(pid: u32) -> Option<u32> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let marker = format!("{OWNER_VARIABLE}=");
    environment
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(marker.as_bytes()))
        .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok())
}

fn end(pid: u32) -> bool {
    let Ok(raw) = i32::try_from(pid) else {
        return false;
    };
    if kill(Pid::from_raw(raw), Signal::SIGKILL).is_err() {
        return false;
    }
    // A zombie's environment reads as empty: gone enough, its namespaces are released.
    let gone = || owner_of_process(pid).is_none();
    wait::until("an orphan to end", ORPHAN_GONE_MAX, gone).is_ok()
}

fn sweep_namespaces() -> Vec<String> {
    orphaned_names(Path::new(NETNS))
        .inspect(|name| remove_binding(&Path::new(NETNS).join(name)))
        .collect()
}

fn sweep_links() -> Vec<String> {
    orphaned_names(Path::new("/sys/class/net"))
        .inspect(|name| {
            // The other end of a pair may have taken this one along.
            let _ = Command::new("ip").args(["link", "delete", name]).output();
        })
        .collect()
}

fn sweep_directories() -> Vec<PathBuf> {
    let runs = names_in(Path::new(RUN))
        .into_iter()
        .filter(|name| owner_of(name).is_some_and(is_orphaned))
        .map(|name| Path::new(RUN).join(name));
    let pins = orphaned_names(Path::new(BPFFS)).map(|name| Path::new(BPFFS).join(name));
    runs.chain(pins)
        .inspect(|directory| {
            for mounted in names_in(directory) {
                // What is no mount point says so.
                let _ = umount2(&directory.join(mounted), MntFlags::MNT_DETACH);
            }
            let _ = fs::remove_dir_all(directory);
        })
        .collect()
}

//! Names and directories that say who owns them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

/// What every namespace, link, pin and log directory of ours begins with.
pub const PREFIX: &str = "lbt-";
/// Where run directories are made.
pub const RUN: &str = "/run/lbt";
/// Where the logs of failed tests stay (below the system's temporary directory).
const KEPT_LOGS: &str = "lbt-logs";

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A number that no other guard of this process has.
pub(crate) fn next_number() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The pid in `lbt-<pid>-…` or `<pid>-…`; `None` if the name is not of our making.
pub(crate) fn owner_of(name: &str) -> Option<u32> {
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    let (pid, _) = name.split_once('-')?;
    pid.parse().ok()
}

/// A directory `/run/lbt/<pid>-<n>` for sockets, configurations, logs and pins; removed on drop.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// Makes a new one.
    ///
    /// # Errors
    /// If the directory cannot be made (root is needed).
    pub fn new() -> Result<RunDirectory> {
        let name = format!("{}-{}", std::process::id(), next_number());
        let path = Path::new(RUN).join(name);
        fs::create_dir_all(path.join("log"))
            .with_context(|| format!("cannot make {} (run as root)", path.display()))?;
        Ok(RunDirectory { path })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in the directory.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where processes log to; kept if the test fails.
    pub fn logs(&self) -> PathBuf {
        self.path.join("log")
    }

    fn keep_logs(&self) {
        let Some(name) = self.path.file_name() else {
            return;
        };
        let kept = std::env::temp_dir().join(KEPT_LOGS).join(name);
        let Ok(logs) = fs::read_dir(self.logs()) else {
            return;
        };
        for log in logs.flatten() {
            let _ = fs::create_dir_all(&kept);
            let _ = fs::copy(log.path(), kept.join(log.file_name()));
        }
        if kept.exists() {
            eprintln!("logs of the failed test are kept in {}", kept.display());
        }
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_logs();
        }
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_who_owns_them() {
        for (name, owner) in [
            ("lbt-12-3-client", Some(12)),
            ("12-3", Some(12)),
            ("lbt-client", None),
            ("lbt-", None),
            ("docker0", None),
        ] {
            assert_eq!(owner_of(name), owner, "{name}");
        }
    }
}

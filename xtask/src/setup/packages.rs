//! Debian packages: which ones are wanted, and the one way they get installed.

use std::fmt;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// The oldest Debian that has the packages this project asks for.
const DEBIAN_MIN: u32 = 12;

/// Names of Debian packages, each once.
#[derive(Default)]
pub(super) struct Packages(Vec<&'static str>);

impl fmt::Display for Packages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

impl Packages {
    pub(super) fn add(&mut self, package: &'static str) {
        if !self.0.contains(&package) {
            self.0.push(package);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a person would type.
    pub(super) fn by_hand(&self) -> Option<String> {
        let sudo = if shell::is_root() { "" } else { "sudo " };
        let packages = self.0.join(" ");
        (!self.is_empty()).then(|| {
            format!("{sudo}apt-get update && {sudo}apt-get install -y --no-install-recommends {packages}")
        })
    }

    pub(super) fn install(&self) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        shell::run(apt_get()?.arg("update")).context("the package lists could not be fetched")?;
        let mut install = apt_get()?;
        install
            .args(["install", "-y", "--no-install-recommends"])
            .args(&self.0);
        shell::run(&mut install).with_context(|| format!("could not install {}", self.0.join(" ")))
    }
}

fn apt_get() -> Result<Command> {
    // Set through env, because sudo does not pass the caller's environment on.
    let quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"];
    let mut words = quiet.into_iter();
    let mut command = if shell::is_root() {
        shell::command(words.next().unwrap_or("env"))
    } else if shell::find("sudo").is_some() {
        shell::command("sudo")
    } else {
        bail!(
            "packages are missing, and installing them needs root: run this as root, or install sudo"
        );
    };
    command.args(words);
    Ok(command)
}

/// Whether this is a system on which those names mean something.
pub(super) fn are_known_here() -> bool {
    shell::find("apt-get").is_some()
        && fs::read_to_string("/etc/os-release").is_ok_and(|release| is_new_enough_debian(&release))
}

fn is_new_enough_debian(os_release: &str) -> bool {
    let value = |key: &str| {
        let line = os_release
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"'))
    };
    // Testing and unstable have no number yet.
    let version = value("VERSION_ID").map_or(Ok(u32::MAX), str::parse);
    value("ID") == Some("debian") && version.is_ok_and(|version| version >= DEBIAN_MIN)
}

#[cfg(test)]
mod tests {
    use super::is_new_enough_debian;

    #[test]
    fn only_debian_12_and_newer_is_served() {
        for (os_release, expected) in [
            ("ID=debian\nVERSION_ID=\"12\"\n", true),
            ("VERSION_ID=\"13\"\nID=debian\n", true),
            ("ID=debian\nVERSION_CODENAME=forky\n", true),
            ("ID=debian\nVERSION_ID=\"11\"\n", false),
            ("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\n", false),
            ("", false),
        ] {
            assert_eq!(is_new_enough_debian(os_release), expected, "{os_release:?}");
        }
    }
}

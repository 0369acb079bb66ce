//! Runs other programs: from the workspace's root, with cargo's programs in reach, and with errors
//! that name the command.

use std::env;
use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Error, Result, bail};

/// The directory of the workspace's Cargo.toml.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
}

/// What cargo tells a program that it runs of that program's package.
const OF_ONE_PACKAGE: [&str; 4] = [
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_BIN_",
    "CARGO_CRATE_",
];

/// Where `cargo install` puts programs.
pub(crate) fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    home.map(|home| home.join("bin"))
}

/// A command that runs in the workspace and finds what `cargo install` installed.
pub(crate) fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.current_dir(workspace()).env("PATH", path());
    command
}

/// `cargo`, the one that runs this.
pub(crate) fn cargo() -> Command {
    let mut cargo =
        command(env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from));
    // What cargo tells this program of its own package is not for a build: a build script that looks at
    // it would run again, and half the world be compiled anew, whenever a plain `cargo build` came between.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if OF_ONE_PACKAGE.iter().any(|start| text.starts_with(start)) {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// The first file of that name that can be run.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    // A user's PATH often lacks the directories that hold `ip` and `ethtool`.
    let administrators = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let directories: Vec<_> = env::split_paths(&path()).chain(administrators).collect();
    let can_run = |path: &PathBuf| {
        path.metadata()
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    directories
        .into_iter()
        .map(|directory| directory.join(program))
        .find(can_run)
}

fn path() -> OsString {
    let inherited = env::var_os("PATH").unwrap_or_default();
    // First, so that an older program of the distribution does not win over an installed one.
    let directories = cargo_bin().into_iter().chain(env::split_paths(&inherited));
    env::join_paths(directories).unwrap_or(inherited)
}

/// Whether this process may change the machine without sudo.
pub(crate) fn is_root() -> bool {
    Path::new("/proc/self")
        .metadata()
        .is_ok_and(|own| own.uid() == 0)
}

/// Runs to the end with the caller's terminal.
///
/// # Errors
/// If it cannot be started, or ends with anything but 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs to the end and returns what it printed on standard output.
///
/// # Errors
/// As [`run`].
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !output.status.success() {
        bail!("{} failed ({})", shown(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("read what {} said", shown(command)))
}

/// Where cargo builds: the caller's choice, or `target`.
pub(crate) fn target_directory() -> PathBuf {
    let chosen = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    // Cargo reads a relative one from where it is started.
    let from = env::current_dir().unwrap_or_else(|_| workspace().to_owned());
    if env::var_os("CARGO_TARGET_DIR").is_some() {
        from.join(chosen)
    } else {
        workspace().join(chosen)
    }
}

/// Becomes a program of this workspace's release build; returns only with the reason why it could not.
pub(crate) fn become_program(name: &str, arguments: &[OsString]) -> Error {
    let program = target_directory().join("release").join(name);
    // The caller's directory: the arguments may name files in it.
    let error = Command::new(&program)
        .args(arguments)
        .env("PATH", path())
        .exec();
    Error::new(error).context(format!("cannot start {}", program.display()))
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(program).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

//! Client drivers that the tests call: Python's and Node's below `target/clients`, the JVM's as Debian
//! has them. Never anything outside the workspace but Debian packages.
//!
//! The lock files in `tests/clients` name every version. A copy of the lock file lies beside what was
//! installed by it: while both are equal, nothing is done.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::packages::Packages;
use super::{Consent, Wanted};
use crate::shell;

/// Where the lock files are.
const LOCKS: &str = "tests/clients";
const PYTHON_LOCK: &str = "python.txt";
const NODE_MANIFEST: &str = "package.json";
const NODE_LOCK: &str = "package-lock.json";

/// Debian's Python, which can make environments once `python3-venv` is there.
const DEBIAN_PYTHON: &str = "/usr/bin/python3";
const VENV_PACKAGE: &str = "python3-venv";
const NODE: [Wanted; 2] = [("node", "nodejs"), ("npm", "npm")];
const JVM: [Wanted; 2] = [
    // Not the runtime only: scripts are run from their source.
    ("javac", "default-jdk-headless"),
    ("/usr/share/java/postgresql.jar", "libpostgresql-jdbc-java"),
];

/// Installs the drivers that are missing, or were installed by another lock file.
///
/// # Errors
/// If a package manager is missing, or fails.
pub(crate) fn ensure(consent: Consent) -> Result<()> {
    super::ensure_programs(consent, &JVM)?;
    let locks = shell::workspace().join(LOCKS);
    let clients = shell::target_directory().join("clients");
    python(consent, &locks.join(PYTHON_LOCK), &clients.join("python"))?;
    node(consent, &locks, &clients.join("node"))
}

fn python(consent: Consent, lock: &Path, environment: &Path) -> Result<()> {
    let installed = environment.join(PYTHON_LOCK);
    if is_same(lock, &installed)? {
        return Ok(());
    }
    println!("setup: Python's drivers, into {}", environment.display());
    let python = python_with_venv(consent)?;
    let mut make = shell::command(python);
    shell::run(make.args(["-m", "venv", "--clear"]).arg(environment))?;
    let mut install = shell::command(environment.join("bin/python"));
    // The lock file is complete, and nothing is compiled.
    install.args(["-m", "pip", "install", "--quiet", "--no-deps"]);
    install.args(["--only-binary=:all:", "--disable-pip-version-check", "-r"]);
    shell::run(install.arg(lock))?;
    copy(lock, &installed)
}

/// A Python that can make environments; Debian leaves that part out of its package `python3`.
fn python_with_venv(consent: Consent) -> Result<PathBuf> {
    let candidates = || {
        shell::find("python3")
            .into_iter()
            .chain([DEBIAN_PYTHON.into()])
    };
    if let Some(python) = candidates().find(|python| can_make_environments(python)) {
        return Ok(python);
    }
    let mut missing = Packages::default();
    missing.add(VENV_PACKAGE);
    super::install(consent, &missing)?;
    match candidates().find(|python| can_make_environments(python)) {
        Some(python) => Ok(python),
        None => bail!("{VENV_PACKAGE} is installed, but no python3 can make environments"),
    }
}

fn can_make_environments(python: &Path) -> bool {
    let mut import = shell::command(python);
    import.args(["-c", "import venv, ensurepip"]);
    import.stdout(Stdio::null()).stderr(Stdio::null());
    import.status().is_ok_and(|status| status.success())
}

fn node(consent: Consent, locks: &Path, folder: &Path) -> Result<()> {
    let installed = folder.join("installed-lock.json");
    if is_same(&locks.join(NODE_LOCK), &installed)? {
        return Ok(());
    }
    super::ensure_programs(consent, &NODE)?;
    println!("setup: Node's drivers, into {}", folder.display());
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    for file in [NODE_MANIFEST, NODE_LOCK] {
        copy(&locks.join(file), &folder.join(file))?;
    }
    let mut install = shell::command(shell::find("npm").context("there is no npm")?);
    install.current_dir(folder);
    install.args([
        "ci",
        "--silent",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
    ]);
    shell::run(&mut install)?;
    copy(&locks.join(NODE_LOCK), &installed)
}

fn is_same(lock: &Path, installed: &Path) -> Result<bool> {
    let lock = fs::read(lock).with_context(|| format!("read {}", lock.display()))?;
    Ok(fs::read(installed).is_ok_and(|installed| installed == lock))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

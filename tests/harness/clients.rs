//! Clients written in other languages, with the drivers that their users use: where `cargo xtask setup`
//! put the drivers, and how a script of `tests/clients` is run with them.
//!
//! A script gets its server's address as arguments, exits with 0 if all was as it should be, and says
//! on standard error what was not. It is always given a deadline.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{self, Process};
use crate::run_directory::RunDirectory;

/// Where Debian's package has the JDBC driver.
const JDBC: &str = "/usr/share/java/postgresql.jar";

/// A command that runs `tests/clients/NAME` in the language that its ending names: `py` (psycopg,
/// asyncpg, SQLAlchemy, alembic, redis, pglast), `js` (pg, redis, ioredis) or `java` (JDBC).
/// Arguments may be added.
///
/// # Errors
/// If there is no such script, or its drivers are not installed.
pub fn script(name: &str) -> Result<Command> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("clients")
        .join(name);
    ensure!(path.is_file(), "there is no {}", path.display());
    let mut command = match path.extension().and_then(OsStr::to_str) {
        Some("py") => python()?,
        Some("js") => node()?,
        Some("java") => java()?,
        _ => anyhow::bail!("{name}: nobody knows how to run that"),
    };
    command.arg(path);
    Ok(command)
}

/// Python with its drivers.
///
/// # Errors
/// If they are not installed.
pub fn python() -> Result<Command> {
    let mut python = Command::new(installed("python/bin/python")?);
    // The source tree stays as it is.
    python
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1");
    Ok(python)
}

/// Node with its drivers, for `require`.
///
/// # Errors
/// If they are not installed.
pub fn node() -> Result<Command> {
    let mut node = Command::new("node");
    node.env("NODE_PATH", installed("node/node_modules")?);
    Ok(node)
}

/// A JVM that runs a source file, with JDBC.
///
/// # Errors
/// If they are not installed.
pub fn java() -> Result<Command> {
    ensure!(Path::new(JDBC).exists(), "{JDBC} is not there: {HOW}");
    let mut java = Command::new("java");
    // Started for seconds only: one compiler thread's worth of optimization is enough.
    java.args([
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-Xshare:auto",
        "-cp",
        JDBC,
    ]);
    Ok(java)
}

/// Runs a command to its end; returns what it printed.
///
/// # Errors
/// If it fails, or is still there at the deadline (it is killed then): with the end of what it said.
pub fn run(run: &RunDirectory, command: &mut Command, deadline: Duration) -> Result<String> {
    let name = command
        .get_args()
        .find_map(|word| Path::new(word).file_name());
    let name = name
        .unwrap_or(command.get_program())
        .to_string_lossy()
        .into_owned();
    let mut process = Process::spawn_here(&name, command, &run.logs())?;
    let status = process.wait(deadline)?;
    let log = process.log();
    ensure!(status.success(), "{name} ({status}):\n{log}");
    Ok(log)
}

const HOW: &str = "install it with `cargo xtask setup`";

/// A path below `target/clients`, where `cargo xtask setup` (or `test --long`) puts things.
///
/// # Errors
/// If it is not there.
pub fn installed(path: &str) -> Result<PathBuf> {
    let profile = process::profile_directory()?;
    let target = profile
        .parent()
        .context("this program lies in no target directory")?;
    let path = target.join("clients").join(path);
    ensure!(path.exists(), "{} is not there: {HOW}", path.display());
    Ok(path)
}

/// A test for each driver and what is built on it: `$works` does a script's ordinary work.
#[macro_export]
macro_rules! each_driver_works {
    ($works:path) => {
        #[test]
        fn psycopg_works() -> anyhow::Result<()> {
            $works("with_psycopg.py")
        }

        #[test]
        fn asyncpg_works() -> anyhow::Result<()> {
            $works("with_asyncpg.py")
        }

        #[test]
        fn sqlalchemy_and_alembic_work() -> anyhow::Result<()> {
            $works("with_sqlalchemy.py")
        }

        #[test]
        fn node_postgres_works() -> anyhow::Result<()> {
            $works("with_pg.js")
        }

        #[test]
        fn jdbc_works() -> anyhow::Result<()> {
            $works("WithJdbc.java")
        }
    };
}

//! PostgreSQL's own regression tests, which come with Debian's source package only: of the version that
//! is installed, or the newest of its series, below `target/clients/postgresql-regress`. For `test --long`.
//!
//! The machine's own list of sources stays as it is: the package is asked for with a list made of it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Consent, Wanted};
use crate::shell;

/// What of the source is kept.
const INSIDE: &str = "src/test/regress";
const UNPACK: [Wanted; 2] = [("bzip2", "bzip2"), ("dpkg-source", "dpkg-dev")];

/// Fetches and unpacks them, if they are not there.
///
/// # Errors
/// If PostgreSQL is not installed from a package, or its source cannot be had.
pub(crate) fn ensure(consent: Consent) -> Result<()> {
    let (package, version) = installed()?;
    let folder = shell::target_directory().join("clients/postgresql-regress");
    let stamp = folder.join("version");
    if fs::read_to_string(&stamp).is_ok_and(|have| have == version) {
        return Ok(());
    }
    super::ensure_programs(consent, &UNPACK)?;
    println!(
        "setup: the source of {package} {version}, into {}",
        folder.display()
    );
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let archive = download(&folder, &package, &version)?;
    let mut unpack = shell::command("tar");
    unpack.arg("-xf").arg(&archive).arg("-C").arg(&folder);
    unpack.args([
        "--strip-components=4",
        "--wildcards",
        &format!("*/{INSIDE}"),
    ]);
    shell::run(&mut unpack)?;
    fs::remove_dir_all(archive.parent().context("the archive lies somewhere")?)?;
    fs::write(&stamp, version).with_context(|| format!("write {}", stamp.display()))
}

/// The newest PostgreSQL server that is installed: its package, and the version of its source.
fn installed() -> Result<(String, String)> {
    let mut query = shell::command("dpkg-query");
    query.args([
        "-W",
        "-f",
        "${Package} ${source:Version} ${db:Status-Abbrev}\n",
        "postgresql-[0-9]*",
    ]);
    let list = shell::output(&mut query)?;
    let newest = list
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (package, version) = (words.next()?, words.next()?);
            let number: u32 = package.strip_prefix("postgresql-")?.parse().ok()?;
            (words.next()? == "ii").then(|| (number, package.to_owned(), version.to_owned()))
        })
        .max();
    let (_, package, version) = newest.context("no package postgresql-NUMBER is installed")?;
    Ok((package, version))
}

/// Returns the archive of the original source.
fn download(folder: &Path, package: &str, version: &str) -> Result<PathBuf> {
    let work = folder.join("download");
    for directory in ["lists/partial", "parts"] {
        fs::create_dir_all(work.join(directory))?;
    }
    source_lists(&work.join("parts"))?;
    let apt_get = || {
        let mut command = shell::command("apt-get");
        command.current_dir(&work).arg("-q");
        for (option, value) in [
            ("Dir::Etc::sourcelist", "/dev/null".to_owned()),
            (
                "Dir::Etc::sourceparts",
                work.join("parts").display().to_string(),
            ),
            (
                "Dir::State::lists",
                work.join("lists").display().to_string(),
            ),
            // Another user could not write here.
            ("APT::Sandbox::User", "root".to_owned()),
        ] {
            command.arg("-o").arg(format!("{option}={value}"));
        }
        command
    };
    shell::run(apt_get().arg("update"))?;
    let exactly = format!("{package}={version}");
    let source = |what: &str| shell::run(apt_get().args(["source", "--download-only", what]));
    // A mirror keeps the newest version only, and what is installed may be older.
    source(&exactly).or_else(|_| source(package))?;
    let files = fs::read_dir(&work)?.flatten().map(|entry| entry.path());
    let is_original = |path: &PathBuf| path.to_string_lossy().contains(".orig.tar.");
    files
        .into_iter()
        .find(is_original)
        .context("apt-get left no archive of the original source")
}

/// The machine's sources of Debian's own packages, as sources of their source.
fn source_lists(parts: &Path) -> Result<()> {
    let directory = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .flatten();
    let files = directory
        .map(|entry| entry.path())
        .chain(["/etc/apt/sources.list".into()]);
    let mut count = 0;
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        if !text.contains("/debian") {
            continue;
        }
        let ending = file
            .extension()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let lines = text.lines().map(as_source).collect::<Vec<_>>().join("\n");
        fs::write(parts.join(format!("{count}.{ending}")), lines + "\n")?;
        count += 1;
    }
    if count == 0 {
        bail!("no source of Debian's packages is configured");
    }
    Ok(())
}

fn as_source(line: &str) -> String {
    if line.starts_with("Types:") {
        return "Types: deb-src".to_owned();
    }
    match line.strip_prefix("deb ") {
        Some(rest) => format!("deb-src {rest}"),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::as_source;

    #[test]
    fn lists_of_packages_become_lists_of_sources() {
        for (line, expected) in [
            ("Types: deb", "Types: deb-src"),
            (
                "deb [signed-by=/k] http://x/debian stable main",
                "deb-src [signed-by=/k] http://x/debian stable main",
            ),
            (
                "deb-src http://x/debian stable main",
                "deb-src http://x/debian stable main",
            ),
            ("URIs: http://x/debian", "URIs: http://x/debian"),
        ] {
            assert_eq!(as_source(line), expected);
        }
    }
}

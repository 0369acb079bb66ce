//! `cargo xtask setup`: what building and testing need is there, or gets installed.
//!
//! Called first by every other command, so it must cost nothing when nothing is missing: it looks
//! at files and asks no package manager.

pub(crate) mod clients;
mod packages;
pub(crate) mod postgres_source;
pub(crate) mod toolchain;

use std::ffi::OsString;
use std::io::{IsTerminal, Write, stdin};
use std::path::Path;

use anyhow::{Result, bail};

use crate::shell;
use packages::Packages;
use toolchain::Toolchain;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    consent: Consent,
}

/// Whether missing things may be installed without asking.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Consent {
    /// Install what is missing without asking
    #[arg(long, short)]
    pub(crate) yes: bool,
}

impl Consent {
    /// Finds `--yes` among arguments that are passed on to another program, which does not know it.
    pub(crate) fn or_among(self, rest: &[OsString]) -> (Self, Vec<OsString>) {
        let is_yes = |argument: &OsString| argument == "--yes" || argument == "-y";
        let others = rest
            .iter()
            .filter(|argument| !is_yes(argument))
            .cloned()
            .collect();
        (
            Self {
                yes: self.yes || rest.iter().any(is_yes),
            },
            others,
        )
    }
}

/// A program (or the whole path of a file), and the Debian package that has it.
pub(crate) type Wanted = (&'static str, &'static str);

/// Programs that the tests and the demo call.
const PROGRAMS: [Wanted; 8] = [
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("curl", "curl"),
    // The server itself is in no directory of PATH; pgbench comes with it.
    ("pgbench", "postgresql"),
    // redis-cli and redis-benchmark come with it.
    ("redis-server", "redis-server"),
    ("redis-sentinel", "redis-sentinel"),
    // What the benches compare with.
    ("nutcracker", "nutcracker"),
    ("haproxy", "haproxy"),
];

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let toolchain = ensure(arguments.consent)?;
    clients::ensure(arguments.consent)?;
    // Only long tests want it, and not every mirror has sources: the rest works without.
    if let Err(error) = postgres_source::ensure(arguments.consent) {
        println!(
            "setup: without PostgreSQL's regression tests (`test --long` wants them): {error:#}"
        );
    }
    println!("setup: nothing to install; BPF is built with {toolchain}");
    Ok(())
}

/// Installs what is missing; returns the toolchain that the eBPF program is built with.
///
/// # Errors
/// With one line that says what is missing where it cannot be installed, or may not be.
pub(crate) fn ensure(consent: Consent) -> Result<Toolchain> {
    let found = toolchain::find();
    let mut missing = Packages::default();
    for (program, package) in PROGRAMS {
        if !is_here(program) {
            missing.add(package);
        }
    }
    let toolchain_missing = found.as_ref().err();
    if let Some(toolchain_missing) = toolchain_missing {
        toolchain_missing
            .packages()
            .into_iter()
            .for_each(|package| missing.add(package));
    }
    let needs_linker = toolchain_missing.is_some_and(|missing| missing.linker);
    if missing.is_empty() && !needs_linker {
        return Ok(found.unwrap_or(Toolchain::Debian));
    }

    if !packages::are_known_here() {
        let toolchain = toolchain_missing.map(|_| toolchain::HOW_ELSEWHERE);
        let programs = PROGRAMS.iter().map(|(program, _)| *program);
        let programs = programs.filter(|program| !is_here(program));
        let missing: Vec<_> = programs.chain(toolchain).collect();
        bail!(
            "missing: {} (only Debian 12 or newer: installed by this command)",
            missing.join(", ")
        );
    }
    ask(consent, &missing, needs_linker)?;
    missing.install()?;
    if needs_linker {
        toolchain::install_linker()?;
    }
    confirm(&PROGRAMS)?;
    match toolchain::find() {
        Ok(toolchain) => Ok(toolchain),
        Err(missing) => bail!("still missing after the installation: {missing}"),
    }
}

/// Installs which of these is missing, for what not everybody needs.
///
/// # Errors
/// With one line that says what is missing where it cannot be installed, or may not be.
pub(crate) fn ensure_programs(consent: Consent, wanted: &[Wanted]) -> Result<()> {
    let mut missing = Packages::default();
    let absent = wanted.iter().filter(|(program, _)| !is_here(program));
    absent.for_each(|(_, package)| missing.add(package));
    install(consent, &missing)?;
    confirm(wanted)
}

/// Installs these packages, which are known to be missing.
fn install(consent: Consent, missing: &Packages) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    if !packages::are_known_here() {
        bail!("missing: {missing} (only Debian 12 or newer: installed by this command)");
    }
    ask(consent, missing, false)?;
    missing.install()
}

/// What was installed has to be found now.
fn confirm(wanted: &[Wanted]) -> Result<()> {
    match wanted.iter().find(|(program, _)| !is_here(program)) {
        Some((program, package)) => {
            bail!("package {package} is installed, but there is still no {program}")
        }
        None => Ok(()),
    }
}

fn is_here(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    shell::find(program).is_some()
}

fn ask(consent: Consent, missing: &Packages, needs_linker: bool) -> Result<()> {
    let linker = needs_linker.then(toolchain::linker_by_hand);
    let commands: Vec<String> = missing.by_hand().into_iter().chain(linker).collect();
    println!(
        "setup: missing here, to be installed with\n  {}",
        commands.join("\n  ")
    );
    if consent.yes {
        return Ok(());
    }
    if !stdin().is_terminal() {
        bail!(
            "not installed without being asked to: run the lines above, or `cargo xtask setup --yes`"
        );
    }
    print!("Install now? [Y/n] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    match answer.trim().to_lowercase().as_str() {
        "" | "y" | "yes" => Ok(()),
        _ => bail!("nothing installed"),
    }
}

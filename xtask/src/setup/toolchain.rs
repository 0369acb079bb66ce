//! The compiler and the linker for the eBPF program. There are two ways to have them.
//!
//! - Debian: `rustc-web` with `libstd-rust-web-dev-bpf`, which brings a ready-built `core` for BPF,
//!   and a `bpf-linker` built against the same LLVM.
//! - Anywhere: a nightly toolchain with `rust-src`, which builds `core` itself, and a `bpf-linker`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::shell;

/// The ready-built core library for BPF.
const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none/lib";
/// Not whatever `rustc` the caller has: only this one is of the same version as that core.
pub(crate) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// What eBPF programs are compiled for.
pub(crate) const BPF_TARGET: &str = "bpfel-unknown-none";
/// The LLVM of rustc-web; the linker must not be older than the compiler.
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const LINKER_VERSION: &str = "0.13.0";
/// As (major, minor): the first that knows LLVM 22.
const LINKER_MIN: (u32, u32) = (0, 13);

/// What to do on a system whose packages are not known.
pub(crate) const HOW_ELSEWHERE: &str = "a BPF toolchain: `rustup toolchain install nightly --component rust-src` \
     and `cargo install bpf-linker --version 0.13.0`";

/// A complete way to build the eBPF program.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Toolchain {
    /// `/usr/bin/rustc` with unstable features allowed, and its ready-built core.
    Debian,
    /// rustup's `nightly`, building core from its sources.
    Nightly,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Debian => "Debian's rustc-web and bpf-linker",
            Self::Nightly => "rustup's nightly and bpf-linker",
        })
    }
}

/// What the Debian way lacks here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Missing {
    compiler: bool,
    pub(crate) linker: bool,
    llvm: bool,
    cxx: bool,
}

impl Missing {
    pub(crate) fn packages(self) -> Vec<&'static str> {
        let compiler = ["rustc-web", "libstd-rust-web-dev-bpf"];
        let mut packages = Vec::new();
        if self.compiler {
            packages.extend(compiler);
        }
        // Only building the linker needs these.
        if self.linker && self.llvm {
            packages.extend(["llvm-22-dev", "libpolly-22-dev"]);
        }
        if self.linker && self.cxx {
            packages.push("g++");
        }
        packages
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let linker = self.linker.then_some("bpf-linker 0.13 or newer");
        let missing: Vec<_> = self.packages().into_iter().chain(linker).collect();
        f.write_str(&missing.join(", "))
    }
}

/// The toolchain that is there, or what Debian's lacks.
pub(crate) fn find() -> Result<Toolchain, Missing> {
    let has_linker = has_linker();
    let has_compiler = is_debian_compiler_there();
    if has_compiler && has_linker {
        return Ok(Toolchain::Debian);
    }
    if is_nightly_there() && has_linker {
        return Ok(Toolchain::Nightly);
    }
    Err(Missing {
        compiler: !has_compiler,
        linker: !has_linker,
        llvm: !is_llvm_there(),
        cxx: shell::find("c++").is_none(),
    })
}

fn is_debian_compiler_there() -> bool {
    let has_core = Path::new(DEBIAN_CORE).read_dir().is_ok_and(|mut files| {
        files.any(|file| {
            file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
        })
    });
    has_core && Path::new(DEBIAN_RUSTC).exists()
}

fn is_llvm_there() -> bool {
    let prefix = Path::new(LLVM_PREFIX);
    ["bin/llvm-config", "lib/libPolly.a"]
        .iter()
        .all(|file| prefix.join(file).exists())
}

/// Whether the toolchain that rustup calls `nightly` can build a core library.
fn is_nightly_there() -> bool {
    let home = std::env::var_os("RUSTUP_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".rustup")));
    let toolchains = home.and_then(|home| home.join("toolchains").read_dir().ok());
    toolchains.into_iter().flatten().flatten().any(|toolchain| {
        is_plain_nightly(&toolchain.file_name().to_string_lossy())
            && toolchain
                .path()
                .join("lib/rustlib/src/rust/library/core")
                .is_dir()
    })
}

/// `nightly-x86_64-unknown-linux-gnu` is, `nightly-2026-05-19-x86_64-unknown-linux-gnu` is not.
fn is_plain_nightly(name: &str) -> bool {
    name.strip_prefix("nightly-")
        .is_some_and(|host| !host.starts_with(|first: char| first.is_ascii_digit()))
}

fn has_linker() -> bool {
    let Some(linker) = shell::find("bpf-linker") else {
        return false;
    };
    let mut ask = shell::command(linker);
    ask.arg("--version").stderr(Stdio::null());
    // One that cannot start (its LLVM is gone) is as good as none.
    ask.output()
        .is_ok_and(|said| is_new_enough(&String::from_utf8_lossy(&said.stdout)))
}

fn is_new_enough(said: &str) -> bool {
    let version = said.trim().rsplit(' ').next().unwrap_or_default();
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= LINKER_MIN,
        _ => false,
    }
}

const LINKER_ARGUMENTS: [&str; 8] = [
    "install",
    "bpf-linker",
    "--version",
    LINKER_VERSION,
    "--locked",
    "--no-default-features",
    "--features",
    "llvm-22",
];

/// What a person would type to get the linker.
pub(crate) fn linker_by_hand() -> String {
    format!(
        "LLVM_PREFIX={LLVM_PREFIX} cargo {}",
        LINKER_ARGUMENTS.join(" ")
    )
}

/// Builds the linker into cargo's own directory of programs, where every build finds it.
pub(crate) fn install_linker() -> Result<()> {
    let mut install = shell::cargo();
    // An older one of the same name is replaced.
    install
        .args(LINKER_ARGUMENTS)
        .arg("--force")
        .env("LLVM_PREFIX", LLVM_PREFIX);
    shell::run(&mut install).context("bpf-linker could not be built")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_unreadable_linkers_are_replaced() {
        for (said, expected) in [
            ("bpf-linker 0.13.0\n", true),
            ("bpf-linker 0.14.2", true),
            ("bpf-linker 1.0.0", true),
            ("bpf-linker 0.9.14", false),
            ("", false),
            ("error while loading shared libraries", false),
        ] {
            assert_eq!(is_new_enough(said), expected, "{said:?}");
        }
    }

    #[test]
    fn only_what_building_the_linker_needs_is_installed_for_it() {
        let missing = Missing {
            compiler: true,
            linker: false,
            llvm: true,
            cxx: true,
        };
        assert_eq!(missing.packages(), ["rustc-web", "libstd-rust-web-dev-bpf"]);
    }
}

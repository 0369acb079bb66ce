//! Lints of the eBPF program as the kernel gets it: compiled for BPF, where the host's lints see only
//! an empty `main`.

use anyhow::Result;

use crate::setup::toolchain::{BPF_TARGET, DEBIAN_RUSTC, Toolchain};
use crate::shell;

/// What the cargo that runs this, and its rustup, leave in the environment.
const INHERITED: [&str; 7] = [
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// The instructions that lb-userspace's build script has the program compiled to.
const PROCESSOR: &str = "-Ctarget-cpu=v3";

pub(super) fn check(toolchain: Toolchain) -> Result<()> {
    let mut command = match toolchain {
        // Debian has no clippy of this compiler's version: the compiler's own lints have to do.
        Toolchain::Debian => {
            eprintln!("no clippy for Debian's BPF compiler: cargo check");
            let mut command = shell::cargo();
            command.arg("check");
            command
        }
        Toolchain::Nightly => {
            let mut command = shell::command("cargo");
            command.args(["+nightly", "clippy", "-Zbuild-std=core"]);
            command
        }
    };
    for name in INHERITED {
        command.env_remove(name);
    }
    if let Toolchain::Debian = toolchain {
        command
            .env("RUSTC", DEBIAN_RUSTC)
            .env("RUSTC_BOOTSTRAP", "1");
    }
    let target = shell::target_directory().join("bpf");
    command
        .args([
            "--package=lb-ebpf",
            "--locked",
            "--target",
            BPF_TARGET,
            "--target-dir",
        ])
        .arg(target);
    let flags = ["-Dwarnings", PROCESSOR].join("\x1f");
    shell::run(command.env("CARGO_ENCODED_RUSTFLAGS", flags))
}

//! Builds the eBPF program and leaves it in `OUT_DIR/lb-ebpf`, where `agent::datapath` embeds it.
//!
//! `LB_SKIP_BPF=1` leaves an empty file instead, so that checks and unit tests need no BPF
//! toolchain; the agent of such a binary says so and refuses to start.
//!
//! The package's other object, what the program is timed with, is built along with it and left
//! beside it. Nothing here embeds that: its path goes to lb-tests, as `DEP_LB_EBPF_BENCH`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const TARGET: &str = "bpfel-unknown-none";

/// What the package `lb-ebpf` makes: the gateway's program, and what it is timed with.
const OBJECTS: [&str; 2] = ["lb-ebpf", "lb-bench"];

/// What bpf-linker and rustc are told. Header fields lie at any address in a packet: without the
/// misaligned feature every 32-bit field is read as four bytes. (LLVM 22 knows the feature.)
const RUSTFLAGS: [&str; 5] = [
    "-Clink-arg=--btf",
    "-Cdebuginfo=2",
    "-Ctarget-cpu=v3",
    "-Ctarget-feature=+allows-misaligned-mem-access",
    "-Awarnings",
];

/// What a caller's cargo, clippy or rustup leaves in the environment and the BPF build must not see.
const INHERITED: [&str; 8] = [
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTUP_TOOLCHAIN",
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
];

fn main() {
    let workspace = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"))
        .parent()
        .expect("the package lies in the workspace")
        .to_owned();
    for path in [
        "lb-ebpf/src",
        "lb-ebpf/Cargo.toml",
        "lb-common/src",
        "lb-common/Cargo.toml",
    ] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    println!(
        "cargo::rerun-if-changed={}",
        workspace.join("Cargo.lock").display()
    );
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LB_SKIP_BPF");

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    println!("cargo::metadata=bench={}", out.join(OBJECTS[1]).display());
    if env::var_os("LB_SKIP_BPF").is_some_and(|value| value != "0") {
        for object in OBJECTS {
            fs::write(out.join(object), []).expect("OUT_DIR is writable");
        }
        return;
    }
    match Toolchain::find().and_then(|toolchain| build(&toolchain, &workspace, &out)) {
        Ok(built) => {
            for object in OBJECTS {
                fs::copy(built.join(object), out.join(object)).expect("OUT_DIR is writable");
            }
        }
        Err(message) => {
            println!("cargo::error={message}");
            exit(1);
        }
    }
}

/// A compiler for the BPF target, found on this machine.
enum Toolchain {
    /// Debian's `rustc-web`, with a ready-built `core` for BPF.
    Debian { rustc: PathBuf, linker: PathBuf },
    /// A nightly toolchain of rustup's with `rust-src`, which builds `core` itself.
    Nightly { linker: PathBuf },
}

impl Toolchain {
    fn find() -> Result<Self, String> {
        let linker = find_program("bpf-linker").ok_or(
            "no bpf-linker in PATH or ~/.cargo/bin: run `cargo xtask setup` \
             (or set LB_SKIP_BPF=1 to build without the eBPF program)",
        )?;
        let rustc = PathBuf::from("/usr/bin/rustc");
        let core = Path::new("/usr/lib/rustlib").join(TARGET);
        if rustc.exists() && core.exists() {
            return Ok(Self::Debian { rustc, linker });
        }
        if nightly_has_rust_src() {
            return Ok(Self::Nightly { linker });
        }
        Err("no Rust compiler for BPF: neither Debian's rustc-web with \
             libstd-rust-web-dev-bpf nor a nightly toolchain with rust-src is here: run \
             `cargo xtask setup`"
            .into())
    }
}

/// Builds the objects and says in which directory they are.
fn build(toolchain: &Toolchain, workspace: &Path, out: &Path) -> Result<PathBuf, String> {
    // One directory for every profile of the host build, beside them: target/bpf.
    let target = out
        .ancestors()
        .nth(4)
        .expect("OUT_DIR lies in the target directory")
        .join("bpf");
    let mut cargo = match toolchain {
        Toolchain::Debian { rustc, .. } => {
            let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
            scrub(&mut cargo)
                .env("RUSTC", rustc)
                .env("RUSTC_BOOTSTRAP", "1")
                .arg("build");
            cargo
        }
        Toolchain::Nightly { .. } => {
            let mut cargo = Command::new("cargo");
            scrub(&mut cargo).args(["+nightly", "build", "-Z", "build-std=core"]);
            cargo
        }
    };
    let (Toolchain::Debian { linker, .. } | Toolchain::Nightly { linker }) = toolchain;
    let flags = RUSTFLAGS.join("\x1f") + "\x1f-Clinker=" + &linker.display().to_string();
    let status = cargo
        .args([
            "--package",
            "lb-ebpf",
            "--profile",
            "bpf",
            "--locked",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(workspace)
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .status()
        .map_err(|error| format!("cannot run cargo for the BPF target: {error}"))?;
    if !status.success() {
        return Err(format!(
            "the eBPF program did not build ({status}); its errors stand above"
        ));
    }
    Ok(target.join(TARGET).join("bpf"))
}

fn scrub(command: &mut Command) -> &mut Command {
    for name in INHERITED {
        command.env_remove(name);
    }
    command
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let home = env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    );
    env::split_paths(&path)
        .chain([home.join("bin")])
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

fn nightly_has_rust_src() -> bool {
    let mut rustc = Command::new("rustc");
    let Ok(output) = scrub(&mut rustc)
        .args(["+nightly", "--print", "sysroot"])
        .output()
    else {
        return false;
    };
    let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success()
        && Path::new(&sysroot)
            .join("lib/rustlib/src/rust/library/core")
            .is_dir()
}

//! Imports point downwards, and pure modules stay pure: the rules of ARCHITECTURE.md, held to.

mod paths;

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use super::source::{self, code_only, without_tests};

/// The modules of lb-userspace, the highest layer first. A module may use those of lower layers.
const LAYERS: [&[&str]; 7] = [
    &["main", "cli"],
    // The roles: three daemons that happen to share a binary.
    &["agent", "logic", "db_proxy"],
    &["control", "downstream"],
    &["upstream"],
    &["failover", "health", "maglev", "transport"],
    &["wire", "config", "sql"],
    &["kept", "runtime", "telemetry"],
];

/// Modules that compute, and never wait or ask: their inputs are arguments, time included.
const PURE: [&str; 7] = [
    "wire",
    "sql",
    "failover",
    "health/threshold",
    "agent/plan",
    "maglev",
    "agent/flows",
];

/// What a pure module must not name, and why.
const IMPURE: [(&str, &str); 9] = [
    ("tokio", "waits"),
    ("TcpStream", "is a socket"),
    ("TcpListener", "is a socket"),
    ("UdpSocket", "is a socket"),
    ("UnixStream", "is a socket"),
    ("UnixListener", "is a socket"),
    ("UnixDatagram", "is a socket"),
    ("Instant::now", "reads the clock"),
    ("SystemTime::now", "reads the clock"),
];

/// The only module that talks to the kernel's BPF side.
const AYA_USER: &str = "agent/datapath";

pub(super) fn check() -> Result<()> {
    let mut violations = Vec::new();
    for file in source::rust_files(Path::new("lb-userspace/src"))? {
        let module = file
            .name
            .trim_start_matches("lb-userspace/src/")
            .trim_end_matches(".rs");
        let found = violations_in_userspace(module, &fs::read_to_string(&file.path)?);
        violations.extend(
            found
                .into_iter()
                .map(|what| format!("{}: {what}", file.name)),
        );
    }
    for file in source::rust_files(Path::new("lb-common/src"))? {
        let module = file
            .name
            .trim_start_matches("lb-common/src/")
            .trim_end_matches(".rs");
        let found = violation_in_common(module, &fs::read_to_string(&file.path)?);
        violations.extend(found.map(|what| format!("{}: {what}", file.name)));
    }
    if violations.is_empty() {
        return Ok(());
    }
    bail!("\n  {}", violations.join("\n  "))
}

/// What is wrong with one file; `module` is its path below `src`, without the ending.
fn violations_in_userspace(module: &str, source: &str) -> Vec<String> {
    let code = code_only(source);
    let mut violations = wrong_arrows(module, &code);
    // Tests of a pure module may read a clock, and they may be in files of their own.
    let code = if is_test(module) {
        String::new()
    } else {
        without_tests(&code)
    };
    if PURE.iter().any(|pure| is_within(module, pure)) {
        let named = IMPURE.iter().filter(|(name, _)| paths::names(&code, name));
        violations.extend(named.map(|(name, why)| format!("is pure, but `{name}` {why}")));
    }
    if !is_within(module, AYA_USER) && paths::names(&code, "aya") {
        violations.push(format!("names `aya`, which only {AYA_USER} may"));
    }
    violations
}

fn wrong_arrows(module: &str, code: &str) -> Vec<String> {
    // The library's root declares the modules.
    if module == "lib" {
        return Vec::new();
    }
    let own = module.split('/').next().unwrap_or(module);
    let Some(own_layer) = layer(own) else {
        return vec![format!(
            "module `{own}` has no layer: give it one in ARCHITECTURE.md and xtask's layering check"
        )];
    };
    let used = paths::top_level_modules(module, code);
    let used = used.into_iter().filter(|used| used != own);
    used.filter_map(|used| {
        let layer = layer(&used)?;
        // The entry point is main together with its command line.
        let is_allowed = layer > own_layer || (own == "main" && used == "cli");
        let direction = if layer == own_layer {
            "sideways"
        } else {
            "upwards"
        };
        (!is_allowed).then(|| format!("`{own}` uses `{used}`, which points {direction}"))
    })
    .collect()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// Whether `module` is `parent` or lies in it.
fn is_within(module: &str, parent: &str) -> bool {
    module
        .strip_prefix(parent)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_test(module: &str) -> bool {
    module.split('/').any(|part| part == "tests")
}

/// lb-common runs in the kernel as well.
fn violation_in_common(module: &str, source: &str) -> Option<String> {
    let code = code_only(source);
    if module == "lib" {
        let is_no_std = code.contains("#![no_std]") || code.contains("no_std)]");
        return (!is_no_std).then(|| "is not no_std".to_owned());
    }
    let code = if is_test(module) {
        String::new()
    } else {
        without_tests(&code)
    };
    paths::names(&code, "std")
        .then(|| "names `std`, which the kernel does not have: use `core`".to_owned())
}

#[cfg(test)]
mod tests;

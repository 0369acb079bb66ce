//! Every dependency may be used under a licence that `.deny.toml` allows.
//!
//! `cargo deny` reads the same file and checks more; this needs nothing installed.

mod expression;

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::shell;

const ALLOWED_IN: &str = ".deny.toml";

pub(super) fn check() -> Result<()> {
    let text = fs::read_to_string(shell::workspace().join(ALLOWED_IN))
        .with_context(|| format!("read {ALLOWED_IN}"))?;
    let allowed = allowed(&text).with_context(|| format!("{ALLOWED_IN} has no list `allow`"))?;
    let refused = refused(&dependencies()?, &allowed);
    ensure!(
        refused.is_empty(),
        "{ALLOWED_IN} allows no licence of {}",
        refused.join(", ")
    );
    Ok(())
}

/// What is built for this kind of machine; other systems' crates are not even downloaded.
fn dependencies() -> Result<Value> {
    let about = shell::output(shell::command("rustc").arg("-vV"))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc -vV names no host")?;
    let mut metadata = shell::cargo();
    metadata.args([
        "metadata",
        "--format-version=1",
        "--locked",
        "--filter-platform",
        host,
    ]);
    serde_json::from_str(&shell::output(&mut metadata)?).context("read what cargo metadata said")
}

/// The strings of the list `allow`, which stands on lines of its own.
fn allowed(deny: &str) -> Option<BTreeSet<&str>> {
    let list = deny.split_once("\nallow = [")?.1.split_once(']')?.0;
    Some(list.split('"').skip(1).step_by(2).collect())
}

/// Name, version and licence of each package that must not be used.
fn refused(metadata: &Value, allowed: &BTreeSet<&str>) -> Vec<String> {
    let packages = metadata["packages"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let refused = packages.iter().filter(|package| {
        let licence = package["license"].as_str();
        !licence
            .is_some_and(|licence| expression::is_satisfied(licence, |name| allowed.contains(name)))
    });
    let text = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    let shown = refused.map(|package| {
        format!(
            "{} {} ({})",
            text(&package["name"]),
            text(&package["version"]),
            text(&package["license"])
        )
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn packages_without_an_allowed_licence_are_named() {
        let allowed =
            allowed("[licenses]\nallow = [\n  \"MIT\", # short\n  \"Zlib\",\n]\n").unwrap();
        let metadata = json!({ "packages": [
            { "name": "good", "version": "1.0.0", "license": "MIT OR GPL-3.0-only" },
            { "name": "bad", "version": "2.0.0", "license": "GPL-3.0-only" },
            { "name": "silent", "version": "3.0.0", "license": null },
        ] });
        assert_eq!(
            refused(&metadata, &allowed),
            ["bad 2.0.0 (GPL-3.0-only)", "silent 3.0.0 (none)"]
        );
    }
}

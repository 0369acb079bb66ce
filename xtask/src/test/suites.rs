//! Which tests there are, and how each kind wants to be run.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::shell;

/// One call of `cargo test`.
pub(super) struct Suite {
    pub(super) name: String,
    /// What cargo is to test.
    selection: Vec<String>,
    pub(super) needs_root: bool,
    /// Tests that measure time, or take all of the machine, disturb each other.
    pub(super) one_at_a_time: bool,
}

impl Suite {
    fn of_packages(name: &str, selection: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            selection: selection.iter().copied().map(str::to_owned).collect(),
            needs_root: false,
            one_at_a_time: false,
        }
    }

    pub(super) fn command(&self) -> Command {
        let mut command = shell::cargo();
        // Never a choice of packages: that is a choice of features, and builds everything anew.
        command
            .args(["test", "--locked", "--no-fail-fast"])
            .args(&self.selection);
        command
    }
}

struct Folder {
    name: &'static str,
    needs_root: bool,
    one_at_a_time: bool,
}

/// The folders of `tests/` in the order in which their tests run: the quick and simple ones first.
const FOLDERS: [Folder; 3] = [
    Folder {
        name: "daemons",
        // PostgreSQL runs as its own user, below a directory that only root can make.
        needs_root: true,
        one_at_a_time: false,
    },
    Folder {
        name: "datapath",
        needs_root: true,
        one_at_a_time: false,
    },
    Folder {
        name: "network",
        needs_root: true,
        one_at_a_time: true,
    },
];

/// The unit tests of all packages, then every test target in the folders.
pub(super) fn all() -> Result<Vec<Suite>> {
    let mut metadata = shell::cargo();
    metadata.args(["metadata", "--format-version=1", "--no-deps", "--locked"]);
    let metadata = shell::output(&mut metadata)?;
    let metadata = serde_json::from_str(&metadata).context("read what cargo metadata said")?;
    Ok(suites(&metadata))
}

fn suites(metadata: &Value) -> Vec<Suite> {
    let targets = test_targets(metadata);
    let of_folders = FOLDERS.iter().flat_map(|folder| {
        let inside = format!("/tests/{}/", folder.name);
        let targets = targets
            .iter()
            .filter(move |(_, path)| path.contains(&inside));
        targets.map(|(target, _)| folder.suite(target))
    });
    let of_packages = [
        Suite::of_packages("unit", &["--lib", "--bins"]),
        Suite::of_packages("examples in the documentation", &["--doc"]),
    ];
    of_packages.into_iter().chain(of_folders).collect()
}

impl Folder {
    fn suite(&self, target: &str) -> Suite {
        let is_whole_folder = target == self.name;
        let selection = ["--test", target].map(str::to_owned);
        Suite {
            name: if is_whole_folder {
                target.into()
            } else {
                format!("{}: {target}", self.name)
            },
            selection: selection.to_vec(),
            needs_root: self.needs_root,
            one_at_a_time: self.one_at_a_time,
        }
    }
}

/// Name and path of each test target of the workspace.
fn test_targets(metadata: &Value) -> Vec<(String, String)> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let packages = list(&metadata["packages"]).into_iter();
    let targets = packages.flat_map(|package| list(&package["targets"]));
    targets
        .filter(|target| list(&target["kind"]).iter().any(|kind| kind == "test"))
        .filter_map(|target| {
            let name = target["name"].as_str()?;
            Some((name.to_owned(), target["src_path"].as_str()?.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn network_tests_run_last_and_one_at_a_time() {
        let target = |name: &str, kind: &str| json!({ "name": name, "kind": [kind], "src_path": format!("/lb/tests/{name}/main.rs") });
        let targets = ["network", "daemons", "datapath"].map(|name| target(name, "test"));
        let metadata = json!({ "packages": [
            { "name": "lb-userspace", "targets": [target("lb", "bin")] },
            { "name": "lb-tests", "targets": targets },
        ] });
        let suites = suites(&metadata);
        let names: Vec<_> = suites.iter().map(|suite| suite.name.as_str()).collect();
        assert_eq!(names[2..], ["daemons", "datapath", "network"]);
        let alone: Vec<_> = suites.iter().map(|suite| suite.one_at_a_time).collect();
        assert_eq!(alone, [false, false, false, false, true]);
    }
}

//! `lb check`: a configuration file, without doing anything about it.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::output::{Verbatim, print, print_json};
use crate::config::{Cache, Config, ConfigError, Parts};

#[derive(Debug, Args)]
pub(super) struct CheckOptions {
    /// The configuration file
    file: PathBuf,
    /// Print JSON, one object a line (docs/json.md)
    #[arg(long)]
    json: bool,
}

/// What `lb check --json` prints.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// Whether the file can be used.
    ok: bool,
    /// The file, as it was named.
    file: String,
    /// How many services it has, if it can be used.
    services: Option<usize>,
    /// How many pools.
    pools: Option<usize>,
    /// How many backends, all pools together.
    backends: Option<usize>,
    /// How many databases.
    databases: Option<usize>,
    /// How many cache servers, copies included.
    caches: Option<usize>,
    /// Daemons that can run with it.
    daemons: Vec<&'static str>,
    /// Sections for daemons that this version does not have.
    unread: Vec<String>,
    /// Every mistake, in the order of the file.
    errors: Vec<Mistake>,
}

/// One mistake.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Mistake {
    /// Line, counted from 1; `None` where the file could not be read.
    line: Option<usize>,
    /// Column in characters, counted from 1.
    column: Option<usize>,
    /// The key's full path.
    key: Option<String>,
    /// What is wrong, and what would be right.
    message: String,
}

pub(super) fn run(options: &CheckOptions) -> anyhow::Result<()> {
    let outcome = Config::check(&options.file);
    let check = check(&options.file, &outcome);
    match outcome {
        Ok(_) if options.json => print_json(&check),
        Ok(_) => print(&summary(&check)),
        Err(_) if options.json => {
            print_json(&check)?;
            let mistakes = counted(check.errors.len(), "mistake");
            let text = format!("lb: {}: {mistakes}; correct the file", check.file);
            Err(Verbatim(text).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// The outcome as an object.
pub(super) fn check(file: &Path, outcome: &Result<Parts, ConfigError>) -> Check {
    let parts = outcome.as_ref().ok();
    let count = |count: fn(&Config) -> usize| {
        let gateway = parts.map(|parts| parts.gateway.as_ref());
        gateway.map(|gateway| gateway.map_or(0, count))
    };
    Check {
        ok: parts.is_some(),
        file: file.display().to_string(),
        services: count(|config| config.services.len()),
        pools: count(|config| config.pools.len()),
        backends: count(|config| config.pools.iter().map(|pool| pool.backends.len()).sum()),
        databases: parts.map(|parts| parts.databases),
        caches: parts.map(|parts| parts.cache.as_ref().map_or(0, Cache::servers)),
        daemons: parts.map(Parts::daemons).unwrap_or_default(),
        unread: parts.map(|parts| parts.unread.clone()).unwrap_or_default(),
        errors: outcome.as_ref().err().map(mistakes).unwrap_or_default(),
    }
}

fn mistakes(error: &ConfigError) -> Vec<Mistake> {
    match error {
        ConfigError::Refused(diagnostics) => diagnostics
            .iter()
            .map(|found| Mistake {
                line: Some(found.line),
                column: Some(found.column),
                key: Some(found.key.clone()),
                message: format!("{}; {}", found.wrong, found.right),
            })
            .collect(),
        unreadable => vec![Mistake {
            line: None,
            column: None,
            key: None,
            message: unreadable.to_string(),
        }],
    }
}

/// `lb.toml: ok: 2 services, 1 pool, 4 backends`, and what of it nobody reads yet.
fn summary(check: &Check) -> String {
    let count = |count: Option<usize>, what| counted(count.unwrap_or_default(), what);
    let counts = [
        (check.services, "service"),
        (check.pools, "pool"),
        (check.backends, "backend"),
        (check.databases, "database"),
        (check.caches, "cache server"),
    ];
    let counts = counts.into_iter().filter(|(count, _)| *count > Some(0));
    let counts: Vec<_> = counts.map(|(number, what)| count(number, what)).collect();
    let mut text = format!(
        "{}: ok for {}: {}\n",
        check.file,
        check.daemons.join(", "),
        counts.join(", ")
    );
    if !check.unread.is_empty() {
        text += &format!(
            "{}: note: this version does not read [{}]\n",
            check.file,
            check.unread.join("], [")
        );
    }
    text
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_file_is_counted_and_unread_sections_named() {
        let text = include_str!("../../../examples/everything.toml");
        let outcome = Config::check_text(text, "lb.toml");
        let mut check = check(Path::new("lb.toml"), &outcome);
        (check.services, check.pools, check.backends) = (Some(2), Some(1), Some(4));
        assert_eq!(
            summary(&check),
            "lb.toml: ok for lb agent, lb db-proxy, lb logic: 2 services, 1 pool, 4 backends, \
             1 database, 5 cache servers\n\
             lb.toml: note: this version does not read [entity]\n"
        );
    }

    #[test]
    fn every_mistake_has_its_place_and_its_key() {
        let outcome = Config::check_text("[agent]\ninterfaces = [\"eth0\"]\npim = 1\n", "lb.toml");
        let check = check(Path::new("lb.toml"), &outcome);
        assert!(!check.ok);
        let mistake = check
            .errors
            .iter()
            .find(|mistake| mistake.line == Some(3))
            .expect("the unknown key is one");
        assert_eq!(mistake.key.as_deref(), Some("agent.pim"));
        assert!(mistake.message.contains("did you mean `pin`?"));
    }
}

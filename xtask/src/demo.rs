//! `cargo xtask demo`: the whole system on this machine, by the program `lbt-demo`.

use std::ffi::OsString;

use anyhow::Result;

use crate::setup::{self, Consent};
use crate::{build, shell};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    consent: Consent,
    /// Passed on to the demo: --report FILE, --picture FILE, --keep, …
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (consent, rest) = arguments.consent.or_among(&arguments.rest);
    setup::ensure(consent)?;
    build::build(build::Profile::Release)?;
    Err(shell::become_program("lbt-demo", &rest))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::Arguments;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn what_is_not_ours_is_passed_on() {
        for (line, is_yes, expected) in [
            (vec![], false, vec![]),
            (vec!["--yes"], true, vec![]),
            (
                vec!["--report", "a.json", "--keep"],
                false,
                vec!["--report", "a.json", "--keep"],
            ),
            (
                vec!["--yes", "--report", "a.json"],
                true,
                vec!["--report", "a.json"],
            ),
            (
                vec!["--report", "a.json", "--yes"],
                true,
                vec!["--report", "a.json"],
            ),
            (
                vec!["gateway", "--json", "b"],
                false,
                vec!["gateway", "--json", "b"],
            ),
        ] {
            let arguments = Line::parse_from(["demo"].iter().chain(&line)).arguments;
            let (consent, rest) = arguments.consent.or_among(&arguments.rest);
            assert_eq!(
                (consent.yes, rest),
                (is_yes, expected.into_iter().map(Into::into).collect())
            );
        }
    }
}

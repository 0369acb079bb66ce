//! `lb weight`: another weight for a backend, until it is taken back.

use std::str::FromStr;

use clap::Args;

use super::admin::backend_of;
use super::output::{print, print_json};
use super::socket::ClientOptions;
use super::target::Target;
use super::units::percent;
use crate::config::WEIGHT_MAX;
use crate::control::{BackendStatus, Request};

#[derive(Debug, Args)]
pub(super) struct WeightOptions {
    #[command(flatten)]
    target: Target,
    /// 0 to 65535, or `default` for the configuration's
    #[arg(value_name = "N|default")]
    weight: Weight,
    #[command(flatten)]
    client: ClientOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    Number(u32),
    Default,
}

impl FromStr for Weight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "default" {
            return Ok(Self::Default);
        }
        match text.parse() {
            Ok(number @ 0..=WEIGHT_MAX) => Ok(Self::Number(number)),
            _ => Err(format!("write a number from 0 to {WEIGHT_MAX}, or default")),
        }
    }
}

pub(super) fn run(options: WeightOptions) -> anyhow::Result<()> {
    let (backend, pool) = options.target.split();
    let weight = match options.weight {
        Weight::Number(number) => Some(number),
        Weight::Default => None,
    };
    let request = Request::Weight {
        backend,
        pool,
        weight,
    };
    let backend = options.client.ask(&request, backend_of)?;
    if options.client.json {
        return print_json(&backend);
    }
    print(&weight_line(&backend))
}

/// `logic/logic-1: weight 50 (configured: 100), 20.0 % of the slots`.
fn weight_line(backend: &BackendStatus) -> String {
    let BackendStatus {
        pool,
        name,
        weight,
        weight_configured,
        share,
        ..
    } = backend;
    let configured = if weight == weight_configured {
        String::new()
    } else {
        format!(" (configured: {weight_configured})")
    };
    format!(
        "{pool}/{name}: weight {weight}{configured}, {} of the slots\n",
        percent(*share)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_numbers_or_default() {
        for (text, weight) in [
            ("0", Some(Weight::Number(0))),
            ("65535", Some(Weight::Number(65_535))),
            ("default", Some(Weight::Default)),
            ("65536", None),
            ("-1", None),
            ("half", None),
        ] {
            assert_eq!(text.parse().ok(), weight, "{text}");
        }
    }

    #[test]
    fn an_overridden_weight_is_shown_beside_the_configured_one() {
        let mut backend = crate::cli::tests::status().pools[0].backends[0].clone();
        backend.share = 0.25;
        assert_eq!(
            weight_line(&backend),
            "logic/logic-1: weight 100, 25.0 % of the slots\n"
        );
        backend.weight = 50;
        assert_eq!(
            weight_line(&backend),
            "logic/logic-1: weight 50 (configured: 100), 25.0 % of the slots\n"
        );
    }
}

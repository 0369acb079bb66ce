//! What commands write: text or JSON to stdout, one line about a failure to stderr.

use std::error::Error;
use std::io::{self, Write};

use serde::Serialize;

use crate::config::ConfigError;
use crate::control::client::ClientError;

/// Whoever read our output closed it. No failure: `lb status | head` ends so.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
struct OutputClosed;

/// A failure that has been written in full already, or whose lines each stand for themselves.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Verbatim(pub String);

/// Words that each are right and do not go together: as any other wrong usage, exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Usage(pub String);

/// Writes text to stdout; colours in it survive only on a terminal, and not with `NO_COLOR`.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = anstream::stdout().lock();
    sent(
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush()),
    )
}

/// Writes an object as one line of JSON.
pub(super) fn print_json(object: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(object)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    sent(stdout.write_all(&line).and_then(|()| stdout.flush()))
}

fn sent(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to stdout")),
        Ok(()) => Ok(()),
    }
}

/// What stderr shall say of a failure, if anything: one line, except for configurations, where it
/// is one line for each mistake.
pub(super) fn explain(error: &anyhow::Error) -> Option<String> {
    if error.is::<OutputClosed>() {
        return None;
    }
    if let Some(Verbatim(text)) = error.downcast_ref() {
        return Some(text.clone());
    }
    if let Some(error) = error.downcast_ref::<ConfigError>() {
        // It words its cause itself, and gives each mistake its place.
        let is_unreadable = error.diagnostics().is_empty();
        let prefix = if is_unreadable { "lb: " } else { "" };
        return Some(format!("{prefix}{error}"));
    }
    if let Some(ClientError::Refused(text)) = error.downcast_ref()
        && text.contains('\n')
    {
        // A configuration's mistakes, each of which says where it is.
        return Some(text.clone());
    }
    Some(format!("lb: {}", one_line(error.as_ref())))
}

/// An error and its causes, as far as it does not name them itself, on one line.
fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn causes_are_told_once_and_on_one_line() {
        let error = anyhow!("no such device\n").context("cannot attach to eth0");
        assert_eq!(
            explain(&error).as_deref(),
            Some("lb: cannot attach to eth0: no such device")
        );
        let repeated = anyhow!("refused").context("cannot connect: refused; start it");
        assert_eq!(
            explain(&repeated).as_deref(),
            Some("lb: cannot connect: refused; start it")
        );
    }

    #[test]
    fn a_missing_configuration_is_said_in_its_own_words() {
        let error = crate::config::Config::load("/nonexistent/lb.toml").expect_err("it is missing");
        let text = explain(&error.into()).expect("something is said");
        assert_eq!(
            text,
            "lb: /nonexistent/lb.toml: there is no such file; name one with --config FILE"
        );
    }

    #[test]
    fn mistakes_of_a_configuration_keep_their_lines() {
        let mistakes = "lb.toml:3:1: agent.pim: …\nlb.toml:4:1: agent.colour: …";
        let error = ClientError::Refused(mistakes.into()).into();
        assert_eq!(explain(&error).as_deref(), Some(mistakes));
    }

    #[test]
    fn a_closed_output_is_not_worth_a_word() {
        let closed = sent(Err(io::ErrorKind::BrokenPipe.into())).expect_err("it is closed");
        assert_eq!(explain(&closed), None);
    }
}

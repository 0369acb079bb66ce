//! Logs of the daemons: to stderr, as text for people or one JSON object a line for machines.
//!
//! Called once by each daemon's command. Everything else only uses `tracing`'s macros.

pub mod counter;
pub mod histogram;
pub mod scrape;

use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The filter where none is given.
pub const FILTER_DEFAULT: &str = "info";

/// What a line of the log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people: coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Which lines are logged: a level, or `TARGET=LEVEL` pairs as `RUST_LOG` knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl Default for LogFilter {
    fn default() -> Self {
        Self(FILTER_DEFAULT.to_owned())
    }
}

/// Why a filter is none.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no filter; write error, warn, info, debug, trace or off, or TARGET=LEVEL[,…]")]
pub struct LogFilterError(String);

impl std::str::FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, LogFilterError> {
        // An empty RUST_LOG is as none.
        if text.is_empty() {
            return Ok(Self::default());
        }
        let refused = || LogFilterError(text.to_owned());
        EnvFilter::builder().parse(text).map_err(|_| refused())?;
        // A word that is no level would be taken for a target, and silence everything else.
        let is_level = |word: &str| word.parse::<tracing::level_filters::LevelFilter>().is_ok();
        let is_directive = |part: &str| part.contains(['=', ':', '[']) || is_level(part);
        if text.split(',').all(|part| is_directive(part.trim())) {
            Ok(Self(text.to_owned()))
        } else {
            Err(refused())
        }
    }
}

/// Starts logging to stderr, for this process.
///
/// # Errors
/// If something else in this process logs already.
pub fn start(format: LogFormat, filter: &LogFilter) -> anyhow::Result<()> {
    use tracing_subscriber::util::SubscriberInitExt;

    let is_coloured =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    subscriber(format, filter, is_coloured, io::stderr)
        .try_init()
        .map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

/// Writes lines to wherever they shall go.
fn subscriber<W>(
    format: LogFormat,
    filter: &LogFilter,
    is_coloured: bool,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&filter.0))
        .with_writer(writer);
    match format {
        LogFormat::Text => Box::new(lines.with_ansi(is_coloured).finish()),
        LogFormat::Json => Box::new(lines.json().flatten_event(true).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panics").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, is_coloured: bool) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let filter = filter.parse().expect("a good filter");
        let subscriber = subscriber(format, &filter, is_coloured, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(backend = "logic-1", "up");
            tracing::debug!("probed");
        });
        let bytes = lines.0.lock().expect("no writer panics").clone();
        String::from_utf8(bytes).expect("logs are UTF-8")
    }

    #[test]
    fn text_is_one_plain_line_an_event() {
        let text = logged(LogFormat::Text, "info", false);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.ends_with(": up backend=\"logic-1\"\n"), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }

    #[test]
    fn text_is_coloured_only_when_asked() {
        assert!(logged(LogFormat::Text, "info", true).contains('\x1b'));
    }

    #[test]
    fn json_is_one_object_a_line_with_fields_beside_the_message() {
        let text = logged(LogFormat::Json, "debug", true);
        let objects: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect();
        assert_eq!(objects.len(), 2);
        assert_eq!(objects[0]["message"], "up");
        assert_eq!(objects[0]["backend"], "logic-1");
        assert_eq!(objects[0]["level"], "INFO");
    }

    #[test]
    fn filters_work_by_level_and_by_target() {
        for (filter, lines) in [
            ("off", 0),
            ("warn", 0),
            ("INFO", 1),
            ("", 1),
            ("debug", 2),
            ("info,lb_userspace::telemetry=debug", 2),
            ("lb_userspace::agent=trace", 0),
        ] {
            let text = logged(LogFormat::Text, filter, false);
            assert_eq!(text.lines().count(), lines, "{filter}");
        }
    }

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for filter in ["verbose", "info,loud", "lb=loud", "info,,verbose"] {
            assert!(filter.parse::<LogFilter>().is_err(), "{filter:?}");
        }
    }
}

//! The live output: what is done, what happens, and how many requests a second each server answers.
//!
//! On a terminal the rates are one line that is drawn anew each second, at the bottom; elsewhere
//! they are lines like all others.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::time::{Duration, Instant};

use lb_tests::load::{Outcome, Record};

/// Requests answered and failed over a second.
#[derive(Debug, Default)]
pub struct Rates {
    /// Answers by server.
    pub answered: BTreeMap<String, usize>,
    /// Requests that failed, where those who count answers know.
    pub failed: Option<usize>,
}

/// Where the demo tells what it does.
#[derive(Debug)]
pub struct Console {
    start: Instant,
    is_terminal: bool,
    rates: Option<String>,
}

impl Console {
    /// Counts time from now.
    pub fn new() -> Console {
        Console {
            start: Instant::now(),
            is_terminal: io::stdout().is_terminal(),
            rates: None,
        }
    }

    /// Counts time from this instant on.
    pub fn restart_clock(&mut self, at: Instant) {
        self.start = at;
    }

    /// Says what is done.
    pub fn step(&mut self, at: Instant, text: &str) {
        let line = format!("{} ▶ {text}", self.clock(at));
        self.line(&self.styled("1", &line));
    }

    /// Says what happened.
    pub fn happened(&mut self, at: Instant, text: &str) {
        let line = format!("{}   {text}", self.clock(at));
        self.line(&line);
    }

    /// Says anything.
    pub fn line(&mut self, text: &str) {
        self.print(&format!("{text}\n{}", self.rates_line()));
    }

    /// Shows the rates of the second before `now`.
    pub fn rates(&mut self, now: Instant, rates: &Rates, servers: &[String]) {
        let total: usize = rates.answered.values().sum();
        let mut text = format!("{}   {total:>5} requests/s:", self.clock(now));
        for server in servers {
            let count = rates.answered.get(server).copied().unwrap_or(0);
            let _ = write!(text, "  {server} {count:>4}");
        }
        if let Some(failed) = rates.failed {
            let _ = write!(text, "  failed {failed}");
        }
        if self.is_terminal {
            self.rates = Some(text);
            self.print(&self.rates_line());
        } else {
            self.print(&format!("{text}\n"));
        }
    }

    /// Leaves the rates as they are; what follows stands below.
    pub fn finish_rates(&mut self) {
        if self.rates.take().is_some() {
            self.print("\n");
        }
    }

    fn rates_line(&self) -> String {
        // Too long for the terminal, it is cut: only a single line can be drawn over.
        let uncut = |text| format!("\x1b[?7l{}\x1b[?7h", self.styled("36", text));
        self.rates.as_deref().map(uncut).unwrap_or_default()
    }

    fn clock(&self, at: Instant) -> String {
        let seconds = at.saturating_duration_since(self.start).as_secs_f64();
        format!("{seconds:>7.3} s")
    }

    fn styled(&self, style: &str, text: &str) -> String {
        if self.is_terminal {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn print(&self, text: &str) {
        let mut out = io::stdout().lock();
        let over = if self.is_terminal { "\r\x1b[2K" } else { "" };
        // A closed pipe: the faults go on, the report is still written.
        let _ = write!(out, "{over}{text}").and_then(|()| out.flush());
    }
}

impl Rates {
    /// Counts the requests that ended in the second before `now`.
    pub fn of_second_before<'a>(
        now: Instant,
        requests: impl IntoIterator<Item = &'a Record>,
    ) -> Rates {
        let (mut rates, mut failed) = (Rates::default(), 0);
        let from = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
        for request in requests {
            match &request.outcome {
                _ if !(from..now).contains(&request.end) => {}
                Outcome::Answered { by } => {
                    *rates.answered.entry(by.to_string()).or_default() += 1;
                }
                Outcome::Failed(_) => failed += 1,
            }
        }
        rates.failed = Some(failed);
        rates
    }
}

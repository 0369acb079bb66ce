//! `lb events`: what happened, one line each.

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::output::{print, print_json};
use super::socket::ClientOptions;
use super::status::state_style;
use super::units::microseconds;
use crate::control::{Answer, Event, Request};

#[derive(Debug, Args)]
pub(super) struct EventsOptions {
    /// Go on with new ones until interrupted
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    client: ClientOptions,
}

pub(super) fn run(options: &EventsOptions) -> anyhow::Result<()> {
    let follow = options.follow;
    let mut client = options.client.connect()?;
    client.send(&Request::Events { follow })?;
    if follow {
        client.wait_forever()?;
    }
    let zone = TimeZone::system();
    let mut last = None;
    loop {
        let event = match client.next()? {
            Answer::Event(event) => event,
            Answer::End => return Ok(()),
            other => return Err(client.unexpected(&other).into()),
        };
        if options.client.json {
            print_json(&event)?;
        } else {
            print(&(gap(last, event.number) + &line(&event, &zone)))?;
        }
        last = Some(event.number);
    }
}

/// A line about events that were not kept between two that were.
fn gap(last: Option<u64>, number: u64) -> String {
    match last.map_or(0, |last| number.saturating_sub(last + 1)) {
        0 => String::new(),
        missing => format!("({missing} events in between were not kept)\n"),
    }
}

/// `2026-01-02 03:04:05.123  state     logic/logic-1  down: refused  (detected in 12.3 ms, …)`.
fn line(event: &Event, zone: &TimeZone) -> String {
    let at = event.at.parse().map_or_else(
        |_| event.at.clone(),
        |at: Timestamp| {
            let local = at.to_zoned(zone.clone());
            local.strftime("%F %T%.3f").to_string()
        },
    );
    let subject = match (&event.pool, &event.backend) {
        (Some(pool), Some(backend)) => format!("{pool}/{backend}"),
        (Some(only), None) | (None, Some(only)) => only.clone(),
        (None, None) => String::new(),
    };
    // Most texts name their backend themselves.
    let subject = if subject.is_empty() || event.text.contains(&subject) {
        String::new()
    } else {
        subject + "  "
    };
    let style = event
        .state
        .as_deref()
        .map_or_else(Default::default, state_style);
    let text = &event.text;
    let times: Vec<_> = [("detected", event.detection_us), ("stored", event.store_us)]
        .into_iter()
        .filter_map(|(what, time)| Some(format!("{what} in {}", microseconds(time?))))
        .collect();
    let times = if times.is_empty() {
        String::new()
    } else {
        format!("  ({})", times.join(", "))
    };
    format!(
        "{at}  {:<8}  {subject}{style}{text}{style:#}{times}\n",
        event.kind
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::event;

    fn plain(event: &Event) -> String {
        anstream::adapter::strip_str(&line(event, &TimeZone::UTC)).to_string()
    }

    #[test]
    fn an_event_is_one_line() {
        assert_eq!(
            plain(&event(7)),
            "2026-01-02 03:04:05.123  state     logic/logic-1  down: connection refused  \
             (detected in 12.3 ms, stored in 14 µs)\n"
        );
    }

    #[test]
    fn an_event_without_a_backend_has_no_subject() {
        let mut event = event(7);
        (event.pool, event.backend, event.state) = (None, None, None);
        (event.detection_us, event.store_us) = (None, None);
        event.kind = "config".into();
        event.text = "reloaded: 2 changes".into();
        assert_eq!(
            plain(&event),
            "2026-01-02 03:04:05.123  config    reloaded: 2 changes\n"
        );
    }

    #[test]
    fn a_text_that_names_its_backend_is_not_told_twice() {
        let mut event = event(7);
        event.text = "operator: logic/logic-1 drained".into();
        assert_eq!(plain(&event).matches("logic/logic-1").count(), 1);
    }

    #[test]
    fn missing_events_are_said_to_be_missing() {
        assert_eq!(gap(None, 7), "");
        assert_eq!(gap(Some(6), 7), "");
        assert_eq!(gap(Some(4), 7), "(2 events in between were not kept)\n");
    }
}

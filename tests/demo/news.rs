//! What the agent tells: its events, followed over the control socket as `lb events --follow` does.

use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use lb_userspace::control::client::Client;
use lb_userspace::control::{Answer, Event, Request};

/// News that may wait to be shown; a follower that gets ahead of that waits.
pub const NEWS_WAITING_MAX: usize = 1024;

/// An event, and when it happened by the clock that requests are timed with.
#[derive(Clone, Debug)]
pub struct News {
    /// As the agent sent it.
    pub event: Event,
    /// Its time, brought over from the wall clock.
    pub at: Instant,
}

impl News {
    /// Whether it says that the backend is in this state now.
    pub fn says(&self, backend: &str, state: &str) -> bool {
        let event = &self.event;
        event.kind == "state"
            && event.backend.as_deref() == Some(backend)
            && event.state.as_deref() == Some(state)
    }
}

/// Sends the news of the agent at `socket` until that agent ends.
///
/// # Errors
/// If the agent does not answer.
pub fn follow(socket: &Path, to: SyncSender<News>) -> Result<JoinHandle<()>> {
    let mut client = Client::connect(socket)?;
    let first = client.ask(&Request::Events { follow: true })?;
    client.wait_forever()?;
    let mut news = read(first)?;
    Ok(thread::spawn(move || {
        // Nobody listens, or the agent is gone: both are the end.
        while to.send(news).is_ok() {
            let Some(next) = client.next().ok().and_then(|answer| read(answer).ok()) else {
                return;
            };
            news = next;
        }
    }))
}

fn read(answer: Answer) -> Result<News> {
    let Answer::Event(event) = answer else {
        bail!("the agent sent {answer:?} instead of an event");
    };
    let at: Timestamp = event.at.parse().context("the time of an event")?;
    Ok(News {
        at: on_our_clock(SystemTime::from(at)),
        event,
    })
}

/// Both clocks are read anew each time, so that a correction of the wall clock does not add up; the
/// monotonic one last: a pause between the two makes the event look later, never too early.
fn on_our_clock(at: SystemTime) -> Instant {
    let age = at.elapsed().unwrap_or(Duration::ZERO);
    Instant::now().checked_sub(age).unwrap_or_else(Instant::now)
}

//! What happened: the latest events, kept in memory and sent to whoever follows them.

use std::collections::VecDeque;

use tokio::sync::{broadcast, mpsc};

use crate::control::{Answer, Event};

/// Events that are kept for `lb events`.
pub const EVENTS_KEPT_MAX: usize = 4096;

/// Events that may wait for a slow follower before it loses the oldest.
const EVENTS_WAITING_MAX: usize = 1024;

/// The log of events. Each is also written to the daemon's own log.
#[derive(Debug)]
pub struct Events {
    kept: VecDeque<Event>,
    next_number: u64,
    followers: broadcast::Sender<Event>,
}

impl Default for Events {
    fn default() -> Self {
        let (followers, _) = broadcast::channel(EVENTS_WAITING_MAX);
        Self {
            kept: VecDeque::with_capacity(64),
            next_number: 0,
            followers,
        }
    }
}

impl Events {
    /// Records an event; its number and time are filled in here.
    pub fn record(&mut self, event: Event) {
        let event = Event {
            number: self.next_number,
            at: now(),
            ..event
        };
        self.next_number += 1;
        tracing::info!(
            kind = event.kind,
            pool = event.pool,
            backend = event.backend,
            "{}",
            event.text
        );
        if self.kept.len() == EVENTS_KEPT_MAX {
            self.kept.pop_front();
        }
        // Nobody follows: no error.
        let _ = self.followers.send(event.clone());
        self.kept.push_back(event);
    }

    /// Events recorded so far.
    #[must_use]
    pub fn recorded(&self) -> u64 {
        self.next_number
    }

    /// Sends what is kept, and then, if `follow`, whatever comes, until the receiver goes away.
    pub fn send(&self, follow: bool, answers: mpsc::Sender<Answer>) {
        let kept: Vec<Event> = self.kept.iter().cloned().collect();
        let mut news = follow.then(|| self.followers.subscribe());
        tokio::spawn(async move {
            for event in kept {
                if answers.send(Answer::Event(event)).await.is_err() {
                    return;
                }
            }
            while let Some(news) = &mut news {
                match news.recv().await {
                    Ok(event) => {
                        if answers.send(Answer::Event(event)).await.is_err() {
                            return;
                        }
                    }
                    // The gap shows in the numbers.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
            let _ = answers.send(Answer::End).await;
        });
    }
}

/// An event of this kind, told in these words; the rest is filled in by whoever knows it.
#[must_use]
pub fn event(kind: &str, text: impl Into<String>) -> Event {
    Event {
        number: 0,
        at: String::new(),
        kind: kind.into(),
        pool: None,
        backend: None,
        state: None,
        detection_us: None,
        store_us: None,
        text: text.into(),
    }
}

/// The wall-clock time, RFC 3339 with microseconds.
#[must_use]
pub fn now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

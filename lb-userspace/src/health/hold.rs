//! One idle connection to the target, whose end is the first sign of a process that died.
//!
//! A hold is opened after a probe passed, never while the target is down. Two kinds of server
//! make it more harm than help, and both are recognised by what the next probe says:
//! - one that closes idle connections by design: its probe passes, and the next hold is opened
//!   later each time ([`Pacing`]);
//! - one that serves a single connection at a time, which the idle one occupies: probes time out
//!   while the hold is open and pass when it is gone. After [`BLAMES_MAX`] times the hold is
//!   given up for good.

use std::future::{Future, pending};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::counters::Counters;
use super::error::ProbeError;
use super::probe::connect;

/// The longest pause before a hold is opened again, unless the interval is longer.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A hold that lasted this long did its work: its end does not lengthen the next pause.
const LASTING: Duration = Duration::from_secs(5);
/// How long opening a hold may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);
/// What a server may send unasked (a greeting) before the hold is closed.
const GREETING_BYTES_MAX: usize = 4096;
/// How often a hold may keep its server from answering before it is given up.
const BLAMES_MAX: u32 = 3;
/// Silence after which the kernel asks the peer whether it still knows the connection: a
/// middlebox that forgot it would make the hold useless without a sign.
const KEEPALIVE_SECONDS: u32 = 15;

pub(super) struct Hold {
    address: SocketAddr,
    counters: Arc<Counters>,
    state: State,
    pacing: Pacing,
    /// The hold ended, and no probe has yet said whether the server did too.
    is_end_unexplained: bool,
    /// A probe timed out while the hold was open, and none passed since.
    is_suspected: bool,
    blames: u32,
}

enum State {
    Closed {
        not_before: Instant,
    },
    Opening(Pin<Box<dyn Future<Output = Option<TcpStream>> + Send>>),
    Open {
        stream: TcpStream,
        since: Instant,
        received: usize,
    },
    GivenUp,
}

impl Hold {
    pub(super) fn new(address: SocketAddr, interval: Duration, counters: Arc<Counters>) -> Self {
        Self {
            address,
            counters,
            state: State::Closed {
                not_before: Instant::now(),
            },
            pacing: Pacing {
                interval,
                strikes: 0,
            },
            is_end_unexplained: false,
            is_suspected: false,
            blames: 0,
        }
    }

    /// Waits until the hold ends by the server's doing; forever while none is open.
    ///
    /// Cancel-safe: what happened so far is kept in `self`.
    pub(super) async fn ended(&mut self) {
        loop {
            match &mut self.state {
                State::Closed { .. } | State::GivenUp => pending().await,
                State::Opening(opening) => {
                    let opened = opening.await;
                    let now = Instant::now();
                    let Some(stream) = opened else {
                        // The scheduled probes will find out why; trying again soon will not.
                        self.close(now, Duration::ZERO);
                        continue;
                    };
                    self.counters.hold_opened();
                    self.state = State::Open {
                        stream,
                        since: now,
                        received: 0,
                    };
                }
                State::Open {
                    stream,
                    since,
                    received,
                } => {
                    let is_talkative = wait_for_end(stream, received).await;
                    let now = Instant::now();
                    let lasted = now - *since;
                    self.close(now, lasted);
                    if is_talkative {
                        continue;
                    }
                    self.counters.hold_ended();
                    self.is_end_unexplained = true;
                    return;
                }
            }
        }
    }

    /// Learns that a probe which began at `began` passed.
    pub(super) fn probe_passed(&mut self, began: Instant) {
        let now = Instant::now();
        if std::mem::take(&mut self.is_suspected) {
            self.blame(now);
        }
        self.is_end_unexplained = false;
        match self.state {
            // Served while the hold was open: it does not stand in the way.
            State::Open { since, .. } if since <= began => self.blames = 0,
            State::Closed { not_before } if not_before <= now => {
                self.state = State::Opening(Box::pin(open(self.address)));
            }
            _ => {}
        }
    }

    /// Learns how a probe failed.
    pub(super) fn probe_failed(&mut self, error: &ProbeError) {
        if self.is_end_unexplained && !error.is_local() {
            // The server ended, and the hold said so first: just what it is for.
            self.is_end_unexplained = false;
            self.pacing.strikes = 0;
        }
        let is_timeout = matches!(error, ProbeError::Timeout { .. });
        if is_timeout && matches!(self.state, State::Open { .. }) {
            self.is_suspected = true;
            self.state = State::Closed {
                not_before: Instant::now(),
            };
        }
    }

    /// Lets go of the connection: the target is down, and a host that came back without its
    /// memory would never end it.
    pub(super) fn release(&mut self) {
        if !matches!(self.state, State::GivenUp) {
            self.state = State::Closed {
                not_before: Instant::now(),
            };
        }
    }

    fn close(&mut self, now: Instant, lasted: Duration) {
        self.state = State::Closed {
            not_before: now + self.pacing.pause_after(lasted),
        };
    }

    fn blame(&mut self, now: Instant) {
        self.blames += 1;
        if self.blames < BLAMES_MAX {
            self.close(now, Duration::ZERO);
            return;
        }
        self.state = State::GivenUp;
        self.counters.hold_given_up();
        tracing::warn!(
            address = %self.address,
            "the idle connection of the health check keeps this server from answering and is \
             given up; set hold = false in the pool's check"
        );
    }
}

/// How long to wait before the next hold: an interval at least, doubled for each hold in a row
/// that a healthy server ended early. Pure.
struct Pacing {
    interval: Duration,
    strikes: u32,
}

impl Pacing {
    fn pause_after(&mut self, lasted: Duration) -> Duration {
        if lasted >= LASTING {
            self.strikes = 0;
            return self.interval;
        }
        let pause = self
            .interval
            .saturating_mul(1u32.checked_shl(self.strikes).unwrap_or(u32::MAX));
        self.strikes = self.strikes.saturating_add(1);
        pause.min(PAUSE_MAX.max(self.interval))
    }
}

async fn open(address: SocketAddr) -> Option<TcpStream> {
    let stream = timeout(OPEN_TIMEOUT, connect(address)).await.ok()?.ok()?;
    // Without keepalive the hold still serves; it only ages worse.
    let _ = setsockopt(&stream, sockopt::TcpKeepIdle, &KEEPALIVE_SECONDS)
        .and_then(|()| setsockopt(&stream, sockopt::KeepAlive, &true));
    Some(stream)
}

/// Waits for the end of the connection; true if it has to be ended from this side because the
/// server does not stop talking. Cancel-safe.
async fn wait_for_end(stream: &TcpStream, received: &mut usize) -> bool {
    let mut sink = [0; 512];
    loop {
        if stream.readable().await.is_err() {
            return false;
        }
        match stream.try_read(&mut sink) {
            Ok(0) => return false,
            Ok(length) => *received += length,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        if *received > GREETING_BYTES_MAX {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_while_holds_end_early_and_start_anew_after_a_lasting_one() {
        let mut pacing = Pacing {
            interval: Duration::from_millis(10),
            strikes: 0,
        };
        let brief = Duration::from_millis(1);
        let pauses: Vec<_> = (0..5)
            .map(|_| pacing.pause_after(brief).as_millis())
            .collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160]);
        for _ in 0..100 {
            pacing.pause_after(brief);
        }
        assert_eq!(pacing.pause_after(brief), PAUSE_MAX);
        assert_eq!(pacing.pause_after(LASTING).as_millis(), 10);
        assert_eq!(pacing.pause_after(brief).as_millis(), 10);
    }

    #[test]
    fn a_pause_is_never_shorter_than_the_interval() {
        let interval = PAUSE_MAX * 2;
        let mut pacing = Pacing {
            interval,
            strikes: 0,
        };
        for _ in 0..70 {
            assert_eq!(pacing.pause_after(Duration::ZERO), interval);
        }
    }
}

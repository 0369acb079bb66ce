//! Whether a segment may reach the server: its floor, and the fence. A segment that may not is
//! answered here, up to its Sync.

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Context;
use std::time::{Duration, Instant};

use super::{End, Session};
use crate::db_proxy::watch::SILENT_AFTER;
use crate::db_proxy::watch::history::Standing;
use crate::wire::buffer;
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::link::{self, Floor, FromLogic, FromProxy, Intent, Position};
use crate::wire::postgres::write;

/// A floor waits no longer, whatever the patience.
const PATIENCE_MAX: Duration = Duration::from_secs(10);

/// What a session with a link knows of it.
#[derive(Debug, Default)]
pub(super) struct LinkState {
    /// Announces the next segment.
    floor: Option<Floor>,
    /// Messages of a segment were taken, and its Sync is to come.
    is_in_segment: bool,
    /// Since the floor was looked at for the first time: the question that must be answered before
    /// it is refused, and when it may be.
    wait: Option<(u64, Instant)>,
    /// ReadyForQuery messages that the client was sent.
    segments: u64,
    /// Whether the segments may write that are on their way, the oldest first.
    writes: VecDeque<bool>,
    /// Positions that the client is to get: when which question is answered, for which segments.
    positions: VecDeque<(u64, u64)>,
    /// The answer before the one by which we are woken.
    wakes_after: Option<u64>,
}

/// What becomes of a segment.
pub(super) enum Admission {
    Goes,
    /// The floor is not reached yet.
    Waits,
    /// First the segments before it must be answered.
    Later,
    Refused(PgError),
}

impl Session {
    /// Whether the message that comes next may be dealt with; it may begin a segment.
    pub(super) fn admission(&mut self, tag: u8) -> Admission {
        if !is_of_segment(tag) {
            return Admission::Goes;
        }
        let is_silent = self.server.as_ref().is_none_or(|server| server.is_silent());
        if self.proxy.fence.is_closed() && is_silent {
            return Admission::Refused(self.proxy.fence.refusal());
        }
        let Some(link) = &self.link else {
            return Admission::Goes;
        };
        let Some(floor) = link.floor.filter(|_| !link.is_in_segment) else {
            return Admission::Goes;
        };
        match self.standing(&floor) {
            Ok(()) => Admission::Goes,
            Err(_) if !is_silent => Admission::Later,
            Err(error) if error.code == link::code::FLOOR_AHEAD => {
                self.wait_or_refuse(&floor, error)
            }
            Err(error) => Admission::Refused(error),
        }
    }

    /// How the server stands to a floor.
    fn standing(&self, floor: &Floor) -> Result<(), PgError> {
        let refused = |code: &str, what: String| Err(PgError::error(code, what));
        let watch = &self.proxy.watch;
        let Some(known) = watch.known() else {
            let what = "it is not known what this server is: its proxy's watch has no answer yet";
            return refused(link::code::FLOOR_AHEAD, what.to_owned());
        };
        let epoch = known.history.epoch();
        if floor.intent == Intent::Write && !known.is_primary() {
            return refused(
                link::code::NOT_PRIMARY,
                format!("this server is a standby, on {epoch}"),
            );
        }
        if floor.intent == Intent::Write && floor.epoch.is_after(&epoch) {
            let what = format!(
                "this server is a primary on {epoch}, older than {}",
                floor.epoch
            );
            return refused(link::code::NOT_PRIMARY, what);
        }
        if floor.epoch.is_unknown() {
            return Ok(());
        }
        let position = known.position();
        match known
            .history
            .standing(position, floor.epoch, floor.position)
        {
            Standing::Lost => refused(
                link::code::FLOOR_LOST,
                format!(
                    "{} of {} is not in the history of this server, which is on {epoch}",
                    floor.position, floor.epoch
                ),
            ),
            Standing::Reached if self.is_of_this_life() => Ok(()),
            _ => refused(
                link::code::FLOOR_AHEAD,
                format!(
                    "this server has replayed {position} of {epoch}, and not yet {} of {}",
                    floor.position, floor.epoch
                ),
            ),
        }
    }

    /// Whether what is known was asked after the server connection at hand had logged in. Then both
    /// belong to one life of the server: had it restarted in between, one of them would be dead.
    fn is_of_this_life(&self) -> bool {
        let answered = self.proxy.watch.answered();
        self.server
            .as_ref()
            .is_none_or(|server| answered > server.tie.questions)
    }

    fn wait_or_refuse(&mut self, floor: &Floor, error: PgError) -> Admission {
        let watch = Rc::clone(&self.proxy.watch);
        let Some(link) = &mut self.link else {
            return Admission::Goes;
        };
        let (question, until) = *link.wait.get_or_insert_with(|| {
            let patience = Duration::from_millis(floor.patience_ms.into()).min(PATIENCE_MAX);
            (watch.ask(), Instant::now() + patience)
        });
        let now = Instant::now();
        let is_answered = watch.answered() >= question || now >= until + SILENT_AFTER;
        if is_answered && now >= until {
            return Admission::Refused(error);
        }
        Admission::Waits
    }

    /// Waits until there is a newer answer of the watch, or no more patience.
    pub(super) async fn await_floor(&mut self) -> Result<(), End> {
        let watch = Rc::clone(&self.proxy.watch);
        let (asked, until) = match self.link.as_ref().and_then(|link| link.wait) {
            Some((question, until)) if watch.answered() < question => {
                (question, until + SILENT_AFTER)
            }
            Some((_, until)) => (watch.ask(), until),
            None => (watch.ask(), Instant::now() + SILENT_AFTER),
        };
        let answered = std::future::poll_fn(|cx| {
            if watch.answered() >= asked {
                return std::task::Poll::Ready(());
            }
            watch.wakes(cx.waker());
            std::task::Poll::Pending
        });
        self.me.waits(true);
        let ended = tokio::select! {
            _ = tokio::time::timeout_at(until.into(), answered) => Ok(()),
            _ = std::future::poll_fn(|cx| self.poll_while_waiting(cx)) => Err(End::Left),
        };
        self.me.waits(false);
        self.is_input_due = true;
        ended
    }

    /// A message of a segment is on its way; `ends` if it is the segment's last.
    pub(super) fn segment_goes_on(&mut self, tag: u8) {
        let Some(link) = self.link.as_mut().filter(|_| is_of_segment(tag)) else {
            return;
        };
        if !link.is_in_segment {
            let floor = link.floor.take();
            let intent = floor.map_or(Intent::Write, |floor| floor.intent);
            link.writes.push_back(intent == Intent::Write);
            link.wait = None;
            if floor.is_some() {
                let links = &self.proxy.stats.links;
                links.admitted.add(1);
            }
        }
        link.is_in_segment = !ends_segment(tag);
    }

    /// Answers a segment that may not go on.
    pub(super) fn refuse_segment(&mut self, tag: u8, error: &PgError) {
        let links = &self.proxy.stats.links;
        if let Some(link) = &mut self.link {
            if link.floor.take().is_some() {
                let count = links.refused(&error.code);
                count.add(1);
            }
            link.wait = None;
        }
        let mut answer = Vec::new();
        error.write(&mut answer);
        buffer::append(&mut self.to_client, &answer);
        if ends_segment(tag) {
            self.refusal_ends();
        } else {
            self.is_refusing = true;
        }
    }

    /// The refused segment is over.
    pub(super) fn refusal_ends(&mut self) {
        self.is_refusing = false;
        let server = self.server.as_ref();
        let state = server.map_or(b'I', |server| server.answers.state);
        let mut ready = Vec::new();
        write::ready(&mut ready, state);
        buffer::append(&mut self.to_client, &ready);
        if let Some(link) = &mut self.link {
            link.segments += 1;
        }
    }

    /// Takes a message of the link.
    pub(super) fn take_link_message(&mut self, body: &[u8]) -> Result<(), End> {
        let violation = |what| End::Refused(PgError::fatal(code::PROTOCOL_VIOLATION, what));
        let message = FromLogic::read(body).map_err(|error| violation(error.to_string()))?;
        let FromLogic::Floor(floor) = message else {
            return Err(violation("a session does not attest".to_owned()));
        };
        if let Some(link) = &mut self.link {
            link.floor = Some(floor);
            link.wait = None;
        }
        Ok(())
    }

    /// ReadyForQuery is on its way to the client.
    pub(super) fn segment_ended(&mut self, state: u8, is_last: bool) {
        let Some(link) = &mut self.link else {
            return;
        };
        link.segments += 1;
        let mut wrote = link.writes.pop_front().unwrap_or(true);
        if is_last && !link.is_in_segment {
            // A Sync that COPY swallowed leaves one over.
            wrote |= link.writes.drain(..).any(|writes| writes);
        }
        if state != b'I' || !wrote || !self.proxy.watch.is_primary() {
            return;
        }
        let question = self.proxy.watch.ask();
        match link.positions.back_mut() {
            Some((asked, segments)) if *asked == question => *segments = link.segments,
            _ => link.positions.push_back((question, link.segments)),
        }
    }

    /// Tells the client a position that is known by now, if this is between two messages.
    pub(super) fn poll_position(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(link) = &mut self.link else {
            return false;
        };
        let Some(&(question, segments)) = link.positions.front() else {
            return false;
        };
        let watch = &self.proxy.watch;
        let answered = watch.answered();
        if answered < question {
            if link.wakes_after != Some(answered) {
                link.wakes_after = Some(answered);
                watch.wakes(cx.waker());
            }
            return false;
        }
        let is_between = self
            .server
            .as_ref()
            .is_none_or(|server| server.passing == 0);
        let Some(known) = watch.known().filter(|_| is_between) else {
            return false;
        };
        link.positions.pop_front();
        if !known.is_primary() {
            return true;
        }
        let mut message = Vec::new();
        FromProxy::Position(Position {
            segments,
            epoch: known.history.epoch(),
            position: known.position(),
        })
        .write(&mut message);
        buffer::append(&mut self.to_client, &message);
        let links = &self.proxy.stats.links;
        links.positions.add(1);
        true
    }

    /// The fence was closed while the server worked for us: what to tell, if it did.
    pub(super) fn fenced_out(&self) -> Option<End> {
        let server = self.server.as_ref().filter(|server| !server.is_idle())?;
        let refusal = self.proxy.fence.refusal();
        let is_known = server.is_silent() || (server.answers.state == b'T' && !self.commits);
        let (code, outcome) = if is_known {
            (code::ADMIN_SHUTDOWN, "the transaction was rolled back")
        } else {
            (
                code::TRANSACTION_RESOLUTION_UNKNOWN,
                "whether what was on its way was done is not known",
            )
        };
        let what = format!("{}; {outcome}", refusal.message);
        Some(End::Refused(PgError::fatal(code, what)))
    }
}

/// Whether a message belongs to a segment.
fn is_of_segment(tag: u8) -> bool {
    matches!(
        tag,
        b'Q' | b'F' | b'P' | b'B' | b'D' | b'E' | b'C' | b'H' | b'S'
    )
}

fn ends_segment(tag: u8) -> bool {
    matches!(tag, b'Q' | b'F' | b'S')
}

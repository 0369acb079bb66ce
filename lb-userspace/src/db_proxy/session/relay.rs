//! Both directions of a session, as far as they go without waiting.

use std::io;
use std::task::{Context, Poll};

use super::{End, Session};
use crate::wire::buffer;
use crate::wire::splice::Splice;

/// So many bytes may wait for a client that does not read.
const UNREAD_BYTES_MAX: usize = 64 << 10;

/// What a session needs somebody else for.
pub(super) enum Step {
    NeedsServer,
    NeedsFloor,
    Ended(End),
}

/// What the next message of a client needs before it can be dealt with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing, or only the rest of it.
    Nothing,
    /// A server, and there is none.
    Server,
    /// A server that has reached the floor.
    Floor,
    /// The answers to what came before it.
    Answers,
}

/// What became of some of the client's bytes.
pub(super) struct Taken {
    /// How many were dealt with.
    pub count: usize,
    /// What the next message needs.
    pub needs: Needs,
}

impl Session {
    /// Goes on until everything waits for a socket.
    pub(super) fn poll_relay(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        self.me.wakes(cx.waker());
        match self.poll_ways(cx) {
            Ok(step) => step,
            Err(end) => Poll::Ready(Step::Ended(end)),
        }
    }

    fn poll_ways(&mut self, cx: &mut Context<'_>) -> Result<Poll<Step>, End> {
        if self.proxy.fence.is_closed()
            && let Some(end) = self.fenced_out()
        {
            return Err(end);
        }
        loop {
            if let Some(ticket) = self.ticket.take() {
                if self.poll_ticket(ticket, cx)?.is_pending() {
                    return self.poll_beside_ticket(cx);
                }
                if self.disagrees() {
                    return Ok(Poll::Ready(Step::NeedsServer));
                }
            }
            let mut has_moved = self.poll_to_client(cx)?;
            has_moved |= self.poll_to_server(cx)?;
            has_moved |= self.poll_from_server(cx)?;
            if self.is_input_due && self.to_server.is_empty() {
                has_moved = true;
                let needs = self.take_input(cx)?;
                if let Some(step) = self.step(needs)? {
                    return Ok(Poll::Ready(step));
                }
            }
            if self.ticket.is_none()
                && let Poll::Ready(needs) = self.poll_from_client(cx)?
            {
                has_moved = true;
                if let Some(step) = self.step(needs)? {
                    return Ok(Poll::Ready(step));
                }
            }
            has_moved |= self.poll_position(cx);
            let is_done = self.server.as_ref().is_none_or(|server| server.is_silent());
            if self.is_leaving && is_done && self.to_client.is_empty() {
                return Err(End::Left);
            }
            if self.me.must_leave() && self.is_at_rest() && self.input.is_empty() {
                return Err(End::Refused(self.me.reason_to_leave()));
            }
            if !has_moved {
                return Ok(Poll::Pending);
            }
        }
    }

    fn step(&mut self, needs: Needs) -> Result<Option<Step>, End> {
        Ok(match needs {
            Needs::Nothing | Needs::Answers => None,
            // In the queue it waits without a future of its own: that is the way of every
            // transaction as long as there are more clients than servers.
            Needs::Server if self.queue_up()? => None,
            Needs::Server => Some(Step::NeedsServer),
            Needs::Floor => Some(Step::NeedsFloor),
        })
    }

    /// What goes on while the client waits for a server.
    fn poll_beside_ticket(&mut self, cx: &mut Context<'_>) -> Result<Poll<Step>, End> {
        while self.poll_to_client(cx)? || self.poll_position(cx) {}
        Ok(Poll::Pending)
    }

    fn poll_to_client(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.to_client.is_empty() {
            return Ok(false);
        }
        match self.client.poll_out(cx, &self.to_client) {
            Poll::Ready(Ok(count)) => buffer::consume(&mut self.to_client, count),
            Poll::Ready(Err(_)) if self.is_leaving => buffer::give_back(&mut self.to_client),
            Poll::Ready(Err(_)) => return Err(End::Lost),
            Poll::Pending => return Ok(false),
        }
        Ok(true)
    }

    fn poll_to_server(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.to_server.is_empty() {
            return Ok(false);
        }
        let Some(server) = &mut self.server else {
            buffer::give_back(&mut self.to_server);
            return Ok(true);
        };
        match server.stream.poll_out(cx, &self.to_server) {
            Poll::Ready(Ok(count)) => buffer::consume(&mut self.to_server, count),
            // What it said before it closed may still be read.
            Poll::Ready(Err(_)) => buffer::give_back(&mut self.to_server),
            Poll::Pending => return Ok(false),
        }
        Ok(true)
    }

    /// Reads from the client.
    fn poll_from_client(&mut self, cx: &mut Context<'_>) -> Result<Poll<Needs>, End> {
        // Whoever does not read answers gets no more of them; nor is more read while what was read
        // waits for the answers to what came before it.
        let is_full = self.to_client.len() > UNREAD_BYTES_MAX || self.awaits_answers;
        if !self.to_server.is_empty() || self.is_leaving || is_full {
            return Ok(Poll::Pending);
        }
        let proxy = std::rc::Rc::clone(&self.proxy);
        let mut scratch = proxy.scratch.borrow_mut();
        let scratch = &mut *scratch;
        let count = match self.client.poll_into(cx, &mut scratch.read) {
            Poll::Ready(Ok(0) | Err(_)) => return Err(self.client_closed()),
            Poll::Ready(Ok(count)) => count,
            Poll::Pending => return Ok(Poll::Pending),
        };
        let read = &scratch.read[..count];
        self.pool.stats.received.add(count as u64);
        if self.input.is_empty() {
            let mut splice = Splice::new(read, &mut scratch.out);
            let taken = self.take_client_bytes(read, &mut splice)?;
            buffer::append(&mut self.input, &read[taken.count..]);
            self.send_up(cx, splice.finish(taken.count))?;
            return Ok(Poll::Ready(taken.needs));
        }
        buffer::append(&mut self.input, read);
        self.take_input_with(cx, &mut scratch.out).map(Poll::Ready)
    }

    /// Deals with bytes that were read before.
    fn take_input(&mut self, cx: &mut Context<'_>) -> Result<Needs, End> {
        let proxy = std::rc::Rc::clone(&self.proxy);
        let mut scratch = proxy.scratch.borrow_mut();
        self.take_input_with(cx, &mut scratch.out)
    }

    fn take_input_with(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Result<Needs, End> {
        self.is_input_due = false;
        let mut input = std::mem::take(&mut self.input);
        let mut splice = Splice::new(&input, out);
        let taken = self.take_client_bytes(&input, &mut splice)?;
        let sent = self.send_up(cx, splice.finish(taken.count));
        buffer::consume(&mut input, taken.count);
        self.input = input;
        sent?;
        Ok(taken.needs)
    }

    fn send_up(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), End> {
        let Some(server) = self.server.as_mut().filter(|_| !bytes.is_empty()) else {
            return Ok(());
        };
        let written = match server.stream.poll_out(cx, bytes) {
            Poll::Ready(Ok(count)) => count,
            // What it said before it closed may still be read.
            Poll::Ready(Err(_)) => return Ok(()),
            Poll::Pending => 0,
        };
        buffer::append(&mut self.to_server, &bytes[written..]);
        Ok(())
    }

    fn poll_from_server(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if !self.to_client.is_empty() {
            return Ok(false);
        }
        let Some(mut server) = self.server.take() else {
            return Ok(false);
        };
        let proxy = std::rc::Rc::clone(&self.proxy);
        let mut scratch = proxy.scratch.borrow_mut();
        let scratch = &mut *scratch;
        let count = match server.stream.poll_into(cx, &mut scratch.read) {
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(_)) => 0,
            Poll::Pending => {
                self.server = Some(server);
                return Ok(false);
            }
        };
        if count == 0 {
            tracing::debug!(pool = %self.pool, "the server closed a connection that worked");
            return Err(End::ServerLost {
                was_told: self.was_told,
            });
        }
        self.pool.stats.sent.add(count as u64);
        let mut partial = std::mem::take(&mut server.partial);
        let bytes: &[u8] = if partial.is_empty() {
            &scratch.read[..count]
        } else {
            partial.extend_from_slice(&scratch.read[..count]);
            &partial
        };
        let mut splice = Splice::new(bytes, &mut scratch.out);
        let taken = self.take_server_bytes(&mut server, bytes, &mut splice)?;
        server.partial.extend_from_slice(&bytes[taken..]);
        let result = splice.finish(taken);
        // The server is free before its answer is written: the next client does not wait for it.
        self.is_input_due |= std::mem::take(&mut self.awaits_answers);
        self.keep_or_release(server);
        match self.client.poll_out(cx, result) {
            Poll::Ready(Ok(written)) => buffer::append(&mut self.to_client, &result[written..]),
            // Who said good-bye need not wait for answers; what was asked for is done.
            Poll::Ready(Err(_)) if self.is_leaving => {}
            Poll::Ready(Err(_)) => return Err(End::Lost),
            Poll::Pending => buffer::append(&mut self.to_client, result),
        }
        Ok(true)
    }

    fn client_closed(&self) -> End {
        match &self.server {
            Some(server) if !server.is_silent() => End::Lost,
            _ => End::Left,
        }
    }

    /// Reads what the client sends while it waits, so that its leaving is noticed.
    pub(super) fn poll_while_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        const HELD_BYTES_MAX: usize = 64 << 10;
        let proxy = std::rc::Rc::clone(&self.proxy);
        let mut scratch = proxy.scratch.borrow_mut();
        while self.input.len() < HELD_BYTES_MAX {
            match self.client.poll_into(cx, &mut scratch.read) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Poll::Ready(Ok(count)) => buffer::append(&mut self.input, &scratch.read[..count]),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Pending
    }
}

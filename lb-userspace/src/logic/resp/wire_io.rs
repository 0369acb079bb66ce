//! Connections to servers: begun, greeted, written to, read from; each answer to whom it is for.

use std::io;

use super::client::Hold;
use super::engine::Engine;
use super::link::{LinkId, NOBODY, Pending, Purpose, State, WHOLE};
use super::stream::Stream;
use crate::wire::resp::reply::{self, Kind, Scan};
use crate::wire::resp::write;

/// How long a connection may take until it is ready.
const CONNECT_MS: u64 = 1000;
/// Pauses between attempts to connect: doubled with each that fails, up to the second.
const RETRY_MS: u64 = 10;
const RETRY_MS_MAX: u64 = 200;
/// A reply that grew to more than this is not kept room for.
const REST_BYTES: usize = 256 << 10;

impl Engine {
    /// Begins to connect, if that is due.
    pub fn connect_link(&mut self, at: LinkId) {
        let now_ms = self.now_ms;
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        match link.state {
            State::Down { retry_ms } if retry_ms <= now_ms => {}
            _ => return,
        }
        let stream = Stream::connect(link.address, self.settings.connector.as_ref());
        let registered = stream.and_then(|mut stream| {
            stream.register(self.poll.registry(), Self::link_token(at))?;
            Ok(stream)
        });
        match registered {
            Ok(stream) => {
                link.stream = Some(stream);
                link.state = State::Connecting;
                link.since_ms = now_ms;
            }
            Err(error) => self.fail_link(at, &error.to_string()),
        }
    }

    pub fn link_is_writable(&mut self, at: LinkId) {
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        let Some(stream) = link.stream.as_mut() else {
            return;
        };
        if link.state == State::Connecting {
            match stream.connected() {
                Ok(true) => self.greet(at),
                Ok(false) => {}
                Err(error) => self.fail_link(at, &error.to_string()),
            }
            return;
        }
        let was_full = std::mem::take(&mut link.is_full);
        if let Err(error) = stream.flush() {
            self.fail_link(at, &error.to_string());
        } else if was_full {
            self.touch_link(at);
        }
    }

    /// Says who we are and asks who answers, before anything else.
    fn greet(&mut self, at: LinkId) {
        let mut hello = Vec::new();
        let mut count = 0;
        let mut say = |words: &[&[u8]]| {
            write::command(&mut hello, words);
            count += 1;
        };
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        let credentials = &self.settings.credentials;
        match (&credentials.username, &credentials.password) {
            (Some(user), Some(password)) => {
                say(&[b"AUTH", user.as_bytes(), password.as_bytes()]);
            }
            (None, Some(password)) => say(&[b"AUTH", password.as_bytes()]),
            _ => {}
        }
        if link.is_resp3 {
            say(&[b"HELLO", b"3"]);
        }
        let is_spare = link.server >= self.settings.cache.primaries.len();
        if link.purpose == Purpose::Gutter && !is_spare {
            let database = self.settings.cache.spare_database.to_string();
            say(&[b"SELECT", database.as_bytes()]);
        }
        say(&[b"INFO"]);
        link.state = State::Greeting(count);
        let stream = link.stream.as_mut();
        let written = stream.map(|stream| stream.write(&hello));
        match written {
            // A socket that has just connected has room for so little.
            Some(Ok(count)) if count == hello.len() => {}
            Some(Err(error)) => self.fail_link(at, &error.to_string()),
            _ => self.fail_link(at, "the socket took no greeting"),
        }
    }

    /// Takes an answer to what was said first.
    fn greeted(&mut self, at: LinkId, answer: &[u8]) -> Result<(), String> {
        let Some(link) = self.links.get_mut(at) else {
            return Ok(());
        };
        let State::Greeting(left) = link.state else {
            return Ok(());
        };
        if reply::kind(answer) == Kind::Error {
            let text = reply::text(answer).unwrap_or(answer);
            return Err(String::from_utf8_lossy(text).into_owned());
        }
        if left > 1 {
            link.state = State::Greeting(left - 1);
            return Ok(());
        }
        let info = String::from_utf8_lossy(reply::text(answer).unwrap_or_default()).into_owned();
        self.is_who_it_should_be(at, &info)?;
        let now_ms = self.now_ms;
        if let Some(link) = self.links.get_mut(at) {
            link.state = State::Ready;
            link.since_ms = now_ms;
            link.heard_ms = now_ms;
            link.failures = 0;
            link.was_ready = true;
            for pending in &mut link.pendings {
                pending.at_ms = pending.at_ms.max(now_ms);
            }
        }
        self.touch_link(at);
        self.report_lane(at);
        Ok(())
    }

    pub fn flush_link(&mut self, at: LinkId) {
        let sync = self.confirmation(at);
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        link.is_dirty = false;
        if !link.is_ready() || link.is_full || link.is_silent {
            return;
        }
        if let Some((pending, command)) = sync {
            link.push(pending, |out| out.extend_from_slice(&command));
            link.unconfirmed = 0;
            link.has_unconfirmed_write = false;
        }
        loop {
            let Some((stream, bytes)) = link.socket_and_unwritten() else {
                return;
            };
            if bytes.is_empty() {
                return;
            }
            match stream.write(bytes) {
                Ok(count) => link.wrote(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    link.is_full = true;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.fail_link(at, &error.to_string());
                    return;
                }
            }
        }
    }

    /// Reads what there is. `is_closed`: the end of the stream is there as well, and has to be read: nobody
    /// tells of it again.
    pub fn read_link(&mut self, at: LinkId, is_closed: bool) {
        let mut scratch = self.take_scratch();
        let mut failure = None;
        while let Some(link) = self.links.get_mut(at) {
            let Some(stream) = link.stream.as_mut() else {
                break;
            };
            if link.state == State::Connecting {
                match stream.connected() {
                    Err(error) => failure = Some(error.to_string()),
                    Ok(true) => {
                        self.greet(at);
                        continue;
                    }
                    Ok(false) => {}
                }
                break;
            }
            let generation = link.generation;
            match stream.read(&mut scratch) {
                Ok(0) => {
                    failure = Some("closed by the server".to_owned());
                    break;
                }
                Ok(count) => {
                    let is_all = count < scratch.len() && stream.is_plain();
                    link.heard_ms = self.now_ms;
                    if link.is_silent {
                        self.is_heard_again(at);
                    }
                    if let Err(error) = self.replies(at, &scratch[..count]) {
                        failure = Some(error);
                        break;
                    }
                    let is_other = self
                        .links
                        .get(at)
                        .is_none_or(|link| link.generation != generation);
                    if (is_all && !is_closed) || is_other {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    failure = Some(error.to_string());
                    break;
                }
            }
        }
        self.give_scratch(scratch);
        if let Some(reason) = failure {
            self.fail_link(at, &reason);
        }
    }

    /// Takes bytes that a server sent.
    fn replies(&mut self, at: LinkId, bytes: &[u8]) -> Result<(), String> {
        let Some(link) = self.links.get_mut(at) else {
            return Ok(());
        };
        let generation = link.generation;
        let mut rest = std::mem::take(&mut link.rest);
        let mut scan = std::mem::take(&mut link.scan);
        // Nothing is copied but a reply that is not whole yet.
        let is_continued = !rest.is_empty();
        if is_continued {
            rest.extend_from_slice(bytes);
        }
        let buffer: &[u8] = if is_continued { &rest } else { bytes };
        let mut taken = 0;
        while taken < buffer.len() {
            match scan
                .end(&buffer[taken..])
                .map_err(|error| error.to_string())?
            {
                Some(length) => {
                    let answer = &buffer[taken..taken + length];
                    taken += length;
                    scan = Scan::default();
                    self.reply(at, answer)?;
                    let is_other = |link: &super::link::Link| link.generation != generation;
                    if self.links.get(at).is_none_or(is_other) {
                        return Ok(());
                    }
                }
                None => break,
            }
        }
        let left = &buffer[taken..];
        if !left.is_empty() {
            let passed = self.pass(at, left, scan.passable(left.len()));
            scan.pass(passed);
            taken += passed;
        }
        let Some(link) = self.links.get_mut(at) else {
            return Ok(());
        };
        link.scan = scan;
        if is_continued {
            rest.drain(..taken);
            if rest.is_empty() && rest.capacity() > REST_BYTES {
                rest = Vec::new();
            }
        } else {
            rest.extend_from_slice(&bytes[taken..]);
        }
        link.rest = rest;
        Ok(())
    }

    fn reply(&mut self, at: LinkId, answer: &[u8]) -> Result<(), String> {
        let Some(link) = self.links.get_mut(at) else {
            return Ok(());
        };
        if !link.is_ready() {
            return self.greeted(at, answer);
        }
        if link.is_passing {
            // The end of what was passed on.
            link.is_passing = false;
            if let Some(pending) = link.answered() {
                self.deliver(at, &pending, answer);
            }
            return Ok(());
        }
        if link.purpose == Purpose::Listening {
            return self.heard(at, answer);
        }
        if reply::kind(answer) == Kind::Push {
            // Nothing that we ask for on a shared connection pushes anything.
            self.tally.pushes_unasked += 1;
            return Ok(());
        }
        let Some(first) = link.pendings.front_mut() else {
            return Err("an answer to nothing".to_owned());
        };
        if first.replies > 1 {
            first.replies -= 1;
            return Ok(());
        }
        if self.is_doubtful(at) {
            self.ask_again_when_vouched(at);
            return Ok(());
        }
        if answer.first() == Some(&b'-') && self.takes_back(at, answer) {
            return Ok(());
        }
        let now_ms = self.now_ms;
        let Some(link) = self.links.get_mut(at) else {
            return Ok(());
        };
        let Some(pending) = link.answered() else {
            return Ok(());
        };
        link.pace.record(now_ms.saturating_sub(pending.at_ms));
        if pending.is_wait {
            self.confirmed(at, answer);
            return Ok(());
        }
        if self.settings.is_sync && link.purpose == Purpose::Writer {
            link.waiting.push_back((pending, answer.len()));
            link.waiting_bytes.extend_from_slice(answer);
            return Ok(());
        }
        self.deliver(at, &pending, answer);
        Ok(())
    }

    /// Gives an answer to whom it is for.
    pub fn deliver(&mut self, from: LinkId, pending: &Pending, answer: &[u8]) {
        if pending.client == NOBODY {
            return;
        }
        let at = pending.client as usize;
        let Some(client) = self.clients.get_mut(at) else {
            return;
        };
        if client.generation != pending.generation {
            return;
        }
        let is_shared = self
            .links
            .get(from)
            .is_none_or(|link| link.purpose.is_shared());
        if !pending.is_read && is_shared {
            client.writes = client.writes.saturating_sub(1);
        }
        if pending.part == WHOLE {
            self.answer(at, pending.number, answer);
        } else {
            let is_resp3 = client.is_resp3;
            let whole = client
                .gather(pending.number)
                .and_then(|gather| gather.take(pending.part, answer, is_resp3));
            if let Some(whole) = whole {
                self.answer(at, pending.number, &whole);
            }
        }
        if !is_shared {
            self.private_answered(at, from);
        }
    }

    /// A client's blocking command is over.
    pub fn unblock(&mut self, at: usize) {
        if let Some(client) = self.clients.get_mut(at)
            && client.hold == Hold::Blocked
        {
            client.hold = Hold::No;
            self.resumed.push(at);
        }
    }

    /// When the next attempt to connect is due.
    pub fn retry_at(&self, failures: u32) -> u64 {
        if failures == 0 {
            return self.now_ms;
        }
        self.now_ms + (RETRY_MS << failures.min(5)).min(RETRY_MS_MAX)
    }

    /// Connections that take too long, or wait for their next attempt.
    pub fn tend_link(&mut self, at: LinkId) {
        let Some(link) = self.links.get(at) else {
            return;
        };
        let is_late = self.now_ms.saturating_sub(link.since_ms) > CONNECT_MS;
        match link.state {
            State::Down { .. } => self.connect_link(at),
            State::Connecting if is_late => self.fail_link(at, "it did not accept in time"),
            State::Greeting(_) if is_late => self.fail_link(at, "it did not answer in time"),
            _ => {}
        }
    }
}

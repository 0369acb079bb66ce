//! One thread of the Redis listener: an event loop over all its sockets.
//!
//! A turn reads what every ready socket has, then writes what that has led to: all commands that came
//! in one turn go to a server in one write, and all answers to a client in one. Nothing is allocated
//! for a command, no task is woken for it, and its bytes are copied once, from the buffer that they
//! were read into to the one that they are written from.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::acl::Users;
use super::client::{Client, Hold};
use super::known::Known;
use super::link::{Link, LinkId, Purpose};
use super::stream::Stream;
use super::view::View;
use super::{Resp, Settings};
use crate::wire::resp::command::{Found, Parser};
use crate::wire::resp::write;

/// Bytes that are read from a socket at a time.
const READ_BYTES: usize = 64 << 10;
/// Events that are looked at in one turn.
const EVENTS_MAX: usize = 1024;
/// Commands of one client that may be unanswered before no more are read from it.
const UNANSWERED_MAX: usize = 100_000;
/// Answers that may wait for a client to read them before no more commands are read from it.
const BACKLOG_BYTES: usize = 1 << 20;
/// Buffers that are kept for the next client that needs one, and how large they may be.
const BUFFERS_MAX: usize = 256;
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// Buffers of servers that do not answer, all commands together.
pub(super) const HELD_BYTES_MAX: usize = 256 << 20;

const CLIENT: usize = 0;
const LINK: usize = 1;
const LISTENER: usize = 2;
const KINDS: usize = 3;

/// Everything that one thread has.
pub(super) struct Engine {
    pub shared: Arc<Resp>,
    pub settings: Arc<Settings>,
    pub view: Arc<View>,
    pub users: Rc<Users>,
    pub poll: Poll,
    pub clients: Slab<Client>,
    pub links: Slab<Link>,
    /// Shared connections of each server: writer, copy, gutter, each in RESP 2 and 3.
    pub lanes: Vec<[Option<LinkId>; 6]>,
    /// Connections that nobody has now, for commands that block.
    pub idle: Vec<LinkId>,
    pub known: Rc<Known>,
    listeners: Vec<(TcpListener, bool)>,
    pub parser: Parser,
    scratch: Vec<u8>,
    pub dirty_clients: Vec<usize>,
    pub dirty_links: Vec<LinkId>,
    /// Clients whose input is to be looked at again.
    pub resumed: Vec<usize>,
    buffers: Vec<Vec<u8>>,
    started: Instant,
    pub now_ms: u64,
    pub next_generation: u32,
    pub is_draining: bool,
    /// Reads whose answers did not count.
    pub doubtful: Vec<super::strict::Doubtful>,
    /// Commands done, for the next report to the counters that all threads share.
    pub tally: super::counts::Tally,
}

impl Engine {
    pub fn new(
        shared: Arc<Resp>,
        listeners: Vec<(std::net::TcpListener, bool)>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut all = Vec::new();
        for (number, (listener, is_tls)) in listeners.into_iter().enumerate() {
            let mut listener = TcpListener::from_std(listener);
            let token = Token(number * KINDS + LISTENER);
            poll.registry()
                .register(&mut listener, token, Interest::READABLE)?;
            all.push((listener, is_tls));
        }
        let settings = shared.settings();
        let view = shared.view();
        let started = shared.started;
        Ok(Self {
            users: Rc::new(settings.users.clone()),
            lanes: vec![[None; 6]; view.servers.len()],
            view,
            settings,
            poll,
            clients: Slab::new(),
            links: Slab::new(),
            idle: Vec::new(),
            known: Rc::new(Known::new()),
            listeners: all,
            parser: Parser::default(),
            scratch: vec![0; READ_BYTES],
            dirty_clients: Vec::new(),
            dirty_links: Vec::new(),
            resumed: Vec::new(),
            buffers: Vec::new(),
            started,
            now_ms: 0,
            next_generation: 0,
            is_draining: false,
            doubtful: Vec::new(),
            tally: super::counts::Tally::default(),
            shared,
        })
    }

    /// Looks at all sockets that are ready, and writes what that leads to.
    pub fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        loop {
            match self.poll.poll(events, Some(std::time::Duration::ZERO)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            self.now_ms = self.started.elapsed().as_millis() as u64;
            for event in &*events {
                self.event(event);
            }
            self.settle();
            if events.iter().count() < EVENTS_MAX {
                return Ok(());
            }
        }
    }

    /// Room for the events of a turn.
    pub fn events() -> Events {
        Events::with_capacity(EVENTS_MAX)
    }

    /// Writes everything that is to be written, and what that leads to.
    pub fn settle(&mut self) {
        loop {
            while let Some(client) = self.resumed.pop() {
                self.resume(client);
            }
            for link in std::mem::take(&mut self.dirty_links) {
                self.flush_link(link);
            }
            for client in std::mem::take(&mut self.dirty_clients) {
                self.flush_client(client);
            }
            if self.resumed.is_empty() && self.dirty_links.is_empty() {
                break;
            }
        }
        self.tally.report(&self.shared.counts);
    }

    fn event(&mut self, event: &Event) {
        let Token(token) = event.token();
        let (at, kind) = (token / KINDS, token % KINDS);
        match kind {
            CLIENT => {
                if event.is_writable() {
                    self.client_is_writable(at);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.read_client(at, event.is_read_closed() || event.is_error());
                }
            }
            LINK => {
                if event.is_writable() {
                    self.link_is_writable(at);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.read_link(at);
                }
            }
            _ => self.accept(at),
        }
    }

    fn accept(&mut self, at: usize) {
        loop {
            let Some((listener, is_tls)) = self.listeners.get(at) else {
                return;
            };
            let is_tls = *is_tls;
            match listener.accept() {
                Ok((socket, peer)) => self.admit(socket, peer, is_tls),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    return;
                }
            }
        }
    }

    fn admit(&mut self, socket: TcpStream, peer: SocketAddr, is_tls: bool) {
        let counts = &self.shared.counts;
        if counts.clients.load(Ordering::Relaxed) >= self.settings.listener.max_clients as u64 {
            counts.clients_refused.fetch_add(1, Ordering::Relaxed);
            let mut stream = Stream::Plain(socket);
            if !is_tls {
                // Redis's own words.
                let _ = stream.write(b"-ERR max number of clients reached\r\n");
            }
            return;
        }
        let stream = match (is_tls, &self.settings.acceptor) {
            (false, _) => Stream::Plain(socket),
            (true, Some(config)) => match Stream::accept(socket, config) {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%peer, %error, "TLS cannot begin");
                    return;
                }
            },
            (true, None) => return,
        };
        let id = self.shared.next_client.fetch_add(1, Ordering::Relaxed);
        self.next_generation = self.next_generation.wrapping_add(1);
        let mut client = Client::new(stream, id, self.next_generation, self.now_ms);
        client.user = self.users.anonymous();
        let entry = self.clients.vacant_entry();
        let token = Token(entry.key() * KINDS + CLIENT);
        if let Err(error) = client.stream.register(self.poll.registry(), token) {
            tracing::warn!(%error, "a client cannot be watched");
            return;
        }
        entry.insert(client);
        counts.clients.fetch_add(1, Ordering::Relaxed);
        counts.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads the clock.
    pub fn now(&mut self) {
        self.now_ms = self.started.elapsed().as_millis() as u64;
    }

    /// Connects to every server, before anybody asks for one.
    pub fn open_lanes(&mut self) {
        self.now();
        for server in self.owners() {
            self.lane(server, Purpose::Writer, false);
            self.lane(server, Purpose::Copy, false);
        }
    }

    /// Takes the configuration that was read again, as far as it can change while clients are served.
    pub fn take_settings(&mut self) {
        self.settings = self.shared.settings();
        self.users = Rc::new(self.settings.users.clone());
    }

    /// Accepts nobody more, and lets everybody go who waits for no answer.
    pub fn drain(&mut self) {
        self.is_draining = true;
        self.listeners.clear();
        let is_done = |client: &Client| client.unanswered() == 0 && client.input.is_empty();
        let done = self.clients.iter().filter(|(_, client)| is_done(client));
        let blocked = self.clients.iter().filter(|(_, c)| c.hold == Hold::Blocked);
        let leaving: Vec<_> = done.chain(blocked).map(|(at, _)| at).collect();
        for client in leaving {
            self.leave(client);
            if self
                .clients
                .get(client)
                .is_some_and(|c| c.hold == Hold::Blocked)
            {
                self.drop_client(client);
            }
        }
        self.settle();
    }

    /// Closes clients that have been silent for too long.
    pub fn expire_clients(&mut self) {
        let Some(idle) = self.settings.listener.idle_timeout else {
            return;
        };
        let idle_ms = idle.as_millis() as u64;
        let is_old = |client: &Client| {
            client.hold != Hold::Blocked
                && client
                    .more
                    .as_ref()
                    .is_none_or(|more| !more.is_subscribed())
                && self.now_ms.saturating_sub(client.last_ms) > idle_ms
        };
        let old = self.clients.iter().filter(|(_, client)| is_old(client));
        let old: Vec<_> = old.map(|(at, _)| at).collect();
        for client in old {
            self.drop_client(client);
        }
    }

    // === clients ===

    fn read_client(&mut self, at: usize, is_closed: bool) {
        let mut scratch = std::mem::take(&mut self.scratch);
        loop {
            let Some(client) = self.clients.get_mut(at) else {
                break;
            };
            if client.is_leaving {
                break;
            }
            if client.hold != Hold::No || is_overfull(client) {
                client.is_readable = true;
                // Whoever waits in a command that blocks may go away meanwhile.
                if client.hold == Hold::No || client.input.len() > BACKLOG_BYTES {
                    break;
                }
            }
            match client.stream.read(&mut scratch) {
                Ok(0) => {
                    self.drop_client(at);
                    break;
                }
                Ok(count) => {
                    // The end of the stream, if it came with these bytes, has to be read.
                    let is_all = count < scratch.len() && client.stream.is_plain();
                    self.take_input(at, &scratch[..count]);
                    if is_all && !is_closed {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.drop_client(at);
                    break;
                }
            }
        }
        self.scratch = scratch;
    }

    fn take_input(&mut self, at: usize, bytes: &[u8]) {
        let Some(client) = self.clients.get_mut(at) else {
            return;
        };
        client.last_ms = self.now_ms;
        if client.input.is_empty() && client.hold == Hold::No {
            let taken = self.parse(at, bytes);
            if let Some(client) = self.clients.get_mut(at)
                && taken < bytes.len()
            {
                if client.input.capacity() == 0 {
                    client.input = self.buffers.pop().unwrap_or_default();
                }
                client.input.extend_from_slice(&bytes[taken..]);
                client.needs = client.needs.saturating_sub(taken);
            }
            return;
        }
        client.input.extend_from_slice(bytes);
        self.parse_input(at);
    }

    /// Goes on where a client was held.
    pub fn resume(&mut self, at: usize) {
        self.parse_input(at);
        let Some(client) = self.clients.get_mut(at) else {
            return;
        };
        if client.is_readable && client.hold == Hold::No && !is_overfull(client) {
            client.is_readable = false;
            // Whether it was closed meanwhile is not remembered.
            self.read_client(at, true);
        }
    }

    fn parse_input(&mut self, at: usize) {
        let Some(client) = self.clients.get_mut(at) else {
            return;
        };
        if client.hold != Hold::No || client.input.is_empty() || client.input.len() < client.needs {
            return;
        }
        let mut input = std::mem::take(&mut client.input);
        let taken = self.parse(at, &input);
        let Some(client) = self.clients.get_mut(at) else {
            return;
        };
        client.needs = client.needs.saturating_sub(taken);
        if taken == input.len() {
            self.keep_buffer(input);
        } else {
            input.drain(..taken);
            client.input = input;
        }
    }

    /// Runs the commands at the start of `bytes`; how many bytes they had. `needs` is counted from the
    /// start of `bytes` while it runs.
    fn parse(&mut self, at: usize, bytes: &[u8]) -> usize {
        let mut parser = std::mem::take(&mut self.parser);
        let mut taken = 0;
        while taken < bytes.len() {
            let Some(client) = self.clients.get_mut(at) else {
                break;
            };
            if client.hold != Hold::No || client.is_leaving || is_overfull(client) {
                client.is_readable = true;
                client.needs = taken;
                break;
            }
            let rest = &bytes[taken..];
            match parser.next(rest, &mut client.progress) {
                Ok(Found::Command(length)) => {
                    if self.command(at, &rest[..length], &parser.words) {
                        taken += length;
                    } else {
                        // It waits until all before it are answered, and is looked at again.
                        if let Some(client) = self.clients.get_mut(at) {
                            client.needs = taken;
                        }
                        break;
                    }
                }
                Ok(Found::Inline(length)) => {
                    if !self.inline(at, &rest[..length]) {
                        if let Some(client) = self.clients.get_mut(at) {
                            client.needs = taken;
                        }
                        break;
                    }
                    taken += length;
                }
                Ok(Found::Nothing(length)) => taken += length,
                Ok(Found::Partial(needs)) => {
                    client.needs = taken + needs;
                    break;
                }
                Err(error) => {
                    self.tally.protocol_errors += 1;
                    let mut text = Vec::new();
                    write::error(&mut text, &format!("ERR {error}"));
                    self.say(at, &text);
                    self.leave(at);
                    break;
                }
            }
        }
        parser.words.clear();
        self.parser = parser;
        taken
    }

    fn inline(&mut self, at: usize, line: &[u8]) -> bool {
        let words = match crate::wire::resp::command::inline_words(line.trim_ascii_end()) {
            Ok(words) => words,
            Err(error) => {
                self.tally.protocol_errors += 1;
                let mut text = Vec::new();
                write::error(&mut text, &format!("ERR {error}"));
                self.say(at, &text);
                self.leave(at);
                return true;
            }
        };
        let mut bytes = Vec::new();
        write::command(&mut bytes, &words);
        let mut parser = Parser::default();
        match parser.next(&bytes, &mut Default::default()) {
            Ok(Found::Command(_)) => self.command(at, &bytes, &parser.words),
            _ => true,
        }
    }

    /// Answers a client at once, in its turn.
    pub fn say(&mut self, at: usize, answer: &[u8]) {
        if let Some(client) = self.clients.get_mut(at) {
            if client.output.capacity() == 0 {
                client.output = self.buffers.pop().unwrap_or_default();
            }
            client.say(answer);
            self.touch_client(at);
        }
    }

    /// The answer to one of a client's commands.
    pub fn answer(&mut self, at: usize, number: u32, answer: &[u8]) {
        if let Some(client) = self.clients.get_mut(at) {
            if client.output.capacity() == 0 {
                client.output = self.buffers.pop().unwrap_or_default();
            }
            client.answer(number, answer);
            self.touch_client(at);
        }
    }

    /// It has something to be written, or to be done.
    pub fn touch_client(&mut self, at: usize) {
        if let Some(client) = self.clients.get_mut(at)
            && !client.is_dirty
        {
            client.is_dirty = true;
            self.dirty_clients.push(at);
        }
    }

    /// Nothing more is read from it; it is closed when it has been told everything.
    pub fn leave(&mut self, at: usize) {
        if let Some(client) = self.clients.get_mut(at) {
            client.is_leaving = true;
            self.touch_client(at);
        }
    }

    fn client_is_writable(&mut self, at: usize) {
        let Some(client) = self.clients.get_mut(at) else {
            return;
        };
        let was_full = std::mem::take(&mut client.is_full);
        if client.stream.flush().is_err() {
            self.drop_client(at);
        } else if was_full {
            self.touch_client(at);
        }
    }

    fn flush_client(&mut self, at: usize) {
        let Some(client) = self.clients.get_mut(at) else {
            return;
        };
        client.is_dirty = false;
        while client.sent < client.output.len() && !client.is_full {
            match client.stream.write(&client.output[client.sent..]) {
                Ok(count) => client.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => client.is_full = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.drop_client(at);
                    return;
                }
            }
        }
        if client.sent == client.output.len() {
            client.sent = 0;
            client.output.clear();
            let buffer = std::mem::take(&mut client.output);
            self.keep_buffer(buffer);
        } else if client.backlog() > self.settings.listener.output_bytes_max {
            self.tally.clients_too_slow += 1;
            self.drop_client(at);
            return;
        }
        let Some(client) = self.clients.get_mut(at) else {
            return;
        };
        if client.is_leaving && client.unanswered() == 0 && client.output.is_empty() {
            self.drop_client(at);
            return;
        }
        if client.hold == Hold::UntilAnswered && client.unanswered() == 0 {
            client.hold = Hold::No;
            self.resumed.push(at);
        } else if client.is_readable && client.hold == Hold::No && !is_overfull(client) {
            self.resumed.push(at);
        }
    }

    /// Closes it. What was sent for it is done by the servers, and their answers are thrown away.
    pub fn drop_client(&mut self, at: usize) {
        let Some(mut client) = self.clients.try_remove(at) else {
            return;
        };
        client.stream.deregister(self.poll.registry());
        self.shared.counts.clients.fetch_sub(1, Ordering::Relaxed);
        if let Some(more) = client.more.take() {
            self.drop_links_of(&more);
        }
        let buffers = [client.input, client.output];
        buffers
            .into_iter()
            .for_each(|buffer| self.keep_buffer(buffer));
    }

    fn keep_buffer(&mut self, mut buffer: Vec<u8>) {
        let is_useful = (1..=BUFFER_BYTES_MAX).contains(&buffer.capacity());
        if is_useful && self.buffers.len() < BUFFERS_MAX {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    // === links ===

    /// Where events of a link are to go.
    pub fn link_token(link: LinkId) -> Token {
        Token(link * KINDS + LINK)
    }

    /// Its buffer has something to be written.
    pub fn touch_link(&mut self, at: LinkId) {
        if let Some(link) = self.links.get_mut(at)
            && !link.is_dirty
        {
            link.is_dirty = true;
            self.dirty_links.push(at);
        }
    }

    /// Takes the buffer that sockets are read into; it must be given back.
    pub fn take_scratch(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.scratch)
    }

    pub fn give_scratch(&mut self, scratch: Vec<u8>) {
        self.scratch = scratch;
    }
}

fn is_overfull(client: &Client) -> bool {
    client.unanswered() >= UNANSWERED_MAX || client.backlog() > BACKLOG_BYTES
}

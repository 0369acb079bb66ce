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
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::acl::Users;
use super::balance::Load;
use super::client::{Client, Hold};
use super::known::Known;
use super::link::{Link, LinkId, Purpose};
use super::stream::Stream;
use super::thread::WAKE;
use super::view::View;
use super::{Resp, Settings};
use crate::wire::resp::command::Parser;

/// Bytes that are read from a socket at a time.
const READ_BYTES: usize = 64 << 10;
/// Events that are looked at in one turn.
const EVENTS_MAX: usize = 1024;
/// Buffers of servers that do not answer, all commands together.
pub(super) const HELD_BYTES_MAX: usize = 256 << 20;

const CLIENT: usize = 0;
const LINK: usize = 1;
const LISTENER: usize = 2;
const KINDS: usize = 3;

/// Everything that one thread has.
pub(super) struct Engine {
    pub shared: Arc<Resp>,
    /// Which of the threads it is.
    pub place: usize,
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
    pub scratch: Vec<u8>,
    pub dirty_clients: Vec<usize>,
    pub dirty_links: Vec<LinkId>,
    /// Clients whose input is to be looked at again.
    pub resumed: Vec<usize>,
    pub buffers: Vec<Vec<u8>>,
    started: Instant,
    pub now_ms: u64,
    pub next_generation: u32,
    pub is_draining: bool,
    pub load: Load,
    /// Reads whose answers did not count.
    pub doubtful: Vec<super::strict::Doubtful>,
    /// Commands done, for the next report to the counters that all threads share.
    pub tally: super::counts::Tally,
}

impl Engine {
    pub fn new(
        shared: Arc<Resp>,
        place: usize,
        listeners: Vec<(std::net::TcpListener, bool)>,
        poll: Poll,
    ) -> anyhow::Result<Self> {
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
            place,
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
            load: Load::new(),
            doubtful: Vec::new(),
            tally: super::counts::Tally::default(),
            shared,
        })
    }

    /// Waits until sockets are ready, for so long at most; looks at them, and writes what that leads to.
    /// `true`: somebody has news.
    pub fn turn(&mut self, events: &mut Events, pause: Duration) -> io::Result<bool> {
        match self.poll.poll(events, Some(pause)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let now = Instant::now();
        self.now_ms = now.saturating_duration_since(self.started).as_millis() as u64;
        let mut is_woken = false;
        for event in &*events {
            if event.token() == WAKE {
                is_woken = true;
            } else {
                self.event(event);
            }
        }
        self.settle();
        self.look_at_load(now);
        Ok(is_woken)
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
            while let Some(link) = self.dirty_links.pop() {
                self.flush_link(link);
            }
            while let Some(client) = self.dirty_clients.pop() {
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
                let is_closed = event.is_read_closed() || event.is_error();
                if event.is_readable() || is_closed {
                    self.read_link(at, is_closed);
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
        let mut client = Client::new(stream, id, self.now_ms);
        client.user = self.users.anonymous();
        counts.clients.fetch_add(1, Ordering::Relaxed);
        counts.connections.fetch_add(1, Ordering::Relaxed);
        match self.home_elsewhere() {
            Some(thread) => self.give(thread, client),
            None => self.take_in(client),
        }
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
        let settings = self.shared.settings();
        if Arc::ptr_eq(&settings, &self.settings) {
            return;
        }
        self.settings = settings;
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

    // === links ===

    /// Where events of a client are to go.
    pub fn client_token(client: usize) -> Token {
        Token(client * KINDS + CLIENT)
    }

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

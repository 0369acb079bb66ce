//! Subscriptions. A channel has a server as a key has, where it is published and listened to; patterns
//! are listened to everywhere. Each client listens on connections of its own, so that the numbers that
//! PUBLISH gives back are Redis's. Confirmations are ours: their counts are over all servers.

use super::dispatch::Request;
use super::engine::Engine;
use super::join::{Gather, How};
use super::link::{LinkId, Pending, Purpose, State};
use super::more::Subscriptions;
use crate::wire::resp::{reply, write};

/// The most channels and patterns of one client.
const SUBSCRIPTIONS_MAX: usize = 100_000;

impl Engine {
    pub fn subscription(&mut self, request: &Request<'_>) -> bool {
        let name = request.entry.command.name;
        let is_ending = name.contains("unsub");
        let names: Vec<Vec<u8>> = if request.words.len() > 1 {
            request.arguments().map(<[u8]>::to_vec).collect()
        } else {
            self.all_of(request.client, name)
        };
        if is_ending && names.is_empty() {
            self.say_confirmation(request.client, name, None);
            return true;
        }
        for channel in names {
            let servers = if name.starts_with('p') {
                self.owners()
            } else {
                vec![self.settings.placement.of(&channel)]
            };
            self.change(request.client, name, &channel, &servers);
        }
        true
    }

    fn all_of(&mut self, at: usize, name: &str) -> Vec<Vec<u8>> {
        let client = self.clients.get_mut(at);
        let more = client.and_then(|client| client.more.as_mut());
        let Some(subscriptions) = more.and_then(|more| more.subscriptions.as_mut()) else {
            return Vec::new();
        };
        subscriptions.set(name).iter().cloned().collect()
    }

    /// Begins or ends to listen to one channel or pattern, and confirms it when all servers have.
    fn change(&mut self, at: usize, name: &'static str, channel: &[u8], servers: &[usize]) {
        let is_ending = name.contains("unsub");
        let Some(client) = self.clients.get_mut(at) else {
            return;
        };
        let subscriptions = client.more().subscriptions.get_or_insert_default();
        let was_there = if is_ending {
            subscriptions.set(name).remove(channel)
        } else {
            if subscriptions.total() >= SUBSCRIPTIONS_MAX {
                self.refuse(at, "ERR lb: too many subscriptions");
                return;
            }
            !subscriptions.set(name).insert(channel.to_vec())
        };
        if is_ending != was_there {
            // Nothing changes, which is confirmed as well.
            self.say_confirmation(at, name, Some(channel));
            return;
        }
        let text = self.confirmation_of(at, name, Some(channel));
        let links: Vec<_> = servers
            .iter()
            .filter_map(|server| self.listening_link(at, *server))
            .collect();
        let Some(client) = self.clients.get_mut(at) else {
            return;
        };
        let number = client.expect_parts(Gather::new(How::Fixed(text), links.len()));
        let generation = client.generation;
        for (part, link) in (0..).zip(links) {
            let pending = Pending {
                part,
                ..Pending::for_client(at, generation, number, self.now_ms)
            };
            if let Some(link) = self.links.get_mut(link) {
                link.push(pending, |out| {
                    write::command(out, &[name.as_bytes(), channel]);
                });
            }
            self.touch_link(link);
        }
    }

    fn listening_link(&mut self, at: usize, server: usize) -> Option<LinkId> {
        let client = self.clients.get_mut(at)?;
        let subscriptions = client.more().subscriptions.get_or_insert_default();
        let known = subscriptions.links.iter().find(|(_, of)| *of == server);
        if let Some((link, _)) = known {
            return Some(*link);
        }
        let link = self.private_link(at, server, Purpose::Listening)?;
        let client = self.clients.get_mut(at)?;
        let subscriptions = client.more().subscriptions.get_or_insert_default();
        subscriptions.links.push((link, server));
        Some(link)
    }

    fn say_confirmation(&mut self, at: usize, name: &str, channel: Option<&[u8]>) {
        let text = self.confirmation_of(at, name, channel);
        self.say(at, &text);
    }

    fn confirmation_of(&mut self, at: usize, name: &str, channel: Option<&[u8]>) -> Vec<u8> {
        let mut out = Vec::new();
        let Some(client) = self.clients.get_mut(at) else {
            return out;
        };
        let is_resp3 = client.is_resp3;
        let subscriptions = client.more().subscriptions.get_or_insert_default();
        let count = if matches!(name, "ssubscribe" | "sunsubscribe") {
            subscriptions.shard_channels.len()
        } else {
            subscriptions.channels.len() + subscriptions.patterns.len()
        };
        out.extend_from_slice(if is_resp3 { b">3\r\n" } else { b"*3\r\n" });
        write::bulk(&mut out, name.as_bytes());
        match channel {
            Some(channel) => write::bulk(&mut out, channel),
            None => write::nil(&mut out, is_resp3),
        }
        write::integer(&mut out, count as i64);
        out
    }

    /// Something came on a connection that listens: a message, or a confirmation.
    pub fn heard(&mut self, at: LinkId, frame: &[u8]) -> Result<(), String> {
        let kind = reply::elements(frame)
            .and_then(|elements| elements.first().copied().and_then(reply::text))
            .unwrap_or_default();
        let Some(link) = self.links.get_mut(at) else {
            return Ok(());
        };
        if matches!(kind, b"message" | b"pmessage" | b"smessage") {
            let owner = link.owner as usize;
            if let Some(client) = self.clients.get_mut(owner) {
                client.output.extend_from_slice(frame);
                self.touch_client(owner);
            }
            return Ok(());
        }
        let Some(first) = link.pendings.front_mut() else {
            return Ok(());
        };
        if first.replies > 1 {
            first.replies -= 1;
            return Ok(());
        }
        if let Some(pending) = link.answered() {
            self.deliver(at, &pending, frame);
        }
        Ok(())
    }

    /// The connection on which a client listened is lost: it listens again where the server is now.
    /// Messages meanwhile are lost, as they are to any client of Redis that reconnects.
    pub fn listen_again(&mut self, owner: usize, at: LinkId, server: usize) {
        let retry_ms = self.retry_at(1);
        let address = self.view.servers.get(server).map(|server| server.writer);
        let placement = std::sync::Arc::clone(&self.settings);
        let subscriptions = self
            .clients
            .get_mut(owner)
            .and_then(|client| client.more.as_mut())
            .and_then(|more| more.subscriptions.as_mut());
        let Some(subscriptions) = subscriptions else {
            self.drop_link(at);
            return;
        };
        let mut commands = Vec::new();
        let is_here = |channel: &&Vec<u8>| placement.placement.of(channel) == server;
        for channel in subscriptions.channels.iter().filter(is_here) {
            write::command(&mut commands, &[&b"subscribe"[..], channel]);
        }
        for pattern in &subscriptions.patterns {
            write::command(&mut commands, &[&b"psubscribe"[..], pattern]);
        }
        for channel in subscriptions.shard_channels.iter().filter(is_here) {
            write::command(&mut commands, &[&b"ssubscribe"[..], channel]);
        }
        let count = subscriptions.channels.iter().filter(is_here).count()
            + subscriptions.patterns.len()
            + subscriptions.shard_channels.iter().filter(is_here).count();
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        // Confirmations that are still owed are in the new ones.
        let (_, owed) = link.take_unanswered();
        if let (Some(address), true) = (address, count > 0) {
            link.address = address;
            link.state = State::Down { retry_ms };
            let again = Pending {
                replies: count as u32,
                ..Pending::for_nobody(self.now_ms)
            };
            link.push(again, |out| out.extend_from_slice(&commands));
        } else {
            subscriptions.links.retain(|(link, _)| *link != at);
            self.drop_link(at);
        }
        for (pending, ..) in owed {
            self.deliver(at, &pending, b"+OK\r\n");
        }
    }
}

impl Subscriptions {
    fn total(&self) -> usize {
        self.channels.len() + self.patterns.len() + self.shard_channels.len()
    }

    /// The set that a command of that name changes.
    fn set(&mut self, name: &str) -> &mut std::collections::BTreeSet<Vec<u8>> {
        match name {
            "psubscribe" | "punsubscribe" => &mut self.patterns,
            "ssubscribe" | "sunsubscribe" => &mut self.shard_channels,
            _ => &mut self.channels,
        }
    }
}

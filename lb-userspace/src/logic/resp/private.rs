//! Connections of one client: for commands that block, for watched keys, for subscriptions.

use super::client::Hold;
use super::dispatch::Request;
use super::engine::Engine;
use super::link::{Link, LinkId, NOBODY, Purpose, WHOLE};
use super::more::More;
use super::route::Errand;

/// Connections of one thread that belong to single clients.
const PRIVATE_MAX: usize = 20_000;
/// Of these, the ones that nobody has and that are kept for the next.
const IDLE_MAX: usize = 64;

impl Engine {
    /// Whether a command that may block does.
    pub fn blocks(&self, request: &Request<'_>) -> bool {
        match request.entry.command.name {
            // They block only when asked to.
            "xread" | "xreadgroup" => {
                let mut words = request.arguments();
                words
                    .by_ref()
                    .take_while(|word| !word.eq_ignore_ascii_case(b"streams"))
                    .any(|word| word.eq_ignore_ascii_case(b"block"))
            }
            _ => true,
        }
    }

    /// A command that blocks: all before it are answered first, all behind it wait, as in Redis.
    pub fn blocking(&mut self, request: &Request<'_>) -> bool {
        let at = request.client;
        if !self.is_alone(at) {
            return false;
        }
        let Some(server) = self.one_place(request) else {
            return true;
        };
        let Some(link) = self.private_link(at, server, Purpose::Blocking) else {
            return true;
        };
        let Some(client) = self.clients.get_mut(at) else {
            return true;
        };
        client.hold = Hold::Blocked;
        let number = client.expect();
        client.more().blocking = Some(link);
        let errand = Errand {
            client: at,
            number,
            part: WHOLE,
            replies: 1,
            server,
            is_read: request.entry.is_read,
        };
        let bytes = request.bytes;
        self.send_on(link, &errand, |out| out.extend_from_slice(bytes));
        true
    }

    /// A connection of the client's own, or a refusal.
    pub fn private_link(&mut self, at: usize, server: usize, purpose: Purpose) -> Option<LinkId> {
        let is_resp3 = self.clients.get(at)?.is_resp3;
        let address = self.view.servers.get(server)?.writer;
        let fits = |link: &Link| {
            link.server == server
                && link.is_resp3 == is_resp3
                && link.address == address
                && link.is_ready()
        };
        let idle = self
            .idle
            .iter()
            .position(|idle| self.links.get(*idle).is_some_and(fits));
        let link = match idle {
            Some(place) if purpose != Purpose::Listening => self.idle.swap_remove(place),
            _ => {
                if self.links.len() >= PRIVATE_MAX {
                    let text = "ERR lb: too many clients wait in commands that block";
                    self.refuse(at, text);
                    return None;
                }
                self.links
                    .insert(Link::new(server, purpose, is_resp3, address))
            }
        };
        let owner = at as u32;
        if let Some(link) = self.links.get_mut(link) {
            link.purpose = purpose;
            link.owner = owner;
        }
        self.connect_link(link);
        Some(link)
    }

    /// A connection of a client's own has answered.
    pub fn private_answered(&mut self, at: usize, link: LinkId) {
        let Some(found) = self.links.get(link) else {
            return;
        };
        let is_done = found.pendings.is_empty();
        match found.purpose {
            Purpose::Blocking => {
                if let Some(client) = self.clients.get_mut(at) {
                    client.more().blocking = None;
                }
                self.give_back(link);
                self.unblock(at);
            }
            // Held only for EXEC, with which watching ends.
            Purpose::Watching if is_done => {
                let Some(client) = self.clients.get_mut(at) else {
                    return;
                };
                if client.hold == Hold::Blocked {
                    client.more().watch = None;
                    self.give_back(link);
                    self.unblock(at);
                }
            }
            _ => {}
        }
    }

    /// Nobody has it any more. One that watched must not go on doing so.
    pub fn give_back(&mut self, at: LinkId) {
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        let is_clean = link.purpose == Purpose::Blocking
            && link.is_ready()
            && link.pendings.is_empty()
            && self.idle.len() < IDLE_MAX;
        if is_clean {
            link.owner = NOBODY;
            self.idle.push(at);
        } else {
            self.drop_link(at);
        }
    }

    /// Closes a connection that is not shared, whatever it waits for.
    pub fn drop_link(&mut self, at: LinkId) {
        self.idle.retain(|idle| *idle != at);
        if let Some(mut link) = self.links.try_remove(at)
            && let Some(stream) = &mut link.stream
        {
            stream.deregister(self.poll.registry());
        }
    }

    /// The client has gone: so do its connections, and Redis notices.
    pub fn drop_links_of(&mut self, more: &More) {
        let watch = more.watch.map(|(link, _)| link);
        let listening = more.subscriptions.iter().flat_map(|s| s.links.iter());
        let all: Vec<_> = listening
            .map(|(link, _)| *link)
            .chain(watch)
            .chain(more.blocking)
            .collect();
        for link in all {
            self.drop_link(link);
        }
    }

    /// What waited on a connection of a client's own was not taken in time: it waits no longer.
    pub fn private_given_up(&mut self, at: LinkId) {
        let Some(link) = self.links.get(at).filter(|link| link.pendings.is_empty()) else {
            return;
        };
        let owner = link.owner as usize;
        self.drop_link(at);
        if let Some(client) = self.clients.get_mut(owner)
            && let Some(more) = &mut client.more
        {
            more.blocking = more.blocking.filter(|link| *link != at);
            more.watch = more.watch.filter(|(link, _)| *link != at);
        }
        self.unblock(owner);
    }

    /// A connection of a client's own has failed; what it owes is answered by the caller.
    pub fn private_failed(&mut self, at: LinkId) {
        let Some(link) = self.links.get(at) else {
            return;
        };
        let (owner, purpose, server) = (link.owner as usize, link.purpose, link.server);
        if purpose == Purpose::Listening && link.owner != NOBODY {
            self.listen_again(owner, at, server);
            return;
        }
        self.drop_link(at);
        if let Some(client) = self.clients.get_mut(owner)
            && let Some(more) = &mut client.more
            && more.blocking == Some(at)
        {
            // A watch that is lost is remembered by its dead connection: EXEC will be nil.
            more.blocking = None;
        }
        self.unblock(owner);
    }
}

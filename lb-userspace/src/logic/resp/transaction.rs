//! MULTI to EXEC. Commands are kept here, and go to their one server together, between MULTI and EXEC,
//! on the shared connection: nothing of anybody else comes between them. Watched keys need a connection
//! of the client's own.

use super::client::Hold;
use super::dispatch::{Place, Request};
use super::engine::Engine;
use super::link::{LinkId, Purpose, WHOLE};
use super::more::Transaction;
use super::route::Errand;
use crate::wire::resp::disposition::Disposition;

/// The most bytes of commands between MULTI and EXEC.
const BYTES_MAX: usize = 512 << 20;

impl Engine {
    /// What a client with something of its own has to pass before its command: `false`: it is refused.
    pub fn begin_with_more(&mut self, request: &Request<'_>) -> bool {
        let Some(client) = self.clients.get_mut(request.client) else {
            return false;
        };
        let is_resp3 = client.is_resp3;
        let more = client.more();
        more.next_command();
        if is_resp3 || !more.is_subscribed() {
            return true;
        }
        let name = request.entry.command.name;
        let is_good = request.entry.disposition == Disposition::Subscription
            || matches!(name, "ping" | "quit" | "reset");
        if !is_good {
            let text = format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET \
                 are allowed in this context",
                name.replace('|', " ")
            );
            self.refuse(request.client, &text);
        }
        is_good
    }

    /// Keeps a command for EXEC, if the client is in a transaction; `true`: it is kept, or refused.
    pub fn is_queued(&mut self, request: &Request<'_>) -> bool {
        let command = request.entry.command;
        let is_out = matches!(
            command.name,
            "exec" | "discard" | "multi" | "watch" | "quit" | "reset"
        );
        let client = self.clients.get(request.client);
        let more = client.and_then(|client| client.more.as_ref());
        if is_out || more.is_none_or(|more| more.transaction.is_none()) {
            return false;
        }
        if command.is_refused_in_multi {
            let text = "ERR Command not allowed inside a transaction";
            self.refuse(request.client, text);
            return true;
        }
        let is_single = self.is_single();
        let server = match request.entry.disposition {
            Disposition::Routed | Disposition::Split(_) => match self.place(request) {
                Place::Keyless | Place::Wrong => None,
                _ => match self.one_place(request) {
                    Some(server) => Some(server),
                    None => return true,
                },
            },
            Disposition::Channel => Some(self.settings.placement.of(request.word(1))),
            Disposition::Everywhere(_) if is_single => None,
            Disposition::Anywhere | Disposition::Answered => None,
            _ => {
                let name = command.name.replace('|', " ").to_uppercase();
                let text = format!(
                    "ERR lb: {name} is refused inside a transaction: it concerns several servers"
                );
                self.refuse(request.client, &text);
                return true;
            }
        };
        self.queue(request, server)
    }

    fn queue(&mut self, request: &Request<'_>, server: Option<usize>) -> bool {
        let Some(client) = self.clients.get_mut(request.client) else {
            return true;
        };
        let Some(transaction) = &mut client.more().transaction else {
            return false;
        };
        let is_elsewhere = match (transaction.server, server) {
            (Some(one), Some(other)) => one != other,
            _ => false,
        };
        let is_too_much = transaction.commands.len() + request.bytes.len() > BYTES_MAX;
        if is_elsewhere || is_too_much {
            let text = if is_elsewhere {
                "CROSSSLOT lb: the keys of a transaction have to be on one server; give them a common \
                 {tag}"
            } else {
                "ERR lb: the transaction is too long"
            };
            self.refuse(request.client, text);
            return true;
        }
        transaction.server = transaction.server.or(server);
        transaction.commands.extend_from_slice(request.bytes);
        transaction.count += 1;
        self.say(request.client, b"+QUEUED\r\n");
        true
    }

    pub fn transaction(&mut self, request: &Request<'_>) -> bool {
        let at = request.client;
        let Some(client) = self.clients.get_mut(at) else {
            return true;
        };
        match request.entry.command.name {
            "multi" => {
                let more = client.more();
                if more.transaction.is_some() {
                    // It spoils nothing: Redis goes on as well.
                    self.say(at, b"-ERR MULTI calls can not be nested\r\n");
                    return true;
                }
                more.transaction = Some(Transaction::default());
                self.say(at, b"+OK\r\n");
            }
            "discard" => {
                if client.more().transaction.is_none() {
                    self.refuse(at, "ERR DISCARD without MULTI");
                    return true;
                }
                if !self.may_unwatch(at) {
                    return false;
                }
                self.end_transaction(at);
                self.say(at, b"+OK\r\n");
            }
            "exec" => return self.exec(request),
            "watch" => return self.watch(request),
            _ => {
                if !self.is_alone(at) {
                    return false;
                }
                self.unwatch(at);
                self.say(at, b"+OK\r\n");
            }
        }
        true
    }

    fn exec(&mut self, request: &Request<'_>) -> bool {
        let at = request.client;
        let any = self.any_server();
        let Some(client) = self.clients.get_mut(at) else {
            return true;
        };
        let watch = client.more().watch;
        let Some(transaction) = &client.more().transaction else {
            self.refuse(at, "ERR EXEC without MULTI");
            return true;
        };
        let server = watch
            .map(|(_, server)| server)
            .or(transaction.server)
            .unwrap_or(any);
        let is_elsewhere = transaction.server.is_some_and(|other| other != server);
        if transaction.is_spoilt || is_elsewhere {
            let text = if transaction.is_spoilt {
                "EXECABORT Transaction discarded because of previous errors."
            } else {
                "CROSSSLOT lb: the keys of a transaction have to be on the server of those that are \
                 watched; give them a common {tag}"
            };
            if !self.may_unwatch(at) {
                return false;
            }
            self.end_transaction(at);
            self.refuse(at, text);
            return true;
        }
        let Some(transaction) = client.more().transaction.take() else {
            return true;
        };
        let errand = Errand {
            client: at,
            number: client.expect(),
            part: WHOLE,
            replies: transaction.count + 2,
            server,
            is_read: false,
        };
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"*1\r\n$5\r\nMULTI\r\n");
            out.extend_from_slice(&transaction.commands);
            out.extend_from_slice(b"*1\r\n$4\r\nEXEC\r\n");
        };
        match watch {
            Some((link, _)) if self.watches(at, link) => {
                self.hold(at, Hold::Blocked);
                self.send_on(link, &errand, write);
            }
            // The connection that watched is lost, and what it saw with it.
            Some(_) => {
                let client = self.clients.get_mut(at);
                let is_resp3 = client.is_some_and(|client| {
                    client.more().watch = None;
                    client.is_resp3
                });
                let nil: &[u8] = if is_resp3 { b"_\r\n" } else { b"*-1\r\n" };
                self.answer(at, errand.number, nil);
            }
            None => self.send(&errand, write),
        }
        true
    }

    fn watch(&mut self, request: &Request<'_>) -> bool {
        let at = request.client;
        let Some(client) = self.clients.get_mut(at) else {
            return true;
        };
        if client.more().transaction.is_some() {
            self.say(at, b"-ERR WATCH inside MULTI is not allowed\r\n");
            return true;
        }
        if !self.is_alone(at) {
            return false;
        }
        let Some(server) = self.one_place(request) else {
            return true;
        };
        let watch = self
            .clients
            .get_mut(at)
            .and_then(|client| client.more().watch);
        let link = match watch {
            Some((link, watched)) if self.watches(at, link) => {
                if watched != server {
                    let text = "CROSSSLOT lb: watched keys have to be on one server; give them a common \
                                {tag}";
                    self.refuse(at, text);
                    return true;
                }
                link
            }
            _ => {
                let Some(link) = self.private_link(at, server, Purpose::Watching) else {
                    return true;
                };
                if let Some(client) = self.clients.get_mut(at) {
                    client.more().watch = Some((link, server));
                }
                link
            }
        };
        self.on_own_link(request, link, server);
        true
    }

    /// While a client watches, its commands for that server go where it watches: their order counts.
    pub fn on_watching_link(&mut self, request: &Request<'_>, server: usize) -> Option<bool> {
        let client = self.clients.get(request.client)?;
        let (link, watched) = client.more.as_ref()?.watch?;
        if watched != server || !self.watches(request.client, link) {
            return None;
        }
        self.on_own_link(request, link, server);
        Some(true)
    }

    fn on_own_link(&mut self, request: &Request<'_>, link: LinkId, server: usize) {
        let Some(client) = self.clients.get_mut(request.client) else {
            return;
        };
        let errand = Errand {
            client: request.client,
            number: client.expect(),
            part: WHOLE,
            replies: 1,
            server,
            is_read: request.entry.is_read,
        };
        let bytes = request.bytes;
        self.send_on(link, &errand, |out| out.extend_from_slice(bytes));
    }

    /// Whether that is still the connection on which a client watches: one that was lost may have left
    /// its place to another.
    fn watches(&self, at: usize, link: LinkId) -> bool {
        let link = self.links.get(link);
        link.is_some_and(|link| link.purpose == Purpose::Watching && link.owner as usize == at)
    }

    /// Whether what is watched can be given up now: its connection may still owe answers.
    fn may_unwatch(&mut self, at: usize) -> bool {
        let client = self.clients.get(at);
        let more = client.and_then(|client| client.more.as_ref());
        more.is_none_or(|more| more.watch.is_none()) || self.is_alone(at)
    }

    fn end_transaction(&mut self, at: usize) {
        if let Some(client) = self.clients.get_mut(at) {
            client.more().transaction = None;
        }
        self.unwatch(at);
    }

    /// Gives up what is watched.
    fn unwatch(&mut self, at: usize) {
        let client = self.clients.get_mut(at);
        let more = client.and_then(|client| client.more.as_mut());
        if let Some((link, _)) = more.and_then(|more| more.watch.take())
            && self.watches(at, link)
        {
            self.give_back(link);
        }
    }

    pub fn hold(&mut self, at: usize, hold: Hold) {
        if let Some(client) = self.clients.get_mut(at) {
            client.hold = hold;
        }
    }
}

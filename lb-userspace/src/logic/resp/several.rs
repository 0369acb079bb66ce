//! Commands that several servers answer: parts of one, or all of it at each.

use super::dispatch::Request;
use super::engine::Engine;
use super::join::{Gather, How};
use super::route::Errand;
use crate::wire::resp::disposition::{Join, Split};
use crate::wire::resp::write;

/// What of a split command goes to one server.
#[derive(Default)]
struct Part {
    /// Places of its keys among the words.
    keys: Vec<usize>,
    /// The part's own number; parts are numbered by the servers that have any.
    number: u32,
}

impl Engine {
    pub fn split(&mut self, request: &Request<'_>, split: Split) -> bool {
        let step = if split == Split::Pairs { 2 } else { 1 };
        if split == Split::Pairs && request.words.len().is_multiple_of(2) {
            let text = "ERR wrong number of arguments for 'mset' command";
            self.refuse(request.client, text);
            return true;
        }
        let keys = (1..request.words.len()).step_by(step);
        let owner = |at: usize| self.settings.placement.of(request.word(at));
        let first = owner(1);
        if keys.clone().skip(1).all(|at| owner(at) == first) {
            return self.send_to(request, first);
        }
        self.tally.commands_split += 1;
        let mut parts: Vec<Part> = Vec::new();
        parts.resize_with(self.view.servers.len(), Part::default);
        // Of each key, its server and its place in that one's part.
        let mut order = Vec::with_capacity(request.words.len() / step);
        for at in keys {
            let server = self.settings.placement.of(request.word(at));
            let part = &mut parts[server].keys;
            order.push((server as u32, part.len() as u32));
            part.push(at);
        }
        let mut count = 0;
        for part in parts.iter_mut().filter(|part| !part.keys.is_empty()) {
            part.number = count;
            count += 1;
        }
        for (server, _) in &mut order {
            *server = parts[*server as usize].number;
        }
        let how = match split {
            Split::Values => How::Values(order),
            Split::Pairs => How::AllOk,
            Split::Count => How::Join(Join::Sum),
        };
        let Some(client) = self.clients.get_mut(request.client) else {
            return true;
        };
        let number = client.expect_parts(Gather::new(how, count as usize));
        for (server, part) in parts.iter().enumerate() {
            if part.keys.is_empty() {
                continue;
            }
            let errand = Errand {
                client: request.client,
                number,
                part: part.number,
                replies: 1,
                server,
                is_read: request.entry.is_read,
            };
            self.send(&errand, |out| {
                write::array(out, 1 + part.keys.len() * step);
                write::bulk(out, request.word(0));
                for at in &part.keys {
                    (*at..*at + step).for_each(|word| write::bulk(out, request.word(word)));
                }
            });
        }
        true
    }

    pub fn everywhere(&mut self, request: &Request<'_>, join: Join) -> bool {
        if join == Join::Scan {
            return self.scan(request);
        }
        // The databases behind the clients' own are nobody's business: FLUSHALL would take lb's as well.
        let is_flush = request.entry.command.name == "flushall";
        if self.is_single() && !is_flush {
            return self.send_to(request, self.any_server());
        }
        let servers = self.owners();
        let Some(client) = self.clients.get_mut(request.client) else {
            return true;
        };
        let number = client.expect_parts(Gather::new(How::Join(join), servers.len()));
        for (part, server) in (0..).zip(servers) {
            let errand = Errand {
                client: request.client,
                number,
                part,
                replies: 1,
                server,
                is_read: request.entry.is_read,
            };
            self.send(&errand, |out| {
                if is_flush {
                    write::array(out, request.words.len());
                    write::bulk(out, b"FLUSHDB");
                    request.arguments().for_each(|word| write::bulk(out, word));
                } else {
                    out.extend_from_slice(request.bytes);
                }
            });
        }
        true
    }

    fn scan(&mut self, request: &Request<'_>) -> bool {
        let servers = self.owners();
        let count = servers.len() as u128;
        let text = std::str::from_utf8(request.word(1)).ok();
        let cursor: Option<u64> = text.and_then(|text| text.parse().ok());
        let Some(cursor) = cursor.map(u128::from) else {
            self.refuse(request.client, "ERR invalid cursor");
            return true;
        };
        let (own, place) = (cursor / count, (cursor % count) as usize);
        let how = How::Cursor {
            server: place as u64,
            servers: count as u64,
        };
        let Some(client) = self.clients.get_mut(request.client) else {
            return true;
        };
        let errand = Errand {
            client: request.client,
            number: client.expect_parts(Gather::new(how, 1)),
            part: 0,
            replies: 1,
            server: servers[place],
            is_read: true,
        };
        self.send(&errand, |out| {
            write::array(out, request.words.len());
            write::bulk(out, request.word(0));
            write::bulk(out, own.to_string().as_bytes());
            for at in 2..request.words.len() {
                write::bulk(out, request.word(at));
            }
        });
        true
    }
}

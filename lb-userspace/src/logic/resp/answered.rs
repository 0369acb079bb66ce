//! Commands that are answered here: who a client is, and what it wants of its connection.

use std::fmt::Write as _;

use super::dispatch::Request;
use super::engine::Engine;
use super::more::Replies;
use super::peers::{Meant, What};
use crate::wire::resp::write;

/// The version of Redis whose commands are served.
const REDIS_VERSION: &str = "7.0.15";

impl Engine {
    pub fn answered(&mut self, request: &Request<'_>) -> bool {
        let at = request.client;
        match request.entry.command.name {
            "ping" => self.ping(request),
            "echo" => self.say_bulk(at, request.word(1)),
            "hello" => return self.hello(request),
            "auth" => self.auth(request),
            "quit" => {
                self.say(at, b"+OK\r\n");
                self.leave(at);
            }
            "reset" => return self.reset(request),
            "select" => match request.word(1) {
                b"0" => self.say(at, b"+OK\r\n"),
                number if number.iter().all(u8::is_ascii_digit) => self.refuse(
                    at,
                    "ERR DB index is out of range (lb: there is one database, number 0)",
                ),
                _ => self.refuse(at, "ERR value is not an integer or out of range"),
            },
            "info" => self.info(request),
            "acl|whoami" => {
                let user = self.clients.get(at).and_then(|client| client.user.clone());
                let name = user.map(|user| user.name.clone()).unwrap_or_default();
                self.say_bulk(at, name.as_bytes());
            }
            _ => self.client_command(request),
        }
        true
    }

    pub fn say_bulk(&mut self, at: usize, text: &[u8]) {
        let mut answer = Vec::new();
        write::bulk(&mut answer, text);
        self.say(at, &answer);
    }

    fn ping(&mut self, request: &Request<'_>) {
        let at = request.client;
        let client = self.clients.get(at);
        let is_listening = client.is_some_and(|client| {
            let more = client.more.as_ref();
            !client.is_resp3 && more.is_some_and(|more| more.is_subscribed())
        });
        match (request.words.len(), is_listening) {
            (1, false) => self.say(at, b"+PONG\r\n"),
            (2, false) => self.say_bulk(at, request.word(1)),
            (1 | 2, true) => {
                let mut answer = b"*2\r\n$4\r\npong\r\n".to_vec();
                write::bulk(&mut answer, request.word(1));
                self.say(at, &answer);
            }
            _ => self.refuse(at, "ERR wrong number of arguments for 'ping' command"),
        }
    }

    fn auth(&mut self, request: &Request<'_>) {
        let (name, password) = match request.words.len() {
            2 => (&b"default"[..], request.word(1)),
            3 => (request.word(1), request.word(2)),
            _ => return self.refuse(request.client, "ERR syntax error"),
        };
        if request.words.len() == 2 && self.users.default_needs_none() {
            let text = "ERR AUTH <password> called without any password configured for the default \
                        user. Are you sure your configuration is correct?";
            return self.refuse(request.client, text);
        }
        if self.authenticate(request.client, name, password) {
            self.say(request.client, b"+OK\r\n");
        }
    }

    fn authenticate(&mut self, at: usize, name: &[u8], password: &[u8]) -> bool {
        let Some(user) = self.users.authenticate(name, password) else {
            self.tally.auth_failures += 1;
            let text = "WRONGPASS invalid username-password pair or user is disabled.";
            self.refuse(at, text);
            return false;
        };
        if let Some(client) = self.clients.get_mut(at) {
            client.user = Some(user);
        }
        true
    }

    /// HELLO changes how answers look, so it waits until all before it are answered.
    fn hello(&mut self, request: &Request<'_>) -> bool {
        if !self.is_alone(request.client) {
            return false;
        }
        let at = request.client;
        let version = match request.words.len() {
            1 => None,
            _ => match request.word(1) {
                b"2" => Some(false),
                b"3" => Some(true),
                other if other.iter().all(u8::is_ascii_digit) => {
                    self.refuse(at, "NOPROTO unsupported protocol version");
                    return true;
                }
                _ => {
                    self.refuse(at, "ERR Protocol version is not an integer or out of range");
                    return true;
                }
            },
        };
        let mut name = None;
        let mut word = 2;
        while word < request.words.len() {
            match request.lower(word).as_slice() {
                b"auth" if word + 2 < request.words.len() => {
                    let (user, password) = (request.word(word + 1), request.word(word + 2));
                    if !self.authenticate(at, user, password) {
                        return true;
                    }
                    word += 3;
                }
                b"setname" if word + 1 < request.words.len() => {
                    name = Some(request.word(word + 1));
                    word += 2;
                }
                other => {
                    let other = String::from_utf8_lossy(other).into_owned();
                    self.refuse(at, &format!("ERR Syntax error in HELLO option '{other}'"));
                    return true;
                }
            }
        }
        let is_known = self.clients.get(at).is_some_and(|c| c.user.is_some());
        if !is_known {
            let text = "NOAUTH HELLO must be called with the client already authenticated, otherwise \
                        the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the \
                        client and select the RESP protocol version at the same time";
            self.refuse(at, text);
            return true;
        }
        if let Some(name) = name
            && !self.set_name(at, name)
        {
            return true;
        }
        let Some(client) = self.clients.get_mut(at) else {
            return true;
        };
        client.is_resp3 = version.unwrap_or(client.is_resp3);
        let (is_resp3, id) = (client.is_resp3, client.id);
        let mut answer = Vec::new();
        write::map(&mut answer, 7, is_resp3);
        for (key, value) in [
            (&b"server"[..], &b"redis"[..]),
            (b"version", REDIS_VERSION.as_bytes()),
        ] {
            write::bulk(&mut answer, key);
            write::bulk(&mut answer, value);
        }
        write::bulk(&mut answer, b"proto");
        write::integer(&mut answer, if is_resp3 { 3 } else { 2 });
        write::bulk(&mut answer, b"id");
        write::integer(&mut answer, id as i64);
        for (key, value) in [(&b"mode"[..], &b"standalone"[..]), (b"role", b"master")] {
            write::bulk(&mut answer, key);
            write::bulk(&mut answer, value);
        }
        write::bulk(&mut answer, b"modules");
        write::array(&mut answer, 0);
        self.say(at, &answer);
        true
    }

    fn reset(&mut self, request: &Request<'_>) -> bool {
        if !self.is_alone(request.client) {
            return false;
        }
        let anonymous = self.users.anonymous();
        let Some(client) = self.clients.get_mut(request.client) else {
            return true;
        };
        let more = client.more.take();
        client.is_resp3 = false;
        client.user = anonymous;
        if let Some(more) = more {
            self.drop_links_of(&more);
        }
        self.say(request.client, b"+RESET\r\n");
        true
    }

    fn set_name(&mut self, at: usize, name: &[u8]) -> bool {
        if name.iter().any(|byte| !(b'!'..=b'~').contains(byte)) {
            let text = "ERR Client names cannot contain spaces, newlines or special characters.";
            self.refuse(at, text);
            return false;
        }
        if let Some(client) = self.clients.get_mut(at) {
            client.more().name = name.to_vec();
        }
        true
    }

    fn client_command(&mut self, request: &Request<'_>) {
        let at = request.client;
        match request.entry.command.name {
            "client|setname" => {
                if self.set_name(at, request.word(2)) {
                    self.say(at, b"+OK\r\n");
                }
            }
            "client|getname" => {
                let more = self.clients.get(at).and_then(|client| client.more.as_ref());
                let name = more.map(|more| more.name.clone()).unwrap_or_default();
                if name.is_empty() {
                    let is_resp3 = self.clients.get(at).is_some_and(|c| c.is_resp3);
                    let mut nil = Vec::new();
                    write::nil(&mut nil, is_resp3);
                    self.say(at, &nil);
                } else {
                    self.say_bulk(at, &name);
                }
            }
            "client|id" => {
                let id = self.clients.get(at).map_or(0, |client| client.id);
                let mut answer = Vec::new();
                write::integer(&mut answer, id as i64);
                self.say(at, &answer);
            }
            "client|info" => {
                let line = self.line_of(at);
                self.say_bulk(at, line.as_bytes());
            }
            "client|list" => self.ask_all(at, &What::List, false),
            "client|reply" => self.client_reply(request),
            "client|no-evict" => match request.lower(2).as_slice() {
                b"on" | b"off" => self.say(at, b"+OK\r\n"),
                _ => self.refuse(at, "ERR syntax error"),
            },
            "client|kill" => self.client_kill(request),
            name => {
                let name = name.replace('|', " ").to_uppercase();
                let why = "clients of other threads and servers are not reached";
                self.refuse(at, &format!("ERR lb: {name} is refused: {why}"));
            }
        }
    }

    fn client_reply(&mut self, request: &Request<'_>) {
        let at = request.client;
        let replies = match request.lower(2).as_slice() {
            b"on" => Replies::On,
            b"off" => Replies::Off,
            b"skip" => Replies::SkipNext,
            _ => return self.refuse(at, "ERR syntax error"),
        };
        let Some(client) = self.clients.get_mut(at) else {
            return;
        };
        let more = client.more();
        if replies == Replies::SkipNext && more.replies == Replies::Off {
            return;
        }
        more.replies = replies;
        if replies == Replies::On {
            self.say(at, b"+OK\r\n");
        }
    }

    fn client_kill(&mut self, request: &Request<'_>) {
        let at = request.client;
        let is_old = request.words.len() == 3;
        let (what, value) = if is_old {
            (b"addr".to_vec(), request.word(2))
        } else {
            (request.lower(2), request.word(3))
        };
        let value = String::from_utf8_lossy(value).into_owned();
        let meant = match (what.as_slice(), value.parse()) {
            (b"id", Ok(id)) => Meant::Id(id),
            (b"id", Err(_)) => return self.refuse(at, "ERR client-id should be greater than 0"),
            (b"addr", _) => Meant::Address(value),
            (b"user", _) => Meant::User(value),
            _ => {
                let text = "ERR lb: CLIENT KILL is refused but for ID, ADDR and USER";
                return self.refuse(at, text);
            }
        };
        if request.words.len() > 4 {
            let text = "ERR lb: CLIENT KILL is refused with more than one condition";
            return self.refuse(at, text);
        }
        self.ask_all(at, &What::Kill(meant), is_old);
    }

    pub fn line_of(&self, at: usize) -> String {
        let Some(client) = self.clients.get(at) else {
            return String::new();
        };
        let more = client.more.as_ref();
        let name = more.map(|more| String::from_utf8_lossy(&more.name).into_owned());
        let subscriptions = more.and_then(|more| more.subscriptions.as_ref());
        let peer = client.stream.peer();
        let seconds = |since: u64| self.now_ms.saturating_sub(since) / 1000;
        let multi = more.and_then(|more| more.transaction.as_ref());
        format!(
            "id={} addr={} name={} age={} idle={} db=0 sub={} psub={} multi={} user={} resp={}\n",
            client.id,
            peer.map(|peer| peer.to_string()).unwrap_or_default(),
            name.unwrap_or_default(),
            seconds(client.connected_ms),
            seconds(client.last_ms),
            subscriptions.map_or(0, |s| s.channels.len()),
            subscriptions.map_or(0, |s| s.patterns.len()),
            multi.map_or(-1, |multi| i64::from(multi.count)),
            client.user.as_ref().map_or("", |user| &user.name),
            if client.is_resp3 { 3 } else { 2 },
        )
    }

    /// What clients ask before they begin: that this is Redis, and not loading.
    fn info(&mut self, request: &Request<'_>) {
        let sections: Vec<_> = (1..request.words.len())
            .map(|at| request.lower(at))
            .collect();
        let wants = |name: &str| {
            let all =
                |asked: &Vec<u8>| matches!(asked.as_slice(), b"all" | b"everything" | b"default");
            sections.is_empty()
                || sections
                    .iter()
                    .any(|s| s.as_slice() == name.as_bytes() || all(s))
        };
        let mut text = String::new();
        if wants("server") {
            let _ = write!(
                text,
                "# Server\r\nredis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\nlb_version:{}\r\n\
                 process_id:{}\r\nuptime_in_seconds:{}\r\n\r\n",
                env!("CARGO_PKG_VERSION"),
                std::process::id(),
                self.now_ms / 1000
            );
        }
        if wants("clients") {
            let clients = &self.shared.counts.clients;
            let clients = clients.load(std::sync::atomic::Ordering::Relaxed);
            let _ = write!(text, "# Clients\r\nconnected_clients:{clients}\r\n\r\n");
        }
        if wants("persistence") {
            text += "# Persistence\r\nloading:0\r\n\r\n";
        }
        if wants("replication") {
            let copies = self
                .view
                .servers
                .iter()
                .filter(|s| s.copy.is_some())
                .count();
            let _ = write!(
                text,
                "# Replication\r\nrole:master\r\nlb_servers:{}\r\nlb_copies:{copies}\r\n\r\n",
                self.owners().len()
            );
        }
        if wants("cluster") {
            text += "# Cluster\r\ncluster_enabled:0\r\n\r\n";
        }
        self.say_bulk(request.client, text.trim_end_matches("\r\n\r\n").as_bytes());
    }
}

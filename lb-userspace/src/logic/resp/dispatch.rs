//! One command of a client: what it is, whose it is, and where it goes.

use std::rc::Rc;

use super::acl::Denied;
use super::client::Hold;
use super::engine::Engine;
use super::known::{Entry, Known, Meaning};
use super::link::WHOLE;
use super::route::Errand;
use crate::wire::resp::command::Word;
use crate::wire::resp::disposition::Disposition;
use crate::wire::resp::keys::each_key;
use crate::wire::resp::write;

/// A command at hand.
#[derive(Clone, Copy)]
pub(super) struct Request<'r> {
    pub client: usize,
    /// All of it, as it goes to a server.
    pub bytes: &'r [u8],
    pub words: &'r [Word],
    pub entry: &'r Entry,
}

impl<'r> Request<'r> {
    pub fn word(&self, at: usize) -> &'r [u8] {
        self.words.get(at).map_or(&[], |word| word.of(self.bytes))
    }

    pub fn arguments(&self) -> impl Iterator<Item = &'r [u8]> {
        let bytes = self.bytes;
        self.words.iter().skip(1).map(move |word| word.of(bytes))
    }

    /// The word in lower case, for comparison with what Redis knows.
    pub fn lower(&self, at: usize) -> Vec<u8> {
        self.word(at).to_ascii_lowercase()
    }
}

/// Servers of a command's keys.
pub(super) enum Place {
    /// It has none.
    Keyless,
    One(usize),
    Several,
    /// As many as it says there cannot be.
    Wrong,
}

impl Engine {
    /// Runs a command; `false`: it has to wait until all before it are answered, and come again.
    pub fn command(&mut self, client: usize, bytes: &[u8], words: &[Word]) -> bool {
        let known = Rc::clone(&self.known);
        self.command_of(&known, client, bytes, words)
    }

    fn command_of(&mut self, known: &Known, client: usize, bytes: &[u8], words: &[Word]) -> bool {
        let Some(first) = words.first() else {
            return true;
        };
        self.tally.commands += 1;
        let second = words.get(1).map(|word| word.of(bytes));
        let meaning = known.find(first.of(bytes), second);
        let more = self.clients.get(client).and_then(|c| c.more.as_ref());
        let replies = more.map(|more| more.replies);
        let has_more = replies.is_some();
        let entry = match meaning {
            Meaning::Command(entry) if has_right_arity(entry, words.len()) => entry,
            wrong => {
                self.begin(client, has_more);
                let text = unknown(&wrong, bytes, words);
                self.refuse(client, &text);
                return true;
            }
        };
        let request = Request {
            client,
            bytes,
            words,
            entry,
        };
        if has_more && !self.begin_with_more(&request) {
            return true;
        }
        if !self.is_allowed(&request) {
            return true;
        }
        if has_more && self.is_queued(&request) {
            return true;
        }
        let done = match entry.disposition {
            Disposition::Routed => self.routed(&request),
            Disposition::Split(split) => self.split(&request, split),
            Disposition::Everywhere(join) => self.everywhere(&request, join),
            Disposition::Anywhere => self.send_to(&request, self.any_server()),
            Disposition::Channel => {
                let server = self.settings.placement.of(request.word(1));
                self.send_to(&request, server)
            }
            Disposition::Answered => self.answered(&request),
            Disposition::Transaction => self.transaction(&request),
            Disposition::Subscription => self.subscription(&request),
            Disposition::Refused(why) => {
                let name = entry.command.name.replace('|', " ").to_uppercase();
                self.refuse(client, &format!("ERR lb: {name} is refused: {why}"));
                true
            }
        };
        if !done {
            // It comes again, and is counted then.
            self.tally.commands -= 1;
            if let (Some(replies), Some(client)) = (replies, self.clients.get_mut(client)) {
                client.more().replies = replies;
            }
        }
        done
    }

    fn begin(&mut self, client: usize, has_more: bool) {
        if has_more && let Some(client) = self.clients.get_mut(client) {
            client.more().next_command();
        }
    }

    /// Refuses a command; inside a transaction that spoils it.
    pub fn refuse(&mut self, client: usize, text: &str) {
        self.tally.commands_refused += 1;
        if let Some(client) = self.clients.get_mut(client)
            && let Some(more) = &mut client.more
            && let Some(transaction) = &mut more.transaction
        {
            transaction.is_spoilt = true;
        }
        let mut answer = Vec::new();
        write::error(&mut answer, text);
        self.say(client, &answer);
    }

    /// Whether the client has said who it is, and that one may do this.
    fn is_allowed(&mut self, request: &Request<'_>) -> bool {
        let command = request.entry.command;
        let user = self
            .clients
            .get(request.client)
            .and_then(|c| c.user.as_ref());
        let Some(user) = user else {
            if matches!(command.name, "auth" | "hello" | "quit" | "reset") {
                return true;
            }
            self.refuse(request.client, "NOAUTH Authentication required.");
            return false;
        };
        if user.is_unrestricted() {
            return true;
        }
        let outcome = user.may(request.entry.at, command, request.bytes, request.words);
        let Err(denied) = outcome else {
            return true;
        };
        let name = &user.name;
        let text = match denied {
            Denied::Command => format!(
                "NOPERM User {name} has no permissions to run the '{}' command",
                command.name
            ),
            Denied::Key => "NOPERM No permissions to access a key".to_owned(),
            Denied::Channel => "NOPERM No permissions to access a channel".to_owned(),
        };
        self.refuse(request.client, &text);
        false
    }

    /// The servers of a command's keys.
    pub fn place(&self, request: &Request<'_>) -> Place {
        let placement = &self.settings.placement;
        if let Some(at) = request.entry.key {
            return Place::One(placement.of(request.word(at)));
        }
        let mut place = Place::Keyless;
        let each = |at: usize, _: &_| {
            let server = placement.of(request.word(at));
            place = match place {
                Place::Keyless => Place::One(server),
                Place::One(one) if one == server => Place::One(one),
                _ => Place::Several,
            };
        };
        match each_key(request.entry.command, request.bytes, request.words, each) {
            Ok(()) => place,
            Err(_) => Place::Wrong,
        }
    }

    /// The place of a command that has one server only, or a refusal.
    pub fn one_place(&mut self, request: &Request<'_>) -> Option<usize> {
        let name = request.entry.command.name;
        let place = match name {
            "sort" | "sort_ro" => self.place_of_sort(request),
            _ => self.place(request),
        };
        match place {
            Place::One(server) => Some(server),
            // The server says best what is wrong.
            Place::Keyless | Place::Wrong => Some(self.any_server()),
            Place::Several => {
                let name = name.to_uppercase();
                let text = format!(
                    "CROSSSLOT lb: the keys of this {name} are on several servers; give them a \
                     common {{tag}}"
                );
                self.refuse(request.client, &text);
                None
            }
        }
    }

    fn place_of_sort(&self, request: &Request<'_>) -> Place {
        let placement = &self.settings.placement;
        let own = placement.of(request.word(1));
        let mut at = 2;
        while at + 1 < request.words.len() {
            let other = request.word(at + 1);
            let is_elsewhere = match request.lower(at).as_slice() {
                b"store" => placement.of(other) != own,
                // What a pattern names is known only where it has a tag of its own.
                b"by" | b"get" => {
                    other.contains(&b'*')
                        && (crate::wire::resp::keys::tag(other) == other
                            || placement.of(other) != own)
                }
                _ => {
                    at += 1;
                    continue;
                }
            };
            if is_elsewhere && !self.is_single() {
                return Place::Several;
            }
            at += 2;
        }
        Place::One(own)
    }

    fn routed(&mut self, request: &Request<'_>) -> bool {
        if request.entry.command.is_blocking && self.blocks(request) {
            return self.blocking(request);
        }
        let server = match request.entry.key {
            Some(at) => self.settings.placement.of(request.word(at)),
            None => match self.one_place(request) {
                Some(server) => server,
                None => return true,
            },
        };
        self.send_to(request, server)
    }

    /// Sends a command to one server, whole.
    pub fn send_to(&mut self, request: &Request<'_>, server: usize) -> bool {
        if let Some(done) = self.on_watching_link(request, server) {
            return done;
        }
        let Some(client) = self.clients.get_mut(request.client) else {
            return true;
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
        self.send(&errand, |out| out.extend_from_slice(bytes));
        true
    }

    /// Lets a command wait until all before it are answered; `true`: they are.
    pub fn is_alone(&mut self, client: usize) -> bool {
        let Some(client) = self.clients.get_mut(client) else {
            return true;
        };
        if client.unanswered() == 0 {
            return true;
        }
        client.hold = Hold::UntilAnswered;
        false
    }

    /// Servers that own keys.
    pub fn owners(&self) -> Vec<usize> {
        let primaries = self.settings.cache.primaries.iter().enumerate();
        let serving = primaries.filter(|(_, primary)| primary.weight > 0);
        serving.map(|(at, _)| at).collect()
    }

    /// Whether one server owns all keys.
    pub fn is_single(&self) -> bool {
        self.owners().len() == 1
    }

    /// A server for what any server can answer.
    pub fn any_server(&self) -> usize {
        let mut owners = self.owners().into_iter();
        let first = owners.next().unwrap_or_default();
        std::iter::once(first)
            .chain(owners)
            .find(|server| self.can_serve(*server))
            .unwrap_or(first)
    }
}

fn has_right_arity(entry: &Entry, words: usize) -> bool {
    let arity = entry.command.arity;
    let needed = arity.unsigned_abs() as usize;
    if arity < 0 {
        words >= needed
    } else {
        words == needed
    }
}

/// What Redis says of a command that it does not know, or not so.
fn unknown(meaning: &Meaning<'_>, bytes: &[u8], words: &[Word]) -> String {
    let text = |word: &Word| {
        let word = String::from_utf8_lossy(word.of(bytes));
        word.chars().take(128).collect::<String>()
    };
    match meaning {
        Meaning::Command(entry) => format!(
            "ERR wrong number of arguments for '{}' command",
            entry.command.name
        ),
        Meaning::NoSubcommand(entry) => format!(
            "ERR unknown subcommand '{}'. Try {} HELP.",
            words.get(1).map(text).unwrap_or_default(),
            entry.command.name.to_uppercase()
        ),
        Meaning::Nothing => {
            let mut arguments = String::new();
            for word in words.iter().skip(1) {
                if arguments.len() >= 128 {
                    break;
                }
                let left = 128 - arguments.len();
                let word: String = text(word).chars().take(left).collect();
                arguments += &format!("'{word}' ");
            }
            format!(
                "ERR unknown command '{}', with args beginning with: {arguments}",
                words.first().map(text).unwrap_or_default()
            )
        }
    }
}

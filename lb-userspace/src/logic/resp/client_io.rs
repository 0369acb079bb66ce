//! Sockets of clients: what they sent becomes commands, what they are answered is written to them.

use std::io;
use std::sync::atomic::Ordering;

use super::client::{Client, Hold};
use super::engine::Engine;
use crate::wire::resp::command::{Found, Parser};
use crate::wire::resp::write;

/// Commands of one client that may be unanswered before no more are read from it.
const UNANSWERED_MAX: usize = 100_000;
/// Answers that may wait for a client to read them before no more commands are read from it.
const BACKLOG_BYTES: usize = 1 << 20;
/// Buffers that are kept for the next client that needs one, and how large they may be.
const BUFFERS_MAX: usize = 256;
const BUFFER_BYTES_MAX: usize = 64 << 10;

impl Engine {
    pub(super) fn read_client(&mut self, at: usize, is_closed: bool) {
        let mut scratch = std::mem::take(&mut self.scratch);
        while let Some(client) = self.clients.get_mut(at) {
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

    pub(super) fn client_is_writable(&mut self, at: usize) {
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

    pub(super) fn flush_client(&mut self, at: usize) {
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
        } else {
            self.let_go(at);
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
}

fn is_overfull(client: &Client) -> bool {
    client.unanswered() >= UNANSWERED_MAX || client.backlog() > BACKLOG_BYTES
}

//! The client's messages as a server gets them: prepared statements by the names that all sessions
//! share, taught to a server that does not know them; and what each message leaves behind.

use std::collections::HashMap;
use std::rc::Rc;

use super::{End, Named, Session};
use crate::logic::postgres::pool::Upstream;
use crate::upstream::postgres::Awaited;
use crate::upstream::postgres::statements::{self, Statement, stamp};
use crate::wire::buffer;
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::frame::{HEADER_BYTES, Header};
use crate::wire::postgres::frontend::{self, Object};
use crate::wire::postgres::sql::{self, Trace};
use crate::wire::postgres::write;
use crate::wire::splice::Splice;

/// The longest message that is looked at as a whole. Longer ones pass through unread, and pin
/// their session: what they leave behind is not known.
const LOOKED_AT_BYTES_MAX: usize = 1 << 20;
/// Names of statements and portals may take so many bytes.
const NAMES_BYTES_MAX: usize = 8 << 10;
/// The longest unnamed statement that is kept, to be sent again to another server.
const UNNAMED_BYTES_MAX: usize = 64 << 10;
/// The most prepared statements of one client.
const STATEMENTS_MAX: usize = 10_000;
/// The most prepared statements of one connection to a proxy.
const PREPARED_MAX: usize = 1000;

/// What to do with a message that was looked at.
pub(super) enum Pass {
    /// It goes on, whole or as it comes.
    On,
    /// It ends here.
    Dropped,
}

/// One message, or as much of it as is there.
#[derive(Clone, Copy)]
pub(super) struct Message<'b> {
    pub header: Header,
    pub body: &'b [u8],
    /// Where it begins.
    pub at: usize,
}

impl Message<'_> {
    pub fn is_whole(&self) -> bool {
        self.body.len() + HEADER_BYTES == self.header.total
    }

    /// Whether as much of it is there as must be looked at before it goes on.
    pub fn is_enough(&self) -> Result<bool, End> {
        let whole_up_to = match self.header.tag {
            b'Q' | b'P' => LOOKED_AT_BYTES_MAX,
            b'D' | b'C' if self.header.total > NAMES_BYTES_MAX => return Err(malformed()),
            b'D' | b'C' => NAMES_BYTES_MAX,
            b'B' if frontend::bind(self.body).is_none() => {
                if self.is_whole() || self.body.len() > NAMES_BYTES_MAX {
                    return Err(malformed());
                }
                return Ok(false);
            }
            _ => 0,
        };
        Ok(self.is_whole() || self.header.total > whole_up_to)
    }

    fn end(&self) -> usize {
        self.at + HEADER_BYTES + self.body.len()
    }
}

impl Session {
    /// Looks at one message on its way to `server`, and changes what must be changed.
    pub(super) fn take_message(
        &mut self,
        server: &mut Upstream,
        message: Message<'_>,
        splice: &mut Splice<'_>,
    ) -> Result<Pass, End> {
        match message.header.tag {
            b'Q' => self.query(server, message),
            b'P' => self.parse(server, message, splice),
            b'B' => self.bind(server, message, splice),
            b'D' => self.describe(server, message, splice),
            b'C' => self.close(server, message),
            b'E' => Ok(sent(server, Awaited::Execute)),
            b'S' => Ok(sent(server, Awaited::Sync)),
            b'F' => Ok(sent(server, Awaited::Query)),
            b'H' | b'd' => Ok(Pass::On),
            b'c' | b'f' => Ok(sent(server, Awaited::CopyEnd)),
            b'X' => {
                self.is_leaving = true;
                Ok(Pass::Dropped)
            }
            tag => Err(End::Refused(PgError::fatal(
                code::PROTOCOL_VIOLATION,
                format!("invalid frontend message type {tag}"),
            ))),
        }
    }

    fn query(&mut self, server: &mut Upstream, message: Message<'_>) -> Result<Pass, End> {
        if !message.is_whole() {
            self.pin(server.tie.server, "a query too long to be looked at");
            if let super::Mode::Relay(relay) = &mut self.mode {
                relay.commits = true;
            }
        } else {
            let sql = message.body.strip_suffix(b"\0").unwrap_or(message.body);
            self.keeps_to_shard(sql)?;
            match sql::trace(sql) {
                Trace::Nothing => {}
                Trace::Setting => self.tracking.expect(sql),
                Trace::Pinned => self.pin(server.tie.server, "a query leaves something behind"),
            }
            if sql::mentions_reset_all(sql) {
                self.tracking.expect_reset_all();
            }
            self.ends(sql);
        }
        server.prepared.unnamed = stamp::NONE;
        Ok(sent(server, Awaited::Query))
    }

    /// The name of a statement of ours that a query deallocates and does nothing else: no server
    /// knows it by that name.
    fn deallocates(&self, message: Message<'_>) -> Option<Vec<u8>> {
        let names = self.names.as_ref()?;
        if message.header.tag != b'Q' || !matches!(message.body.first(), Some(b'D' | b'd' | b' ')) {
            return None;
        }
        let name = sql::deallocated(message.body.strip_suffix(b"\0")?)?;
        names.contains_key(&name[..]).then_some(name)
    }

    /// Does a DEALLOCATE of one of our statements, while nothing is on its way in a transaction of
    /// this state; `false` if the message is something else.
    pub(super) fn deallocate(&mut self, message: Message<'_>, state: u8) -> bool {
        let Some(name) = self.deallocates(message).filter(|_| state != b'E') else {
            return false;
        };
        if let Some(names) = &mut self.names {
            names.remove(&name[..]);
        }
        let mut answer = Vec::new();
        write::command_complete(&mut answer, "DEALLOCATE");
        write::ready(&mut answer, state);
        buffer::append(&mut self.to_client, &answer);
        true
    }

    fn parse(
        &mut self,
        server: &mut Upstream,
        message: Message<'_>,
        splice: &mut Splice<'_>,
    ) -> Result<Pass, End> {
        if !message.is_whole() {
            // Whatever its name, only this server knows it.
            self.pin(server.tie.server, "a statement too long to be looked at");
            if message.body.first() == Some(&0) {
                self.unnamed_stamp = stamp::KEPT_THERE;
                self.unnamed_is_read = false;
            }
            return Ok(sent(server, Awaited::Parse(0)));
        }
        let parse = frontend::parse(message.body).ok_or_else(malformed)?;
        self.keeps_to_shard(parse.query)?;
        self.ends(parse.query);
        if parse.name.is_empty() {
            self.parse_unnamed(server, parse);
            return Ok(sent(server, Awaited::Parse(0)));
        }
        let statement = self.worker.statements.hold(parse.definition, parse.query);
        let is_read = self.parses_a_read(parse.query);
        let names = self.names.get_or_insert_with(|| Box::new(HashMap::new()));
        if names.len() >= STATEMENTS_MAX && !names.contains_key(parse.name) {
            let what = format!("a client may have {STATEMENTS_MAX} prepared statements");
            return Err(End::Refused(PgError::fatal(
                code::PROGRAM_LIMIT_EXCEEDED,
                what,
            )));
        }
        let named = Named {
            statement: Rc::clone(&statement),
            is_read,
        };
        names.insert(parse.name.into(), named);
        if statement.trace == Trace::Pinned {
            self.pin(server.tie.server, "a statement leaves something behind");
        }
        if server.prepared.touch(statement.id) {
            sent(server, Awaited::AnswerParse);
        } else {
            let out = splice.insert(message.at);
            teach(server, &statement, out, Awaited::Parse(statement.id));
        }
        Ok(Pass::Dropped)
    }

    /// What is not relayed was looked at already.
    fn parses_a_read(&self, query: &[u8]) -> bool {
        !matches!(self.mode, super::Mode::Relay(_)) || self.only_reads(query)
    }

    fn parse_unnamed(&mut self, server: &mut Upstream, parse: frontend::Parse<'_>) {
        self.tracking.unnamed = None;
        match sql::trace(parse.query) {
            Trace::Nothing => {}
            Trace::Setting => self.tracking.unnamed = Some(parse.query.into()),
            Trace::Pinned => self.pin(server.tie.server, "a statement leaves something behind"),
        }
        if parse.definition.len() > UNNAMED_BYTES_MAX {
            self.pin(
                server.tie.server,
                "an unnamed statement too long to be kept",
            );
            self.unnamed_stamp = stamp::KEPT_THERE;
            self.unnamed_is_read = false;
            return;
        }
        self.unnamed_is_read = self.parses_a_read(parse.query);
        if *self.unnamed != *parse.definition {
            self.unnamed = parse.definition.into();
        }
        self.unnamed_stamp = self.worker.next_stamp();
        server.prepared.unnamed = self.unnamed_stamp;
    }

    /// Sees to it that the server knows what a message refers to; returns what it is there.
    fn refer(
        &self,
        server: &mut Upstream,
        name: &[u8],
        at: usize,
        splice: &mut Splice<'_>,
    ) -> Option<Rc<Statement>> {
        if name.is_empty() {
            server.refer_to_unnamed(self.unnamed_stamp, &self.unnamed, || splice.insert(at));
            return None;
        }
        let statement = Rc::clone(&self.names.as_ref()?.get(name)?.statement);
        if !server.prepared.touch(statement.id) {
            let out = splice.insert(at);
            teach(server, &statement, out, Awaited::OwnParse(statement.id));
        }
        Some(statement)
    }

    fn bind(
        &mut self,
        server: &mut Upstream,
        message: Message<'_>,
        splice: &mut Splice<'_>,
    ) -> Result<Pass, End> {
        let bind = frontend::bind(message.body).ok_or_else(malformed)?;
        let statement = self.refer(server, bind.statement, message.at, splice);
        let setting = match &statement {
            Some(statement) if statement.trace == Trace::Setting => Some(statement.query().into()),
            None if bind.statement.is_empty() => self.tracking.unnamed.clone(),
            _ => None,
        };
        if let Some(setting) = setting {
            self.tracking.expect_owned(setting);
        }
        if let Some(statement) = statement {
            self.keeps_to_shard(statement.query())?;
            self.ends(statement.query());
            let name = statement.name();
            let total = message.header.total - bind.statement.len() + name.len();
            let length = u32::try_from(total - 1).map_err(|_| malformed())?;
            splice.cut(message.at, message.at + HEADER_BYTES + bind.names_bytes);
            let out = splice.insert(message.at + HEADER_BYTES + bind.names_bytes);
            out.push(b'B');
            out.extend_from_slice(&length.to_be_bytes());
            write::text(out, bind.portal);
            write::text(out, &name);
        }
        Ok(sent(server, Awaited::Bind))
    }

    fn describe(
        &self,
        server: &mut Upstream,
        message: Message<'_>,
        splice: &mut Splice<'_>,
    ) -> Result<Pass, End> {
        let object = frontend::object(message.body).ok_or_else(malformed)?;
        if let Object::Statement(name) = object
            && let Some(statement) = self.refer(server, name, message.at, splice)
        {
            splice.cut(message.at, message.end());
            write::statement(splice.insert(message.end()), b'D', &statement.name());
        }
        Ok(sent(server, Awaited::Describe))
    }

    fn close(&mut self, server: &mut Upstream, message: Message<'_>) -> Result<Pass, End> {
        let object = frontend::object(message.body).ok_or_else(malformed)?;
        let Object::Statement(name) = object else {
            return Ok(sent(server, Awaited::Close));
        };
        if name.is_empty() {
            self.unnamed_stamp = stamp::NONE;
        }
        let is_ours = match &mut self.names {
            Some(names) => names.remove(name).is_some(),
            None => false,
        };
        if !is_ours {
            return Ok(sent(server, Awaited::Close));
        }
        // Others use it: the server keeps it, and the client is told what it wants to hear.
        sent(server, Awaited::AnswerClose);
        Ok(Pass::Dropped)
    }

    /// What a statement does to its transaction, should its server be lost.
    fn ends(&mut self, sql: &[u8]) {
        if let super::Mode::Relay(relay) = &mut self.mode {
            relay.commits |= super::failed::may_commit(sql);
            relay.ends = super::failed::Ends::of(sql);
            relay.rolls_back |= super::failed::may_roll_back(sql);
        }
    }
}

fn sent(server: &mut Upstream, awaited: Awaited) -> Pass {
    server.answers.sent(awaited, &mut server.prepared);
    Pass::On
}

/// Sends a statement to the server under the name that all clients share.
fn teach(server: &mut Upstream, statement: &Statement, out: &mut Vec<u8>, awaited: Awaited) {
    for forgotten in server.prepared.learn(statement.id, PREPARED_MAX) {
        write::statement(out, b'C', &statements::name(forgotten));
        let close = Awaited::OwnClose(forgotten);
        server.answers.sent(close, &mut server.prepared);
    }
    write::parse(out, &statement.name(), &statement.definition);
    server.answers.sent(awaited, &mut server.prepared);
}

pub(super) fn malformed() -> End {
    let what = "a message of the extended protocol is malformed";
    End::Refused(PgError::fatal(code::PROTOCOL_VIOLATION, what))
}

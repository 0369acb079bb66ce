//! The client's messages on their way to a server: what must be known of each, and what is changed.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use super::admission::Admission;
use super::relay::{Needs, Taken};
use super::{End, LOOKED_AT_BYTES_MAX, STATEMENTS_MAX, Session, UNNAMED_BYTES_MAX};
use crate::db_proxy::link::MESSAGE_BYTES_MAX as LINK_BYTES_MAX;
use crate::upstream::postgres::Awaited;
use crate::upstream::postgres::statements::{self, Statement};
use crate::wire::buffer;
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::frame::{self, HEADER_BYTES, Header};
use crate::wire::postgres::frontend::{self, Object};
use crate::wire::postgres::link;
use crate::wire::postgres::sql::{self, Trace};
use crate::wire::postgres::write;
use crate::wire::splice::Splice;

/// Names of statements and portals may take so many bytes.
const NAMES_BYTES_MAX: usize = 8 << 10;

/// What to do with a message that was looked at.
enum Pass {
    /// It goes on, whole or as it comes.
    On,
    /// It ends here.
    Dropped,
}

/// One message, or as much of it as is there.
#[derive(Clone, Copy)]
struct Message<'b> {
    header: Header,
    body: &'b [u8],
    at: usize,
}

impl Message<'_> {
    fn is_whole(&self) -> bool {
        self.body.len() + HEADER_BYTES == self.header.total
    }

    /// Whether as much of it is there as must be looked at before it goes on.
    fn is_enough(&self) -> Result<bool, End> {
        let whole_up_to = match self.header.tag {
            link::TAG if self.header.total > LINK_BYTES_MAX => return Err(malformed()),
            link::TAG => LINK_BYTES_MAX,
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
    /// Deals with as many of the client's bytes as can be dealt with now.
    pub(super) fn take_client_bytes(
        &mut self,
        bytes: &[u8],
        splice: &mut Splice<'_>,
    ) -> Result<Taken, End> {
        let mut at = self.passing.min(bytes.len());
        self.passing -= at;
        if self.is_passing_unwanted {
            splice.cut(0, at);
        }
        let mut needs = Needs::Nothing;
        while !self.is_leaving
            && let Some(header) = frame::header(&bytes[at..]).map_err(violation)?
        {
            let end = bytes.len().min(at + header.total);
            let body = &bytes[at + HEADER_BYTES..end];
            let message = Message { header, body, at };
            if self.is_refusing && header.tag != b'X' {
                splice.cut(at, end);
                self.passing = at + header.total - end;
                self.is_passing_unwanted = true;
                at = end;
                if header.tag == b'S' {
                    self.refusal_ends();
                }
                continue;
            }
            // Whoever does not finish a message must not hold a server by it.
            if !message.is_enough()? {
                break;
            }
            if self.awaits_reset {
                self.awaits_answers = true;
                needs = Needs::Answers;
                break;
            }
            let mut admission = self.admission(header.tag);
            let is_wanted = matches!(admission, Admission::Goes) && self.server.is_none();
            if is_wanted && self.wants_server(message) {
                if !self.take_server() {
                    needs = Needs::Server;
                    break;
                }
                admission = self.admission(header.tag);
            }
            let pass = match admission {
                Admission::Goes => {
                    self.segment_goes_on(header.tag);
                    self.take_message(message, splice)?
                }
                Admission::Refused(error) => {
                    self.refuse_segment(header.tag, &error);
                    Pass::Dropped
                }
                Admission::Waits => {
                    needs = Needs::Floor;
                    break;
                }
                Admission::Later => {
                    self.awaits_answers = true;
                    needs = Needs::Answers;
                    break;
                }
            };
            let is_unwanted = match pass {
                Pass::On => false,
                Pass::Dropped => {
                    splice.cut(at, end);
                    true
                }
            };
            self.passing = at + header.total - end;
            self.is_passing_unwanted = is_unwanted;
            at = end;
        }
        Ok(Taken { count: at, needs })
    }

    /// Whether only a server can answer.
    fn wants_server(&self, message: Message<'_>) -> bool {
        match message.header.tag {
            b'S' | b'H' | b'd' | b'c' | b'f' | b'X' => false,
            b'C' => !self.is_own_statement(message),
            b'Q' if message.is_whole() => self.deallocates(message.body).is_none(),
            b'Q' | b'P' | b'B' | b'D' | b'E' | b'F' => true,
            _ => false,
        }
    }

    fn is_own_statement(&self, message: Message<'_>) -> bool {
        match (frontend::object(message.body), &self.names) {
            (Some(Object::Statement(name)), Some(names)) => names.contains_key(name),
            _ => false,
        }
    }

    /// A server that rests and agrees with this session, without waiting.
    fn take_server(&mut self) -> bool {
        let Some(server) = self.pool.take_alike(&self.settings) else {
            return false;
        };
        self.begin(server);
        true
    }

    fn take_message(&mut self, message: Message<'_>, splice: &mut Splice<'_>) -> Result<Pass, End> {
        match message.header.tag {
            b'Q' => self.query(message),
            b'P' => self.parse(message, splice),
            b'B' => self.bind(message, splice),
            b'D' => self.describe(message, splice),
            b'C' => self.close(message),
            b'E' => Ok(self.sent(Awaited::Execute)),
            b'S' => Ok(self.sync()),
            b'F' => {
                self.segment_is_sent();
                Ok(self.sent(Awaited::Query))
            }
            b'H' | b'd' if self.server.is_some() => Ok(Pass::On),
            b'c' | b'f' if self.server.is_some() => Ok(self.sent(Awaited::CopyEnd)),
            // The rest of a COPY that failed.
            b'H' | b'd' | b'c' | b'f' => Ok(Pass::Dropped),
            b'X' => {
                self.is_leaving = true;
                Ok(Pass::Dropped)
            }
            link::TAG if self.link.is_some() => {
                self.take_link_message(message.body)?;
                Ok(Pass::Dropped)
            }
            tag => Err(End::Refused(PgError::fatal(
                code::PROTOCOL_VIOLATION,
                format!("invalid frontend message type {tag}"),
            ))),
        }
    }

    fn sent(&mut self, awaited: Awaited) -> Pass {
        if let Some(server) = &mut self.server {
            if server.answers.is_idle() {
                self.began = Instant::now();
            }
            server.answers.sent(awaited, &mut server.prepared);
        }
        Pass::On
    }

    fn sync(&mut self) -> Pass {
        if self.server.is_some() {
            self.segment_is_sent();
            return self.sent(Awaited::Sync);
        }
        let mut ready = Vec::new();
        write::ready(&mut ready, b'I');
        buffer::append(&mut self.to_client, &ready);
        self.segment_ended(b'I', true);
        Pass::Dropped
    }

    /// What comes next must find settings that this segment resets as the login gave them.
    fn segment_is_sent(&mut self) {
        self.awaits_reset = self.tracking.segment_sent() && !self.base.is_empty();
    }

    fn query(&mut self, message: Message<'_>) -> Result<Pass, End> {
        if !message.is_whole() {
            self.pin("a query too long to be looked at");
        } else {
            if let Some(name) = self.deallocates(message.body) {
                self.deallocate(&name);
                return Ok(Pass::Dropped);
            }
            let sql = message.body.strip_suffix(b"\0").unwrap_or(message.body);
            match sql::trace(sql) {
                Trace::Nothing => {}
                Trace::Setting => self.tracking.expect(sql),
                Trace::Pinned => self.pin("a query that leaves something behind"),
            }
            if sql::mentions_reset_all(sql) {
                self.tracking.expect_reset_all();
            }
            self.commits = sql::commits(sql);
        }
        self.segment_is_sent();
        if let Some(server) = &mut self.server {
            server.unnamed = 0;
        }
        self.pool.stats.queries.add(1);
        Ok(self.sent(Awaited::Query))
    }

    /// The name of a statement of ours that a query deallocates and does nothing else.
    fn deallocates(&self, body: &[u8]) -> Option<Vec<u8>> {
        let names = self.names.as_ref()?;
        let is_open = |server: &Box<_>| {
            let server: &crate::db_proxy::pool::Server = server;
            !server.is_silent() || server.answers.state == b'E'
        };
        if !matches!(body.first(), Some(b'D' | b'd' | b' '))
            || self.server.as_ref().is_some_and(is_open)
        {
            return None;
        }
        let name = sql::deallocated(body.strip_suffix(b"\0")?)?;
        names.contains_key(&name[..]).then_some(name)
    }

    fn deallocate(&mut self, name: &[u8]) {
        if let Some(names) = &mut self.names {
            names.remove(name);
        }
        let state = self
            .server
            .as_ref()
            .map_or(b'I', |server| server.answers.state);
        let mut answer = Vec::new();
        write::command_complete(&mut answer, "DEALLOCATE");
        write::ready(&mut answer, state);
        buffer::append(&mut self.to_client, &answer);
        self.segment_ended(state, true);
    }

    fn parse(&mut self, message: Message<'_>, splice: &mut Splice<'_>) -> Result<Pass, End> {
        if !message.is_whole() {
            // Whatever its name, only this server knows it.
            self.pin("a statement too long to be looked at");
            self.unnamed_stamp = 0;
            return Ok(self.sent(Awaited::Parse(0)));
        }
        let parse = frontend::parse(message.body).ok_or_else(malformed)?;
        if parse.name.is_empty() {
            self.parse_unnamed(parse);
            return Ok(self.sent(Awaited::Parse(0)));
        }
        let statement = self.proxy.statements.hold(parse.definition, parse.query);
        let names = self.names.get_or_insert_with(|| Box::new(HashMap::new()));
        if names.len() >= STATEMENTS_MAX && !names.contains_key(parse.name) {
            let what = format!("a client may have {STATEMENTS_MAX} prepared statements");
            return Err(End::Refused(PgError::fatal(
                code::PROGRAM_LIMIT_EXCEEDED,
                what,
            )));
        }
        names.insert(parse.name.into(), Rc::clone(&statement));
        if statement.trace == Trace::Pinned {
            self.pin("a statement that leaves something behind");
        }
        if self.server_knows(&statement) {
            self.sent(Awaited::AnswerParse);
        } else {
            let out = splice.insert(message.at);
            self.teach(&statement, out, Awaited::Parse(statement.id));
        }
        self.answer_own();
        Ok(Pass::Dropped)
    }

    fn parse_unnamed(&mut self, parse: frontend::Parse<'_>) {
        self.tracking.unnamed = None;
        match sql::trace(parse.query) {
            Trace::Nothing => {}
            Trace::Setting => self.tracking.unnamed = Some(parse.query.into()),
            Trace::Pinned => self.pin("a statement that leaves something behind"),
        }
        self.commits = sql::commits(parse.query);
        if parse.definition.len() > UNNAMED_BYTES_MAX {
            self.pin("an unnamed statement too long to be kept");
            self.unnamed_stamp = 0;
            return;
        }
        if *self.unnamed != *parse.definition {
            self.unnamed = parse.definition.into();
        }
        self.unnamed_stamp = self.proxy.next_stamp();
        if let Some(server) = &mut self.server {
            server.unnamed = self.unnamed_stamp;
        }
    }

    fn server_knows(&mut self, statement: &Statement) -> bool {
        self.server
            .as_mut()
            .is_some_and(|server| server.prepared.touch(statement.id))
    }

    /// Sends a statement to the server under the name that all clients share.
    fn teach(&mut self, statement: &Statement, out: &mut Vec<u8>, awaited: Awaited) {
        let most = self.proxy.config.borrow().pool.statements;
        let Some(server) = &mut self.server else {
            return;
        };
        for forgotten in server.prepared.learn(statement.id, most) {
            write::statement(out, b'C', &statements::name(forgotten));
            let close = Awaited::OwnClose(forgotten);
            server.answers.sent(close, &mut server.prepared);
        }
        write::parse(out, &statement.name(), &statement.definition);
        server.answers.sent(awaited, &mut server.prepared);
    }

    /// Sees to it that the server knows what a message refers to; returns its name there.
    fn refer(&mut self, name: &[u8], at: usize, splice: &mut Splice<'_>) -> Option<Rc<Statement>> {
        if name.is_empty() {
            self.refer_to_unnamed(at, splice);
            return None;
        }
        let statement = Rc::clone(self.names.as_ref()?.get(name)?);
        if !self.server_knows(&statement) {
            let out = splice.insert(at);
            self.teach(&statement, out, Awaited::OwnParse(statement.id));
        }
        Some(statement)
    }

    fn refer_to_unnamed(&mut self, at: usize, splice: &mut Splice<'_>) {
        let Some(server) = &mut self.server else {
            return;
        };
        if self.unnamed_stamp != 0 && server.unnamed != self.unnamed_stamp {
            write::parse(splice.insert(at), b"", &self.unnamed);
            server
                .answers
                .sent(Awaited::OwnParse(0), &mut server.prepared);
            server.unnamed = self.unnamed_stamp;
        }
    }

    fn bind(&mut self, message: Message<'_>, splice: &mut Splice<'_>) -> Result<Pass, End> {
        let bind = frontend::bind(message.body).ok_or_else(malformed)?;
        let statement = self.refer(bind.statement, message.at, splice);
        let setting = match &statement {
            Some(statement) if statement.trace == Trace::Setting => Some(statement.query().into()),
            None if bind.statement.is_empty() => self.tracking.unnamed.clone(),
            _ => None,
        };
        if let Some(setting) = setting {
            self.tracking.expect_owned(setting);
        }
        if let Some(statement) = statement {
            self.commits = sql::commits(statement.query());
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
        self.pool.stats.queries.add(1);
        Ok(self.sent(Awaited::Bind))
    }

    fn describe(&mut self, message: Message<'_>, splice: &mut Splice<'_>) -> Result<Pass, End> {
        let object = frontend::object(message.body).ok_or_else(malformed)?;
        if let Object::Statement(name) = object
            && let Some(statement) = self.refer(name, message.at, splice)
        {
            splice.cut(message.at, message.end());
            write::statement(splice.insert(message.end()), b'D', &statement.name());
        }
        Ok(self.sent(Awaited::Describe))
    }

    fn close(&mut self, message: Message<'_>) -> Result<Pass, End> {
        let object = frontend::object(message.body).ok_or_else(malformed)?;
        let Object::Statement(name) = object else {
            return Ok(self.sent(Awaited::Close));
        };
        if name.is_empty() {
            self.unnamed_stamp = 0;
        }
        let is_ours = match &mut self.names {
            Some(names) => names.remove(name).is_some(),
            None => false,
        };
        if !is_ours {
            return Ok(self.sent(Awaited::Close));
        }
        // Others use it: the server keeps it, and the client is told what it wants to hear.
        if self.server.is_some() {
            self.sent(Awaited::AnswerClose);
            self.answer_own();
        } else {
            buffer::append(&mut self.to_client, write::CLOSE_COMPLETE);
        }
        Ok(Pass::Dropped)
    }

    /// Gives the answers that are due now and that no server will give.
    fn answer_own(&mut self) {
        while let Some(own) = self.server.as_mut().and_then(|server| server.answers.own()) {
            let answer = match own {
                Awaited::AnswerParse => write::PARSE_COMPLETE,
                _ => write::CLOSE_COMPLETE,
            };
            buffer::append(&mut self.to_client, answer);
        }
    }
}

fn violation(error: frame::BadLength) -> End {
    End::Refused(PgError::fatal(code::PROTOCOL_VIOLATION, error.to_string()))
}

fn malformed() -> End {
    let what = "a message of the extended protocol is malformed";
    End::Refused(PgError::fatal(code::PROTOCOL_VIOLATION, what))
}

//! What the client sends next: whether it is a whole segment, and whether all of it only reads.

use super::Session;
use crate::wire::postgres::frame::{self, BadLength, HEADER_BYTES};
use crate::wire::postgres::frontend;

/// What stands at the beginning of the client's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scan {
    /// Not enough to say.
    Incomplete,
    /// A whole segment of so many bytes that only reads.
    Read(usize),
    /// Something else, whole or not: for the primary.
    Other,
    /// A message that needs no server; its tag.
    Idle(u8),
}

impl Session {
    /// Looks at `input` while nothing is on its way.
    pub(super) fn scan(&self, input: &[u8]) -> Result<Scan, BadLength> {
        let Some(first) = frame::header(input)? else {
            return Ok(Scan::Incomplete);
        };
        match first.tag {
            b'X' | b'S' | b'H' | b'd' | b'c' | b'f' => return Ok(Scan::Idle(first.tag)),
            b'Q' => {
                let Some(body) = input.get(HEADER_BYTES..first.total) else {
                    return Ok(self.unfinished(first.total));
                };
                let sql = body.strip_suffix(b"\0").unwrap_or(body);
                return Ok(if self.only_reads(sql) {
                    Scan::Read(first.total)
                } else {
                    Scan::Other
                });
            }
            _ => {}
        }
        let mut at = 0;
        let mut parses_unnamed = false;
        while let Some(header) = frame::header(&input[at..])? {
            let Some(body) = input.get(at + HEADER_BYTES..at + header.total) else {
                return Ok(self.unfinished(at + header.total));
            };
            let only_reads = match header.tag {
                b'P' => frontend::parse(body).is_some_and(|parse| {
                    parses_unnamed |= parse.name.is_empty();
                    self.only_reads(parse.query)
                }),
                b'B' => frontend::bind(body)
                    .is_some_and(|bind| self.binds_a_read(bind.statement, parses_unnamed)),
                b'D' | b'C' | b'E' => true,
                b'S' => return Ok(Scan::Read(at + header.total)),
                _ => false,
            };
            if !only_reads {
                return Ok(Scan::Other);
            }
            at += header.total;
        }
        Ok(self.unfinished(at + HEADER_BYTES))
    }

    /// A segment that grows too long to be held goes to the primary.
    fn unfinished(&self, bytes: usize) -> Scan {
        if bytes > self.worker.read_buffer() {
            Scan::Other
        } else {
            Scan::Incomplete
        }
    }

    /// A statement that the segment itself has parsed was looked at already.
    fn binds_a_read(&self, statement: &[u8], is_parsed_here: bool) -> bool {
        if statement.is_empty() {
            return is_parsed_here || (self.unnamed_stamp != 0 && self.unnamed_is_read);
        }
        let names = self.names.as_ref();
        match names.and_then(|names| names.get(statement)) {
            Some(named) => named.is_read && !self.known.is_refused(named.statement.query()),
            None => true,
        }
    }
}

//! What the watch asks, and how answers are read. The connection is one of the replication protocol
//! (`replication=database`), which takes SQL as well: only IDENTIFY_SYSTEM tells the timeline of what
//! a standby has replayed, and it is right at once after a promotion.

use std::rc::Rc;
use std::time::Duration;

use super::history::History;
use crate::config::DbWatch;
use crate::upstream::postgres::settings::Table;
use crate::upstream::postgres::{Connector, Credentials, Row, Server, ServerError, Who};
use crate::wire::postgres::link::{Lsn, Role};

/// How long the first questions may take; PostgreSQL may be busy.
const FIRST_TIMEOUT: Duration = Duration::from_secs(5);

const OPTIONS: [(&str, &str); 2] = [
    ("replication", "database"),
    ("application_name", "lb watch"),
];
const ABOUT: &[u8] = b"SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint, \
    (SELECT setting FROM pg_settings WHERE name = 'wal_block_size'), \
    (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size')";
/// CASE, because each function fails in the other role.
const PREPARE: &[u8] = b"PREPARE lb AS SELECT pg_is_in_recovery(), \
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_insert_lsn() END, \
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END";
const EXECUTE: &[u8] = b"EXECUTE lb";
const IDENTIFY: &[u8] = b"IDENTIFY_SYSTEM";

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub role: Role,
    pub history: Rc<History>,
    pub started_us: u64,
}

/// Sizes of the log's parts, in bytes.
#[derive(Debug, Clone, Copy)]
struct Layout {
    block: u64,
    segment: u64,
}

/// The connection.
pub(super) struct Questions {
    server: Server<()>,
    started_us: u64,
    layout: Layout,
    history: Rc<History>,
    /// A primary stays on its timeline as long as its processes live: it need not be asked again.
    was_primary: bool,
}

impl Questions {
    pub async fn connect(
        connector: &Rc<Connector>,
        about: &DbWatch,
        credentials: &Credentials,
    ) -> Result<Self, ServerError> {
        let who = Who {
            user: &about.user,
            database: &about.database,
            credentials,
        };
        let settings = Table::default().hold(Default::default());
        let mut server = connector.connect(who, &OPTIONS, settings, ()).await?;
        let first = tokio::time::timeout(FIRST_TIMEOUT, server.ask(&[ABOUT, PREPARE])).await;
        let rows = first.map_err(|_| ServerError::Timeout(FIRST_TIMEOUT))??;
        let number = |place: usize| number(rows.first(), place);
        Ok(Self {
            started_us: number(0)?,
            layout: Layout {
                block: number(1)?,
                segment: number(2)?,
            },
            server,
            history: Rc::default(),
            was_primary: false,
        })
    }

    /// Asks. Not cancel-safe: a connection whose question was given up is of no use.
    pub async fn ask(&mut self) -> Result<Answer, ServerError> {
        let rows = if self.was_primary {
            self.server.ask(&[EXECUTE]).await?
        } else {
            // In this order: a timeline that is newer than the position is still that position's,
            // an older one would claim what the timeline never had.
            let rows = self.server.ask(&[EXECUTE, IDENTIFY]).await?;
            self.identify(rows.get(1)).await?;
            rows
        };
        let row = rows.first();
        let is_standby = text(row, 0)? == "t";
        // NULL: nothing was received or replayed yet.
        let position = |place: usize| match row.and_then(|row: &Row| row.get(place)) {
            Some(Some(text)) => Lsn::parse(text.as_str()).ok_or_else(|| malformed(place)),
            _ => Ok(Lsn(0)),
        };
        let (first, second) = (position(1)?, position(2)?);
        self.was_primary = !is_standby;
        Ok(Answer {
            role: if is_standby {
                Role::Standby {
                    received: first,
                    replayed: second,
                }
            } else {
                Role::Primary {
                    inserted: end_of_record(first, self.layout),
                    flushed: second,
                }
            },
            history: Rc::clone(&self.history),
            started_us: self.started_us,
        })
    }

    async fn identify(&mut self, row: Option<&Row>) -> Result<(), ServerError> {
        let (system, timeline) = (number(row, 0)?, number(row, 1)?);
        let timeline = u32::try_from(timeline).map_err(|_| malformed(1))?;
        if self.history.is_of(system, timeline) {
            return Ok(());
        }
        let file = if timeline > 1 {
            let command = format!("TIMELINE_HISTORY {timeline}");
            match self.server.ask(&[command.as_bytes()]).await {
                Ok(rows) => Some(text(rows.first(), 1)?.to_owned()),
                Err(ServerError::Refused(error)) => {
                    tracing::warn!(timeline, %error, "the server does not tell its history");
                    None
                }
                Err(error) => return Err(error),
            }
        } else {
            None
        };
        self.history = Rc::new(History::new(system, timeline, file.as_deref()));
        Ok(())
    }
}

/// Where the last record ends, if the next one is to begin at `next`. On a new page, that is behind
/// the page's head, and a standby that has replayed everything stands before it.
fn end_of_record(next: Lsn, layout: Layout) -> Lsn {
    const SHORT_HEAD_BYTES: u64 = 24;
    const LONG_HEAD_BYTES: u64 = 40;
    // Behind a head there are at least eight bytes of a record that began on the page before.
    let (in_block, in_segment) = (next.0 % layout.block.max(1), next.0 % layout.segment.max(1));
    if in_segment == LONG_HEAD_BYTES {
        Lsn(next.0 - LONG_HEAD_BYTES)
    } else if in_block == SHORT_HEAD_BYTES && in_segment != SHORT_HEAD_BYTES {
        Lsn(next.0 - SHORT_HEAD_BYTES)
    } else {
        next
    }
}

fn text(row: Option<&Row>, place: usize) -> Result<&str, ServerError> {
    row.and_then(|row| row.get(place)?.as_deref())
        .ok_or_else(|| malformed(place))
}

fn number(row: Option<&Row>, place: usize) -> Result<u64, ServerError> {
    text(row, place)?.parse().map_err(|_| malformed(place))
}

fn malformed(place: usize) -> ServerError {
    ServerError::Protocol(format!("column {place} of the watch's answer is malformed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_ends_with_its_page_ends_before_the_head_of_the_next() {
        let layout = Layout {
            block: 8192,
            segment: 16 << 20,
        };
        for (next, expected) in [
            (0x100_2000 + 24, 0x100_2000),
            (0x200_0000 + 40, 0x200_0000),
            (0x100_2000 + 32, 0x100_2000 + 32),
            (0x100_2000 + 40, 0x100_2000 + 40),
            (0x200_0000 + 24, 0x200_0000 + 24),
        ] {
            assert_eq!(end_of_record(Lsn(next), layout), Lsn(expected), "{next:x}");
        }
    }
}

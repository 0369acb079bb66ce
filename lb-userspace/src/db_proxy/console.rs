//! The console: a pseudo-database that psql understands, with the commands that people know from
//! PgBouncer.

mod show;

use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Proxy;
use super::pool::Pool;
use crate::downstream::postgres::clients::Client;
use crate::transport::stream::Stream;
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::frame::{self, HEADER_BYTES};
use crate::wire::postgres::write;

/// The longest command.
const COMMAND_BYTES_MAX: usize = 64 << 10;
/// How often a PAUSE looks whether the last transaction is over.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Whether a database's name is the console's; `pgbouncer` for scripts that know no other.
pub(super) fn is_console(database: &str) -> bool {
    matches!(database, "lb" | "pgbouncer")
}

/// Whether a user may use it.
pub(super) fn may_use(proxy: &Proxy, user: &str) -> Result<(), PgError> {
    if proxy
        .config
        .borrow()
        .admins
        .iter()
        .any(|admin| admin == user)
    {
        return Ok(());
    }
    let what = format!("user \"{user}\" may not use the console");
    let hint = "Name the user in admins of [db_proxy].";
    Err(PgError::fatal(code::INVALID_AUTHORIZATION, what).hint(hint))
}

/// What a client is told before its first command.
pub(super) fn greeting(out: &mut Vec<u8>) {
    for (name, value) in [
        ("server_version", concat!(env!("CARGO_PKG_VERSION"), "/lb")),
        ("client_encoding", "UTF8"),
        ("server_encoding", "UTF8"),
        ("DateStyle", "ISO"),
        ("TimeZone", "UTC"),
        ("standard_conforming_strings", "on"),
    ] {
        write::parameter_status(out, name, value);
    }
}

/// Columns and rows.
pub(super) struct Table {
    columns: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

/// What a command answers.
enum Outcome {
    Table(Table),
    Done(&'static str),
}

/// One client of the console.
pub(super) struct Console {
    proxy: Rc<Proxy>,
    me: Rc<Client>,
    stream: Stream,
}

impl Console {
    pub fn new(proxy: Rc<Proxy>, me: Rc<Client>, stream: Stream) -> Self {
        Self { proxy, me, stream }
    }

    /// Serves until the client leaves, or the proxy stops.
    pub async fn run(mut self) {
        // A client that goes away is no error of ours.
        let _ = self.serve().await;
    }

    async fn serve(&mut self) -> std::io::Result<()> {
        loop {
            let mut head = [0; HEADER_BYTES];
            let me = Rc::clone(&self.me);
            let leave = std::future::poll_fn(|cx| {
                me.wakes(cx.waker());
                if me.must_leave() {
                    std::task::Poll::Ready(())
                } else {
                    std::task::Poll::Pending
                }
            });
            tokio::select! {
                read = self.stream.read_exact(&mut head) => { read?; }
                () = leave => {
                    let mut out = Vec::new();
                    self.me.reason_to_leave().write(&mut out);
                    return self.stream.write_all(&out).await;
                }
            }
            let header = frame::header(&head).ok().flatten();
            let Some(header) = header.filter(|header| header.total <= COMMAND_BYTES_MAX) else {
                let error = PgError::fatal(code::PROTOCOL_VIOLATION, "a message is too long");
                let mut out = Vec::new();
                error.write(&mut out);
                return self.stream.write_all(&out).await;
            };
            let mut body = vec![0; header.total - HEADER_BYTES];
            self.stream.read_exact(&mut body).await?;
            let mut out = Vec::new();
            match header.tag {
                b'X' => return Ok(()),
                b'Q' => {
                    let sql = String::from_utf8_lossy(&body);
                    self.answer(sql.trim_end_matches('\0'), &mut out).await;
                    write::ready(&mut out, b'I');
                }
                b'S' => write::ready(&mut out, b'I'),
                _ => PgError::error(
                    code::FEATURE_NOT_SUPPORTED,
                    "the console takes simple queries only",
                )
                .write(&mut out),
            }
            self.stream.write_all(&out).await?;
            self.stream.flush().await?;
        }
    }

    async fn answer(&self, sql: &str, out: &mut Vec<u8>) {
        match self.run_command(sql).await {
            Ok(Outcome::Table(table)) => {
                write::row_description(out, table.columns);
                for row in &table.rows {
                    write::data_row(out, row);
                }
                write::command_complete(out, &format!("SHOW {}", table.rows.len()));
            }
            Ok(Outcome::Done(tag)) => write::command_complete(out, tag),
            Err(error) => error.write(out),
        }
    }

    async fn run_command(&self, sql: &str) -> Result<Outcome, PgError> {
        let command = sql.trim().trim_end_matches(';').trim();
        let words: Vec<_> = command.split_ascii_whitespace().collect();
        let lower: Vec<_> = words.iter().map(|word| word.to_ascii_lowercase()).collect();
        let lower: Vec<_> = lower.iter().map(String::as_str).collect();
        let named = words.get(1).map(|name| name.trim_matches('"'));
        match lower.as_slice() {
            ["show", rest @ ..] => show::show(&self.proxy, rest).map(Outcome::Table),
            ["pause"] | ["pause", _] => self.pause(named).await,
            ["resume"] | ["resume", _] => {
                if named.is_none() {
                    self.proxy.paused.set(false);
                }
                self.pools(named)?.iter().for_each(Pool::resume);
                Ok(Outcome::Done("RESUME"))
            }
            ["reload"] => self
                .proxy
                .reload()
                .map(|()| Outcome::Done("RELOAD"))
                .map_err(|error| {
                    PgError::error(
                        "F0000",
                        format!("the configuration stays as it was: {error:#}"),
                    )
                }),
            ["reconnect"] | ["reconnect", _] => {
                self.pools(named)?.iter().for_each(Pool::renew);
                Ok(Outcome::Done("RECONNECT"))
            }
            ["set", ..] => Ok(Outcome::Done("SET")),
            _ => Err(
                PgError::error(code::SYNTAX_ERROR, format!("invalid command {command:?}"))
                    .hint("SHOW HELP lists the commands."),
            ),
        }
    }

    /// Waits until no server works any more; clients wait from then on, and get no error.
    async fn pause(&self, database: Option<&str>) -> Result<Outcome, PgError> {
        if database.is_none() {
            self.proxy.paused.set(true);
        }
        let pools = self.pools(database)?;
        for pool in &pools {
            pool.pause();
        }
        while pools
            .iter()
            .any(|pool| pool.active() > 0 && pool.is_paused())
        {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        for pool in &pools {
            // So that PostgreSQL can be restarted.
            pool.renew();
        }
        Ok(Outcome::Done("PAUSE"))
    }

    /// The pools of a database, or all of them.
    fn pools(&self, database: Option<&str>) -> Result<Vec<Rc<Pool>>, PgError> {
        let mut pools = self.proxy.all_pools();
        if let Some(database) = database {
            pools.retain(|pool| pool.key.database == database);
            if pools.is_empty() {
                let what = format!("nobody has used a database {database:?} yet");
                return Err(PgError::error(code::UNDEFINED_OBJECT, what));
            }
        }
        Ok(pools)
    }
}

//! The console: a pseudo-database that psql understands, with the commands that people know from
//! PgBouncer.

mod show;

use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Proxy;
use super::pool::Pool;
use crate::downstream::postgres as downstream;
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
    /// What was read and not dealt with.
    input: Vec<u8>,
    /// A message was refused: what comes is dropped, up to its Sync.
    is_refusing: bool,
}

/// What happens to a client of the console.
enum Event {
    Message(u8, Vec<u8>),
    /// It is told why, and the connection closed.
    Ends(PgError),
}

impl Console {
    pub fn new(proxy: Rc<Proxy>, me: Rc<Client>, stream: Stream) -> Self {
        Self {
            proxy,
            me,
            stream,
            input: Vec::new(),
            is_refusing: false,
        }
    }

    /// Serves until the client leaves, or the proxy stops.
    pub async fn run(mut self) {
        // A client that goes away is no error of ours.
        if let Ok(Some(error)) = self.serve().await {
            downstream::refuse(&mut self.stream, &error).await;
        }
    }

    /// Returns what the client is told at last, if anything.
    async fn serve(&mut self) -> io::Result<Option<PgError>> {
        loop {
            let (tag, body) = match self.next_event().await? {
                Event::Message(tag, body) => (tag, body),
                Event::Ends(why) => return Ok(Some(why)),
            };
            let mut out = Vec::new();
            match tag {
                b'X' => return Ok(None),
                b'S' => {
                    self.is_refusing = false;
                    write::ready(&mut out, b'I');
                }
                b'H' | b'd' | b'c' | b'f' => {}
                b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'F' if self.is_refusing => {}
                b'Q' => {
                    let sql = String::from_utf8_lossy(&body);
                    self.answer(sql.trim_end_matches('\0'), &mut out).await;
                    write::ready(&mut out, b'I');
                }
                b'P' | b'B' | b'D' | b'E' | b'C' | b'F' => {
                    let what = "the console takes simple queries only";
                    PgError::error(code::FEATURE_NOT_SUPPORTED, what).write(&mut out);
                    // A function call ends by itself.
                    self.is_refusing = tag != b'F';
                    if tag == b'F' {
                        write::ready(&mut out, b'I');
                    }
                }
                tag => {
                    let what = format!("invalid frontend message type {tag}");
                    return Ok(Some(violation(what)));
                }
            }
            self.stream.write_all(&out).await?;
            self.stream.flush().await?;
        }
    }

    async fn next_event(&mut self) -> io::Result<Event> {
        loop {
            let header = match frame::header(&self.input) {
                Ok(header) => header,
                Err(error) => return Ok(Event::Ends(violation(error.to_string()))),
            };
            if header.is_some_and(|header| header.total > COMMAND_BYTES_MAX) {
                let what = "a message is too long";
                return Ok(Event::Ends(violation(what.to_owned())));
            }
            if let Some(header) = header
                && self.input.len() >= header.total
            {
                let rest = self.input.split_off(header.total);
                let message = std::mem::replace(&mut self.input, rest);
                let body = message[HEADER_BYTES..].to_vec();
                return Ok(Event::Message(header.tag, body));
            }
            let me = Rc::clone(&self.me);
            tokio::select! {
                read = self.stream.read_buf(&mut self.input) => if read? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                },
                () = until(&me, Client::must_leave) => {
                    return Ok(Event::Ends(me.reason_to_leave()));
                }
            }
        }
    }

    /// Returns when the client leaves, or asks that what it waits for be given up.
    async fn gives_up(&mut self) {
        let me = Rc::clone(&self.me);
        let leaves = async {
            while self.input.len() < COMMAND_BYTES_MAX
                && self
                    .stream
                    .read_buf(&mut self.input)
                    .await
                    .is_ok_and(|count| count > 0)
            {}
        };
        tokio::select! {
            () = leaves => {}
            () = until(&me, |me| me.takes_cancel() || me.must_leave()) => {}
        }
    }

    async fn answer(&mut self, sql: &str, out: &mut Vec<u8>) {
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

    async fn run_command(&mut self, sql: &str) -> Result<Outcome, PgError> {
        let command = sql.trim().trim_end_matches(';').trim();
        let words: Vec<_> = command.split_ascii_whitespace().collect();
        let lower: Vec<_> = words.iter().map(|word| word.to_ascii_lowercase()).collect();
        let lower: Vec<_> = lower.iter().map(String::as_str).collect();
        let named = words.get(1).map(|name| name.trim_matches('"'));
        match lower.as_slice() {
            ["show", rest @ ..] => show::show(&self.proxy, rest).map(Outcome::Table),
            ["pause"] | ["pause", _] => self.pause(named).await,
            ["resume"] | ["resume", _] => {
                self.resume(named)?;
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

    /// Waits until no server works any more; clients wait from then on, and get no error. A client that
    /// does not wait for that has paused nothing.
    async fn pause(&mut self, database: Option<&str>) -> Result<Outcome, PgError> {
        let pools = self.pools(database)?;
        self.proxy.pauses.set(database, true);
        for pool in &pools {
            pool.pause();
        }
        let work = |pool: &Rc<Pool>| pool.active() > 0 && pool.is_paused();
        let is_paused = async {
            while pools.iter().any(work) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        // A request that came too late for an earlier command is not for this one.
        self.me.takes_cancel();
        tokio::select! {
            biased;
            () = is_paused => {}
            () = self.gives_up() => {
                self.resume(database)?;
                let what = "canceling PAUSE due to user request";
                return Err(PgError::error(code::QUERY_CANCELED, what));
            }
        }
        for pool in &pools {
            // So that PostgreSQL can be restarted.
            pool.renew();
        }
        Ok(Outcome::Done("PAUSE"))
    }

    fn resume(&self, database: Option<&str>) -> Result<(), PgError> {
        let pools = self.pools(database)?;
        self.proxy.pauses.set(database, false);
        pools.iter().for_each(Pool::resume);
        Ok(())
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

/// Returns when something is so with a client, of which its task is told.
async fn until(client: &Client, is_so: impl Fn(&Client) -> bool) {
    std::future::poll_fn(|cx| {
        client.wakes(cx.waker());
        if is_so(client) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

fn violation(what: String) -> PgError {
    PgError::fatal(code::PROTOCOL_VIOLATION, what)
}

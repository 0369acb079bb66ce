//! One client after its login: its messages go to a server, the server's answers come back.
//!
//! One task does both directions. It reads into the thread's scratch buffer, looks at headers in
//! place and writes the batch on in one call; buffers of its own it has only while something could
//! not be passed on at once. So an idle client holds no buffer, and no server.

mod admission;
mod downstream;
mod relay;
mod settle;
mod upstream;

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use self::admission::LinkState;
pub(super) use self::settle::{check_out, give};
use super::Proxy;
use super::pool::{Pool, Server, Ticket};
use crate::config::PoolMode;
use crate::downstream::postgres::clients::Client;
use crate::transport::stream::Stream;
use crate::upstream::postgres::settings::Settings;
use crate::upstream::postgres::statements::Statement;
use crate::upstream::postgres::tracking::Tracking;
use crate::wire::buffer;
use crate::wire::postgres::error::PgError;

/// The longest message that is looked at as a whole. Longer ones pass through unread, and pin
/// their session: what they leave behind is not known.
const LOOKED_AT_BYTES_MAX: usize = 1 << 20;
/// The longest unnamed statement that is kept, to be sent again to another server.
const UNNAMED_BYTES_MAX: usize = 64 << 10;
/// The most prepared statements of one client.
const STATEMENTS_MAX: usize = 10_000;

/// How a session ended.
#[derive(Debug)]
pub(super) enum End {
    /// The client said so, or closed.
    Left,
    /// The client closed while a server worked for it, or could not be written to.
    Lost,
    /// The client is told, and the connection closed.
    Refused(PgError),
    /// The server closed: the client is told, unless the server told it already.
    ServerLost { was_told: bool },
}

/// Its prepared statements, by the names that it gave them.
type Names = HashMap<Box<[u8]>, Rc<Statement>>;

/// A client that has logged in.
pub(super) struct Session {
    proxy: Rc<Proxy>,
    pool: Rc<Pool>,
    me: Rc<Client>,
    client: Stream,
    /// What this session has set.
    settings: Settings,
    /// What its startup packet asked for.
    base: Settings,
    names: Option<Box<Names>>,
    /// The definition of its unnamed statement, with its stamp; 0 if it has none.
    unnamed: Box<[u8]>,
    unnamed_stamp: u64,
    server: Option<Box<Server>>,
    /// Its place in the queue for one.
    ticket: Option<Ticket>,
    /// Bytes of the client that are not dealt with.
    input: Vec<u8>,
    /// How many bytes of the client's message that is passing through are still to come, and
    /// whether anybody wants them.
    passing: usize,
    is_passing_unwanted: bool,
    to_client: Vec<u8>,
    to_server: Vec<u8>,
    /// It keeps its server until it ends.
    is_pinned: bool,
    /// It said good-bye: only what is on its way is finished.
    is_leaving: bool,
    /// `input` may hold messages that can be dealt with now.
    is_input_due: bool,
    /// What `input` holds waits for the answers to what came before it.
    awaits_answers: bool,
    /// What is on its way may reset settings: nothing is sent until that was answered.
    awaits_reset: bool,
    /// A segment was refused: what comes is dropped, up to its Sync.
    is_refusing: bool,
    /// What a link adds; most clients have none.
    link: Option<Box<LinkState>>,
    /// The server told an error that ends its connection.
    was_told: bool,
    /// The last query asked for a commit.
    commits: bool,
    tracking: Tracking,
    began: Instant,
}

impl Session {
    pub fn new(
        proxy: Rc<Proxy>,
        pool: Rc<Pool>,
        me: Rc<Client>,
        client: Stream,
        settings: Settings,
    ) -> Self {
        Self {
            base: settings.clone(),
            is_pinned: false,
            proxy,
            pool,
            me,
            client,
            settings,
            names: None,
            unnamed: Box::default(),
            unnamed_stamp: 0,
            server: None,
            ticket: None,
            input: Vec::new(),
            passing: 0,
            is_passing_unwanted: false,
            to_client: Vec::new(),
            to_server: Vec::new(),
            is_leaving: false,
            is_input_due: false,
            awaits_answers: false,
            awaits_reset: false,
            is_refusing: false,
            link: None,
            was_told: false,
            commits: false,
            tracking: Tracking::default(),
            began: Instant::now(),
        }
    }

    /// The client speaks the link's messages.
    pub fn has_link(&mut self) {
        self.link = Some(Box::default());
    }

    /// Serves the client until it leaves.
    pub async fn run(mut self) {
        let end = loop {
            match std::future::poll_fn(|cx| self.poll_relay(cx)).await {
                relay::Step::NeedsServer => {
                    if let Err(end) = Box::pin(self.acquire()).await {
                        break end;
                    }
                }
                relay::Step::NeedsFloor => {
                    if let Err(end) = Box::pin(self.await_floor()).await {
                        break end;
                    }
                }
                relay::Step::Ended(end) => break end,
            }
        };
        Box::pin(self.finish(end)).await;
    }

    fn keeps_server(&self) -> bool {
        self.is_pinned || self.proxy.config.borrow().pool.mode == PoolMode::Session
    }

    /// Whether it may be asked to leave: nothing is on its way.
    pub fn is_at_rest(&self) -> bool {
        self.to_client.is_empty() && self.server.as_ref().is_none_or(|server| server.is_idle())
    }

    fn pin(&mut self, why: &str) {
        if !self.is_pinned {
            tracing::debug!(client = self.me.id, why, "keeps its server connection");
            self.is_pinned = true;
            self.pool.stats.pinned.add(1);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for buffer in [&mut self.input, &mut self.to_client, &mut self.to_server] {
            buffer::give_back(buffer);
        }
    }
}

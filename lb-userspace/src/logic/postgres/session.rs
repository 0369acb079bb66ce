//! One client of `lb logic` after its login: each segment of its messages (a query, or everything up
//! to a Sync) goes to the server that may answer it, over connections that the session opens when it
//! first needs them and keeps, one a server at most.
//!
//! A known read stays in `input` until its whole answer is there: so it can be asked again of
//! another server, unseen by the client. Everything else is relayed to the primary as it comes.
//! Nothing here decides who is primary; `route` reads that off the cluster's picture.

mod aborted;
mod again;
mod answers;
mod failed;
mod floor;
mod hedge;
mod held;
mod news;
mod prepare;
mod relay;
mod rewrite;
mod route;
mod scan;
mod shards;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use self::aborted::Aborted;
use self::floor::Floor;
use self::held::Held;
pub(super) use self::prepare::refusal;
use self::relay::Relay;
pub(super) use self::shards::of_settings as shard_of_settings;
use super::classes::Hold;
use super::cluster::Cluster;
use super::pool::{Key, Upstream};
use super::worker::Worker;
use crate::downstream::postgres::clients::Client;
use crate::downstream::postgres::say_good_bye;
use crate::sql;
use crate::transport::stream::Stream;
use crate::upstream::postgres::Credentials;
use crate::upstream::postgres::settings::Settings;
use crate::upstream::postgres::statements::Statement;
use crate::upstream::postgres::tracking::Tracking;
use crate::wire::buffer;
use crate::wire::postgres::error::PgError;

/// So many bytes may wait for a client that does not read, or be read from one ahead.
const UNREAD_BYTES_MAX: usize = 64 << 10;
/// How long a client may take to read the last words.
const LAST_WORDS_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

/// How a session ended.
#[derive(Debug)]
pub(super) enum End {
    /// The client said so, or closed.
    Left,
    /// The client closed while a server worked for it, or could not be written to.
    Lost,
    /// The client is told, and the connection closed.
    Refused(PgError),
}

/// What a session needs to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// A connection to a server, which agrees with the session's settings.
    Prepare { server: usize, is_read: bool },
    /// Another picture: now there is nobody who can take what is to do.
    Turn,
}

/// Who the client is.
#[derive(Debug)]
pub(super) struct Identity {
    pub cluster: Arc<Cluster>,
    /// Position of the cluster.
    pub position: usize,
    /// By server: which shard it holds.
    pub shards: Box<[usize]>,
    pub user: Rc<str>,
    pub database: Rc<str>,
    pub credentials: Credentials,
    /// What its startup packet asked for, and the settings that this makes.
    pub parameters: Box<[(String, String)]>,
    pub base: Settings,
}

impl Identity {
    pub fn has_shards(&self) -> bool {
        self.shards.iter().any(|&shard| shard > 0)
    }

    /// The shard that holds a key.
    pub fn shard_for(&self, key: &[u8]) -> usize {
        self.cluster.view().shard_for(key)
    }

    pub fn key(&self, server: usize) -> Key {
        Key {
            cluster: self.position,
            server,
            user: Rc::clone(&self.user),
            database: Rc::clone(&self.database),
            base: self.base.clone(),
        }
    }
}

/// A prepared statement of the session.
#[derive(Debug)]
struct Named {
    statement: Rc<Statement>,
    is_read: bool,
}

/// Its prepared statements, by the names that it gave them.
type Names = HashMap<Box<[u8]>, Named>;

/// What is on its way.
#[derive(Debug)]
enum Mode {
    /// Nothing.
    Rest,
    /// A known read.
    Held(Held),
    /// Everything that the client sends, until its server is idle again.
    Relay(Relay),
    /// A transaction that is over, and the client has yet to end it.
    Aborted(Aborted),
}

/// A client that has logged in.
pub(super) struct Session {
    worker: Rc<Worker>,
    who: Rc<Identity>,
    /// The shard of the segment that is on its way, or was last.
    shard: usize,
    /// What is known of its database's statements.
    known: Hold,
    /// Whether its client's encoding lets statements be read.
    is_readable: bool,
    me: Rc<Client>,
    client: Stream,
    mode: Mode,
    /// By server.
    upstreams: Vec<Option<Box<Upstream>>>,
    /// The server that it can leave no more: something of the session is only there.
    pinned: Option<usize>,
    settings: Settings,
    names: Option<Box<Names>>,
    /// The definition of its unnamed statement, with its stamp; 0 if it has none.
    unnamed: Box<[u8]>,
    unnamed_stamp: u64,
    unnamed_is_read: bool,
    tracking: Tracking,
    /// By shard.
    floors: Box<[Floor]>,
    /// A standby found that the next segment is no read.
    is_for_primary: bool,
    /// Standbys cannot answer the next segment: the primary does, though it is a read.
    reads_from_primary: bool,
    /// The next segment was refused by whom it is for: nobody is asked before something changes.
    must_wait: bool,
    /// How many reads standbys could not do for the sake of this session's settings.
    settings_refused: u32,
    /// Everything up to the next Sync is answered with an error that was told already.
    is_skipping: bool,
    /// An aborted transaction has a statement that ends it: whether that is a commit.
    aborted_ending: Option<bool>,
    /// The turn of the cluster's picture that it has looked at.
    turn: u64,
    /// Since when the next segment waits.
    waits_since: Option<Instant>,
    input: Vec<u8>,
    /// So many of the client's bytes that come next are the rest of a message that nobody wants.
    unwanted: usize,
    to_client: Vec<u8>,
    to_server: Vec<u8>,
    is_leaving: bool,
    /// `input` may hold messages that can be dealt with now.
    is_input_due: bool,
}

impl Session {
    pub fn new(
        worker: Rc<Worker>,
        who: Rc<Identity>,
        shard: usize,
        me: Rc<Client>,
        client: Stream,
    ) -> Self {
        let servers = who.cluster.servers.len();
        let settings = who.base.clone();
        let shards = who.shards.iter().max().map_or(1, |highest| highest + 1);
        Self {
            known: worker.classes.hold(&worker, &who, shard),
            is_readable: true,
            worker,
            who,
            shard,
            me,
            client,
            mode: Mode::Rest,
            upstreams: (0..servers).map(|_| None).collect(),
            pinned: None,
            settings,
            names: None,
            unnamed: Box::default(),
            unnamed_stamp: 0,
            unnamed_is_read: false,
            tracking: Tracking::default(),
            floors: (0..shards).map(|_| Floor::default()).collect(),
            is_for_primary: false,
            reads_from_primary: false,
            must_wait: false,
            settings_refused: 0,
            is_skipping: false,
            aborted_ending: None,
            turn: 0,
            waits_since: None,
            input: Vec::new(),
            unwanted: 0,
            to_client: Vec::new(),
            to_server: Vec::new(),
            is_leaving: false,
            is_input_due: false,
        }
    }

    /// The connection that its login was tried with is its own from now on.
    pub fn has(&mut self, server: usize, upstream: Box<Upstream>) {
        self.looks_at_encoding(&upstream);
        self.upstreams[server] = Some(upstream);
    }

    /// Serves the client until it leaves.
    pub async fn run(mut self) {
        let end = loop {
            match std::future::poll_fn(|cx| self.poll(cx)).await {
                Ok(step) => {
                    if let Err(end) = Box::pin(self.wait_for(step)).await {
                        break end;
                    }
                }
                Err(end) => break end,
            }
        };
        Box::pin(self.finish(end)).await;
    }

    /// Goes on until everything waits for a socket, or for something else.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, End>> {
        self.me.wakes(cx.waker());
        match self.poll_ways(cx) {
            Ok(Some(step)) => Poll::Ready(Ok(step)),
            Ok(None) => Poll::Pending,
            Err(end) => Poll::Ready(Err(end)),
        }
    }

    fn poll_ways(&mut self, cx: &mut Context<'_>) -> Result<Option<Step>, End> {
        loop {
            let mut has_moved = self.poll_to_client(cx)?;
            has_moved |= self.poll_to_server(cx)?;
            has_moved |= match self.mode {
                Mode::Held(_) => self.poll_held(cx)?,
                Mode::Relay(_) => self.poll_relay(cx)?,
                Mode::Rest | Mode::Aborted(_) => false,
            };
            has_moved |= self.poll_news(cx)?;
            if self.is_input_due && self.may_take() {
                has_moved = true;
                if let Some(step) = self.take_input(cx)? {
                    return Ok(Some(step));
                }
            }
            has_moved |= self.poll_from_client(cx)?;
            let is_resting = matches!(self.mode, Mode::Rest | Mode::Aborted(_));
            if self.is_leaving && self.to_client.is_empty() && self.owes_nothing() {
                return Err(End::Left);
            }
            if self.me.must_leave()
                && is_resting
                && self.input.is_empty()
                && self.to_client.is_empty()
            {
                return Err(End::Refused(self.me.reason_to_leave()));
            }
            let is_more_due = self.is_input_due && self.may_take();
            if !(has_moved || is_more_due) {
                return Ok(None);
            }
        }
    }

    fn owes_nothing(&self) -> bool {
        match &self.mode {
            Mode::Rest | Mode::Aborted(_) => true,
            Mode::Held(_) => false,
            Mode::Relay(relay) => self.upstreams[relay.server]
                .as_ref()
                .is_none_or(|upstream| upstream.is_silent()),
        }
    }

    /// Whether messages of the client can be dealt with.
    fn may_take(&self) -> bool {
        !matches!(self.mode, Mode::Held(_))
            && !self.is_leaving
            && self.to_server.is_empty()
            && self.to_client.len() <= UNREAD_BYTES_MAX
    }

    fn poll_to_client(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.to_client.is_empty() {
            return Ok(false);
        }
        match self.client.poll_out(cx, &self.to_client) {
            Poll::Ready(Ok(count)) => buffer::consume(&mut self.to_client, count),
            Poll::Ready(Err(_)) if self.is_leaving => buffer::give_back(&mut self.to_client),
            Poll::Ready(Err(_)) => return Err(End::Lost),
            Poll::Pending => return Ok(false),
        }
        Ok(true)
    }

    fn poll_to_server(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.to_server.is_empty() {
            return Ok(false);
        }
        let server = match &self.mode {
            Mode::Held(held) => Some(held.server),
            Mode::Relay(relay) => Some(relay.server),
            Mode::Rest | Mode::Aborted(_) => None,
        };
        let Some(upstream) = server.and_then(|server| self.upstreams[server].as_mut()) else {
            buffer::give_back(&mut self.to_server);
            return Ok(true);
        };
        match upstream.stream.poll_out(cx, &self.to_server) {
            Poll::Ready(Ok(count)) => buffer::consume(&mut self.to_server, count),
            // What it said before it closed may still be read.
            Poll::Ready(Err(_)) => buffer::give_back(&mut self.to_server),
            Poll::Pending => return Ok(false),
        }
        Ok(true)
    }

    fn poll_from_client(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.is_leaving
            || self.input.len() > self.worker.input_bytes_max()
            || !self.to_server.is_empty()
        {
            return Ok(false);
        }
        if self.to_client.len() > UNREAD_BYTES_MAX {
            // Whoever does not read answers gets no more of them.
            return Ok(false);
        }
        let worker = Rc::clone(&self.worker);
        let mut scratch = worker.scratch.borrow_mut();
        let count = match self.client.poll_into(cx, &mut scratch.read) {
            Poll::Ready(Ok(0) | Err(_)) if self.owes_nothing() => return Err(End::Left),
            Poll::Ready(Ok(0) | Err(_)) => return Err(End::Lost),
            Poll::Ready(Ok(count)) => count,
            Poll::Pending => return Ok(false),
        };
        buffer::append(&mut self.input, &scratch.read[..count]);
        self.is_input_due = true;
        Ok(true)
    }

    /// Writes to the client; what it does not take now waits.
    fn tell(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), End> {
        if !self.to_client.is_empty() {
            buffer::append(&mut self.to_client, bytes);
            return Ok(());
        }
        match self.client.poll_out(cx, bytes) {
            Poll::Ready(Ok(written)) => buffer::append(&mut self.to_client, &bytes[written..]),
            // Who said good-bye need not wait for answers; what was asked for is done.
            Poll::Ready(Err(_)) if self.is_leaving => {}
            Poll::Ready(Err(_)) => return Err(End::Lost),
            Poll::Pending => buffer::append(&mut self.to_client, bytes),
        }
        Ok(())
    }

    /// Whether a server has yet to answer a read that another has answered.
    fn is_owed(&self, server: usize) -> bool {
        self.upstreams[server]
            .as_ref()
            .is_some_and(|upstream| owes(upstream))
    }

    /// Whether a query is known to read only.
    fn only_reads(&self, sql: &[u8]) -> bool {
        self.is_readable && self.known.only_reads(sql)
    }

    fn looks_at_encoding(&mut self, upstream: &Upstream) {
        let mut parameters = upstream.parameters.iter();
        let encoding = parameters.find(|(name, _)| name == "client_encoding");
        self.is_readable = encoding.is_none_or(|(_, encoding)| sql::is_readable(encoding));
    }

    fn pin(&mut self, server: usize, why: &str) {
        if self.pinned.is_none() {
            tracing::debug!(client = self.me.id, why, "keeps to the primary");
            self.pinned = Some(server);
        }
    }

    /// The session is over: tells the client why, and leaves clean connections to others.
    async fn finish(mut self, end: End) {
        self.me.is_served_by(None);
        let is_clean = self.pinned.is_none();
        for server in 0..self.upstreams.len() {
            let Some(upstream) = self.upstreams[server].take() else {
                continue;
            };
            if upstream.is_idle() && is_clean && self.to_server.is_empty() {
                self.worker.pool.give(self.who.key(server), upstream);
            } else if !upstream.is_silent() {
                tokio::task::spawn_local(Rc::clone(&upstream.cancels).cancel());
            }
        }
        let mut last = std::mem::take(&mut self.to_client);
        if let End::Refused(error) = &end {
            tracing::info!(client = self.me.id, user = %self.who.user, %error, "client refused");
            error.write(&mut last);
        }
        say_good_bye(&mut self.client, &last, LAST_WORDS_TIMEOUT).await;
        buffer::give_back(&mut last);
    }
}

/// Whether answers are on their way.
fn owes(upstream: &Upstream) -> bool {
    !upstream.answers.awaited.is_empty() || upstream.passing > 0
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Mode::Held(_) = self.mode {
            self.worker.hedging.over(self.me.id);
        }
        for held in [&mut self.input, &mut self.to_client, &mut self.to_server] {
            buffer::give_back(held);
        }
    }
}

//! Links of logic daemons: who may open one, and the stream of heartbeats. What sessions do with
//! floors and positions is the session's.

use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::Proxy;
use super::watch::Watcher;
use crate::downstream::postgres::clients::Client;
use crate::transport::stream::Stream;
use crate::wire::buffer;
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::frame::{self, HEADER_BYTES};
use crate::wire::postgres::link::{
    FromLogic, FromProxy, Heartbeat, Hello, Load, Mode, OPTION, VERSION,
};
use crate::wire::postgres::startup::Startup;
use crate::wire::postgres::write;

/// A heartbeat comes at least so often.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(50);
/// The longest message of a link.
pub(super) const MESSAGE_BYTES_MAX: usize = 256;

/// Which link a startup packet asks for; `None` also for what this version does not know.
pub(super) fn mode(startup: &Startup) -> Option<Mode> {
    startup.get(OPTION).and_then(Mode::of_option)
}

/// Appends what says that there is a link.
pub(super) fn hello(out: &mut Vec<u8>) {
    FromProxy::Hello(Hello { version: VERSION }).write(out);
}

/// Whether a user may watch.
pub(super) fn may_watch(proxy: &Proxy, user: &str) -> Result<(), PgError> {
    let config = proxy.config.borrow();
    if config.links.iter().any(|name| name == user) {
        return Ok(());
    }
    let what = format!("user \"{user}\" may not watch the server");
    let hint = "Name the user in links of [db_proxy].";
    Err(PgError::fatal(code::INVALID_AUTHORIZATION, what).hint(hint))
}

/// One logic daemon that watches.
pub(super) struct WatchLink {
    proxy: Rc<Proxy>,
    me: Rc<Client>,
    stream: Stream,
    watcher: Watcher,
    sequence: u64,
    /// What was sent last, its times left out.
    last: Heartbeat,
    input: Vec<u8>,
    /// What the daemon has not taken yet: a heartbeat, or the end of one.
    output: Vec<u8>,
}

/// Why a link ends.
enum End {
    Left,
    Refused(PgError),
}

impl WatchLink {
    pub fn new(proxy: Rc<Proxy>, me: Rc<Client>, stream: Stream) -> Self {
        Self {
            watcher: proxy.watch.listen(),
            proxy,
            me,
            stream,
            sequence: 0,
            last: Heartbeat::default(),
            input: Vec::new(),
            output: Vec::new(),
        }
    }

    /// Serves until the daemon leaves, or the proxy stops.
    pub async fn run(mut self) {
        let end = loop {
            self.beat();
            let due = Instant::now() + HEARTBEAT_EVERY;
            // Until it is time for the next heartbeat, or one would say something new.
            let end = loop {
                tokio::select! {
                    () = tokio::time::sleep_until(due) => break None,
                    () = self.watcher.changed() => if self.is_news() { break None },
                    end = std::future::poll_fn(|cx| Self::poll_link(
                        &self.proxy, &self.me, &mut self.stream, &mut self.input, &mut self.output, cx,
                    )) => break Some(end),
                }
            };
            if let Some(end) = end {
                break end;
            }
        };
        if let End::Refused(error) = end {
            crate::downstream::postgres::refuse(&mut self.stream, &error).await;
        }
    }

    /// The state of now, without what differs at every look.
    fn state(&self) -> Heartbeat {
        Heartbeat {
            silent_ms: 0,
            age_ms: 0,
            load: Load::default(),
            ..self.heartbeat()
        }
    }

    fn is_news(&self) -> bool {
        self.state() != self.last
    }

    fn heartbeat(&self) -> Heartbeat {
        let proxy = &self.proxy;
        let mut heartbeat = proxy.watch.heartbeat();
        heartbeat.is_fenced = proxy.fence.is_closed();
        heartbeat.highest = proxy.fence.highest();
        if heartbeat.is_fenced {
            heartbeat.reason = proxy.fence.reason();
        }
        let pools = proxy.all_pools();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        heartbeat.load = Load {
            clients: count(proxy.clients.len()),
            active: count(pools.iter().map(|pool| pool.active()).sum()),
            waiting: count(pools.iter().map(|pool| pool.waiting()).sum()),
        };
        heartbeat
    }

    /// Writes a heartbeat, unless the daemon has not taken the one before.
    fn beat(&mut self) {
        let links = &self.proxy.stats.links;
        self.last = self.state();
        self.sequence += 1;
        if !self.output.is_empty() {
            links.heartbeats_left_out.add(1);
            return;
        }
        links.heartbeats.add(1);
        let heartbeat = Heartbeat {
            sequence: self.sequence,
            ..self.heartbeat()
        };
        FromProxy::Heartbeat(Box::new(heartbeat)).write(&mut self.output);
    }

    fn poll_link(
        proxy: &Rc<Proxy>,
        me: &Client,
        stream: &mut Stream,
        input: &mut Vec<u8>,
        output: &mut Vec<u8>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<End> {
        me.wakes(cx.waker());
        if me.must_leave() {
            return Poll::Ready(End::Refused(me.reason_to_leave()));
        }
        while !output.is_empty() {
            match stream.poll_out(cx, output) {
                Poll::Ready(Ok(count)) => {
                    output.drain(..count);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(End::Left),
                Poll::Pending => break,
            }
        }
        let mut scratch = [0; MESSAGE_BYTES_MAX];
        loop {
            match stream.poll_into(cx, &mut scratch) {
                Poll::Ready(Ok(count)) if count > 0 => buffer::append(input, &scratch[..count]),
                Poll::Ready(_) => return Poll::Ready(End::Left),
                Poll::Pending => return Poll::Pending,
            }
            match take_messages(proxy, input) {
                Ok(false) => {}
                Ok(true) => return Poll::Ready(End::Left),
                Err(error) => return Poll::Ready(End::Refused(error)),
            }
        }
    }
}

/// Takes what a daemon said; `true` if it said good-bye.
fn take_messages(proxy: &Rc<Proxy>, input: &mut Vec<u8>) -> Result<bool, PgError> {
    let violation = |what: String| PgError::fatal(code::PROTOCOL_VIOLATION, what);
    let mut at = 0;
    while let Some(header) = frame::header(&input[at..]).map_err(|e| violation(e.to_string()))? {
        if header.total > MESSAGE_BYTES_MAX {
            return Err(violation("a message of the link is too long".to_owned()));
        }
        let Some(message) = input[at..].get(..header.total) else {
            break;
        };
        match header.tag {
            b'X' => return Ok(true),
            // What a client sends behind its queries, of which there are none.
            b'S' | b'H' => {}
            crate::wire::postgres::link::TAG => {
                let body = &message[HEADER_BYTES..];
                match FromLogic::read(body).map_err(|e| violation(e.to_string()))? {
                    FromLogic::Attest(attest) => proxy.attest(attest.epoch),
                    FromLogic::Floor(_) => {
                        return Err(violation("a watch link takes no floors".to_owned()));
                    }
                }
            }
            _ => return Err(violation("a watch link takes no queries".to_owned())),
        }
        at += header.total;
    }
    buffer::consume(input, at);
    Ok(false)
}

/// What a daemon is told at the end of its login.
pub(super) fn greeting(out: &mut Vec<u8>) {
    let version = concat!(env!("CARGO_PKG_VERSION"), "/lb");
    write::parameter_status(out, "server_version", version);
    write::parameter_status(out, "client_encoding", "UTF8");
}

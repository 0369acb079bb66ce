//! Looks after one server: who answers there, and whether its data may be read; and after its copy.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::data::{Known, Marker, Step, next_token, step};
use super::info::Info;
use super::{LOOK, PATIENCE, Resp, Serving, VERDICT, local, spare_out};
use crate::config::Authority;
use crate::upstream::redis::{Connection, RedisError};
use crate::wire::resp::reply;

/// The key of the marker.
const MARKER: &str = "lb:marker";
/// Exchanges the marker, and empties the server first if asked to: one step for everybody else.
const EXCHANGE: &str = "local old = redis.call('GET', KEYS[1]) or '' \
     if old ~= ARGV[1] then return old end \
     if ARGV[3] == '1' then redis.call('FLUSHALL') end \
     redis.call('SET', KEYS[1], ARGV[2]) return ARGV[2]";
/// How much of a server's past is remembered, to tell how old its copy is.
const PAST_MAX: usize = 600;

/// What is remembered of a server.
#[derive(Default)]
pub(super) struct Memory {
    /// What its data was.
    data: Known,
    /// How often another took its keys since.
    spares: u32,
    /// Since when it does not answer.
    failing_since: Option<Instant>,
    /// When it had written how much.
    past: VecDeque<(Instant, u64)>,
    copy_run_id: String,
    copy_is_good: bool,
}

/// Looks after it and its copy for ever, each at its own pace: what does not answer keeps nobody waiting.
pub(super) async fn after(resp: Arc<Resp>, server: usize) {
    let memory = RefCell::new(Memory::default());
    tokio::join!(
        after_server(&resp, server, &memory),
        after_copy(&resp, server, &memory)
    );
}

async fn after_server(resp: &Arc<Resp>, server: usize, memory: &RefCell<Memory>) {
    let known = &resp.knowledge.servers[server];
    let mut views = resp.view.subscribe();
    loop {
        let address = resp.view().servers[server].writer;
        let is_left = views.wait_for(|view| view.servers[server].writer != address);
        let outcome = tokio::select! {
            outcome = look(resp, server, address, memory) => outcome,
            // At once: its clients wait.
            _ = is_left => {
                let mut memory = memory.borrow_mut();
                memory.failing_since = None;
                memory.data.running = None;
                continue;
            }
        };
        memory.borrow_mut().data.running = None;
        if let Err(error) = outcome {
            let failing = memory.borrow_mut().fails_for();
            known.is_lost.store(failing > VERDICT, Ordering::Relaxed);
            if !matches!(resp.view().servers[server].serving, Serving::Spare(_)) {
                known.show("suspected", error.to_string());
            }
            judge(resp, server, failing, memory).await;
        }
        tokio::time::sleep(LOOK / 2).await;
    }
}

/// Looks at it again and again, until it fails.
async fn look(
    resp: &Arc<Resp>,
    server: usize,
    address: SocketAddr,
    memory: &RefCell<Memory>,
) -> Result<(), RedisError> {
    let mut connection = Connection::open(address, &resp.access(), PATIENCE).await?;
    let asked = Instant::now();
    let info = ask_info(&mut connection).await?;
    if !info.is_primary {
        return Err(RedisError::Refused("it is a replica".into()));
    }
    if info.is_loading {
        return Err(RedisError::Refused("it loads its data".into()));
    }
    make_readable(resp, server, &mut connection, &info, memory).await?;
    if let Serving::Spare(by) = resp.view().servers[server].serving {
        spare_out::end(resp, server, by).await;
    }
    let run_id: Arc<str> = info.run_id.as_str().into();
    memory.borrow_mut().is_up(&info, asked);
    resp.decide(server, |decided| {
        let is_new = decided.run_id.as_ref() != Some(&run_id) || decided.serving != Serving::Writer;
        let is_still = decided.writer == address;
        if is_still {
            decided.run_id = Some(Arc::clone(&run_id));
            decided.serving = Serving::Writer;
        }
        is_new && is_still
    });
    let known = &resp.knowledge.servers[server];
    known.is_lost.store(false, Ordering::Relaxed);
    known.change(|news| news.run_id = Some(info.run_id.clone()));
    loop {
        let asked = Instant::now();
        let info = ask_info(&mut connection).await?;
        if *info.run_id != *run_id || !info.is_primary {
            return Err(RedisError::Refused("another process answers there".into()));
        }
        known.show("up", "it answers");
        // Somebody may have emptied it past lb, marker and all.
        let has_marker = info.databases.contains(&marker_database(resp));
        if !has_marker || info.replid != memory.borrow().data.replid {
            make_readable(resp, server, &mut connection, &info, memory).await?;
        }
        memory.borrow_mut().is_up(&info, asked);
        if resp.settings().cache.authority == Authority::Local {
            local::vouch(resp, server);
        }
        let _ = tokio::time::timeout(LOOK, known.call.notified()).await;
    }
}

impl Memory {
    /// It does not answer: since how long, this time counted.
    fn fails_for(&mut self) -> Duration {
        let since = self.failing_since.get_or_insert_with(Instant::now);
        since.elapsed()
    }

    /// It answered what was asked then.
    fn is_up(&mut self, info: &Info, asked: Instant) {
        self.failing_since = None;
        self.data.running = Some(info.run_id.clone());
        self.spares = 0;
        if info.replid != self.data.replid {
            // Another history: how much was written counts anew.
            self.past.clear();
            self.data.replid.clone_from(&info.replid);
        }
        // Whatever was written before it was asked is in what it says.
        self.past.push_back((asked, info.offset));
        if self.past.len() > PAST_MAX {
            self.past.pop_front();
        }
    }
}

/// The database below the one for others' keys.
fn marker_database(resp: &Resp) -> u64 {
    u64::from(resp.settings().cache.spare_database - 1)
}

async fn ask_info(connection: &mut Connection) -> Result<Info, RedisError> {
    let answer = connection.ask(&["INFO"]).await?;
    let text = reply::text(&answer).unwrap_or_default();
    Ok(Info::parse(&String::from_utf8_lossy(text)))
}

/// Sees to it that nobody reads old data: the server is emptied if need be, by one of all daemons.
async fn make_readable(
    resp: &Arc<Resp>,
    server: usize,
    connection: &mut Connection,
    info: &Info,
    memory: &RefCell<Memory>,
) -> Result<(), RedisError> {
    let database = marker_database(resp).to_string();
    connection.ask(&["SELECT", &database]).await?;
    let epoch = resp.view().servers[server].epoch;
    loop {
        let answer = connection.ask(&["GET", MARKER]).await?;
        let old = reply::text(&answer).unwrap_or_default();
        let old = String::from_utf8_lossy(old).into_owned();
        let marker = Marker::parse(&old);
        let (step, token) = {
            let mut memory = memory.borrow_mut();
            let step = step(info, marker.as_ref(), epoch, &memory.data);
            if step == Step::Serve {
                memory.data.marker = marker;
                memory.data.stale = None;
                return Ok(());
            }
            let token = next_token(step, info, marker.as_ref(), &memory.data);
            (step, token)
        };
        let known = &resp.knowledge.servers[server];
        let flag = match step {
            Step::Empty => {
                known.show("emptying", "it has data of another time");
                "1"
            }
            _ => "0",
        };
        let new = Marker::of(info, epoch, token).text();
        let exchanged = connection
            .ask(&["EVAL", EXCHANGE, "1", MARKER, &old, &new, flag])
            .await?;
        if reply::text(&exchanged) == Some(new.as_bytes()) && step == Step::Empty {
            resp.knowledge.emptied.fetch_add(1, Ordering::Relaxed);
            known.change(|news| news.emptied += 1);
            tracing::warn!(
                server,
                "a cache server came back with old data and was emptied"
            );
        }
        // Somebody else may have been first: what there is now is looked at again.
    }
}

async fn after_copy(resp: &Arc<Resp>, server: usize, memory: &RefCell<Memory>) {
    let settings = resp.settings();
    let Some(primary) = settings.cache.primaries.get(server) else {
        return;
    };
    let mut connection = None;
    loop {
        let writer = resp.view().servers[server].writer;
        let other = match primary.copy {
            Some(copy) if writer == copy => Some(primary.address),
            other => other,
        };
        let Some(address) = other else {
            return;
        };
        let info = ask_copy(resp, address, &mut connection).await;
        judge_copy(resp, server, address, info.ok().as_ref(), memory);
        tokio::time::sleep(LOOK).await;
    }
}

/// Asks the copy, on the connection that there is.
async fn ask_copy(
    resp: &Arc<Resp>,
    address: SocketAddr,
    connection: &mut Option<(SocketAddr, Connection)>,
) -> Result<Info, RedisError> {
    let mut open = match connection.take() {
        Some((to, open)) if to == address => open,
        _ => Connection::open(address, &resp.access(), PATIENCE).await?,
    };
    let info = ask_info(&mut open).await?;
    *connection = Some((address, open));
    Ok(info)
}

/// Whether the copy may answer, and how old what it says may be.
fn judge_copy(
    resp: &Arc<Resp>,
    server: usize,
    address: SocketAddr,
    info: Option<&Info>,
    memory: &RefCell<Memory>,
) {
    let mut memory = memory.borrow_mut();
    let is_copy = info.is_some_and(|info| memory.is_copy(info));
    let lag = info.and_then(|info| lag(&memory, info.offset));
    let is_good = is_copy && lag.is_some_and(|lag| lag <= resp.settings().cache.lag_max);
    resp.knowledge.servers[server].change(|news| {
        news.lag = lag.filter(|_| is_copy);
        news.copy_address = Some(address);
    });
    let copy = is_good.then_some(address);
    let run_id: Option<Arc<str>> = info.filter(|_| is_good).map(|i| i.run_id.as_str().into());
    resp.decide(server, |decided| {
        // The copy takes its primary's place: it is read until it serves as such.
        let is_taking_over = decided.copy == Some(decided.writer) && decided.run_id.is_none();
        let is_change = decided.copy != copy || decided.copy_run_id != run_id;
        if is_taking_over || decided.writer == address || !is_change {
            return false;
        }
        decided.copy = copy;
        decided.copy_run_id = run_id;
        true
    });
}

impl Memory {
    /// Whether it has the data of the server. Caught up once, it stays good while its primary is away, also
    /// when it is promoted; a process that was started meanwhile has to catch up first.
    fn is_copy(&mut self, info: &Info) -> bool {
        if info.is_loading || self.data.replid.is_empty() {
            return false;
        }
        if info.is_primary {
            let is_promoted = info.replid_before == self.data.replid;
            return is_promoted && self.copy_is_good && self.copy_run_id == info.run_id;
        }
        let is_of_it = info.replid == self.data.replid;
        if info.link_is_up && is_of_it {
            self.copy_run_id.clone_from(&info.run_id);
            self.copy_is_good = true;
        }
        is_of_it && self.copy_is_good && self.copy_run_id == info.run_id
    }
}

/// How old what a copy has may be: the time since its primary was last seen with no more than that.
fn lag(memory: &Memory, offset: u64) -> Option<Duration> {
    let mut past = memory.past.iter().rev();
    let seen = past.find(|(_, written)| *written <= offset)?;
    Some(seen.0.elapsed())
}

/// It does not answer: what is done about that.
async fn judge(resp: &Arc<Resp>, server: usize, failing: Duration, memory: &RefCell<Memory>) {
    let settings = resp.settings();
    if server >= settings.cache.primaries.len() {
        return;
    }
    let is_condemned = match settings.cache.authority {
        Authority::Local => failing > VERDICT,
        Authority::Sentinel => resp.is_condemned(server),
    };
    if !is_condemned {
        return;
    }
    let has_copy = settings.cache.primaries[server].copy.is_some();
    if has_copy && settings.cache.authority == Authority::Local {
        local::promote(resp, server).await;
        return;
    }
    // Whose copy may still be promoted is waited for.
    if !has_copy {
        give_to_a_spare(resp, server, memory).await;
    }
}

async fn give_to_a_spare(resp: &Arc<Resp>, server: usize, memory: &RefCell<Memory>) {
    let known = &resp.knowledge.servers[server];
    let serving = resp.view().servers[server].serving;
    if let Serving::Spare(by) = serving
        && !resp.knowledge.servers[by].is_lost.load(Ordering::Relaxed)
    {
        return;
    }
    if serving == Serving::Writer && !resp.may_fail_over(server) {
        known.show(
            "failed",
            "max_failover_share has been reached: nobody takes its keys",
        );
        return;
    }
    // The same for every daemon that saw its marker; whoever did not may empty once more.
    let episode = {
        let memory = memory.borrow();
        let token = memory.data.marker.as_ref().map(|marker| marker.token);
        let token = token.unwrap_or_else(|| fastrand::u64(..));
        format!("{token:016x} {}", memory.spares)
    };
    if let Some(by) = spare_out::prepare(resp, server, &episode).await {
        let mut memory = memory.borrow_mut();
        memory.data.stale = memory.data.marker.as_ref().map(|marker| marker.token);
        memory.spares += 1;
        resp.decide(server, |decided| {
            decided.serving = Serving::Spare(by);
            decided.run_id = None;
            true
        });
        known.show(
            "spared",
            "it has failed and has no copy: another takes its keys",
        );
    }
}

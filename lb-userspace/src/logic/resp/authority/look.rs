//! Looks after one server: who answers there, and whether its data may be read; and after its copy.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::data::{Marker, Step, step};
use super::info::Info;
use super::{LOOK, PATIENCE, Resp, Serving, local};
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
    /// Its marker, as last seen.
    marker: Option<String>,
    /// The marker that it had when its keys went elsewhere.
    pub stale: Option<String>,
    /// Since when it does not answer.
    pub failing_since: Option<Instant>,
    replid: String,
    /// When it had written how much.
    past: VecDeque<(Instant, u64)>,
    copy_run_id: String,
    copy_is_good: bool,
}

/// Looks after it for ever.
pub(super) async fn after(resp: Arc<Resp>, server: usize) {
    let mut memory = Memory::default();
    loop {
        let address = resp.view().servers[server].writer;
        let failure = look(&resp, server, address, &mut memory).await;
        if let Err(error) = failure {
            if memory.failing_since.is_none() {
                memory.failing_since = Some(Instant::now());
            }
            let known = &resp.knowledge.servers[server];
            if !matches!(resp.view().servers[server].serving, Serving::Spare(_)) {
                known.show("suspected", error.to_string());
            }
            judge(&resp, server, &mut memory).await;
        }
        look_at_copy(&resp, server, None, &mut memory).await;
        tokio::time::sleep(LOOK / 2).await;
    }
}

/// Looks at it again and again, until it fails or another takes its place.
async fn look(
    resp: &Arc<Resp>,
    server: usize,
    address: SocketAddr,
    memory: &mut Memory,
) -> Result<(), RedisError> {
    let mut connection = Connection::open(address, &resp.access(), PATIENCE).await?;
    let info = ask_info(&mut connection).await?;
    let is_spare = server >= resp.settings().cache.primaries.len();
    if !info.is_primary {
        return Err(RedisError::Refused("it is a replica".into()));
    }
    if info.is_loading {
        return Err(RedisError::Refused("it loads its data".into()));
    }
    if !is_spare {
        make_readable(resp, server, &mut connection, &info, memory).await?;
    }
    let run_id: Arc<str> = info.run_id.as_str().into();
    memory.failing_since = None;
    memory.replid.clone_from(&info.replid);
    memory.past.clear();
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
    known.change(|news| news.run_id = Some(info.run_id.clone()));
    loop {
        let asked = Instant::now();
        let info = ask_info(&mut connection).await?;
        if *info.run_id != *run_id || !info.is_primary {
            return Err(RedisError::Refused("another process answers there".into()));
        }
        if resp.view().servers[server].writer != address {
            return Ok(());
        }
        memory.failing_since = None;
        known.show("up", "it answers");
        if info.replid != memory.replid && !is_spare {
            make_readable(resp, server, &mut connection, &info, memory).await?;
        }
        memory.replid.clone_from(&info.replid);
        // Whatever was written before it was asked is in what it says.
        memory.past.push_back((asked, info.offset));
        if memory.past.len() > PAST_MAX {
            memory.past.pop_front();
        }
        if resp.settings().cache.authority == Authority::Local {
            local::vouch(resp, server);
        }
        look_at_copy(resp, server, Some(&info), memory).await;
        let _ = tokio::time::timeout(LOOK, known.call.notified()).await;
    }
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
    memory: &mut Memory,
) -> Result<(), RedisError> {
    let database = resp.settings().cache.spare_database - 1;
    connection.ask(&["SELECT", &database.to_string()]).await?;
    let epoch = resp.view().servers[server].epoch;
    loop {
        let answer = connection.ask(&["GET", MARKER]).await?;
        let old = reply::text(&answer).unwrap_or_default();
        let old = String::from_utf8_lossy(old).into_owned();
        let marker = Marker::parse(&old);
        let is_known = memory.marker.is_some();
        let step = step(
            info,
            marker.as_ref(),
            epoch,
            memory.stale.as_deref(),
            is_known,
        );
        if step == Step::Serve {
            memory.marker = Some(old);
            memory.stale = None;
            return Ok(());
        }
        let known = &resp.knowledge.servers[server];
        let flag = match step {
            Step::Empty => {
                known.show("emptying", "it has data of another time");
                "1"
            }
            _ => "0",
        };
        let new = Marker::of(info, epoch, fastrand::u64(..)).text();
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

/// Looks at the copy: whether it may answer, and how old what it says may be.
async fn look_at_copy(resp: &Arc<Resp>, server: usize, writer: Option<&Info>, memory: &mut Memory) {
    let settings = resp.settings();
    let Some(primary) = settings.cache.primaries.get(server) else {
        return;
    };
    let view = resp.view();
    let decided = &view.servers[server];
    let other = match primary.copy {
        Some(copy) if decided.writer == copy => Some(primary.address),
        other => other,
    };
    let Some(address) = other else {
        return;
    };
    let asked = async {
        let mut connection = Connection::open(address, &resp.access(), PATIENCE).await?;
        ask_info(&mut connection).await
    };
    let info: Result<Info, RedisError> = asked.await;
    let is_copy = match &info {
        Ok(info) if info.is_primary || info.is_loading => false,
        Ok(info) => {
            let is_of_it = info.replid == memory.replid && !memory.replid.is_empty();
            // Caught up once, it stays good while its primary is away; a process that was started
            // meanwhile has to catch up first.
            if info.link_is_up && is_of_it {
                memory.copy_run_id.clone_from(&info.run_id);
                memory.copy_is_good = true;
            }
            memory.copy_is_good && memory.copy_run_id == info.run_id && is_of_it
        }
        Err(_) => false,
    };
    let lag = info.as_ref().ok().and_then(|info| lag(memory, info.offset));
    // With its primary there, what it lags by is what it has not acknowledged.
    let lag = if writer.is_none() && memory.past.is_empty() {
        None
    } else {
        lag
    };
    let is_good = is_copy && lag.is_some_and(|lag| lag <= settings.cache.lag_max);
    let known = &resp.knowledge.servers[server];
    known.change(|news| {
        news.lag = lag.filter(|_| is_copy);
        news.copy_address = Some(address);
    });
    let copy = is_good.then_some(address);
    resp.decide(server, |decided| {
        let is_change = decided.copy != copy;
        decided.copy = copy;
        is_change
    });
}

/// How old what a copy has may be: the time since its primary was last seen with no more than that.
fn lag(memory: &Memory, offset: u64) -> Option<Duration> {
    let mut past = memory.past.iter().rev();
    let seen = past.find(|(_, written)| *written <= offset)?;
    Some(seen.0.elapsed())
}

/// It does not answer: what is done about that.
async fn judge(resp: &Arc<Resp>, server: usize, memory: &mut Memory) {
    let settings = resp.settings();
    if server >= settings.cache.primaries.len() {
        return;
    }
    let failing = memory
        .failing_since
        .map_or(Duration::ZERO, |since| since.elapsed());
    let is_condemned = match settings.cache.authority {
        Authority::Local => failing > local::VERDICT,
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
    if has_copy || matches!(resp.view().servers[server].serving, Serving::Spare(_)) {
        return;
    }
    if !resp.may_fail_over(server) {
        let known = &resp.knowledge.servers[server];
        known.show(
            "failed",
            "max_failover_share has been reached: nobody takes its keys",
        );
        return;
    }
    if super::spare_out::prepare(resp, server, memory.marker.as_deref()).await {
        memory.stale = memory.marker.clone();
        let number = fastrand::u64(..);
        resp.decide(server, |decided| {
            decided.serving = Serving::Spare(number);
            decided.run_id = None;
            true
        });
        let known = &resp.knowledge.servers[server];
        known.show(
            "spared",
            "it has failed and has no copy: spares take its keys",
        );
    }
}

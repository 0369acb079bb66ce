//! Follows one Sentinel: what it says of each server, asked often and whenever it has news.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::{LOOK, PATIENCE, Resp, SentinelNews};
use crate::upstream::redis::{Access, Connection, RedisError};
use crate::wire::resp::reply;

/// What Sentinel's clock and ours may differ by, and an answer be under way.
const MARGIN: Duration = Duration::from_millis(50);

/// What a Sentinel says of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Verdict {
    /// Who takes its writes.
    pub writer: SocketAddr,
    /// Counts up with each promotion.
    pub epoch: u64,
    /// Sentinels agree that it is down.
    pub is_condemned: bool,
    /// This Sentinel finds it down.
    pub is_suspected: bool,
    /// It is promoting another: it may tell the new epoch with the old address.
    is_changing: bool,
    /// How many Sentinels have to agree.
    pub quorum: usize,
    /// Until when this Sentinel cannot find it down.
    pub vouched_until: Instant,
}

/// Follows it for ever.
pub(super) async fn follow(resp: Arc<Resp>, sentinel: usize) {
    loop {
        if let Err(error) = talk(&resp, sentinel).await {
            tell(&resp, sentinel, |news| {
                news.is_connected = false;
                news.news = Some(error.to_string());
            });
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn talk(resp: &Arc<Resp>, sentinel: usize) -> Result<(), RedisError> {
    let settings = resp.settings();
    let address = settings.cache.sentinels[sentinel];
    let access = Access {
        username: settings.credentials.sentinel_username.clone(),
        password: settings.credentials.sentinel_password.clone(),
        tls: None,
    };
    let mut asking = Connection::open(address, &access, PATIENCE).await?;
    let mut listening = Connection::open(address, &access, PATIENCE).await?;
    let subscribe = [
        "SUBSCRIBE",
        "+switch-master",
        "+sdown",
        "-sdown",
        "+odown",
        "-odown",
        "+reboot",
    ];
    listening.ask(&subscribe).await?;
    tell(resp, sentinel, |news| news.is_connected = true);
    loop {
        for (server, primary) in settings.cache.primaries.iter().enumerate() {
            let name = format!("{}{}", settings.cache.master_prefix, primary.name);
            let asked = Instant::now();
            let answer = match asking.ask(&["SENTINEL", "MASTER", &name]).await {
                Ok(answer) => answer,
                // It does not know it (yet): what others say counts.
                Err(RedisError::Refused(why)) => {
                    tell(resp, sentinel, |news| {
                        news.verdicts[server] = None;
                        news.news = Some(format!("{name}: {why}"));
                    });
                    continue;
                }
                Err(error) => return Err(error),
            };
            let verdict = verdict(&answer, asked);
            tell(resp, sentinel, |news| news.verdicts[server] = verdict);
            resp.weigh(server);
        }
        if let Ok(message) = tokio::time::timeout(LOOK, listening.next()).await {
            let message = message?;
            let words = reply::elements(&message).unwrap_or_default();
            let words = words.iter().skip(1).filter_map(|word| reply::text(word));
            let words: Vec<_> = words.map(String::from_utf8_lossy).collect();
            tell(resp, sentinel, |news| news.news = Some(words.join(" ")));
        }
    }
}

fn tell(resp: &Arc<Resp>, sentinel: usize, change: impl FnOnce(&mut SentinelNews)) {
    let news = &resp.knowledge.sentinels[sentinel];
    change(&mut news.lock().unwrap_or_else(PoisonError::into_inner));
}

/// Reads the answer to SENTINEL MASTER: names and values in turn.
fn verdict(answer: &[u8], asked: Instant) -> Option<Verdict> {
    let words = reply::elements(answer)?;
    let field = |name: &str| {
        let mut pairs = words.chunks_exact(2);
        let pair = pairs.find(|pair| reply::text(pair[0]) == Some(name.as_bytes()))?;
        std::str::from_utf8(reply::text(pair[1])?).ok()
    };
    let ip: IpAddr = field("ip")?.parse().ok()?;
    let flags: Vec<_> = field("flags")?.split(',').collect();
    let milliseconds = |name| Some(Duration::from_millis(field(name)?.parse().ok()?));
    let down_after = milliseconds("down-after-milliseconds")?;
    let answered = milliseconds("last-ok-ping-reply")?;
    let left = down_after.saturating_sub(answered).saturating_sub(MARGIN);
    Some(Verdict {
        writer: SocketAddr::new(ip, field("port")?.parse().ok()?),
        epoch: field("config-epoch")?.parse().ok()?,
        is_condemned: flags.contains(&"o_down"),
        is_suspected: flags.contains(&"s_down") || flags.contains(&"o_down"),
        is_changing: flags.contains(&"failover_in_progress"),
        quorum: field("quorum")?.parse().ok()?,
        vouched_until: asked + left,
    })
}

impl Resp {
    fn verdicts(&self, server: usize) -> Vec<Verdict> {
        let all = self.knowledge.sentinels.iter();
        let of = |news: &std::sync::Mutex<SentinelNews>| {
            let news = news.lock().unwrap_or_else(PoisonError::into_inner);
            let verdict = news.verdicts.get(server).cloned().flatten();
            verdict.filter(|_| news.is_connected)
        };
        all.filter_map(of).collect()
    }

    /// Whether Sentinels agree that it is down.
    pub(super) fn is_condemned(&self, server: usize) -> bool {
        let epoch = self.view().servers[server].epoch;
        let verdicts = self.verdicts(server);
        verdicts
            .iter()
            .any(|verdict| verdict.is_condemned && verdict.epoch >= epoch)
    }

    /// Does what the newest verdict says.
    fn weigh(&self, server: usize) {
        let verdicts = self.verdicts(server);
        let settled = verdicts.iter().filter(|verdict| !verdict.is_changing);
        let Some(newest) = settled.max_by_key(|verdict| verdict.epoch) else {
            return;
        };
        let mut is_promotion = false;
        self.decide(server, |decided| {
            let is_newer = newest.epoch > decided.epoch || decided.epoch == 0;
            if !is_newer || newest.epoch == decided.epoch && newest.writer == decided.writer {
                return false;
            }
            let is_other = decided.writer != newest.writer;
            is_promotion = is_other && decided.epoch > 0;
            decided.epoch = newest.epoch;
            if is_other {
                decided.writer = newest.writer;
                // If it was the copy, it is read as such until it has been looked at.
                let copy = decided.copy.filter(|copy| *copy == newest.writer);
                decided.copy = copy;
                decided.copy_run_id = decided.copy_run_id.take().filter(|_| copy.is_some());
                decided.run_id = None;
                decided.vouched_until_ms = Arc::default();
            }
            true
        });
        if is_promotion {
            self.knowledge.promotions.fetch_add(1, Ordering::Relaxed);
            let known = &self.knowledge.servers[server];
            known.promoted();
            tracing::warn!(server, writer = %newest.writer, "Sentinel has promoted a copy");
        }
        self.vouch(server, &verdicts);
    }

    /// A server may be read without a doubt while so many Sentinels have heard it so lately that the
    /// others are too few to find it down.
    fn vouch(&self, server: usize, verdicts: &[Verdict]) {
        let view = self.view();
        let decided = &view.servers[server];
        let good = |verdict: &&Verdict| {
            verdict.epoch == decided.epoch
                && verdict.writer == decided.writer
                && !verdict.is_suspected
        };
        let mut until: Vec<_> = verdicts
            .iter()
            .filter(good)
            .map(|v| v.vouched_until)
            .collect();
        until.sort_unstable();
        let quorum = verdicts
            .iter()
            .map(|v| v.quorum)
            .min()
            .unwrap_or(usize::MAX);
        let all = self.knowledge.sentinels.len();
        // Of any `quorum` of all Sentinels at least one is among so many.
        let needed = (all + 1).saturating_sub(quorum).max(1);
        let Some(place) = until.len().checked_sub(needed) else {
            return;
        };
        let until = self.milliseconds(until[place]);
        decided.vouched_until_ms.fetch_max(until, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::resp::write;

    fn told(flags: &str) -> Verdict {
        let fields = [
            ["ip", "192.0.2.1"],
            ["port", "6379"],
            ["flags", flags],
            ["down-after-milliseconds", "1000"],
            ["last-ok-ping-reply", "100"],
            ["config-epoch", "7"],
            ["quorum", "2"],
        ];
        let mut answer = Vec::new();
        write::command(&mut answer, &fields.concat());
        verdict(&answer, Instant::now()).expect("all fields are there")
    }

    #[test]
    fn a_new_epoch_with_the_old_address_is_no_news() {
        let told = told("master,o_down,failover_in_progress");
        assert!(told.is_condemned && told.is_changing);
    }

    #[test]
    fn a_server_that_answered_lately_is_vouched_for() {
        let told = told("master");
        assert!(!told.is_suspected && !told.is_changing);
        assert!(told.vouched_until > Instant::now() + Duration::from_millis(500));
        assert_eq!(told.epoch, 7);
    }
}

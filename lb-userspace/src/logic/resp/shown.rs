//! What operators see of the cache tier: status and metrics; and what a reload changes.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::view::Serving;
use super::{Resp, Settings};
use crate::config::{Authority, LogicConfig};
use crate::control::{CacheServerStatus, CacheStatus, SentinelStatus, TierStatus};
use crate::logic::{Exposition, Kind};

impl Resp {
    /// Whether some server of layer one, or who stands in for it, can be reached.
    pub(super) fn can_serve(&self) -> Result<(), String> {
        let view = self.view();
        let primaries = self.settings().cache.primaries.len();
        let is_served = |server: &super::view::Server| match server.serving {
            Serving::Writer => server.run_id.is_some() || server.copy.is_some(),
            Serving::Spare(_) => true,
        };
        if view.servers.iter().take(primaries).any(is_served) {
            return Ok(());
        }
        Err("no cache server can be reached".into())
    }

    pub(super) fn change(&self, config: &LogicConfig) -> anyhow::Result<()> {
        let new = Settings::new(config)?;
        let old = self.settings();
        // Who owns which key cannot change under commands that are under way.
        let is_same = old.cache == new.cache && old.listener.listen == new.listener.listen;
        if !is_same {
            tracing::warn!("[cache] and listen stay as they were: they need a restart");
        }
        let settings = Settings {
            cache: old.cache.clone(),
            placement: super::place::Placement::new(&old.cache),
            is_sync: old.is_sync,
            ..new
        };
        self.settings.send_replace(Arc::new(settings));
        Ok(())
    }

    pub(super) fn shown(&self) -> TierStatus {
        let ready = self.can_serve();
        let counts = self.counts.all();
        TierStatus {
            name: "resp".into(),
            listen: self.listen.iter().map(ToString::to_string).collect(),
            ready: ready.is_ok(),
            reason: ready.err(),
            clients: self.counts.clients.load(Ordering::Relaxed),
            counts: counts
                .into_iter()
                .map(|(name, _, value)| (name.to_owned(), value))
                .collect(),
        }
    }

    pub(super) fn cache_shown(&self) -> CacheStatus {
        let settings = self.settings();
        let cache = &settings.cache;
        let view = self.view();
        let shares = settings.placement.shares(view.servers.len());
        let names = cache.members().map(|(name, _, _)| name.to_owned());
        let servers: Vec<_> = names
            .zip(&view.servers)
            .enumerate()
            .map(|(at, (name, server))| {
                let news = self.knowledge.servers[at].news();
                let is_primary = at < cache.primaries.len();
                let copy = server.copy.or(news.copy_address).filter(|_| is_primary);
                CacheServerStatus {
                    name,
                    layer: if is_primary { 1 } else { 2 },
                    address: server.writer.to_string(),
                    copy: copy.map(|copy| copy.to_string()),
                    share: shares[at],
                    state: if news.state.is_empty() {
                        "suspected"
                    } else {
                        news.state
                    }
                    .into(),
                    reason: news.reason,
                    since: news.since.to_string(),
                    lag_seconds: news.lag.map(|lag| lag.as_secs_f64()),
                    run_id: news.run_id,
                    counts: BTreeMap::from([
                        ("emptied".to_owned(), news.emptied),
                        ("promotions".to_owned(), news.promotions),
                        (
                            "complaints".to_owned(),
                            self.knowledge.servers[at]
                                .complaints
                                .load(Ordering::Relaxed),
                        ),
                    ]),
                }
            })
            .collect();
        let failover_share = self.share_away(&shares, None);
        CacheStatus {
            authority: cache.authority.to_string(),
            hash: cache.hash.to_string(),
            writes: cache.writes.to_string(),
            during_failover: cache.during_failover.to_string(),
            failover_share,
            max_failover_share: cache.max_failover_share,
            servers,
            sentinels: self.sentinels_shown(cache),
        }
    }

    fn sentinels_shown(&self, cache: &crate::config::Cache) -> Vec<SentinelStatus> {
        if cache.authority == Authority::Local {
            return Vec::new();
        }
        let all = cache.sentinels.iter().zip(&self.knowledge.sentinels);
        all.map(|(address, news)| {
            let news = news.lock().unwrap_or_else(PoisonError::into_inner);
            SentinelStatus {
                address: address.to_string(),
                connected: news.is_connected,
                news: news.news.clone(),
            }
        })
        .collect()
    }

    pub(super) fn exposed(&self, out: &mut Exposition) {
        for (name, help, value) in self.counts.all() {
            let name = format!("resp_{name}_total");
            out.single(&name, Kind::Counter, help, value as f64);
        }
        let emptied = self.knowledge.emptied.load(Ordering::Relaxed) as f64;
        out.single(
            "cache_emptied_total",
            Kind::Counter,
            "Servers that were emptied.",
            emptied,
        );
        let promotions = self.knowledge.promotions.load(Ordering::Relaxed) as f64;
        out.single(
            "cache_promotions_total",
            Kind::Counter,
            "Copies that took a primary's place.",
            promotions,
        );
        let status = self.cache_shown();
        let primaries = || status.servers.iter().filter(|server| server.layer == 1);
        out.head(
            "cache_lag_seconds",
            Kind::Gauge,
            "How far the copy is behind, at most.",
        );
        for server in primaries() {
            if let Some(lag) = server.lag_seconds {
                out.line("cache_lag_seconds", &[("server", &server.name)], lag);
            }
        }
        out.head(
            "cache_served_by",
            Kind::Gauge,
            "1 for who serves the server's keys.",
        );
        let view = self.view();
        let settings = self.settings();
        for (at, primary) in settings.cache.primaries.iter().enumerate() {
            let server = &view.servers[at];
            let is_failing = self.knowledge.servers[at]
                .complaints
                .load(Ordering::Relaxed)
                > 0;
            let by = match server.serving {
                Serving::Spare(_) => "spare",
                Serving::Writer if server.writer != primary.address => "promoted",
                Serving::Writer if is_failing && server.copy.is_some() => "copy",
                Serving::Writer if server.run_id.is_none() => "none",
                Serving::Writer => "primary",
            };
            for who in ["primary", "promoted", "copy", "spare", "none"] {
                let labels = [("server", primary.name.as_str()), ("by", who)];
                out.line("cache_served_by", &labels, f64::from(u8::from(who == by)));
            }
        }
        out.head(
            "cache_failover_share",
            Kind::Gauge,
            "Share of the keys that layer two has.",
        );
        out.line("cache_failover_share", &[], status.failover_share);
    }
}

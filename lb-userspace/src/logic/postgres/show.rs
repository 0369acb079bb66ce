//! What operators see of the listener: counts, and the picture of the servers as metrics.

use std::collections::BTreeMap;

use super::cluster::{Cluster, Count, Counts, ServerCounts};
use super::shared::Shared;
use crate::logic::{Exposition, Kind};
use crate::wire::postgres::link::Role;

type OfServer = fn(&ServerCounts) -> &Count;
type OfCluster = fn(&Counts) -> &Count;

const OF_SERVER: [(&str, &str, OfServer); 8] = [
    ("reads", "Segments that only read.", |counts| &counts.reads),
    ("writes", "Segments that may write.", |counts| {
        &counts.writes
    }),
    (
        "redirects",
        "Reads that a standby refused and the primary ran.",
        |counts| &counts.redirects,
    ),
    (
        "repeats",
        "Reads that were asked of another server because this one was lost.",
        |counts| &counts.repeats,
    ),
    (
        "behind",
        "Reads for which the server had not replayed enough.",
        |counts| &counts.behind,
    ),
    (
        "hedges",
        "Second copies of reads that the server was sent because another was late.",
        |counts| &counts.hedges,
    ),
    (
        "hedges_won",
        "Second copies that the server answered first.",
        |counts| &counts.hedges_won,
    ),
    (
        "lost",
        "Connections that broke while a client had them.",
        |counts| &counts.lost,
    ),
];

const OF_CLUSTER: [(&str, &str, OfCluster); 8] = [
    (
        "waits",
        "Times that a statement waited for a server.",
        |counts| &counts.waits,
    ),
    (
        "waits_failed",
        "Statements that waited for a server in vain (57P03).",
        |counts| &counts.waits_failed,
    ),
    (
        "broken_off",
        "Answers that broke off after the client had a part of them (08006).",
        |counts| &counts.broken_off,
    ),
    (
        "rolled_back",
        "Transactions that were lost and are rolled back (08006).",
        |counts| &counts.rolled_back,
    ),
    (
        "unknown_commits",
        "Commits of which nobody knows whether they happened (08007).",
        |counts| &counts.unknown_commits,
    ),
    (
        "unknown_statements",
        "Statements of which nobody knows whether they happened (40003).",
        |counts| &counts.unknown_statements,
    ),
    (
        "lost_writes",
        "Sessions whose writes a failover lost.",
        |counts| &counts.lost_writes,
    ),
    (
        "lost_positions",
        "Sessions that were told that their last write may be lost.",
        |counts| &counts.lost_positions,
    ),
];

/// What `lb status` shows.
pub(super) fn counts(shared: &Shared) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::from([
        ("logins".to_owned(), shared.logins.get()),
        ("logins_refused".to_owned(), shared.logins_refused.get()),
        ("cancels".to_owned(), shared.cancel_requests.get()),
    ]);
    for (name, _, of) in OF_SERVER {
        let servers = shared.clusters.iter().flat_map(|cluster| &cluster.servers);
        let sum = servers.map(|server| of(&server.counts).get()).sum();
        counts.insert(name.to_owned(), sum);
    }
    for (name, _, of) in OF_CLUSTER {
        let sum = shared
            .clusters
            .iter()
            .map(|cluster| of(&cluster.counts).get());
        counts.insert(name.to_owned(), sum.sum());
    }
    counts
}

/// What Prometheus fetches.
pub(super) fn expose(shared: &Shared, out: &mut Exposition) {
    for (name, help, of) in OF_SERVER {
        let name = format!("postgres_{name}_total");
        out.head(&name, Kind::Counter, help);
        each_server(shared, |labels, cluster, at| {
            let count = of(&cluster.servers[at].counts).get();
            out.line(&name, labels, count as f64);
        });
    }
    for (name, help, of) in OF_CLUSTER {
        let name = format!("postgres_{name}_total");
        out.head(&name, Kind::Counter, help);
        for cluster in &shared.clusters {
            let labels = [("database", cluster.name.as_str())];
            out.line(&name, &labels, of(&cluster.counts).get() as f64);
        }
    }
    out.head("postgres_waiting", Kind::Gauge, "Statements that wait.");
    for cluster in &shared.clusters {
        let labels = [("database", cluster.name.as_str())];
        out.line("postgres_waiting", &labels, cluster.waiting() as f64);
    }
    picture(shared, out);
}

fn picture(shared: &Shared, out: &mut Exposition) {
    type Gauge = fn(&Cluster, usize) -> f64;
    let gauges: [(&str, &str, Gauge); 4] = [
        (
            "postgres_usable",
            "1 if reads can go to the server.",
            |cluster, at| f64::from(u8::from(cluster.view().is_usable(at))),
        ),
        (
            "postgres_primary",
            "1 if the server takes writes.",
            |cluster, at| {
                let view = cluster.view();
                let is_primary = view.primary(view.shard_of(at)) == Ok(at);
                f64::from(u8::from(is_primary))
            },
        ),
        (
            "postgres_timeline",
            "The server's timeline; 0 if unknown.",
            |cluster, at| f64::from(cluster.view().epoch(at).timeline),
        ),
        (
            "postgres_lag_bytes",
            "How much log a standby has yet to replay, as far as is known.",
            lag,
        ),
    ];
    for (name, help, of) in gauges {
        out.head(name, Kind::Gauge, help);
        each_server(shared, |labels, cluster, at| {
            out.line(name, labels, of(cluster, at));
        });
    }
}

fn lag(cluster: &Cluster, at: usize) -> f64 {
    let view = cluster.view();
    let primary = view.primary(view.shard_of(at)).ok();
    let inserted = primary.and_then(|primary| view.shows(primary));
    match (view.role(at), inserted) {
        (Role::Standby { replayed, .. }, Some(inserted)) => {
            inserted.0.saturating_sub(replayed.0) as f64
        }
        _ => 0.0,
    }
}

fn each_server(shared: &Shared, mut show: impl FnMut(&[(&str, &str)], &Cluster, usize)) {
    for cluster in &shared.clusters {
        for (at, server) in cluster.servers.iter().enumerate() {
            let labels = [
                ("database", cluster.name.as_str()),
                ("server", server.name.as_str()),
            ];
            show(&labels, cluster, at);
        }
    }
}

//! SHOW WATCH, SHOW FENCE, SHOW LINKS.

use super::Table;
use crate::db_proxy::Proxy;
use crate::wire::postgres::link::{Answering, Epoch, Role};

fn epoch(epoch: &Epoch) -> [String; 3] {
    [
        epoch.system.to_string(),
        epoch.timeline.to_string(),
        epoch.began.to_string(),
    ]
}

/// One row: the server as the watch sees it.
pub(super) fn watch(proxy: &Proxy) -> Table {
    let heartbeat = proxy.watch.heartbeat();
    let answering = match heartbeat.answering {
        Answering::Yes => "answers",
        Answering::Silent => "silent",
        Answering::Unreachable => "unreachable",
    };
    let (role, first, second) = match heartbeat.role {
        Role::Unknown => ("unknown", Default::default(), Default::default()),
        Role::Primary { inserted, flushed } => ("primary", inserted, flushed),
        Role::Standby { received, replayed } => ("standby", received, replayed),
    };
    let [system, timeline, began] = epoch(&heartbeat.epoch);
    let row = vec![
        answering.to_owned(),
        role.to_owned(),
        system,
        timeline,
        began,
        first.to_string(),
        second.to_string(),
        heartbeat.incarnation.to_string(),
        heartbeat.silent_ms.to_string(),
        heartbeat.age_ms.to_string(),
        proxy.watch.asked().to_string(),
        format!("{:.0}", proxy.watch.took.percentile_us(0.5)),
        heartbeat.reason,
    ];
    Table {
        columns: &[
            "server",
            "role",
            "system",
            "timeline",
            "began",
            "inserted_or_received",
            "flushed_or_replayed",
            "incarnation",
            "silent_ms",
            "age_ms",
            "questions",
            "answer_p50_us",
            "reason",
        ],
        rows: vec![row],
    }
}

/// One row: whether everybody is kept away, and why.
pub(super) fn fence(proxy: &Proxy) -> Table {
    let fence = &proxy.fence;
    let [system, timeline, began] = epoch(&fence.highest());
    let row = vec![
        if fence.is_closed() { "closed" } else { "open" }.to_owned(),
        system,
        timeline,
        began,
        fence.attested.get().to_string(),
        fence.attested_of_others.get().to_string(),
        fence.refused.get().to_string(),
        fence.reason(),
    ];
    Table {
        columns: &[
            "fence",
            "highest_system",
            "highest_timeline",
            "highest_began",
            "attests",
            "attests_of_others",
            "refused",
            "reason",
        ],
        rows: vec![row],
    }
}

/// Counts of the links, one a row.
pub(super) fn links(proxy: &Proxy) -> Table {
    let links = &proxy.stats.links;
    let rows = [
        ("watching", proxy.watch.watchers() as u64),
        ("heartbeats", links.heartbeats.get()),
        ("heartbeats_left_out", links.heartbeats_left_out.get()),
        ("positions", links.positions.get()),
        ("floors_admitted", links.admitted.get()),
        ("floors_refused_LB001", links.refused_ahead.get()),
        ("floors_refused_LB002", links.refused_lost.get()),
        ("floors_refused_LB003", links.refused_not_primary.get()),
        ("floors_refused_25006", links.refused_fenced.get()),
    ];
    Table {
        columns: &["what", "count"],
        rows: rows
            .map(|(what, count)| vec![what.to_owned(), count.to_string()])
            .to_vec(),
    }
}

//! Metrics of the watch, the links and the fence.

use super::{head, line, percentiles};
use crate::db_proxy::Proxy;
use crate::wire::postgres::link::{Answering, Role};

/// Appends them.
pub(super) fn render(text: &mut String, proxy: &Proxy) {
    let heartbeat = proxy.watch.heartbeat();
    let (watch, fence, links) = (&proxy.watch, &proxy.fence, &proxy.stats.links);
    let flag = |is: bool| f64::from(u8::from(is));
    for (name, kind, help, value) in [
        (
            "server_answers",
            "gauge",
            "1 while PostgreSQL answers the watch.",
            flag(heartbeat.answering == Answering::Yes),
        ),
        (
            "server_is_primary",
            "gauge",
            "1 if PostgreSQL is a primary, by its last answer.",
            flag(matches!(heartbeat.role, Role::Primary { .. })),
        ),
        (
            "server_timeline",
            "gauge",
            "PostgreSQL's timeline; 0 if unknown.",
            f64::from(heartbeat.epoch.timeline),
        ),
        (
            "server_silence_seconds",
            "gauge",
            "How long the watch's question has waited for an answer.",
            f64::from(heartbeat.silent_ms) / 1e3,
        ),
        (
            "watch_questions_total",
            "counter",
            "Questions of the watch.",
            watch.asked() as f64,
        ),
        (
            "watch_connections_total",
            "counter",
            "Connections of the watch.",
            watch.reconnects.get() as f64,
        ),
        (
            "watch_links",
            "gauge",
            "Logic daemons that watch.",
            watch.watchers() as f64,
        ),
        (
            "heartbeats_total",
            "counter",
            "Heartbeats sent.",
            links.heartbeats.get() as f64,
        ),
        (
            "heartbeats_left_out_total",
            "counter",
            "Heartbeats that a daemon did not read in time.",
            links.heartbeats_left_out.get() as f64,
        ),
        (
            "positions_total",
            "counter",
            "Positions told to sessions after their commits.",
            links.positions.get() as f64,
        ),
        (
            "floors_admitted_total",
            "counter",
            "Segments with a floor that were let through.",
            links.admitted.get() as f64,
        ),
        (
            "fenced",
            "gauge",
            "1 while everybody is kept away from PostgreSQL.",
            flag(fence.is_closed()),
        ),
        (
            "highest_timeline",
            "gauge",
            "The highest timeline that was seen or attested.",
            f64::from(fence.highest().timeline),
        ),
        (
            "fence_closings_total",
            "counter",
            "How often the fence was closed.",
            fence.closings.get() as f64,
        ),
        (
            "fence_refusals_total",
            "counter",
            "Segments and transactions that the fence kept away.",
            fence.refused.get() as f64,
        ),
        (
            "attests_total",
            "counter",
            "Epochs attested by logic daemons.",
            fence.attested.get() as f64,
        ),
        (
            "attests_of_others_total",
            "counter",
            "Attested epochs of other clusters, ignored.",
            fence.attested_of_others.get() as f64,
        ),
        (
            "state_write_failures_total",
            "counter",
            "Failures to keep the highest epoch on disk.",
            fence.write_failures.get() as f64,
        ),
    ] {
        head(text, name, kind, help);
        line(text, name, "", value);
    }
    let name = "floors_refused_total";
    head(
        text,
        name,
        "counter",
        "Segments that were refused, by SQLSTATE.",
    );
    for (code, count) in [
        ("LB001", &links.refused_ahead),
        ("LB002", &links.refused_lost),
        ("LB003", &links.refused_not_primary),
        ("25006", &links.refused_fenced),
    ] {
        line(text, name, &format!("code=\"{code}\""), count.get() as f64);
    }
    let name = "watch_seconds";
    head(
        text,
        name,
        "summary",
        "How long PostgreSQL takes to answer the watch.",
    );
    percentiles(text, name, "", &watch.took);
}

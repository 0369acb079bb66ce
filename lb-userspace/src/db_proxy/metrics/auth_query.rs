//! Metrics of users that are looked up in PostgreSQL.

use super::{head, line, percentiles};
use crate::db_proxy::Proxy;

/// Appends them.
pub(super) fn render(text: &mut String, proxy: &Proxy) {
    let stats = &proxy.auth_query.stats;
    head(
        text,
        "auth_query_users",
        "gauge",
        "Users of whom an answer of auth_query is kept.",
    );
    line(text, "auth_query_users", "", proxy.auth_query.len() as f64);
    let name = "auth_query_total";
    let help = "Users looked up for a login, by what came of it; kept was not asked again.";
    head(text, name, "counter", help);
    for (outcome, count) in [
        ("kept", &stats.kept),
        ("found", &stats.found),
        ("unknown", &stats.unknown),
        ("no_verifier", &stats.refused),
        ("failed", &stats.failed),
        ("queue_full", &stats.queue_full),
    ] {
        let labels = format!("outcome=\"{outcome}\"");
        line(text, name, &labels, count.get() as f64);
    }
    let name = "auth_query_seconds";
    head(
        text,
        name,
        "summary",
        "How long PostgreSQL took to answer auth_query.",
    );
    percentiles(text, name, "", &stats.took);
}

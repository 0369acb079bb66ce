//! Prometheus text at `[db_proxy].metrics`.

mod auth_query;
mod link;

use std::fmt::Write;
use std::rc::Rc;

use super::Proxy;
use super::pool::Pool;
use crate::telemetry::histogram::Histogram;

type Number = fn(&Pool) -> f64;

pub(super) fn render(proxy: &Proxy) -> String {
    let mut text = String::new();
    let stats = &proxy.stats;
    for (name, kind, help, value) in [
        (
            "clients",
            "gauge",
            "Clients that have logged in.",
            proxy.clients.len() as f64,
        ),
        (
            "connections",
            "gauge",
            "Connections of clients.",
            proxy.connections.get() as f64,
        ),
        (
            "clients_max",
            "gauge",
            "The most connections of clients.",
            proxy.config.borrow().pool.max_clients as f64,
        ),
        (
            "statements",
            "gauge",
            "Different prepared statements.",
            proxy.statements.len() as f64,
        ),
        (
            "logins_total",
            "counter",
            "Logins.",
            stats.logins.get() as f64,
        ),
        (
            "logins_refused_total",
            "counter",
            "Refused logins.",
            stats.logins_refused.get() as f64,
        ),
        (
            "cancels_total",
            "counter",
            "Cancel requests passed on.",
            stats.cancels.get() as f64,
        ),
    ] {
        head(&mut text, name, kind, help);
        line(&mut text, name, "", value);
    }
    auth_query::render(&mut text, proxy);
    link::render(&mut text, proxy);
    let pools = proxy.all_pools();
    let numbers: [(&str, &str, &str, Number); 12] = [
        ("servers_open", "gauge", "Server connections.", |pool| {
            pool.open() as f64
        }),
        (
            "servers_idle",
            "gauge",
            "Server connections that rest.",
            |pool| pool.idle() as f64,
        ),
        (
            "waiting",
            "gauge",
            "Clients that wait for a server.",
            |pool| pool.waiting() as f64,
        ),
        ("paused", "gauge", "1 while paused.", |pool| {
            f64::from(u8::from(pool.is_paused()))
        }),
        ("queries_total", "counter", "Queries.", |pool| {
            pool.stats.queries.get() as f64
        }),
        (
            "received_bytes_total",
            "counter",
            "Bytes from clients.",
            |pool| pool.stats.received.get() as f64,
        ),
        (
            "sent_bytes_total",
            "counter",
            "Bytes from servers.",
            |pool| pool.stats.sent.get() as f64,
        ),
        ("errors_total", "counter", "Errors of the server.", |pool| {
            pool.stats.errors.get() as f64
        }),
        (
            "pinned_total",
            "counter",
            "Sessions that kept their server.",
            |pool| pool.stats.pinned.get() as f64,
        ),
        (
            "queue_full_total",
            "counter",
            "Clients refused by a full queue.",
            |pool| pool.stats.refused.get() as f64,
        ),
        (
            "queue_timeouts_total",
            "counter",
            "Clients that waited in vain.",
            |pool| pool.stats.timeouts.get() as f64,
        ),
        (
            "connect_failures_total",
            "counter",
            "Failed connections to the server.",
            |pool| pool.stats.connect_failures.get() as f64,
        ),
    ];
    for (name, kind, help, value) in numbers {
        head(&mut text, name, kind, help);
        for pool in &pools {
            line(&mut text, name, &labels(pool), value(pool));
        }
    }
    summary(
        &mut text,
        &pools,
        "transaction_seconds",
        "From a transaction's first message to its end.",
        |pool| &pool.stats.transactions,
    );
    summary(
        &mut text,
        &pools,
        "wait_seconds",
        "Waits for a server.",
        |pool| &pool.stats.waits,
    );
    text
}

fn summary(
    text: &mut String,
    pools: &[Rc<Pool>],
    name: &str,
    help: &str,
    of: impl Fn(&Pool) -> &Histogram,
) {
    head(text, name, "summary", help);
    for pool in pools {
        percentiles(text, name, &labels(pool), of(pool));
    }
}

fn percentiles(text: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    for share in [0.5, 0.9, 0.99, 0.999] {
        let comma = if labels.is_empty() { "" } else { "," };
        let labels = format!("{labels}{comma}quantile=\"{share}\"");
        line(text, name, &labels, histogram.percentile_us(share) / 1e6);
    }
    let sum_s = histogram.sum_us() as f64 / 1e6;
    line(text, &format!("{name}_sum"), labels, sum_s);
    let count = histogram.count() as f64;
    line(text, &format!("{name}_count"), labels, count);
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(
        text,
        "# HELP lb_db_proxy_{name} {help}\n# TYPE lb_db_proxy_{name} {kind}\n"
    );
}

fn line(text: &mut String, name: &str, labels: &str, value: f64) {
    let _ = if labels.is_empty() {
        writeln!(text, "lb_db_proxy_{name} {value}")
    } else {
        writeln!(text, "lb_db_proxy_{name}{{{labels}}} {value}")
    };
}

fn labels(pool: &Pool) -> String {
    let escaped = |text: &str| {
        text.replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
    };
    let (database, user) = (escaped(&pool.key.database), escaped(&pool.key.user));
    format!("database=\"{database}\",user=\"{user}\"")
}

//! What `lb db-proxy` says of itself.

use jiff::Timestamp;

use super::super::table::{Cell, Side, Table};
use super::super::units::{ago, microseconds, si_count};
use super::{ALARM, HEADING, UNSETTLED};
use crate::control::{DbPoolStatus, DbProxyStatus};

/// The whole of it.
pub(super) fn everything(status: &DbProxyStatus, now: Timestamp) -> String {
    let mut text = format!(
        "{HEADING}lb db-proxy {}{HEADING:#}  pid {}  up {}\nconfiguration {}, read {} ago\n",
        status.version,
        status.pid,
        ago(&status.since, now),
        status.config,
        ago(&status.config_since, now),
    );
    text += &format!(
        "clients at {}: {} of {}; {} pooling\n",
        status.listen, status.clients, status.clients_max, status.mode
    );
    text += &format!("PostgreSQL at {}: {}\n", status.server, server(status));
    if let Some(error) = &status.config_error {
        text += &format!("{ALARM}last reload refused:{ALARM:#} {error}\n");
    }
    if status.fence.closed {
        let reason = status.fence.reason.as_deref().unwrap_or_default();
        text += &format!("{ALARM}fenced:{ALARM:#} {reason}\n");
    }
    if status.paused {
        text += &format!("{UNSETTLED}paused{UNSETTLED:#}: clients wait for RESUME\n");
    }
    for address in &status.open_addresses {
        text += &format!("{ALARM}PostgreSQL listens at {address}:{ALARM:#} past this proxy\n");
    }
    if status.pools.is_empty() {
        return text;
    }
    format!("{text}\n{}", pools(&status.pools))
}

fn server(status: &DbProxyStatus) -> String {
    let watch = &status.watch;
    let mut words = match watch.state.as_str() {
        "answers" => format!("answers, {}", watch.role),
        state => format!("{ALARM}{state}{ALARM:#}, last a {}", watch.role),
    };
    for more in [&watch.epoch, &watch.reason].into_iter().flatten() {
        words += &format!(", {more}");
    }
    words
}

fn pools(pools: &[DbPoolStatus]) -> String {
    let mut table = Table::new([
        ("DATABASE", Side::Left),
        ("USER", Side::Left),
        ("ACTIVE", Side::Right),
        ("IDLE", Side::Right),
        ("OF", Side::Right),
        ("WAITING", Side::Right),
        ("TRANSACTIONS", Side::Right),
        ("P50", Side::Right),
        ("P99", Side::Right),
        ("WHY", Side::Left),
    ]);
    let rounded = |seconds: f64| microseconds((seconds * 1e6).round() as u64);
    for pool in pools {
        let waiting = si_count(pool.waiting);
        table.row([
            pool.database.as_str().into(),
            pool.user.as_str().into(),
            si_count(pool.active).into(),
            si_count(pool.idle).into(),
            si_count(pool.size).into(),
            if pool.waiting > 0 {
                Cell::styled(waiting, UNSETTLED)
            } else {
                waiting.into()
            },
            si_count(pool.transactions).into(),
            rounded(pool.transaction_p50_seconds).into(),
            rounded(pool.transaction_p99_seconds).into(),
            pool.error.clone().unwrap_or_default().into(),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{FenceStatus, WatchStatus};

    fn status() -> DbProxyStatus {
        DbProxyStatus {
            version: "0".into(),
            pid: 7,
            since: "2026-01-01T00:00:00Z".into(),
            config: "/etc/lb/lb.toml".into(),
            config_since: "2026-01-01T00:00:00Z".into(),
            config_error: None,
            listen: "0.0.0.0:6432".into(),
            server: "/var/run/postgresql/.s.PGSQL.5432".into(),
            mode: "transaction".into(),
            paused: false,
            clients: 3,
            connections: 4,
            clients_max: 10_000,
            watch: WatchStatus {
                state: "answers".into(),
                reason: None,
                role: "primary".into(),
                epoch: None,
                age_seconds: Some(0.1),
                links: 0,
            },
            fence: FenceStatus {
                closed: false,
                reason: None,
                refused: 0,
            },
            open_addresses: Vec::new(),
            pools: Vec::new(),
        }
    }

    #[test]
    fn what_somebody_should_look_at_is_said() {
        let now = "2026-01-01T00:01:00Z".parse().expect("it is a time");
        let mut status = status();
        let text = anstream::adapter::strip_str(&everything(&status, now)).to_string();
        assert!(text.contains("clients at 0.0.0.0:6432: 3 of 10000; transaction pooling"));
        assert!(text.contains("answers, primary"), "{text}");
        assert!(!text.contains("fenced") && !text.contains("paused"));
        status.fence.closed = true;
        status.fence.reason = Some("a newer primary was seen".into());
        status.paused = true;
        status.open_addresses = vec!["every address, port 5432".into()];
        status.watch.state = "unreachable".into();
        let text = anstream::adapter::strip_str(&everything(&status, now)).to_string();
        for expected in [
            "fenced: a newer primary was seen",
            "paused: clients wait for RESUME",
            "PostgreSQL listens at every address, port 5432: past this proxy",
            "unreachable, last a primary",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}

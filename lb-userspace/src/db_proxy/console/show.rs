//! What SHOW shows. Columns have the names that PgBouncer's have, where they mean the same.

mod watch;

use jiff::Timestamp;

use super::Table;
use crate::db_proxy::Proxy;
use crate::db_proxy::pool::Pool;
use crate::telemetry::histogram::Histogram;
use crate::wire::postgres::error::{PgError, code};

/// Answers SHOW and the words behind it.
pub(super) fn show(proxy: &Proxy, words: &[&str]) -> Result<Table, PgError> {
    Ok(match words {
        ["pools"] => pools(proxy),
        ["clients"] => clients(proxy),
        ["servers"] => servers(proxy),
        ["stats" | "stats_totals"] => stats(proxy),
        ["databases"] => databases(proxy),
        ["users"] => users(proxy),
        ["lists"] => lists(proxy),
        ["watch"] => watch::watch(proxy),
        ["fence"] => watch::fence(proxy),
        ["links"] => watch::links(proxy),
        ["config"] => config(proxy),
        ["version"] => one("version", format!("lb {}", env!("CARGO_PKG_VERSION"))),
        ["help"] => help(),
        // What drivers ask when they connect.
        [setting] => {
            let value = match *setting {
                "datestyle" => "ISO",
                "client_encoding" | "server_encoding" => "UTF8",
                "timezone" => "UTC",
                "standard_conforming_strings" => "on",
                _ => {
                    let what = format!("there is no SHOW {}", setting.to_ascii_uppercase());
                    let error = PgError::error(code::SYNTAX_ERROR, what);
                    return Err(error.hint("SHOW HELP lists the commands."));
                }
            };
            one("value", value.to_owned())
        }
        _ => {
            return Err(PgError::error(
                code::SYNTAX_ERROR,
                "SHOW what? SHOW HELP lists it",
            ));
        }
    })
}

fn one(column: &'static str, value: String) -> Table {
    let columns: &'static [&'static str] = match column {
        "version" => &["version"],
        _ => &["value"],
    };
    Table {
        columns,
        rows: vec![vec![value]],
    }
}

fn help() -> Table {
    let commands = [
        "SHOW POOLS | CLIENTS | SERVERS | STATS | DATABASES | USERS | LISTS | CONFIG | VERSION",
        "SHOW WATCH: what PostgreSQL is and how far it is; SHOW FENCE; SHOW LINKS",
        "PAUSE [database]: let transactions finish, let further ones wait",
        "RESUME [database]",
        "RECONNECT [database]: replace server connections as they become free",
        "RELOAD: read configuration and users again",
    ];
    Table {
        columns: &["value"],
        rows: commands.map(|line| vec![line.to_owned()]).to_vec(),
    }
}

fn pools(proxy: &Proxy) -> Table {
    let mode = proxy.config.borrow().pool.mode.as_str();
    let clients = proxy.clients.all();
    let row = |pool: &Pool| {
        let of_pool = |state: &str| {
            let mine = clients.iter().filter(|client| {
                *client.user == *pool.key.user && *client.database == *pool.key.database
            });
            mine.filter(|client| client.state() == state).count()
        };
        vec![
            pool.key.database.clone(),
            pool.key.user.clone(),
            (of_pool("active") + of_pool("idle")).to_string(),
            pool.waiting().to_string(),
            pool.active().to_string(),
            pool.idle().to_string(),
            pool.connecting().to_string(),
            pool.longest_wait().as_secs().to_string(),
            (pool.longest_wait().subsec_micros()).to_string(),
            mode.to_owned(),
            u8::from(pool.is_paused()).to_string(),
            pool.last_error().unwrap_or_default(),
        ]
    };
    Table {
        columns: &[
            "database",
            "user",
            "cl_active",
            "cl_waiting",
            "sv_active",
            "sv_idle",
            "sv_login",
            "maxwait",
            "maxwait_us",
            "pool_mode",
            "paused",
            "last_error",
        ],
        rows: proxy.all_pools().iter().map(|pool| row(pool)).collect(),
    }
}

fn clients(proxy: &Proxy) -> Table {
    let rows = proxy.clients.all().into_iter().map(|client| {
        let server = client
            .serving()
            .map(|cancels| cancels.process().to_string());
        vec![
            "C".to_owned(),
            client.user.to_string(),
            client.database.to_string(),
            client.state().to_owned(),
            client.address.ip().to_string(),
            client.address.port().to_string(),
            client.since.elapsed().as_secs().to_string(),
            client.id.to_string(),
            server.unwrap_or_default(),
            if client.is_encrypted { "yes" } else { "" }.to_owned(),
        ]
    });
    Table {
        columns: &[
            "type",
            "user",
            "database",
            "state",
            "addr",
            "port",
            "connected_s",
            "ptr",
            "remote_pid",
            "tls",
        ],
        rows: rows.collect(),
    }
}

fn servers(proxy: &Proxy) -> Table {
    let mut rows = Vec::new();
    for pool in proxy.all_pools() {
        pool.each_idle(|server| {
            rows.push(vec![
                "S".to_owned(),
                pool.key.user.clone(),
                pool.key.database.clone(),
                "idle".to_owned(),
                server.cancels.process().to_string(),
                server.since.elapsed().as_secs().to_string(),
                server.used.elapsed().as_secs().to_string(),
                server.prepared.len().to_string(),
            ]);
        });
    }
    for client in proxy.clients.all() {
        if let Some(cancels) = client.serving() {
            rows.push(vec![
                "S".to_owned(),
                client.user.to_string(),
                client.database.to_string(),
                "active".to_owned(),
                cancels.process().to_string(),
                String::new(),
                String::new(),
                String::new(),
            ]);
        }
    }
    Table {
        columns: &[
            "type",
            "user",
            "database",
            "state",
            "remote_pid",
            "connected_s",
            "idle_s",
            "prepared_statements",
        ],
        rows,
    }
}

fn stats(proxy: &Proxy) -> Table {
    let times = |histogram: &Histogram| {
        [0.5, 0.99, 0.999].map(|share| format!("{:.0}", histogram.percentile_us(share)))
    };
    let row = |pool: &Pool| {
        let stats = &pool.stats;
        let mut row = vec![
            pool.key.database.clone(),
            pool.key.user.clone(),
            stats.transactions.count().to_string(),
            stats.queries.get().to_string(),
            stats.received.get().to_string(),
            stats.sent.get().to_string(),
            stats.transactions.sum_us().to_string(),
            stats.waits.sum_us().to_string(),
            stats.errors.get().to_string(),
            stats.timeouts.get().to_string(),
            stats.pinned.get().to_string(),
        ];
        row.extend(times(&stats.transactions));
        row.extend(times(&stats.waits));
        row
    };
    Table {
        columns: &[
            "database",
            "user",
            "total_xact_count",
            "total_query_count",
            "total_received",
            "total_sent",
            "total_xact_time",
            "total_wait_time",
            "errors",
            "queue_timeouts",
            "pinned",
            "xact_p50_us",
            "xact_p99_us",
            "xact_p999_us",
            "wait_p50_us",
            "wait_p99_us",
            "wait_p999_us",
        ],
        rows: proxy.all_pools().iter().map(|pool| row(pool)).collect(),
    }
}

fn databases(proxy: &Proxy) -> Table {
    let config = proxy.config.borrow();
    let server = proxy.connector.borrow().to_string();
    let rows = proxy.all_pools().into_iter().map(|pool| {
        vec![
            pool.key.database.clone(),
            server.clone(),
            config.pool.size.to_string(),
            config.pool.mode.as_str().to_owned(),
            pool.open().to_string(),
            u8::from(pool.is_paused()).to_string(),
        ]
    });
    Table {
        columns: &[
            "name",
            "server",
            "pool_size",
            "pool_mode",
            "current_connections",
            "paused",
        ],
        rows: rows.collect(),
    }
}

fn users(proxy: &Proxy) -> Table {
    let users = proxy.users.borrow();
    Table {
        columns: &["name"],
        rows: users
            .names()
            .into_iter()
            .map(|name| vec![name.to_owned()])
            .collect(),
    }
}

fn lists(proxy: &Proxy) -> Table {
    let pools = proxy.all_pools();
    let sum = |count: fn(&Pool) -> usize| pools.iter().map(|pool| count(pool)).sum::<usize>();
    let rows = [
        ("pools", pools.len()),
        ("clients", proxy.clients.len()),
        ("connections", proxy.connections.get()),
        ("waiting_clients", sum(Pool::waiting)),
        ("servers", sum(Pool::open)),
        ("active_servers", sum(Pool::active)),
        ("idle_servers", sum(Pool::idle)),
        ("prepared_statements", proxy.statements.len()),
        (
            "uptime_s",
            usize::try_from(Timestamp::now().duration_since(proxy.started).as_secs()).unwrap_or(0),
        ),
    ];
    Table {
        columns: &["list", "items"],
        rows: rows
            .map(|(name, count)| vec![name.to_owned(), count.to_string()])
            .to_vec(),
    }
}

fn config(proxy: &Proxy) -> Table {
    let config = proxy.config.borrow();
    let rows = [
        ("listen", config.listen.to_string()),
        ("server", proxy.connector.borrow().to_string()),
        ("pool.mode", config.pool.mode.as_str().to_owned()),
        ("pool.size", config.pool.size.to_string()),
        ("pool.queue", config.pool.queue.to_string()),
        (
            "pool.queue_timeout",
            format!("{:?}", config.pool.queue_timeout),
        ),
        ("pool.max_clients", config.pool.max_clients.to_string()),
        ("pool.keepalive", format!("{:?}", config.pool.keepalive)),
        (
            "pool.idle_timeout",
            format!("{:?}", config.pool.idle_timeout),
        ),
        ("pool.lifetime", format!("{:?}", config.pool.lifetime)),
        ("pool.statements", config.pool.statements.to_string()),
        ("auth", config.auth.as_str().to_owned()),
        ("tls", config.tls.is_some().to_string()),
        ("source", proxy.source.display().to_string()),
    ];
    Table {
        columns: &["key", "value"],
        rows: rows
            .map(|(name, value)| vec![name.to_owned(), value])
            .to_vec(),
    }
}

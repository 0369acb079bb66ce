//! The keys of `[[database]]` and `[logic]`, in the order of the documentation.

use super::{
    Key,
    WhenAbsent::{Required, Value, Words},
    tables::key,
};

pub(super) const DATABASE: &[Key] = &[
    key(
        "name",
        "name",
        Required(r#""orders""#),
        "A label, unique among databases.",
    ),
    key(
        "databases",
        "array of strings",
        Value(r#"["*"]"#),
        "Which database names of a client's startup packet it serves; `*` is every name that no other `[[database]]` has.",
    ),
    key(
        "servers",
        "array of tables",
        Required(r#"[{ name = "db-1", address = "10.0.2.11:6432" }]"#),
        "The servers. Which of them is the primary is observed, not configured.",
    ),
    key(
        "server_tls",
        "`disable`, `prefer`, `require`, `verify-full`",
        Value(r#""disable""#),
        "Whether connections to the servers' proxies are encrypted.",
    ),
    key(
        "server_ca",
        "absolute path",
        Words("none"),
        "PEM file of the certificates that vouch for the servers; `verify-full` needs it, and the servers' IP addresses in them.",
    ),
];

pub(super) const DATABASE_SERVER: &[Key] = &[
    key(
        "name",
        "name",
        Required(r#""db-1""#),
        "Unique in its database.",
    ),
    key(
        "address",
        "IP:port",
        Required(r#""10.0.2.11:6432""#),
        "Where its `lb db-proxy` listens, or PostgreSQL itself; unique in its database.",
    ),
    key(
        "shard",
        "0 to 65535",
        Value("0"),
        "Which shard it holds, where a database has several primaries.",
    ),
];

pub(super) const LOGIC: &[Key] = &[
    key(
        "control",
        "absolute path",
        Value(r#""/run/lb/logic.sock""#),
        "Unix socket that the `lb` commands talk to, at most 107 bytes.",
    ),
    key(
        "metrics",
        "IP:port",
        Words("no metrics"),
        "Where Prometheus fetches metrics.",
    ),
    key(
        "state",
        "absolute path",
        Value(r#""/var/lib/lb""#),
        "Directory for what must survive a restart.",
    ),
    key(
        "threads",
        "1 to 1024",
        Words("one a core"),
        "Threads that serve; clients of the Redis listener are on as few of them as are enough.",
    ),
    key(
        "tls",
        "table",
        Words("no TLS"),
        "The daemon's own certificate.",
    ),
    key(
        "postgres",
        "table",
        Words("no listener"),
        "The listener for PostgreSQL clients; needs `[[database]]`.",
    ),
    key(
        "resp",
        "table",
        Words("no listener"),
        "The listener for Redis clients; needs `[cache]`.",
    ),
    key(
        "http",
        "table",
        Words("no listener"),
        "The listener for HTTP clients and health checks.",
    ),
];

pub(super) const LOGIC_TLS: &[Key] = &[
    key(
        "certificate",
        "absolute path",
        Required(r#""/etc/lb/tls.crt""#),
        "PEM file of the certificate and those that vouch for it.",
    ),
    key(
        "key",
        "absolute path",
        Required(r#""/etc/lb/tls.key""#),
        "PEM file of its private key.",
    ),
];

pub(super) const LOGIC_POSTGRES: &[Key] = &[
    key(
        "listen",
        "IP:port",
        Value(r#""0.0.0.0:5432""#),
        "Where clients connect.",
    ),
    key(
        "route",
        "`split`, `primary`",
        Value(r#""split""#),
        "Known reads go to standbys, or everything goes to the primary.",
    ),
    key(
        "failover_timeout",
        "duration, 1ms to 1h",
        Value(r#""10s""#),
        "How long writes that were not sent yet wait for a primary.",
    ),
    key(
        "users_file",
        "absolute path",
        Words("no users"),
        "Users, in PgBouncer's format.",
    ),
];

pub(super) const LOGIC_RESP: &[Key] = &[
    key(
        "listen",
        "IP:port",
        Value(r#""0.0.0.0:6379""#),
        "Where clients connect in the clear.",
    ),
    key(
        "tls_listen",
        "IP:port",
        Words("no TLS"),
        "Where clients connect by TLS; needs `tls` of `[logic]`.",
    ),
    key(
        "users_file",
        "absolute path",
        Words("no passwords"),
        "Users, in the format of Redis's ACL file: `user NAME on >password ~* &* +@all`.",
    ),
    key(
        "max_clients",
        "1 to 1000000",
        Value("20000"),
        "The most clients, all threads together.",
    ),
    key(
        "idle_timeout",
        "duration, 1s to 7d",
        Words("never"),
        "How long a client may be silent before its connection is closed.",
    ),
    key(
        "output_bytes_max",
        "bytes, 65536 to 17179869184",
        Value("268435456"),
        "The most bytes of answers that wait for one client to read them; past it the client is closed.",
    ),
];

pub(super) const LOGIC_HTTP: &[Key] = &[
    key(
        "listen",
        "IP:port",
        Value(r#""0.0.0.0:8080""#),
        "Where HTTP clients and health checks connect.",
    ),
    key(
        "tokens_file",
        "absolute path",
        Words("no tokens"),
        "Who may change records.",
    ),
];

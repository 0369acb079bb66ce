//! The keys of `[db_proxy]`, in the order of the documentation.

use super::{
    Key,
    WhenAbsent::{Required, Value, Words},
    tables::key,
};

pub(super) const DB_PROXY: &[Key] = &[
    key(
        "listen",
        "IP:port",
        Value(r#""0.0.0.0:6432""#),
        "Where clients connect.",
    ),
    key(
        "server",
        "directory, or host",
        Value(r#""/var/run/postgresql""#),
        "Where PostgreSQL is: the directory of its Unix socket, or a host's name or address.",
    ),
    key(
        "server_port",
        "1 to 65535",
        Value("5432"),
        "PostgreSQL's port; it is also in the name of the Unix socket.",
    ),
    key(
        "server_tls",
        "`disable`, `prefer`, `require`, `verify-full`",
        Value(r#""disable""#),
        "Whether connections to a server that is not reached by a Unix socket are encrypted.",
    ),
    key(
        "server_ca",
        "absolute path",
        Words("none"),
        "PEM file of the certificates that vouch for the server; `verify-full` needs it.",
    ),
    key(
        "pool",
        "table",
        Words("the defaults of `pool`"),
        "Connections and clients.",
    ),
    key(
        "auth",
        "`password`, `trust`",
        Value(r#""password""#),
        "How clients prove who they are: by SCRAM (md5 for users of whom only that is known), or not at all.",
    ),
    key(
        "users_file",
        "absolute path",
        Words("no users"),
        "Users, in PgBouncer's format: `\"name\" \"password\"`, where the password may be an `md5…` or a `SCRAM-SHA-256$…` verifier.",
    ),
    key(
        "auth_query",
        "table",
        Words("users whom `users_file` does not name do not come in"),
        "How they are looked up in PostgreSQL; `{}` does it with the defaults.",
    ),
    key(
        "admins",
        "array of names",
        Value("[]"),
        "Users who may use the console: `psql` to the database `lb`.",
    ),
    key(
        "links",
        "array of names",
        Value(r#"["lb"]"#),
        "Users who may watch the server over a link, as `lb logic` does ([link.md](link.md)). They need not exist in PostgreSQL, and they can fence it.",
    ),
    key(
        "watch",
        "table",
        Words("the defaults of `watch`"),
        "The connection on which the proxy itself looks at the server.",
    ),
    key(
        "state",
        "absolute path",
        Value(r#""/var/lib/lb""#),
        "Directory for the highest epoch that was seen, so that a fence survives a restart: `db-proxy-PORT.json`, by the port of `listen`.",
    ),
    key(
        "tls",
        "table",
        Words("no TLS"),
        "The proxy's own certificate.",
    ),
    key(
        "control",
        "absolute path",
        Value(r#""/run/lb/db-proxy.sock""#),
        "Unix socket for `lb status` and `lb reload`, which take its path with `--socket`.",
    ),
    key(
        "metrics",
        "IP:port",
        Words("no metrics"),
        "Where Prometheus fetches metrics.",
    ),
];

pub(super) const DB_POOL: &[Key] = &[
    key(
        "mode",
        "`transaction`, `session`",
        Value(r#""transaction""#),
        "When a client gives its server connection back: after each transaction, or when it leaves.",
    ),
    key(
        "size",
        "1 to 10000",
        Value("20"),
        "The most server connections of one user and database.",
    ),
    key(
        "queue",
        "0 to 1000000",
        Value("1000"),
        "The most clients that wait for a connection of one user and database.",
    ),
    key(
        "queue_timeout",
        "duration, 1ms to 1h",
        Value(r#""5s""#),
        "How long a client waits for a connection.",
    ),
    key(
        "max_clients",
        "1 to 1000000",
        Value("10000"),
        "The most clients, all users and databases together.",
    ),
    key(
        "keepalive",
        "duration, 1s to 1h",
        Value(r#""30s""#),
        "How long a client may be silent before its host is asked whether it is still there; one that never answers is gone after twice that time.",
    ),
    key(
        "idle_timeout",
        "duration, 1s to 1d",
        Value(r#""10m""#),
        "How long a server connection may lie unused before it is closed.",
    ),
    key(
        "lifetime",
        "duration, 0s to 1d",
        Value(r#""1h""#),
        "How old a server connection may become: whoever gives an older one back closes it. `0s` lets none be used again.",
    ),
    key(
        "statements",
        "1 to 100000",
        Value("200"),
        "The most prepared statements that one server connection keeps.",
    ),
];

pub(super) const DB_WATCH: &[Key] = &[
    key(
        "user",
        "text",
        Value(r#""postgres""#),
        "A user of PostgreSQL with the attribute REPLICATION. A password is looked for in `users_file`.",
    ),
    key(
        "database",
        "text",
        Value(r#""postgres""#),
        "A database that the user may connect to.",
    ),
];

pub(super) const DB_AUTH_QUERY: &[Key] = &[
    key(
        "user",
        "text",
        Value(r#""postgres""#),
        "As which user PostgreSQL is asked. A password is looked for in `users_file`.",
    ),
    key(
        "database",
        "text",
        Value(r#""postgres""#),
        "In which database.",
    ),
    key(
        "query",
        "text",
        Words("`pg_shadow` is read, which only superusers may"),
        "Answers with a user's name and what PostgreSQL stores of the password; `$1` is the name. No row, or NULL for a password, lets nobody in.",
    ),
    key(
        "keep",
        "duration, 1ms to 1h",
        Value(r#""30s""#),
        "How long an answer is kept, and also that there was none. A wrong password has it looked up again.",
    ),
    key(
        "users",
        "1 to 1000000",
        Value("10000"),
        "The most users that are kept.",
    ),
];

pub(super) const DB_TLS: &[Key] = &[
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

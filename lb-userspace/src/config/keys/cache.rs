//! The keys of `[cache]`, in the order of the documentation.

use super::{
    Key,
    WhenAbsent::{Required, Value, Words},
    tables::key,
};

pub(super) const CACHE: &[Key] = &[
    key(
        "authority",
        "`sentinel`, `local`",
        Value(r#""sentinel""#),
        "Who decides that a server has failed: Redis Sentinel, or this daemon alone.",
    ),
    key(
        "sentinels",
        "table",
        Words("none; `sentinel` needs it"),
        "Where Sentinels are.",
    ),
    key(
        "hash",
        "`maglev`, `ketama`",
        Value(r#""maglev""#),
        "How keys are spread over layer one; `ketama` places them where nutcracker does (`hash: fnv1a_64`).",
    ),
    key(
        "primaries",
        "array of tables",
        Required(r#"[{ name = "cache-1", address = "10.0.3.11:6379" }]"#),
        "Layer one; at least one with a weight above 0.",
    ),
    key(
        "spares",
        "array of tables",
        Value("[]"),
        "Servers of layer two without a copy.",
    ),
    key(
        "writes",
        "`async`, `sync`",
        Value(r#""async""#),
        "`sync`: a write is answered when its copy has it.",
    ),
    key(
        "during_failover",
        "`serve`, `strict`",
        Value(r#""serve""#),
        "Between a failure and its verdict, reads go to the copy, or wait.",
    ),
    key(
        "lag_max",
        "duration, 1ms to 1h",
        Value(r#""10s""#),
        "A copy that lags by more answers nothing.",
    ),
    key(
        "failover_timeout",
        "duration, 1ms to 1h",
        Value(r#""10s""#),
        "How long writes (in `strict` reads as well) wait for a server that takes them.",
    ),
    key(
        "sync_timeout",
        "duration, 1ms to 1h",
        Value(r#""1s""#),
        "How long a `sync` write waits for its copy.",
    ),
    key(
        "spare_ttl",
        "duration, 1s to 1d",
        Value(r#""60s""#),
        "The longest life of a key on a spare.",
    ),
    key(
        "spare_database",
        "2 to 1000000",
        Value("15"),
        "The number of the database in which a server of layer one keeps keys of another that failed; the one below it has lb's marker.",
    ),
    key(
        "max_failover_share",
        "0 to 1",
        Value("0.5"),
        "The largest share of layer one whose keys layer two takes at a time; a promotion counts for a minute.",
    ),
    key(
        "silence",
        "duration, 1ms to 10s",
        Value(r#""25ms""#),
        "How long a server may owe an answer, before reads go to its copy; up to four times as long where 99 of 100 of its answers take more than a quarter of it.",
    ),
    key(
        "queue",
        "1 to 10000000",
        Value("100000"),
        "The most commands that wait for one server, on each thread.",
    ),
    key(
        "credentials_file",
        "absolute path",
        Words("no passwords"),
        "TOML file with `username` and `password` for the cache servers, and `sentinel_username` and `sentinel_password` for Sentinels.",
    ),
    key(
        "server_tls",
        "`disable`, `require`, `verify-full`",
        Value(r#""disable""#),
        "Whether connections to cache servers are encrypted.",
    ),
    key(
        "server_ca",
        "absolute path",
        Words("none"),
        "PEM file of the certificates that vouch for the servers; `verify-full` needs it.",
    ),
];

pub(super) const SENTINELS: &[Key] = &[
    key(
        "master_prefix",
        "string",
        Value(r#""""#),
        "What Sentinel calls a server is this and the server's `name`.",
    ),
    key(
        "addresses",
        "array of IP:port",
        Required(r#"["10.0.4.11:26379"]"#),
        "Sentinels, 1 to 99; three or five, on hosts that fail apart.",
    ),
];

pub(super) const CACHE_PRIMARY: &[Key] = &[
    key(
        "name",
        "name",
        Required(r#""cache-1""#),
        "Unique in `[cache]`. Keys are hashed by it: it stays when the address changes.",
    ),
    key(
        "address",
        "IP:port",
        Required(r#""10.0.3.11:6379""#),
        "Where it is; unique in `[cache]`.",
    ),
    key(
        "copy",
        "IP:port",
        Words("no copy"),
        "Where its copy is: a replica, which Sentinel promotes.",
    ),
    key(
        "weight",
        "0 to 65535",
        Value("100"),
        "Share of the keys in relation to the others'; 0 takes none.",
    ),
];

pub(super) const CACHE_SPARE: &[Key] = &[
    key(
        "name",
        "name",
        Required(r#""cache-s9""#),
        "Unique in `[cache]`.",
    ),
    key(
        "address",
        "IP:port",
        Required(r#""10.0.3.29:6379""#),
        "Where it is; unique in `[cache]`.",
    ),
    key(
        "weight",
        "0 to 65535",
        Value("100"),
        "Share in relation to the others'; 0 takes none.",
    ),
];

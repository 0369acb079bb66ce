//! The keys of each section, in the order of the documentation.

use super::{
    Key,
    WhenAbsent::{self, Required, Value, Words},
};

pub(super) const fn key(
    name: &'static str,
    kind: &'static str,
    default: WhenAbsent,
    meaning: &'static str,
) -> Key {
    Key {
        name,
        kind,
        default,
        meaning,
    }
}

pub(super) const AGENT: &[Key] = &[
    key(
        "interfaces",
        "array of names",
        Required(r#"["eth0"]"#),
        "Interfaces that the XDP program is attached to, 1 to 64.",
    ),
    key(
        "xdp_mode",
        "`auto`, `native`, `generic`",
        Value(r#""auto""#),
        "`native` runs in the driver, `generic` with every interface; `auto` takes native where the driver has it.",
    ),
    key(
        "manage_vips",
        "boolean",
        Value("true"),
        "Add the VIPs to this host, announce them (gratuitous ARP, unsolicited NA) and remove them.",
    ),
    key(
        "pin",
        "absolute path",
        Value(r#""/sys/fs/bpf/lb""#),
        "Directory in bpffs for the pinned program and maps; the ABI version goes below it.",
    ),
    key(
        "state",
        "absolute path",
        Value(r#""/var/lib/lb""#),
        "Directory for what operators said (drain, disable, weight); survives a restart.",
    ),
    key(
        "control",
        "absolute path",
        Value(r#""/run/lb/agent.sock""#),
        "Unix socket that the `lb` commands talk to, at most 107 bytes.",
    ),
    key(
        "metrics",
        "IP:port",
        Words("no metrics"),
        "Where Prometheus fetches metrics.",
    ),
    key(
        "tunnel_source_v4",
        "IPv4 network, /8 to /24",
        Value(r#""198.18.0.0/16""#),
        "Outer sources of `ipip` packets to IPv4 backends, varied per flow.",
    ),
    key(
        "tunnel_source_v6",
        "IPv6 network, /32 to /96",
        Value(r#""100::/64""#),
        "Outer sources of `ipip` packets to IPv6 backends, varied per flow.",
    ),
    key(
        "probes_per_second",
        "whole number, 1 to 1000000",
        Value("10000"),
        "The most health probes a second, all pools together.",
    ),
    key(
        "flows_max",
        "whole number, 1024 to 16777216",
        Value("1048576"),
        "The most flows on record, which are those of unstable slots; about 150 bytes of kernel memory each, taken at the first start.",
    ),
];

pub(super) const POOL: &[Key] = &[
    key(
        "name",
        "name",
        Required(r#""logic""#),
        "Unique among pools.",
    ),
    key(
        "forward",
        "`l2`, `ipip`",
        Value(r#""l2""#),
        "How packets reach a backend: by its MAC address on the same network (`l2`, also called `dsr`) or in an IP tunnel.",
    ),
    key(
        "slots",
        "prime, 251 to 1048573",
        Value("65537"),
        "Size of the consistent-hash table. More slots balance more evenly and take more memory.",
    ),
    key(
        "spill",
        "`both`, `standbys-first`, `primaries-first`",
        Value(r#""both""#),
        "Where the flows of a failed backend go.",
    ),
    key(
        "on_backend_loss",
        "`reset`, `migrate`",
        Value(r#""reset""#),
        "Flows of a lost backend: answer TCP with RST so that clients connect again at once, or send them to another backend as they are.",
    ),
    key(
        "on_empty",
        "`reset`, `drop`, `pass`",
        Value(r#""reset""#),
        "No backend is usable: answer RST or ICMP port unreachable, drop, or leave the packet to this host.",
    ),
    key(
        "tracking",
        "`auto`, `always`, `never`",
        Value(r#""auto""#),
        "When flows are recorded: only while a slot is unstable, from their first packet, or never.",
    ),
    key(
        "flows",
        "table",
        Words("the defaults of `flows`"),
        "How long flows are remembered.",
    ),
    key(
        "check",
        "table",
        Words("no check: backends are always up"),
        "The health check of the pool's backends.",
    ),
    key(
        "backends",
        "array of tables",
        Required(r#"[{ name = "logic-1", address = "10.0.1.11" }]"#),
        "The servers; at least one primary with a weight above 0.",
    ),
];

pub(super) const FLOWS: &[Key] = &[
    key(
        "window",
        "duration, 1ms to 1d",
        Value(r#""5m""#),
        "How long a slot records TCP flows after a change; longer than the longest pause of a flow.",
    ),
    key(
        "udp_window",
        "duration, 1ms to 1d",
        Value(r#""30s""#),
        "The same for UDP.",
    ),
    key(
        "idle",
        "duration, up to 7d",
        Value(r#""1h""#),
        "Life of a record that no packet uses; longer than both windows.",
    ),
    key(
        "lost_for",
        "duration, 1ms to 1d",
        Value(r#""60s""#),
        "How long flows of a backend that failed are told so (`on_backend_loss`).",
    ),
    key(
        "embryo",
        "duration, 1ms to 1d",
        Value(r#""60s""#),
        "Life of a record made by a SYN that nothing followed, and of one whose flow was closed.",
    ),
];

pub(super) const CHECK: &[Key] = &[
    key(
        "kind",
        "`tcp`, `http`",
        Required(r#""tcp""#),
        "What is asked: that a connection is accepted, or that a `GET` gets an expected status.",
    ),
    key(
        "port",
        "1 to 65535",
        Words("the backends' `port`"),
        "Port that is probed.",
    ),
    key(
        "path",
        "string",
        Value(r#""/""#),
        "`http` only: what to `GET`.",
    ),
    key(
        "host",
        "string",
        Words("the backend's address"),
        "`http` only: the `Host` header.",
    ),
    key(
        "expect",
        "status, `\"from-to\"`, or an array of these",
        Value(r#""200-399""#),
        "`http` only: which answers are good.",
    ),
    key(
        "interval",
        "duration, 1ms to 1h",
        Value(r#""1s""#),
        "From the start of one probe to the start of the next.",
    ),
    key(
        "timeout",
        "duration, 1ms up to `interval`",
        Words("800ms, or `interval` if that is shorter"),
        "How long an answer may take.",
    ),
    key(
        "rise",
        "1 to 100",
        Value("2"),
        "Good probes in a row until a backend is up.",
    ),
    key(
        "fall",
        "1 to 100",
        Value("2"),
        "Bad probes in a row until a backend is down; a refused connection counts at once.",
    ),
    key(
        "jitter",
        "0 to 0.5",
        Value("0.1"),
        "Share of the interval by which probes are shifted at random.",
    ),
    key(
        "hold",
        "boolean",
        Value("true"),
        "Hold one idle connection open, whose close triggers a probe at once.",
    ),
];

pub(super) const BACKEND: &[Key] = &[
    key(
        "name",
        "name",
        Required(r#""logic-1""#),
        "Unique in the pool.",
    ),
    key(
        "address",
        "IP address",
        Required(r#""10.0.1.11""#),
        "The server's own address, not a VIP; unique in the pool.",
    ),
    key(
        "role",
        "`primary`, `standby`",
        Value(r#""primary""#),
        "Primaries take flows; standbys take the flows of what failed.",
    ),
    key(
        "weight",
        "0 to 65535",
        Value("100"),
        "Share in relation to the others of the group; 0 takes no flows.",
    ),
    key(
        "zone",
        "name",
        Words("no zone"),
        "Alternates of other zones are preferred.",
    ),
    key(
        "port",
        "1 to 65535",
        Words("the service's port"),
        "`l2` and `ipip` cannot change the port: it must be that of every service of the pool.",
    ),
];

pub(super) const SERVICE: &[Key] = &[
    key(
        "name",
        "name",
        Required(r#""web""#),
        "Unique among services.",
    ),
    key(
        "vip",
        "IP address",
        Required(r#""198.51.100.10""#),
        "The address that clients use.",
    ),
    key(
        "port",
        "1 to 65535, or `any`",
        Required("443"),
        "`any`: every port of the VIP that no other service names.",
    ),
    key(
        "protocol",
        "`tcp`, `udp`",
        Value(r#""tcp""#),
        "The transport protocol.",
    ),
    key(
        "pool",
        "name of a pool",
        Required(r#""logic""#),
        "The pool behind it; several services may share one.",
    ),
    key(
        "fragments",
        "boolean",
        Value("false"),
        "UDP only: fragments are served; see below.",
    ),
    key(
        "mss",
        "536 to 65495",
        Words("what the client announces"),
        "TCP only: the largest segment size (MSS) that a SYN may announce to a backend; a larger one is lowered to it.",
    ),
    key(
        "udp",
        "`plain`, `quic`",
        Value(r#""plain""#),
        "UDP only. `quic`: a flow begins with a QUIC Initial packet, as a TCP flow does with a SYN.",
    ),
];

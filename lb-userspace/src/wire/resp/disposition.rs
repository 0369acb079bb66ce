//! What becomes of each command when there are several servers: it is routed by its keys, split and
//! joined, sent to all, answered here, or refused with the reason.

use super::commands::Command;

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// To the server of its keys, which must be one; without keys to the first server.
    Routed,
    /// To the server of its channel.
    Channel,
    /// Parts of it to the servers of its keys, and the answers joined.
    Split(Split),
    /// To every server of layer one, and the answers joined.
    Everywhere(Join),
    /// To one server, whichever.
    Anywhere,
    /// Answered here.
    Answered,
    /// Kept here until EXEC, or sent on a connection of the client's own.
    Transaction,
    /// On connections of the client's own.
    Subscription,
    /// Refused; the text says why.
    Refused(&'static str),
}

/// How a command with many keys is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// MGET: the values, in the order of the keys.
    Values,
    /// MSET: pairs; OK when all are.
    Pairs,
    /// DEL, EXISTS, TOUCH, UNLINK: the sum.
    Count,
}

/// How answers of all servers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// Numbers are added.
    Sum,
    /// The least number.
    Least,
    /// The greatest number.
    Greatest,
    /// The first answer; all are the same.
    First,
    /// Arrays are put behind each other.
    Concat,
    /// Arrays without what was there already.
    Union,
    /// Arrays of 0 and 1: 1 where all have 1.
    AllOnes,
    /// Arrays of names and numbers in turn: numbers are added.
    SumPairs,
    /// One of those that are not nil, by chance.
    Random,
    /// OK if any is OK.
    AnyOk,
    /// SCAN: one server after the other.
    Scan,
}

const ONE_SERVER: &str = "it is about one server; ask that server itself";
const ALL_SERVERS: &str = "it would change one server only; ask each server itself";
const REPLICATION: &str = "replication is the operator's and Sentinel's";
const OTHER_DATABASE: &str = "there is one database, number 0";
const TRACKING: &str =
    "invalidations of several servers and of their copies cannot be promised in order";

/// What becomes of `command`.
#[must_use]
pub fn disposition(command: &Command) -> Disposition {
    use Disposition::{
        Answered, Anywhere, Channel, Everywhere, Refused, Routed, Split as Parts, Subscription,
        Transaction,
    };
    match command.name {
        "mget" => Parts(Split::Values),
        "mset" => Parts(Split::Pairs),
        "del" | "exists" | "touch" | "unlink" => Parts(Split::Count),
        "dbsize" => Everywhere(Join::Sum),
        "flushall" | "flushdb" | "script|flush" | "script|load" | "function|load"
        | "function|delete" | "function|flush" | "function|restore" => Everywhere(Join::First),
        "keys" => Everywhere(Join::Concat),
        "randomkey" => Everywhere(Join::Random),
        "scan" => Everywhere(Join::Scan),
        "script|exists" => Everywhere(Join::AllOnes),
        "script|kill" | "function|kill" => Everywhere(Join::AnyOk),
        "wait" => Everywhere(Join::Least),
        "pubsub|channels" | "pubsub|shardchannels" => Everywhere(Join::Union),
        "pubsub|numsub" | "pubsub|shardnumsub" => Everywhere(Join::SumPairs),
        "pubsub|numpat" => Everywhere(Join::Greatest),
        "publish" => Channel,
        "subscribe" | "unsubscribe" | "psubscribe" | "punsubscribe" | "ssubscribe"
        | "sunsubscribe" => Subscription,
        "multi" | "exec" | "discard" | "watch" | "unwatch" => Transaction,
        "client|tracking" | "client|caching" | "client|trackinginfo" | "client|getredir" => {
            Refused(TRACKING)
        }
        "ping" | "echo" | "hello" | "auth" | "quit" | "reset" | "select" | "info"
        | "acl|whoami" => Answered,
        "move" | "swapdb" => Refused(OTHER_DATABASE),
        "migrate" | "restore-asking" => Refused("keys are moved by nobody but lb"),
        "replicaof" | "slaveof" | "sync" | "psync" | "replconf" | "failover" | "role" => {
            Refused(REPLICATION)
        }
        "monitor" | "debug" | "lastsave" | "pfdebug" => Refused(ONE_SERVER),
        "save" | "bgsave" | "bgrewriteaof" | "shutdown" => Refused(ALL_SERVERS),
        "time" | "lolwut" | "config|get" | "asking" | "readonly" | "readwrite" | "pfselftest"
        | "acl|cat" | "acl|genpass" | "function|list" | "function|dump" | "function|stats" => {
            Anywhere
        }
        name if name.ends_with("|help") || name.starts_with("command") => Anywhere,
        // "This instance has cluster support disabled", says any server.
        name if name.starts_with("cluster") => Anywhere,
        name if name.starts_with("client") => Answered,
        name if name.starts_with("config|") || name.starts_with("module|") => Refused(ALL_SERVERS),
        name if name.starts_with("acl|") => Refused("users are in lb's users_file"),
        name if ["slowlog|", "latency|"].iter().any(|c| name.starts_with(c)) => Refused(ONE_SERVER),
        "script|debug"
        | "memory|doctor"
        | "memory|malloc-stats"
        | "memory|purge"
        | "memory|stats" => Refused(ONE_SERVER),
        // Without a subcommand every server says the same: that it has none.
        _ if command.has_subcommands => Anywhere,
        _ => Routed,
    }
}

#[cfg(test)]
mod tests {
    use super::super::commands::commands;
    use super::*;

    #[test]
    fn what_is_routed_has_keys_or_runs_scripts() {
        for command in commands().all() {
            if disposition(command) == Disposition::Routed {
                assert!(!command.keys.is_empty(), "{} has no keys", command.name);
            }
        }
    }

    #[test]
    fn splits_and_refusals_are_as_promised() {
        let of = |name: &str| {
            let at = commands().find(name.as_bytes()).expect(name);
            disposition(&commands().all()[at])
        };
        assert_eq!(of("mget"), Disposition::Split(Split::Values));
        assert_eq!(of("rename"), Disposition::Routed);
        assert!(matches!(of("client|tracking"), Disposition::Refused(_)));
        assert!(matches!(of("replicaof"), Disposition::Refused(_)));
        assert_eq!(of("client|setname"), Disposition::Answered);
        assert_eq!(of("xgroup|create"), Disposition::Routed);
        assert_eq!(of("object"), Disposition::Anywhere);
    }
}

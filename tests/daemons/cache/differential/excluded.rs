//! What is left out, by name, and why.

/// Groups whose commands speak of a connection or a whole server: what they do is tested by itself.
const GROUPS: [(&str, &str); 6] = [
    ("connection", "answers tell of this connection"),
    ("server", "answers tell of this server"),
    ("cluster", "no cluster is spoken"),
    ("pubsub", "answers come when others publish"),
    ("transactions", "made as blocks, not one by one"),
    ("scripting", "made from scripts that make sense"),
];

const COMMANDS: [(&str, &str); 20] = [
    ("randomkey", "chosen at random"),
    ("spop", "chosen at random"),
    ("srandmember", "chosen at random"),
    ("hrandfield", "chosen at random"),
    ("zrandmember", "chosen at random"),
    (
        "scan",
        "cursors are the server's own; all keys are compared at the end",
    ),
    ("sscan", "in the order of a hash table with a seed"),
    (
        "zscan",
        "SORT makes a hash table with a seed of a sorted set",
    ),
    ("object freq", "depends on time"),
    ("object idletime", "depends on time"),
    ("object help", "a text"),
    ("xpending", "shows idle times"),
    ("xinfo consumers", "shows idle times"),
    ("xinfo stream", "shows times when it is asked for all"),
    ("xinfo help", "a text"),
    ("xgroup help", "a text"),
    ("migrate", "speaks to another server"),
    ("move", "there is one database"),
    ("wait", "depends on copies"),
    ("dump", "contains the order of a hash table with a seed"),
];

/// Internals of the engine, with answers for its makers.
const INTERNAL: [&str; 2] = ["pfdebug", "pfselftest"];

/// Whether random commands have this one.
pub(super) fn is_excluded(group: &str, name: &[String]) -> bool {
    let name = name.join(" ");
    GROUPS.iter().any(|(excluded, _)| *excluded == group)
        || COMMANDS.iter().any(|(excluded, _)| *excluded == name)
        || INTERNAL.contains(&name.as_str())
}

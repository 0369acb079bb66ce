//! The commands of the real server, and what arguments each takes: as `COMMAND DOCS` tells.

use anyhow::{Result, ensure};
use lb_tests::redis::{Connection, Reply};

/// A command.
#[derive(Debug, Clone)]
pub(super) struct Command {
    /// Its words: a subcommand has two.
    pub name: Vec<String>,
    /// `string`, `list`, …
    pub group: String,
    pub arguments: Vec<Argument>,
}

/// An argument, or several.
#[derive(Debug, Clone)]
pub(super) struct Argument {
    pub name: String,
    /// `key`, `integer`, `oneof`, …
    pub kind: String,
    /// The word before it.
    pub token: Option<String>,
    pub is_optional: bool,
    pub is_multiple: bool,
    pub repeats_token: bool,
    pub inner: Vec<Argument>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Table {
    pub commands: Vec<Command>,
}

impl Table {
    pub fn read(connection: &mut Connection) -> Result<Self> {
        let reply = connection.command(&["COMMAND", "DOCS"])?;
        let mut commands = Vec::new();
        for pair in reply.parts().chunks_exact(2) {
            read_command(&pair[0].text(), &pair[1], &mut commands);
        }
        ensure!(commands.len() > 300, "{} commands", commands.len());
        commands.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Self { commands })
    }
}

fn read_command(name: &str, docs: &Reply, commands: &mut Vec<Command>) {
    let subcommands = list(docs, "subcommands");
    for pair in subcommands.chunks_exact(2) {
        read_command(&pair[0].text(), &pair[1], commands);
    }
    if subcommands.is_empty() {
        commands.push(Command {
            name: name.split('|').map(str::to_owned).collect(),
            group: docs.field("group").unwrap_or_default(),
            arguments: list(docs, "arguments").iter().map(Argument::read).collect(),
        });
    }
}

impl Argument {
    fn read(docs: &Reply) -> Self {
        let flags: Vec<String> = list(docs, "flags").iter().map(Reply::text).collect();
        let has = |flag: &str| flags.iter().any(|it| it == flag);
        Self {
            name: docs.field("name").unwrap_or_default(),
            kind: docs.field("type").unwrap_or_default(),
            token: docs.field("token"),
            is_optional: has("optional"),
            is_multiple: has("multiple"),
            repeats_token: has("multiple_token"),
            inner: list(docs, "arguments").iter().map(Self::read).collect(),
        }
    }
}

/// The list under a name; empty if there is none.
fn list<'r>(docs: &'r Reply, name: &str) -> &'r [Reply] {
    let mut pairs = docs.parts().chunks_exact(2);
    let found = pairs.find(|pair| pair[0].text() == name);
    found.map_or(&[], |pair| pair[1].parts())
}

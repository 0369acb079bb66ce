//! Every command of the real server: routed, split, answered or refused by name, and none unknown.

use anyhow::{Result, ensure};
use lb_tests::redis::{Connection, Place, Reply, Tier};

/// What closes, blocks or changes the connection that it is tried on, and is tested elsewhere.
const APART: [&str; 9] = [
    "quit",
    "reset",
    "monitor",
    "subscribe",
    "psubscribe",
    "ssubscribe",
    "multi",
    "hello",
    "auth",
];

#[test]
fn every_command_of_redis_is_known() -> Result<()> {
    let tier = Tier::builder().primaries(2).build()?;
    let logic = tier.start_logic("logic-1", "")?;
    let mut single = tier.primaries[0].connect()?;
    let list = single.command(&["COMMAND", "LIST"])?;
    ensure!(list.parts().len() >= 240, "{} commands", list.parts().len());
    let mut names: Vec<Vec<String>> = Vec::new();
    for name in list.parts() {
        let name = name.text();
        let info = single.command(&["COMMAND", "INFO", &name])?;
        let subcommands = info.parts().first().and_then(|info| info.parts().get(9));
        let subcommands = subcommands.map(Reply::parts).unwrap_or_default();
        let words = |text: &str| text.split('|').map(str::to_owned).collect();
        names.extend(
            subcommands
                .iter()
                .filter_map(|sub| Some(words(&sub.parts().first()?.text()))),
        );
        names.push(words(&name));
    }
    ensure!(names.len() > 340, "{} with subcommands", names.len());
    let (mut refused, mut answered) = (Vec::new(), 0);
    for name in names
        .iter()
        .filter(|name| !APART.contains(&name[0].as_str()))
    {
        let reply = Connection::open(&Place::here(), logic.resp())?.command(name)?;
        let text = reply.text();
        let is_unknown = reply.is_error() && text.to_lowercase().contains("unknown");
        ensure!(!is_unknown, "{name:?}: {text}");
        if text.starts_with("ERR lb: ") {
            let is_named = text.to_lowercase().contains(&name[0]);
            ensure!(is_named, "{name:?} is refused without its name: {text}");
            refused.push(name.join(" "));
        } else {
            answered += 1;
        }
    }
    println!(
        "{answered} taken, {} refused: {}",
        refused.len(),
        refused.join(", ")
    );
    // Data types are never refused for what they are.
    for group in [
        "get", "lpush", "sadd", "zadd", "hset", "xadd", "geoadd", "pfadd", "setbit", "eval",
    ] {
        ensure!(
            !refused.iter().any(|name| name == group),
            "{group} is refused"
        );
    }
    Ok(())
}

//! Every command of the real server: routed, split, answered or refused by name, and none unknown.

use anyhow::{Context, Result, ensure};
use lb_tests::redis::{Connection, Place, Reply, Tier};
use lb_userspace::wire::resp::commands::{Command, commands};
use lb_userspace::wire::resp::disposition::{Disposition, disposition};

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
    let mut tally = Tally::default();
    for name in names
        .iter()
        .filter(|name| !APART.contains(&name[0].as_str()))
    {
        let command = known(name)?;
        let mut words = name.clone();
        // As many words as it needs, so that it is not refused for their number.
        let needed = command.arity.unsigned_abs() as usize;
        words.resize(needed.max(words.len()), "1".to_owned());
        let reply = Connection::open(&Place::here(), logic.resp())?.command(&words)?;
        let text = reply.text();
        let is_unknown = reply.is_error() && text.to_lowercase().contains("unknown command");
        ensure!(!is_unknown, "{words:?}: {text}");
        let is_refused = text.starts_with("ERR lb: ");
        if is_refused {
            let is_named = text.to_lowercase().contains(&name.join(" "));
            ensure!(is_named, "{name:?} is refused without its name: {text}");
        }
        let what = disposition(command);
        tally.count(&what, is_refused, &name.join(" "));
        match what {
            Disposition::Refused(_) => ensure!(is_refused, "{words:?} is not refused: {text}"),
            // Some of those that are answered here are not for everything.
            Disposition::Answered | Disposition::Transaction | Disposition::Subscription => {}
            _ => ensure!(!is_refused, "{words:?} is {what:?}, and refused: {text}"),
        }
    }
    println!("{tally:#?}");
    // What is tried elsewhere is known as well.
    for name in APART {
        known(&[name.to_owned()])?;
    }
    ensure!(tally.routed > 150 && tally.split >= 6, "{tally:#?}");
    Ok(())
}

/// What the table says of a command of the real server.
fn known(name: &[String]) -> Result<&'static Command> {
    let name = name.join("|");
    let at = commands().find(name.as_bytes());
    let at = at.with_context(|| format!("{name} is not in the table"))?;
    Ok(&commands().all()[at])
}

/// What became of how many.
#[derive(Debug, Default)]
struct Tally {
    routed: usize,
    split: usize,
    everywhere: usize,
    anywhere: usize,
    answered: usize,
    refused: Vec<String>,
}

impl Tally {
    fn count(&mut self, what: &Disposition, is_refused: bool, name: &str) {
        let kind = match what {
            _ if is_refused => {
                self.refused.push(name.to_owned());
                return;
            }
            Disposition::Routed | Disposition::Channel => &mut self.routed,
            Disposition::Split(_) => &mut self.split,
            Disposition::Everywhere(_) => &mut self.everywhere,
            Disposition::Anywhere => &mut self.anywhere,
            _ => &mut self.answered,
        };
        *kind += 1;
    }
}

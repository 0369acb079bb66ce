//! `lb reload`: the configuration file again, or what it would change.

use std::fmt::Write;

use clap::Args;

use super::output::{print, print_json};
use super::socket::ClientOptions;
use super::units::percent;
use crate::control::{Answer, Reload, Request};

#[derive(Debug, Args)]
pub(super) struct ReloadOptions {
    /// Only say what would change, and what it would move
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    client: ClientOptions,
}

pub(super) fn run(options: &ReloadOptions) -> anyhow::Result<()> {
    let request = Request::Reload {
        dry_run: options.dry_run,
    };
    let reload = options.client.ask(&request, |answer| match answer {
        Answer::Reload(reload) => Ok(reload),
        other => Err(Box::new(other)),
    })?;
    if options.client.json {
        return print_json(&reload);
    }
    print(&render(&reload))
}

fn render(reload: &Reload) -> String {
    if reload.changes.is_empty() && reload.moved.is_empty() {
        return "no change\n".to_owned();
    }
    let (changes, moves) = if reload.applied {
        ("changed", "moved")
    } else {
        ("would change", "would move")
    };
    let mut text = String::new();
    if !reload.changes.is_empty() {
        let _ = writeln!(text, "{changes}:");
    }
    for change in &reload.changes {
        let _ = writeln!(text, "  {change}");
    }
    if reload.moved.is_empty() {
        let _ = writeln!(text, "{moves}: nothing");
    } else {
        let _ = writeln!(text, "{moves}:");
    }
    for moved in &reload.moved {
        let share = percent(moved.share);
        let _ = writeln!(
            text,
            "  pool {}: {} slots, {share}",
            moved.pool, moved.slots
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Moved;

    #[test]
    fn a_reload_says_what_changes_and_what_moves() {
        let mut reload = Reload {
            applied: false,
            changes: vec!["backend logic/logic-4 added (primary, weight 100)".into()],
            moved: vec![Moved {
                pool: "logic".into(),
                slots: 16_384,
                share: 0.249_996,
            }],
        };
        assert_eq!(
            render(&reload),
            "would change:\n  backend logic/logic-4 added (primary, weight 100)\n\
             would move:\n  pool logic: 16384 slots, 25.0 %\n"
        );
        reload.applied = true;
        reload.moved.clear();
        assert_eq!(
            render(&reload),
            "changed:\n  backend logic/logic-4 added (primary, weight 100)\nmoved: nothing\n"
        );
        reload.changes.clear();
        assert_eq!(render(&reload), "no change\n");
    }
}

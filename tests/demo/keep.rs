//! `--keep`: everything goes on after the last fault, and people play with it.

use std::env;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use lb_tests::namespace::Namespace;
use lb_tests::process::built;
use lb_tests::site::Host;

use crate::data::Data;
use crate::interrupt::Interrupted;
use crate::stage::Stage;

/// Clients are started anew so often, so that what they remember stays small.
const LOAD_MAX: Duration = Duration::from_secs(30);

/// Says how to play, and shows what happens until Ctrl-C.
///
/// # Errors
/// If `lb` is not where it was a minute ago.
pub fn until_interrupted(stage: &mut Stage, data: &Data) -> Result<()> {
    let text = how_to_play(stage, data)?;
    stage.console.line(&text);
    loop {
        let start = stage.start_load();
        let passed = stage.pass_until(start + LOAD_MAX);
        drop(stage.stop_load());
        match passed {
            Err(error) if error.is::<Interrupted>() => {
                stage.console.finish_rates();
                return Ok(());
            }
            passed => passed?,
        }
    }
}

/// What to type, ready to be copied.
fn how_to_play(stage: &mut Stage, data: &Data) -> Result<String> {
    let pids: Vec<u32> = stage
        .backends()
        .iter()
        .filter_map(|backend| stage.server_pid(backend))
        .collect();
    let site = stage.site();
    let lb = built("lb", "lb-userspace")?;
    let here = env::current_dir()?;
    let lb = relative(&lb, &here).display().to_string();
    let gateway = site.gateway();
    let socket = gateway.control_socket();
    let socket = socket.display();
    let vip = site.vip();
    let client = site.client().name();
    let mut text = String::from("\nEverything keeps running. In another terminal, as root:\n\n");
    let _ = writeln!(
        text,
        "  ip netns exec {client} curl -s http://{vip}/        who answers
  {lb} status --socket {socket}
  {lb} events --follow --socket {socket}
  {lb} drain logic-1 --socket {socket}
  {lb} undrain logic-1 --socket {socket}
  {lb} route --vip {vip}/tcp --from {}:40000 --socket {socket}
",
        site.client().address(),
    );
    text.push_str(&data.how_to_play(&lb));
    let web = built("lbt-web", "lb-tests")?;
    text.push_str("  its hosts, each for ip netns exec:\n");
    let names = [client, site.router().name(), gateway.name()];
    for name in names {
        let _ = writeln!(text, "    {name}");
    }
    for (backend, pid) in site.backends().iter().zip(pids) {
        // A backend is a host, and a host is a namespace: its name as such.
        let host: &Host = backend;
        let namespace = Namespace::name(host);
        let _ = writeln!(text, "    {namespace}   (its server: kill {pid})");
    }
    let _ = writeln!(
        text,
        "\n  a server again: ip netns exec HOST {} --name NAME --listen [::]:80\n  \
         configuration and logs: {}\n\nCtrl-C ends and removes it all.",
        relative(&web, &here).display(),
        site.run_directory().display()
    );
    Ok(text)
}

/// Shorter where that is possible: people copy it.
fn relative<'a>(program: &'a Path, here: &Path) -> &'a Path {
    program.strip_prefix(here).unwrap_or(program)
}

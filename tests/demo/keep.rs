//! `--keep`: how to play with what is left running.

use std::env;
use std::fmt::Write as _;

use anyhow::Result;
use lb_tests::namespace::Namespace;
use lb_tests::process::built;
use lb_tests::site::Host;

use crate::stage::Stage;

/// What to type, ready to be copied.
///
/// # Errors
/// If `lb` is not where it was a minute ago.
pub fn how_to_play(stage: &mut Stage) -> Result<String> {
    let pids: Vec<u32> = stage
        .backends()
        .iter()
        .filter_map(|backend| stage.server_pid(backend))
        .collect();
    let site = stage.site();
    let lb = built("lb", "lb-userspace")?;
    let here = env::current_dir()?;
    let lb = lb.strip_prefix(&here).unwrap_or(&lb).display();
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
        "\n  configuration and logs: {}\n\nCtrl-C ends and removes it.",
        site.run_directory().display()
    );
    Ok(text)
}

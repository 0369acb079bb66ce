//! Prometheus text at `[logic].metrics`, from the main thread: a busy thread that serves does not
//! delay it.

use super::{Daemon, Exposition, Kind};

pub(super) fn render(daemon: &Daemon) -> String {
    let mut out = Exposition::default();
    let truth = |truth: bool| f64::from(u8::from(truth));
    let ready = truth(daemon.ready().is_ok());
    out.single("ready", Kind::Gauge, "1 while /readyz says so.", ready);
    out.single(
        "threads",
        Kind::Gauge,
        "Threads that serve.",
        daemon.threads as f64,
    );
    out.head("tier_ready", Kind::Gauge, "1 while the tier can serve.");
    for tier in &daemon.tiers {
        if let Some(ready) = tier.ready() {
            out.line("tier_ready", &[("tier", tier.name())], truth(ready.is_ok()));
        }
    }
    out.head("clients", Kind::Gauge, "Clients connected.");
    for tier in &daemon.tiers {
        out.line("clients", &[("tier", tier.name())], tier.clients() as f64);
    }
    for tier in &daemon.tiers {
        tier.expose(&mut out);
    }
    out.finish()
}

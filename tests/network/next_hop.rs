//! The way to a backend changes, is lost, or was never there.

use anyhow::{Context, Result};
use lb_tests::load::Load;
use lb_tests::site::{Families, Site};
use lb_tests::wait;

use crate::support::{SOON, Serving, assert_unharmed, backend, reload};

#[test]
fn a_backend_whose_network_card_was_replaced_is_followed() -> Result<()> {
    let serving = Serving::start(Site::builder().families(Families::V4))?;
    let logic = serving.site.backend("logic-1");
    const MAC: &str = "02:00:00:00:be:ef";
    // A host that comes up with another card says so itself (gratuitous ARP).
    logic.sysctl("ipv4/conf/eth0/arp_notify", "1")?;
    logic.ip(&["link", "set", "eth0", "address", MAC])?;
    wait::until("the new address is known", SOON, || {
        serving
            .backend("logic-1")
            .is_ok_and(|it| it.next_hop.contains(MAC) && it.state == "up")
    })
    .with_context(|| serving.explain())?;
    let report = Load::http(serving.site.vip())
        .count(60)
        .run(serving.site.client());
    assert_unharmed(&report, &serving.agent);
    assert!(report.answered_by().contains_key("logic-1"), "{report}");
    Ok(())
}

#[test]
fn without_a_check_a_neighbour_that_is_lost_is_down_with_its_reason_until_it_returns() -> Result<()>
{
    let without_check = |site: &Site| {
        let text = site.config().text();
        let lines = text.lines().filter(|line| !line.starts_with("check ="));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let serving = Serving::configured(Site::builder().families(Families::V4), without_check)?;
    let unchecked = serving.backend("logic-1")?;
    assert_eq!(unchecked.health, "unchecked");
    // Asked every 100 ms instead of every 5 s.
    let gateway = serving.site.gateway();
    gateway.sysctl("ipv4/neigh/eth1/interval_probe_time_ms", "100")?;
    gateway.sysctl("ipv4/neigh/eth1/retrans_time_ms", "100")?;
    gateway.sysctl("ipv4/neigh/eth1/base_reachable_time_ms", "100")?;
    gateway.sysctl("ipv4/neigh/eth1/delay_first_probe_time", "0")?;
    serving.site.backend("logic-1").silence()?;
    gateway.ip(&["neigh", "flush", "dev", "eth1"])?;
    serving.is("logic-1", "down")?;
    let lost = serving.backend("logic-1")?;
    assert!(
        lost.reason.contains("no answer to ARP for 10.0.1.11"),
        "{}",
        lost.reason
    );
    let report = Load::http(serving.site.vip())
        .count(60)
        .run(serving.site.client());
    assert_unharmed(&report, &serving.agent);
    assert!(!report.answered_by().contains_key("logic-1"), "{report}");
    serving.site.backend("logic-1").unsilence()?;
    serving.is("logic-1", "up")
}

#[test]
fn a_backend_behind_a_router_is_down_with_l2_and_the_reason_names_the_way_out() -> Result<()> {
    let serving = Serving::start(Site::builder().primaries(2).families(Families::V4))?;
    // The client: behind the router, as seen from the gateway.
    let far = serving.site.client().v4();
    let config = serving.site.config().backend("logic-1", "weight", "100");
    let far_away = format!("address = \"{far}\"");
    let text = config.text().replace("address = \"10.0.1.11\"", &far_away);
    serving.site.gateway().write_config(&text)?;
    reload(&serving.agent, false)?;
    let logic = backend(&serving.agent, "logic-1")?;
    assert_eq!(logic.state, "down");
    assert!(
        logic.reason.contains("not on this link"),
        "{}",
        logic.reason
    );
    assert!(logic.reason.contains("ipip"), "{}", logic.reason);
    let report = Load::http(serving.site.vip())
        .count(60)
        .run(serving.site.client());
    assert_unharmed(&report, &serving.agent);
    Ok(())
}

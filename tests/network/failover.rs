//! A backend fails, returns, is drained.

use anyhow::Result;
use lb_tests::load::Load;
use lb_tests::site::Site;

use crate::support::{backend_is, status};

#[test]
fn a_killed_primary_is_replaced_and_nobody_else_is_disturbed() -> Result<()> {
    let site = Site::builder().primaries(3).standbys(1).build()?;
    let mut servers = Vec::new();
    for backend in site.backends() {
        servers.push(backend.serve()?);
    }
    let agent = site.gateway().start_agent(&site.config().text())?;
    for backend in site.backends() {
        backend_is(&agent, backend.name(), "up")?;
    }
    let before = Load::http(site.vip())
        .clients(4)
        .count(300)
        .run(site.client());
    assert_eq!(
        before.failed(),
        0,
        "{:?}\n{}",
        before.failures(),
        agent.log()
    );
    assert_eq!(before.answered_by().len(), 3, "{:?}", before.answered_by());

    servers[0].kill();
    backend_is(&agent, "logic-1", "down")?;
    let after = Load::http(site.vip())
        .clients(4)
        .count(300)
        .run(site.client());
    assert_eq!(after.failed(), 0, "{:?}\n{}", after.failures(), agent.log());
    assert!(!after.answered_by().contains_key("logic-1"));
    assert!(
        after.answered_by().contains_key("logic-s1"),
        "{:?}",
        after.answered_by()
    );
    println!("{:#?}", status(&agent)?);
    Ok(())
}

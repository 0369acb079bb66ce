//! What cannot start says so in one line, and leaves nothing behind.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use lb_tests::load::Load;
use lb_tests::site::{Gateway, Site};
use lb_tests::wait;

use crate::support::{SOON, Serving, assert_unharmed, has_address, has_program, lb, status};

/// Asserts that `lb agent` refuses to start with one line for people, and returns that line.
fn refusal(gateway: &Gateway, config: &Path, user: Option<u32>) -> Result<String> {
    let config = config.to_str().context("a path of ours")?;
    let arguments = ["agent", "--config", config, "--log-level", "error"];
    let output = lb(gateway, &arguments, user)?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    Ok(said)
}

#[test]
fn a_second_agent_refuses_in_one_line_and_disturbs_nothing() -> Result<()> {
    let serving = Serving::start(Site::builder())?;
    let gateway = serving.site.gateway();
    let running = Load::http(serving.site.vip())
        .clients(2)
        .start(serving.site.client());
    let config = gateway.write_config(&serving.site.config().text())?;
    let said = refusal(gateway, &config, None)?;
    assert!(said.contains("already runs"), "{said}");
    // With a socket of its own as well: the data plane is what there is one of.
    let table = gateway.agent_table().replace("agent.sock", "other.sock");
    let table = table.replace("127.0.0.1:9180", "127.0.0.1:9181");
    let config = gateway.write_config(&format!("{table}\n{}", serving.site.config().text()))?;
    let said = refusal(gateway, &config, None)?;
    assert!(said.contains("already"), "{said}");
    assert_unharmed(&running.stop(), &serving.agent);
    status(&serving.agent).map(drop)
}

#[test]
fn another_program_on_the_interface_is_left_there_and_named() -> Result<()> {
    let other = Site::builder().primaries(1).standbys(0).build()?;
    let gateway = other.gateway();
    // A foreign program: that of another lb, pinned elsewhere. It holds eth1 by a link.
    let table = gateway
        .agent_table()
        .replace("\"eth0\", \"eth1\"", "\"eth1\"");
    let mut agent = gateway.start_agent(&format!("{table}\n{}", other.config().text()))?;
    wait::until("it is attached", SOON, || {
        has_program(gateway, "eth1").unwrap_or(false)
    })?;
    agent.process().terminate(SOON)?;
    let second = other.run_directory().join("bpf/second");
    let table = gateway
        .agent_table()
        .replace(
            &gateway.pins().display().to_string(),
            &second.display().to_string(),
        )
        .replace("/state\"", "/state-2\"");
    let config = gateway.write_config(&format!("{table}\n{}", other.config().text()))?;
    let said = refusal(gateway, &config, None)?;
    assert!(
        said.contains("eth1") && said.contains("another XDP program"),
        "{said}"
    );
    assert!(
        !has_program(gateway, "eth0")?,
        "eth0 was attached before eth1 was refused"
    );
    assert!(has_program(gateway, "eth1")?);
    assert!(!second.exists(), "pins are left");
    Ok(())
}

#[test]
fn an_unknown_interface_is_named_and_nothing_is_left() -> Result<()> {
    let site = Site::builder().primaries(1).standbys(0).build()?;
    let gateway = site.gateway();
    let table = gateway.agent_table().replace("\"eth1\"", "\"nosuch0\"");
    let config = gateway.write_config(&format!("{table}\n{}", site.config().text()))?;
    let said = refusal(gateway, &config, None)?;
    assert!(
        said.contains("nosuch0") && said.contains("ip link"),
        "{said}"
    );
    assert!(!gateway.pins().exists(), "pins are left");
    for vip in site.vips() {
        assert!(!has_address(&site, *vip)?);
    }
    Ok(())
}

#[test]
fn a_user_without_privileges_is_told_what_it_takes() -> Result<()> {
    const NOBODY: u32 = 65_534;
    let site = Site::builder().primaries(1).standbys(0).build()?;
    let gateway = site.gateway();
    // Everything but the privilege is there: a directory that everybody may write to.
    let open = tempfile::Builder::new().prefix("lbt-").tempdir()?;
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o777))?;
    let run = site.run_directory().display().to_string();
    let place = open.path().display().to_string();
    let table = gateway.agent_table();
    let elsewhere = table.replace(&format!("{run}/agent.sock"), &format!("{place}/agent.sock"));
    for (case, table) in [("the usual paths", table), ("paths of its own", elsewhere)] {
        let config = gateway.write_config(&format!("{table}\n{}", site.config().text()))?;
        let said = refusal(gateway, &config, Some(NOBODY))?;
        assert!(said.contains("root"), "{case}: {said}");
    }
    Ok(())
}

#[test]
fn a_metrics_address_that_is_taken_is_named() -> Result<()> {
    let site = Site::builder().primaries(1).standbys(0).build()?;
    let taken: SocketAddr = "127.0.0.1:9180".parse()?;
    let _listener = site.gateway().run(|| TcpListener::bind(taken))?;
    let config = site.gateway().write_config(&site.config().text())?;
    let said = refusal(site.gateway(), &config, None)?;
    assert!(
        said.contains("metrics") && said.contains("127.0.0.1:9180"),
        "{said}"
    );
    assert!(!site.gateway().pins().exists(), "pins are left");
    Ok(())
}

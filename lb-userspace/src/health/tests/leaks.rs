//! What a checker opens, it closes.

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::server::{Manner, Server, refusing};
use super::*;

/// Set in the process that a test starts to be alone in.
const ALONE: &str = "LBT_ALONE";

/// Runs the named test in a process of its own, where nobody else opens descriptors; true in
/// that process.
fn is_alone(name: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .arg0("lbt-alone")
        .args([
            "--exact",
            &format!("health::tests::leaks::{name}"),
            "--nocapture",
        ])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{errors}"
    );
    false
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Sockets on this side of connections to `address` that wait for their time to pass.
fn time_waits(address: SocketAddr) -> usize {
    let remote = format!(":{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let is_ours = |line: &&str| {
        let mut columns = line.split_whitespace().skip(2);
        columns.next().is_some_and(|peer| peer.ends_with(&remote)) && columns.next() == Some("06")
    };
    table.lines().filter(is_ours).count()
}

#[tokio::test]
async fn two_thousand_probes_leave_no_descriptor_and_no_waiting_socket() {
    if !is_alone("two_thousand_probes_leave_no_descriptor_and_no_waiting_socket") {
        return;
    }
    let accepts = Server::start(Manner::Silent);
    let answers = Server::start(Manner::Answer(b"HTTP/1.1 200 OK\r\n\r\n"));
    let closes = Server::start(Manner::Close);
    let (refuses, _nobody) = refusing();
    let before = descriptors();

    let quick = |probe| Settings {
        interval: MS,
        hold: true,
        ..settings(probe)
    };
    let hasty = Settings {
        timeout: MS,
        ..quick(http())
    };
    let checks = [
        (accepts.address, quick(Probe::Tcp)),
        (answers.address, quick(http())),
        (closes.address, quick(http())),
        (refuses, quick(Probe::Tcp)),
        (accepts.address, hasty),
    ];
    let checked = checks.map(|(address, settings)| Checked::start(address, settings));
    for one in &checked {
        one.until(|counters| counters.probes >= 400).await;
    }
    for one in checked {
        assert!(one.stop().await.probes >= 400);
    }
    // The servers close their ends when they come round to it.
    let closed = async {
        while descriptors() > before {
            tokio::time::sleep(MS).await;
        }
    };
    let is_closed = timeout(PATIENCE, closed).await.is_ok();
    assert!(is_closed, "{} descriptors, {before} before", descriptors());
    assert_eq!(time_waits(accepts.address), 0);
    assert_eq!(time_waits(answers.address), 0);
}

#[tokio::test]
async fn a_stopped_checker_closes_its_hold_and_probes_no_more() {
    if !is_alone("a_stopped_checker_closes_its_hold_and_probes_no_more") {
        return;
    }
    let mut server = Server::start(Manner::Silent);
    let before = descriptors();
    let settings = Settings {
        interval: NEVER,
        hold: true,
        ..settings(Probe::Tcp)
    };
    let checked = Checked::start(server.address, settings);
    server.accepted().await;
    server.accepted().await;
    checked.until(|counters| counters.holds_opened == 1).await;
    assert_eq!(checked.stop().await.probes, 1);
    let closed = async {
        while descriptors() > before {
            tokio::time::sleep(MS).await;
        }
    };
    timeout(PATIENCE, closed)
        .await
        .expect("both ends of the hold are closed");
}

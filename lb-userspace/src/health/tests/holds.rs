//! The idle connection: the first to know, and never a nuisance.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::server::{Manner, Server};
use super::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

fn held(probe: Probe) -> Settings {
    Settings {
        hold: true,
        ..settings(probe)
    }
}

#[tokio::test]
async fn the_end_of_the_hold_triggers_the_probe_that_finds_the_server_dead() {
    let mut server = Server::start(Manner::Silent);
    // No interval will pass: only the hold can tell.
    let mut checked = Checked::start(
        server.address,
        Settings {
            interval: NEVER,
            fall: 9,
            ..held(Probe::Tcp)
        },
    );
    checked.until_up().await;
    server.accepted().await;
    server.accepted().await;
    checked.until(|counters| counters.holds_opened == 1).await;
    server.kill().await;
    let (report, reason) = checked.until_down().await;
    assert_eq!((report.cause, report.probe), (Cause::Hold, 2));
    assert!(reason.is_decisive(), "{reason}");
}

#[tokio::test]
async fn a_hold_is_opened_again_after_the_server_came_back() {
    let server = Server::start(Manner::Silent);
    let mut checked = Checked::start(server.address, held(Probe::Tcp));
    checked.until_up().await;
    checked.until(|counters| counters.holds_opened == 1).await;
    let address = server.kill().await;
    checked.until_down().await;
    let _server = Server::start_at(address, Manner::Silent);
    checked.until_up().await;
    checked.until(|counters| counters.holds_opened == 2).await;
}

#[tokio::test]
async fn a_server_that_closes_idle_connections_is_not_stormed() {
    let server = Server::start(Manner::Close);
    let settings = Settings {
        interval: 5 * MS,
        ..held(Probe::Tcp)
    };
    let mut checked = Checked::start(server.address, settings);
    checked.until_up().await;
    let counters = checked.until(|counters| counters.probes >= 150).await;
    // Pauses double from 5 ms: 12 of them are 20 s, far more than these probes take.
    assert!(counters.holds_opened >= 2, "{counters:?}");
    assert!(counters.holds_opened <= 12, "{counters:?}");
    assert!(counters.triggered <= counters.holds_ended, "{counters:?}");
    assert!(
        checked.reports.try_recv().is_err(),
        "it was up all the time"
    );
}

#[tokio::test]
async fn a_server_that_serves_one_connection_at_a_time_is_freed_of_the_hold() {
    let server = Server::start(Manner::OneAtATime(OK));
    let settings = Settings {
        timeout: 50 * MS,
        fall: 4,
        ..held(http())
    };
    let mut checked = Checked::start(server.address, settings);
    checked.until_up().await;
    let freed = checked.until(|counters| counters.hold_given_up).await;
    checked
        .until(|counters| counters.passed > freed.passed + 10)
        .await;
    assert_eq!(checked.checker.counters().holds_opened, freed.holds_opened);
    assert!(
        checked.reports.try_recv().is_err(),
        "it was up all the time"
    );
}

#[tokio::test]
async fn a_greeting_is_no_end_and_endless_talk_closes_the_hold() {
    let server = Server::start(Manner::Greet(b"220 mail ready\r\n"));
    let mut checked = Checked::start(server.address, held(Probe::Tcp));
    checked.until_up().await;
    let counters = checked.until(|counters| counters.probes >= 20).await;
    assert_eq!(
        (
            counters.holds_opened,
            counters.holds_ended,
            counters.triggered
        ),
        (1, 0, 0)
    );

    let flood: &[u8] = Box::leak(vec![b'x'; 20_000].into_boxed_slice());
    let server = Server::start(Manner::Greet(flood));
    let mut checked = Checked::start(server.address, held(Probe::Tcp));
    checked.until_up().await;
    let counters = checked.until(|counters| counters.holds_opened >= 2).await;
    assert_eq!((counters.holds_ended, counters.triggered), (0, 0));
}

#[tokio::test]
async fn an_http_server_keeps_its_hold_while_probes_come_and_go() {
    let server = Server::start(Manner::Answer(OK));
    let mut checked = Checked::start(server.address, held(http()));
    checked.until_up().await;
    let counters = checked.until(|counters| counters.probes >= 30).await;
    assert_eq!((counters.holds_opened, counters.holds_ended), (1, 0));
    assert_eq!(counters.passed, counters.probes);
}

/// Set in a process that is to be a server, with nothing else to do.
const SERVE: &str = "LBT_SERVE";

/// Not a fact but the other process of the next one.
#[test]
fn serves_until_killed_if_asked() {
    if std::env::var_os(SERVE).is_none() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("address={}", listener.local_addr().unwrap());
    std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    // The test holds the other end: should it die first, so does this.
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}

/// A server in a process of its own, killed when dropped.
struct Process(Child);

impl Process {
    fn start() -> (Self, SocketAddr) {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .arg0("lbt-server")
            .args([
                "--exact",
                "health::tests::holds::serves_until_killed_if_asked",
                "--nocapture",
            ])
            .env(SERVE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map(Self)
            .unwrap();
        let lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let address = lines
            .map_while(Result::ok)
            .find_map(|line| line.split_once("address=")?.1.parse().ok())
            .expect("the server says where it is");
        (process, address)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_killed_process_is_found_by_its_hold_alone() {
    for _ in 0..5 {
        let (process, address) = Process::start();
        let settings = Settings {
            interval: NEVER,
            fall: 9,
            ..held(Probe::Tcp)
        };
        let mut checked = Checked::start(address, settings);
        checked.until_up().await;
        checked.until(|counters| counters.holds_opened == 1).await;
        drop(process);
        let (report, reason) = checked.until_down().await;
        // The second or, if the listener outlived the hold by a moment, the third.
        assert!(report.probe <= 3, "{report:?}");
        assert!(reason.is_decisive(), "{reason}");
    }
}

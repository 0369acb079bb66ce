//! What a probe sees decides the verdict.

use tokio::net::TcpStream;

use super::server::{Manner, Server, listen, refusing};
use super::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The first verdict of a check, as text: "up", or the reason for down.
async fn first_verdict(manner: Manner, settings: Settings) -> String {
    let server = Server::start(manner);
    let mut checked = Checked::start(server.address, settings);
    let verdict = checked.report().await.verdict;
    checked.stop().await;
    server.kill().await;
    match verdict {
        Verdict::Up => "up".into(),
        Verdict::Down { reason } => reason.to_string(),
    }
}

#[tokio::test]
async fn http_answers_are_judged_by_their_head() {
    use Manner::{Answer, AnswerAndStay};
    let cases: &[(&str, Manner, &str)] = &[
        ("200", Answer(OK), "up"),
        (
            "200 without its body",
            AnswerAndStay(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
            "up",
        ),
        (
            "HTTP/1.0, bare line feeds",
            Answer(b"HTTP/1.0 204 No Content\n\n"),
            "up",
        ),
        (
            "the last status that passes",
            Answer(b"HTTP/1.1 399 ?\r\n\r\n"),
            "up",
        ),
        ("no reason phrase", Answer(b"HTTP/1.1 200\r\n\r\n"), "up"),
        (
            "an interim answer first",
            Answer(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
            "up",
        ),
        (
            "503",
            Answer(b"HTTP/1.1 503 No\r\n\r\n"),
            "HTTP 503, expected 200-399",
        ),
        (
            "404",
            Answer(b"HTTP/1.1 404 No\r\n\r\n"),
            "HTTP 404, expected 200-399",
        ),
        (
            "a protocol switch nobody asked for",
            Answer(b"HTTP/1.1 101 Go\r\n\r\n"),
            "HTTP 101, expected 200-399",
        ),
        (
            "503 after an interim answer",
            Answer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\n\r\n"),
            "HTTP 503, expected 200-399",
        ),
        (
            "another protocol",
            AnswerAndStay(b"SSH-2.0-OpenSSH_9.2\r\n"),
            "not a valid answer: invalid HTTP version",
        ),
        (
            "garbage that ends",
            Answer(b"\x15\x03\x01\x00\x02\x02\x46"),
            "not a valid answer: invalid HTTP version",
        ),
        (
            "nothing",
            Answer(b""),
            "connection closed before the answer was complete",
        ),
        (
            "half a head",
            Answer(b"HTTP/1.1 200 OK\r\nServer: x\r\n"),
            "connection closed before the answer was complete",
        ),
    ];
    for (description, manner, expected) in cases {
        assert_eq!(
            first_verdict(*manner, settings(http())).await,
            *expected,
            "{description}"
        );
    }
}

#[tokio::test]
async fn a_head_without_end_is_refused_at_its_limit() {
    // The status line comes once; what is repeated has to be read to the limit.
    let line: &[u8] = Box::leak(
        [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'a'; 20_000]]
            .concat()
            .into_boxed_slice(),
    );
    let headers: &[u8] = Box::leak(
        [b"HTTP/1.1 200 OK\r\n".as_slice(), &b"X: a\r\n".repeat(1000)]
            .concat()
            .into_boxed_slice(),
    );
    assert_eq!(
        first_verdict(Manner::Repeat(line), settings(http())).await,
        "not a valid answer: its head is longer than 16384 bytes"
    );
    assert_eq!(
        first_verdict(Manner::Repeat(headers), settings(http())).await,
        "not a valid answer: it has more than 128 headers"
    );
}

#[tokio::test]
async fn http_that_stays_silent_or_drips_is_a_timeout() {
    let settings = Settings {
        timeout: 30 * MS,
        fall: 2,
        ..settings(http())
    };
    for manner in [
        Manner::Silent,
        Manner::Drip(b"HTTP/1.1 200 OK\r\nServer: slow\r\nX: "),
    ] {
        let verdict = first_verdict(manner, settings.clone()).await;
        assert_eq!(verdict, "no answer within 30 ms", "{manner:?}");
    }
}

#[tokio::test]
async fn a_reset_is_down_at_once_whatever_fall_says() {
    let mut server = Server::start(Manner::Reset);
    let mut checked = Checked::start(
        server.address,
        Settings {
            fall: 9,
            ..settings(http())
        },
    );
    server.accepted().await;
    let (report, reason) = checked.until_down().await;
    assert_eq!((report.probe, reason), (1, ProbeError::Reset));
}

#[tokio::test]
async fn a_refusal_is_down_at_once_whatever_fall_says() {
    let (address, _nobody) = refusing();
    for probe in [Probe::Tcp, http()] {
        let mut checked = Checked::start(
            address,
            Settings {
                fall: 9,
                ..settings(probe)
            },
        );
        let (report, reason) = checked.until_down().await;
        assert_eq!((report.id, report.probe), (BackendKey(7), 1));
        assert_eq!(reason, ProbeError::Refused);
        assert_eq!(report.cause, Cause::Schedule);
    }
}

#[tokio::test]
async fn tcp_passes_when_the_server_accepts_and_needs_no_word_from_it() {
    for manner in [
        Manner::Silent,
        Manner::Close,
        Manner::Greet(b"220 mail ready\r\n"),
    ] {
        assert_eq!(
            first_verdict(manner, settings(Probe::Tcp)).await,
            "up",
            "{manner:?}"
        );
    }
}

#[tokio::test]
async fn tcp_over_ipv6_passes() {
    let server = Server::start_at("[::1]:0".parse().unwrap(), Manner::Silent);
    Checked::start(server.address, settings(Probe::Tcp))
        .until_up()
        .await;
}

#[tokio::test]
async fn tcp_times_out_when_nobody_answers_the_handshake() {
    // A full accept queue drops SYNs, like a host that is gone.
    let listener = listen("127.0.0.1:0".parse().unwrap(), 1);
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(200 * MS, TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
    }
    let settings = Settings {
        timeout: 20 * MS,
        fall: 3,
        ..settings(Probe::Tcp)
    };
    let (report, reason) = Checked::start(address, settings).until_down().await;
    assert_eq!(report.probe, 3, "timeouts count up to fall");
    assert_eq!(reason, ProbeError::Timeout { after: 20 * MS });
}

#[tokio::test]
async fn the_request_names_its_host_and_closes() {
    let mut server = Server::start_at("[::1]:0".parse().unwrap(), Manner::Answer(OK));
    let _by_address = Checked::start(
        server.address,
        Settings {
            interval: NEVER,
            ..settings(http())
        },
    );
    let request = server.request().await;
    assert!(request.starts_with("GET /readyz HTTP/1.1\r\n"), "{request}");
    assert!(
        request.contains(&format!("\r\nHost: {}\r\n", server.address)),
        "{request}"
    );
    assert!(request.contains("\r\nConnection: close\r\n"), "{request}");

    let probe = HttpProbe {
        path: "/a?b".into(),
        host: Some("orders.example".into()),
        expect: Statuses::default(),
    };
    let _by_name = Checked::start(
        server.address,
        Settings {
            interval: NEVER,
            ..settings(Probe::Http(probe))
        },
    );
    let request = server.request().await;
    assert!(
        request.starts_with("GET /a?b HTTP/1.1\r\nHost: orders.example\r\n"),
        "{request}"
    );
}

#[tokio::test]
async fn expected_statuses_can_be_narrowed() {
    let expect = Statuses::new([204..=204]);
    let probe = Probe::Http(HttpProbe {
        path: "/".into(),
        host: None,
        expect,
    });
    assert_eq!(
        first_verdict(Manner::Answer(OK), settings(probe)).await,
        "HTTP 200, expected 204"
    );
}

#[tokio::test]
async fn a_killed_server_is_down_by_the_next_probe() {
    for probe in [Probe::Tcp, http()] {
        let server = Server::start(Manner::Answer(OK));
        let mut checked = Checked::start(
            server.address,
            Settings {
                fall: 5,
                ..settings(probe)
            },
        );
        checked.until_up().await;
        checked.until(|counters| counters.passed >= 5).await;
        server.kill().await;
        let probes_before = checked.checker.counters().probes;
        let (report, reason) = checked.until_down().await;
        // One probe may have been under way, and have passed, when the server was killed.
        assert!(
            report.probe <= probes_before + 2,
            "{report:?}, {probes_before} before"
        );
        assert!(reason.is_decisive(), "{reason}");
        assert!(report.began <= report.ended);
    }
}

#[tokio::test]
async fn recovery_needs_rise_passes() {
    let server = Server::start(Manner::Silent);
    let mut checked = Checked::start(
        server.address,
        Settings {
            rise: 4,
            ..settings(Probe::Tcp)
        },
    );
    assert_eq!(checked.until_up().await.probe, 4);
    let address = server.kill().await;
    let (down, _) = checked.until_down().await;
    checked
        .until(|counters| counters.probes >= down.probe + 3)
        .await;
    let _server = Server::start_at(address, Manner::Silent);
    let up = checked.until_up().await;
    let counters = checked.stop().await;
    let failed = counters.failed_total();
    assert_eq!(
        up.probe - failed,
        down.probe - 1 + 4,
        "every pass since the return counted"
    );
}

#[tokio::test]
async fn a_trigger_probes_at_once_and_many_are_one() {
    let server = Server::start(Manner::Silent);
    let settings = Settings {
        interval: NEVER,
        ..settings(Probe::Tcp)
    };
    let mut checked = Checked::start(server.address, settings);
    checked.until_up().await;
    for _ in 0..1000 {
        checked.checker.trigger();
    }
    let counters = checked.until(|counters| counters.probes >= 2).await;
    assert_eq!((counters.probes, counters.triggered), (2, 1));
    server.kill().await;
    checked.checker.trigger();
    let (report, reason) = checked.until_down().await;
    assert_eq!(
        (report.probe, report.cause, reason),
        (3, Cause::Trigger, ProbeError::Refused)
    );
}

#[tokio::test]
async fn a_checker_ends_when_nobody_listens_to_it() {
    let server = Server::start(Manner::Silent);
    let checked = Checked::start(server.address, settings(Probe::Tcp));
    drop(checked.reports);
    timeout(PATIENCE, checked.checker.join())
        .await
        .expect("the checker ends by itself");
}

#[tokio::test]
async fn a_tight_budget_slows_every_target_alike_and_says_so() {
    const PER_SECOND: u32 = 400;
    const TARGETS: u64 = 20;
    let server = Server::start(Manner::Silent);
    let budget = Arc::new(Budget::new(PER_SECOND));
    let settings = Settings {
        interval: MS,
        ..settings(Probe::Tcp)
    };
    let start = Instant::now();
    let checked: Vec<_> = (0..TARGETS)
        .map(|_| Checked::start_within(server.address, settings.clone(), &budget))
        .collect();
    for one in &checked {
        one.until(|counters| counters.probes >= 15).await;
    }
    let counts: Vec<_> = checked
        .iter()
        .map(|one| one.checker.counters().probes)
        .collect();
    let allowed = start.elapsed().as_secs_f64() * f64::from(PER_SECOND) + 10.0;
    let total: u64 = counts.iter().sum();
    assert!(total as f64 <= allowed, "{total} probes, allowed {allowed}");
    // Each target waits in line: nobody gets a second turn before everybody had one.
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(most - least <= 2, "{counts:?}");
    assert!(
        budget.deferred() > total / 2,
        "{} of {total} deferred",
        budget.deferred()
    );
    assert!(
        checked
            .iter()
            .all(|one| one.checker.counters().deferred > 0)
    );
    assert!(budget.granted() >= total);
}

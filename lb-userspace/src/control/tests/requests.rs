//! One request, one answer; and those who do not keep to it.

use std::net::Shutdown;
use std::time::Duration;

use super::super::client::{Client, ClientError};
use super::super::server::CONNECTIONS_MAX;
use super::super::{Answer, Intent, REQUEST_BYTES_MAX, Reload, Request};
use super::{Site, receive, send};

const STATUS: &str = "{\"command\":\"status\"}\n";

fn reload() -> Answer {
    Answer::Reload(Reload {
        applied: true,
        changes: vec!["pool logic: slots 65537 → 251".into()],
        moved: vec![],
    })
}

#[test]
fn a_client_gets_the_answer_to_its_request() {
    let mut site = Site::new();
    let path = site.path();
    let request = Request::Reload { dry_run: false };
    let asked = std::thread::spawn(move || Client::connect(&path)?.ask(&request));
    let call = site.call();
    assert_eq!(call.request, Request::Reload { dry_run: false });
    call.answers.try_send(reload()).expect("there is room");
    drop(call);
    let answer = asked.join().expect("the client does not panic");
    assert_eq!(answer.expect("an answer"), reload());
}

#[test]
fn a_refusal_reaches_the_client_as_such() {
    let mut site = Site::new();
    let path = site.path();
    let request = Request::Admin {
        backend: "logic-9".into(),
        pool: None,
        intent: Intent::Drain,
    };
    let asked = std::thread::spawn(move || Client::connect(&path)?.ask(&request));
    site.answer(Answer::Error("there is no backend logic-9".into()));
    match asked.join().expect("the client does not panic") {
        Err(ClientError::Refused(reason)) => assert_eq!(reason, "there is no backend logic-9"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_of_one_connection_are_answered_in_their_order() {
    let mut site = Site::new();
    let mut client = site.connect();
    send(&mut client, &STATUS.repeat(2));
    site.answer(Answer::Error("first".into()));
    site.answer(Answer::Error("second".into()));
    assert_eq!(receive(&mut client), r#"{"error":"first"}"#);
    assert_eq!(receive(&mut client), r#"{"error":"second"}"#);
}

#[test]
fn garbage_is_refused_and_the_server_goes_on() {
    let mut site = Site::new();
    let mut client = site.connect();
    send(&mut client, "GET / HTTP/1.1\r\n");
    assert!(receive(&mut client).starts_with(r#"{"error":"not a request of this version"#));
    assert_eq!(receive(&mut client), "", "the connection is closed");

    let mut client = site.connect();
    send(&mut client, STATUS);
    site.answer(Answer::End);
    assert_eq!(receive(&mut client), r#""end""#);
}

#[test]
fn an_oversized_line_is_refused() {
    let site = Site::new();
    let mut client = site.connect();
    send(&mut client, &"x".repeat(REQUEST_BYTES_MAX + 1));
    assert!(receive(&mut client).starts_with(r#"{"error":"a request has at most 65536 bytes"#));
}

#[test]
fn a_client_that_closed_its_sending_half_is_still_answered() {
    let mut site = Site::new();
    let mut client = site.connect();
    send(&mut client, STATUS);
    client
        .get_ref()
        .shutdown(Shutdown::Write)
        .expect("it is open");
    let call = site.call();
    call.answers.try_send(reload()).expect("there is room");
    drop(call);
    assert!(receive(&mut client).starts_with(r#"{"reload":"#));
    assert_eq!(receive(&mut client), "", "the connection is closed");
}

#[test]
fn a_client_that_goes_away_in_the_middle_harms_nobody() {
    let mut site = Site::new();
    let mut client = site.connect();
    send(&mut client, r#"{"command":"#);
    drop(client);
    let mut client = site.connect();
    send(&mut client, STATUS);
    let call = site.call();
    drop(client);
    // The answer goes nowhere; whether it was still taken does not matter.
    let _ = call.answers.try_send(Answer::End);
    drop(call);
    let mut client = site.connect();
    send(&mut client, STATUS);
    site.answer(Answer::End);
    assert_eq!(receive(&mut client), r#""end""#);
}

#[test]
fn further_connections_wait_until_one_of_64_ends() {
    let mut site = Site::new();
    let mut served = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut client = site.connect();
        send(&mut client, STATUS);
        served.push((client, site.call()));
    }
    let mut waiting = site.connect();
    send(&mut waiting, "{\"command\":\"reload\",\"dry_run\":true}\n");
    assert!(
        site.call_within(Duration::from_millis(100)).is_none(),
        "the 65th connection is not served"
    );
    drop(served.pop());
    assert_eq!(site.call().request, Request::Reload { dry_run: true });
}

#[test]
fn an_agent_that_shuts_down_says_so() {
    let mut site = Site::new();
    let mut client = site.connect();
    site.calls.close();
    send(&mut client, STATUS);
    assert!(receive(&mut client).starts_with(r#"{"error":"the agent is shutting down"#));
}

//! Requests and answers, letter for letter: another version of `lb` may be at the other end.

use super::super::{Answer, Intent, Reload, Request};
use super::{EVENT_7, event};

#[test]
fn requests_are_objects_with_a_command() {
    let address = |text: &str| text.parse().expect("an address");
    for (request, line) in [
        (Request::Status, r#"{"command":"status"}"#),
        (
            Request::Admin {
                backend: "logic-1".into(),
                pool: None,
                intent: Intent::Drain,
            },
            r#"{"command":"admin","backend":"logic-1","intent":"drain"}"#,
        ),
        (
            Request::Weight {
                backend: "logic-1".into(),
                pool: Some("logic".into()),
                weight: None,
            },
            r#"{"command":"weight","backend":"logic-1","pool":"logic","weight":null}"#,
        ),
        (
            Request::Reload { dry_run: true },
            r#"{"command":"reload","dry_run":true}"#,
        ),
        (
            Request::Route {
                vip: address("[2001:db8::10]:443"),
                protocol: "tcp".into(),
                from: address("[2001:db8::1]:40000"),
            },
            r#"{"command":"route","vip":"[2001:db8::10]:443","protocol":"tcp","from":"[2001:db8::1]:40000"}"#,
        ),
        (
            Request::Events { follow: true },
            r#"{"command":"events","follow":true}"#,
        ),
    ] {
        assert_eq!(serde_json::to_string(&request).expect(line), line);
        let read: Request = serde_json::from_str(line).expect(line);
        assert_eq!(read, request);
    }
}

#[test]
fn answers_are_objects_of_one_key() {
    let reload = Answer::Reload(Reload {
        applied: true,
        changes: vec![],
        moved: vec![],
    });
    for (answer, line) in [
        (
            reload,
            r#"{"reload":{"applied":true,"changes":[],"moved":[]}}"#,
        ),
        (event(7), EVENT_7),
        (Answer::End, r#""end""#),
        (Answer::Error("no".into()), r#"{"error":"no"}"#),
    ] {
        assert_eq!(serde_json::to_string(&answer).expect(line), line);
        let read: Answer = serde_json::from_str(line).expect(line);
        assert_eq!(read, answer);
    }
}

#[test]
fn what_is_no_request_is_refused() {
    for line in [
        "",
        "status",
        "{}",
        r#"{"command":"dance"}"#,
        r#"{"command":"reload"}"#,
        r#"{"command":"reload","dry_run":true,"force":true}"#,
        r#"{"command":"admin","backend":"logic-1","intent":"kill"}"#,
    ] {
        assert!(serde_json::from_str::<Request>(line).is_err(), "{line}");
    }
}

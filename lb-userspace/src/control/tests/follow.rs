//! Following events: many answers to one request, until the client has enough.

use super::super::client::Client;
use super::super::{Answer, Request};
use super::{EVENT_7, Site, event, receive, send};

const FOLLOW: &str = "{\"command\":\"events\",\"follow\":true}\n";

#[test]
fn a_follower_gets_each_event_when_it_happens() {
    let mut site = Site::new();
    let mut client = site.connect();
    send(&mut client, FOLLOW);
    let call = site.call();
    for number in [7, 8] {
        call.answers.try_send(event(number)).expect("there is room");
        let line = receive(&mut client);
        assert_eq!(line, EVENT_7.replace(":7,", &format!(":{number},")));
    }
}

#[test]
fn the_agent_learns_that_a_follower_has_gone_without_an_event() {
    let mut site = Site::new();
    let mut client = site.connect();
    send(&mut client, FOLLOW);
    let call = site.call();
    drop(client);
    let closed = async { tokio::time::timeout(super::PATIENCE, call.answers.closed()).await };
    site.runtime.block_on(closed).expect("it is told");
}

#[test]
fn a_next_request_ends_the_following() {
    let mut site = Site::new();
    let mut client = site.connect();
    send(&mut client, FOLLOW);
    let call = site.call();
    call.answers.try_send(event(7)).expect("there is room");
    assert_eq!(receive(&mut client), EVENT_7);
    send(&mut client, "{\"command\":\"status\"}\n");
    site.answer(Answer::End);
    assert_eq!(receive(&mut client), r#""end""#);
    assert!(call.answers.is_closed());
}

#[test]
fn the_kept_events_end_with_an_end() {
    let mut site = Site::new();
    let path = site.path();
    let asked = std::thread::spawn(move || {
        let mut client = Client::connect(&path)?;
        client.send(&Request::Events { follow: false })?;
        Ok::<_, super::super::client::ClientError>([client.next()?, client.next()?])
    });
    let call = site.call();
    for answer in [event(7), Answer::End] {
        call.answers.try_send(answer).expect("there is room");
    }
    let answers = asked.join().expect("the client does not panic");
    assert_eq!(answers.expect("answers"), [event(7), Answer::End]);
}

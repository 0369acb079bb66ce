//! What live traffic says against a server: SYNs that come again. With an agent it is probed at
//! once; without one they go to the next rung.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lb_common::event::AGENT_SILENT_NS;
use lb_tests::distribution::Distribution;
use lb_tests::site::{Families, Site};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::support::{SOON, Serving, flows_of};

const SILENT: &str = "logic-1";
/// Clients whose connections belong to the silent host.
const CLIENTS: usize = 24;
/// When a client's kernel sends its SYN for the second, third and fourth time: Linux 6.5 and newer
/// send the first few a second apart (`tcp_syn_linear_timeouts`).
const SECOND_SYN: Duration = Duration::from_millis(950);
const THIRD_SYN: Duration = Duration::from_millis(1950);
const FOURTH_SYN: Duration = Duration::from_millis(2950);
/// The clients begin one after another, so that their SYNs do not come again all at once.
const SPREAD: Duration = Duration::from_millis(20);
/// A check that by itself finds nothing while the test runs.
const SELDOM: &str = "{ kind = \"http\", port = 80, path = \"/readyz\", interval = \"1m\", \
                      timeout = \"300ms\", rise = 1, fall = 2 }";

/// A connection from a given address, with a request on it.
struct Asked {
    answered_by: String,
    after: Duration,
    stream: TcpStream,
}

fn seldom_checked() -> Result<Serving> {
    let site = Site::builder().families(Families::V4);
    Serving::configured(site, |site| site.config().pool("check", SELDOM).text())
}

/// Opens a connection from each address, and says who answered and after how long.
fn ask_from(serving: &Serving, flows: &[SocketAddr]) -> Result<Vec<Asked>> {
    let vip = serving.site.vip();
    let clients: Vec<_> = flows
        .iter()
        .map(|from| {
            let from = *from;
            thread::sleep(SPREAD);
            serving.site.client().start(move || connect(from, vip))
        })
        .collect();
    let asked = clients.into_iter().map(|client| match client.join() {
        Ok(asked) => asked,
        Err(payload) => std::panic::resume_unwind(payload),
    });
    asked.collect()
}

fn connect(from: SocketAddr, to: SocketAddr) -> Result<Asked> {
    let began = Instant::now();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(from))?;
    socket
        .connect_timeout(&SockAddr::from(to), SOON)
        .with_context(|| format!("connect from {from}"))?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SOON))?;
    let answered_by = ask(&mut stream).with_context(|| format!("ask from {from}"))?;
    Ok(Asked {
        answered_by,
        after: began.elapsed(),
        stream,
    })
}

fn ask(stream: &mut TcpStream) -> Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: vip\r\nContent-Length: 0\r\n\r\n")?;
    let mut answer = [0; 1024];
    let length = stream.read(&mut answer)?;
    let head = String::from_utf8_lossy(&answer[..length]).into_owned();
    let name = head
        .lines()
        .find_map(|line| line.strip_prefix("x-backend: "));
    match name {
        Some(name) => Ok(name.to_owned()),
        None => bail!("an answer without a name: {head:?}"),
    }
}

#[test]
fn without_an_agent_connections_to_a_silent_host_succeed_with_their_second_syn() -> Result<()> {
    let mut serving = seldom_checked()?;
    let flows = flows_of(&serving, SILENT, CLIENTS)?;
    let others = flows_of(&serving, "logic-2", CLIENTS)?;
    serving.agent.process().kill();
    // As long as a sign of life is young, another agent may just be starting.
    thread::sleep(2 * Duration::from_nanos(AGENT_SILENT_NS));
    serving.site.backend(SILENT).silence()?;

    let mut asked = ask_from(&serving, &flows)?;
    let took = Distribution::of_durations(asked.iter().map(|it| it.after));
    println!("first answer, no agent, host silent   {took}");
    for it in &asked {
        assert_ne!(it.answered_by, SILENT);
        assert!((SECOND_SYN..FOURTH_SYN).contains(&it.after), "{took}");
    }
    // What was seen is remembered per CPU. A network card keeps a flow on one; a veth takes the
    // sender's, and the timer that sends a SYN again may run on another: then it takes a third.
    let at_once = asked.iter().filter(|it| it.after < THIRD_SYN).count();
    assert!(at_once >= CLIENTS / 2, "{took}");
    for it in &mut asked {
        let again = ask(&mut it.stream).context("the connection goes on where it began")?;
        assert_eq!(again, it.answered_by);
    }
    for it in ask_from(&serving, &others)? {
        assert_eq!(it.answered_by, "logic-2");
        assert!(it.after < SECOND_SYN, "{:?}", it.after);
    }

    serving.site.backend(SILENT).unsilence()?;
    serving.restart_agent(&serving.site.config().pool("check", SELDOM).text())?;
    serving.all_are_up()?;
    for it in &mut asked {
        let again = ask(&mut it.stream).context("and outlives the host's return")?;
        assert_eq!(again, it.answered_by);
    }
    Ok(())
}

#[test]
fn a_silent_host_is_found_by_its_clients_long_before_its_next_check() -> Result<()> {
    let serving = seldom_checked()?;
    let flows = flows_of(&serving, SILENT, CLIENTS)?;
    serving.site.backend(SILENT).silence()?;
    let began = Instant::now();
    let asked = ask_from(&serving, &flows)?;
    serving.is(SILENT, "down")?;
    let found = began.elapsed();
    let took = Distribution::of_durations(asked.iter().map(|it| it.after));
    println!("first answer, host silent, checked once a minute   {took}");
    assert!(found < SOON, "{found:?}\n{}", serving.explain());
    assert!(asked.iter().all(|it| it.answered_by != SILENT));
    let events = serving.agent.cli(&["events"])?;
    assert!(
        events.contains("clients send SYNs to logic/logic-1 again"),
        "{events}"
    );
    Ok(())
}

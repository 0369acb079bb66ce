//! How long clients wait after a failure: trials, and their distributions in print.
//!
//! Measured where it hurts, at the client: from the instant of the fault to the first answer that
//! another backend gives on a flow that had been the failed one's. No bound is asserted but that
//! every trial recovers; the numbers are for people. `LB_TEST_LONG=1` runs as many trials as the
//! goals are stated for.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lb_tests::canary::{Canary, DELAY_MAX};
use lb_tests::distribution::Distribution;
use lb_tests::scale::is_long;
use lb_tests::site::{Families, Site};
use lb_userspace::control::client::Client;
use lb_userspace::control::{Answer, Event, Request};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::support::{SOON, Serving, flows_of};

const FAILING: &str = "logic-1";
/// Flows of the failing backend that try again and again, one after another.
const FLOWS: usize = 64;
/// How long one try may take: what comes later is not waited for.
const TRY_MAX: Duration = Duration::from_millis(10);

fn trials() -> usize {
    if is_long() { 200 } else { 30 }
}

/// A fault, and how to take it back.
struct Fault {
    name: &'static str,
    interval: Duration,
    check: &'static str,
    inject: fn(&mut Serving) -> Result<()>,
    repair: fn(&mut Serving) -> Result<()>,
}

#[test]
fn every_killed_process_is_replaced_and_the_times_are_printed() -> Result<()> {
    measure(&Fault {
        name: "process killed, check interval 10 ms",
        interval: Duration::from_millis(10),
        check: "{ kind = \"http\", port = 80, path = \"/readyz\", interval = \"10ms\", \
                timeout = \"10ms\", rise = 2, fall = 2 }",
        inject: |serving| {
            serving.kill(FAILING);
            Ok(())
        },
        repair: |serving| serving.revive(FAILING),
    })
}

#[test]
fn every_silent_host_is_replaced_and_the_times_are_printed() -> Result<()> {
    measure(&Fault {
        name: "host silent, interval 50 ms, timeout 40 ms, fall 2",
        interval: Duration::from_millis(50),
        check: "{ kind = \"http\", port = 80, path = \"/readyz\", interval = \"50ms\", \
                timeout = \"40ms\", rise = 2, fall = 2 }",
        inject: |serving| serving.site.backend(FAILING).silence(),
        repair: |serving| serving.site.backend(FAILING).unsilence(),
    })
}

fn measure(fault: &Fault) -> Result<()> {
    let site = Site::builder().families(Families::V4);
    let check = |site: &Site| site.config().pool("check", fault.check).text();
    let mut serving = Serving::configured(site, check)?;
    let flows = flows_of(&serving, FAILING, FLOWS)?;
    let canary = Canary::start();
    let (mut recovered, mut stored, mut void) = (Vec::new(), Vec::new(), 0);
    let mut heirs = BTreeMap::<String, usize>::new();
    let mut trials_left = trials();
    // On a machine that stands still all the time the trials would never end.
    let mut tries_left = 4 * trials_left;
    while trials_left > 0 {
        ensure!(
            tries_left > 0,
            "{void} trials were void: this machine is too busy to measure"
        );
        tries_left -= 1;
        wait_for_phase(fault, tries_left);
        canary.take_worst();
        let began = Instant::now();
        (fault.inject)(&mut serving)?;
        let (took, heir) = first_answer(&serving, &flows, tries_left, began)
            .with_context(|| format!("{}: never recovered\n{}", fault.name, serving.explain()))?;
        let stall = canary.take_worst();
        serving.is(FAILING, "down")?;
        let event = last_state_event(&serving)?;
        (fault.repair)(&mut serving)?;
        serving.all_are_up()?;
        if stall > DELAY_MAX {
            void += 1;
            continue;
        }
        trials_left -= 1;
        recovered.push(took);
        stored.extend(event.store_us.map(|micros| micros as f64));
        *heirs.entry(heir).or_default() += 1;
    }
    let recovered = Distribution::of_durations(recovered);
    println!("{}", fault.name);
    println!("  fault to first answer   {recovered}");
    println!(
        "  verdict to store        {}",
        Distribution::new(stored, "us")
    );
    println!("  void trials             {void} (a thread was late by more than {DELAY_MAX:?})");
    println!("  answered by             {heirs:?}");
    print!("{}", recovered.histogram());
    assert_eq!(recovered.count(), trials());
    assert!(!heirs.contains_key(FAILING), "{heirs:?}");
    Ok(())
}

/// A trial begins just after a check has passed; faults come at any time between two checks. The
/// golden ratio spreads few trials as evenly as many.
fn wait_for_phase(fault: &Fault, trial: usize) {
    let phase = (trial as f64 * 0.618_033_988_75).fract();
    thread::sleep(fault.interval.mul_f64(phase));
}

/// Tries one flow after another until somebody answers; how long after `began`, and who.
fn first_answer(
    serving: &Serving,
    flows: &[SocketAddr],
    first: usize,
    began: Instant,
) -> Result<(Duration, String)> {
    let vip = serving.site.vip();
    serving.site.client().run(|| {
        for from in flows.iter().cycle().skip(first % FLOWS) {
            if let Ok(answered_by) = try_once(*from, vip)
                && answered_by != FAILING
            {
                return Ok((began.elapsed(), answered_by));
            }
            ensure!(began.elapsed() < SOON, "waited {SOON:?} for an answer");
        }
        bail!("no flows")
    })
}

/// One connection from a given address, one request.
fn try_once(from: SocketAddr, to: SocketAddr) -> Result<String> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Closed by RST: the port is free again at once, for the next try from it.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.bind(&SockAddr::from(from))?;
    socket.connect_timeout(&SockAddr::from(to), TRY_MAX)?;
    socket.set_read_timeout(Some(TRY_MAX))?;
    let mut stream = std::net::TcpStream::from(socket);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: vip\r\nContent-Length: 0\r\n\r\n")?;
    let mut answer = [0; 1024];
    let length = stream.read(&mut answer)?;
    let head = String::from_utf8_lossy(&answer[..length]).into_owned();
    let name = head
        .lines()
        .find_map(|line| line.strip_prefix("x-backend: "));
    name.map(str::to_owned).context("an answer without a name")
}

/// The latest change of a backend's state.
fn last_state_event(serving: &Serving) -> Result<Event> {
    let mut client = Client::connect(serving.agent.control_socket())?;
    let mut answer = client.ask(&Request::Events { follow: false })?;
    let mut last = None;
    loop {
        match answer {
            Answer::Event(event) if event.kind == "state" => last = Some(event),
            Answer::End => return last.context("no event"),
            _ => {}
        }
        answer = client.next()?;
    }
}

//! Schedules of what operators and bad days do, in random order, under connections that last: a
//! connection whose server stays alive is kept (G1), whatever else happens.
//!
//! What should be lost is told from what was done to the servers; nothing is asked of lb.
//! `LB_TEST_SEED` repeats a schedule, `LB_TEST_LONG=1` runs the whole: 10,000 connections, 200
//! actions.

mod action;
mod verdict;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lb_tests::connections::{Connections, Plan};
use lb_tests::scale;
use lb_tests::site::{Site, TALK_PORT};
use lb_tests::wait;

use self::action::Schedule;
use self::verdict::Verdict;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
struct Size {
    connections: usize,
    actions: usize,
    primaries: u8,
    standbys: u8,
    /// The mean time from one action to the next.
    between: Duration,
    /// How long a connection is silent at most; G1 wants less than the window.
    pause_max: Duration,
    window: Duration,
    check: Check,
}

#[derive(Clone, Copy, Debug)]
struct Check {
    interval: Duration,
    fall: u32,
}

impl Check {
    /// How long a fault may last, or have ended, before the agent acts on it.
    fn notices_within(self) -> Duration {
        // The timeout is as long as the interval, which varies by a tenth.
        self.interval * (self.fall + 1) * 12 / 10 + Duration::from_millis(500)
    }
}

const SHORT: Size = Size {
    connections: 300,
    actions: 14,
    primaries: 4,
    standbys: 1,
    between: Duration::from_millis(700),
    pause_max: Duration::from_millis(500),
    window: Duration::from_secs(3),
    // Patient: a test machine that stalls must not look like a host that died.
    check: Check {
        interval: Duration::from_millis(250),
        fall: 3,
    },
};

const LONG: Size = Size {
    connections: 10_000,
    actions: 200,
    primaries: 6,
    standbys: 2,
    between: Duration::from_millis(3200),
    pause_max: Duration::from_secs(3),
    window: Duration::from_secs(12),
    check: Check {
        interval: Duration::from_millis(500),
        fall: 3,
    },
};

/// Addresses that each client connects from, beside its own.
const SOURCES: u8 = 3;
/// How long a client waits before it calls a connection lost without having been told.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Until every connection is open and answered on.
const OPEN_MAX: Duration = Duration::from_secs(60);

#[test]
fn connections_outlive_whatever_does_not_kill_their_server() -> Result<()> {
    let size = if scale::is_long() { LONG } else { SHORT };
    let seed = scale::seed()?;
    // Before the servers start: the limit is theirs too.
    lb_tests::connections::allow(size.connections)?;
    let site = Site::builder()
        .primaries(size.primaries)
        .standbys(size.standbys)
        .build()?;
    let mut schedule = Schedule::start(site, size, seed)?;
    let connections = connect(schedule.site(), size)?;
    wait::until("every connection is answered on", OPEN_MAX, || {
        connections.open() == size.connections
    })?;
    let began = Instant::now();
    for _ in 0..size.actions {
        schedule
            .act()
            .with_context(|| format!("seed {seed}: {}", schedule.story()))?;
    }
    schedule.heal()?;
    wait::until("every connection is answered on again", OPEN_MAX, || {
        connections.open() == size.connections
    })
    .with_context(|| schedule.story())?;
    // What the last changes recorded must hold beyond the end of their windows.
    let answered = connections.answers();
    let healed = Instant::now();
    wait::until("windows end, and answers go on", OPEN_MAX, || {
        healed.elapsed() > size.window + size.pause_max
            && connections.answers() > answered + size.connections as u64
    })?;
    let refused = connections.refused();
    let lives = connections.stop();
    let verdict = Verdict::of(&lives, schedule.faults(), schedule.silences(), size);
    println!(
        "schedule {seed} (LB_TEST_SEED): {} connections, {} actions in {:.0?}",
        size.connections,
        size.actions,
        began.elapsed()
    );
    print!("{}", schedule.story());
    println!("{}  not answered at first  {refused}", verdict.report());
    assert!(
        verdict.is_good(),
        "seed {seed}\n{}\n{}\n{}",
        verdict.complaints(began),
        schedule.story(),
        schedule.agent_log()
    );
    Ok(())
}

fn connect(site: &Site, size: Size) -> Result<Connections> {
    let client = site.client();
    let mut sources: Vec<IpAddr> = vec![client.v4().into(), client.v6().into()];
    for number in 1..=SOURCES {
        let v4 = Ipv4Addr::from_bits(client.v4().to_bits() + u32::from(number));
        let v6 = Ipv6Addr::from_bits(client.v6().to_bits() + u128::from(number));
        client.ip(&["address", "add", &format!("{v4}/24"), "dev", "eth0"])?;
        client.ip(&[
            "address",
            "add",
            &format!("{v6}/64"),
            "dev",
            "eth0",
            "nodad",
        ])?;
        sources.extend([IpAddr::from(v4), IpAddr::from(v6)]);
    }
    let target = |vip: &IpAddr| SocketAddr::new(*vip, TALK_PORT);
    Connections::start(
        client,
        Plan {
            targets: site.vips().iter().map(target).collect(),
            sources,
            count: size.connections,
            pause: size.pause_max / 3..size.pause_max,
            silence_max: SILENCE_MAX,
        },
    )
}

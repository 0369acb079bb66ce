//! The sequences that break simpler ways to keep flows, each the shortest one: program and flow
//! duties over the same maps, by a clock that the test moves. The numbers are those of the table
//! in docs/flows.md. Where no algorithm without shared state can keep the flow, what is tested is
//! the bound that is promised.

mod drains;
mod elsewhere;
mod forged;
mod recoveries;
mod windows;

use anyhow::Result;
use lb_common::backend::{BackendId, BackendState, Encapsulation};
use lb_common::pool::OnEmpty;
use lb_tests::datapath::{Gateway, Outcome, Verdict};
use lb_tests::duties::Duties;
use lb_tests::packet::{self, ACK, Frame, RST, SYN};
use lb_userspace::agent::flows::Rules;

use crate::setup::{DNS_V4, POOL, WEB_V4, backend_of, fill_one_pool, slot};

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_000_000 * SECOND;
const RULES: Rules = Rules {
    window_ns: 300 * SECOND,
    udp_window_ns: 30 * SECOND,
    idle_ns: 3600 * SECOND,
    lost_for_ns: 60 * SECOND,
    embryo_ns: 60 * SECOND,
    resets: true,
};
/// A window, and what a flow that is called active is silent at most.
const WINDOW: u64 = RULES.window_ns / SECOND;
const ACTIVE: u64 = WINDOW / 3;
/// A little more than the time for which a failed backend counts as lost.
const LOST: u64 = RULES.lost_for_ns / SECOND + 1;

const A: BackendId = BackendId(0);
const B: BackendId = BackendId(1);
const C: BackendId = BackendId(2);
const BACKENDS: [(&str, Encapsulation); 3] = [
    ("10.0.1.11", Encapsulation::Ethernet),
    ("10.0.1.12", Encapsulation::Ethernet),
    ("10.0.1.13", Encapsulation::Ethernet),
];

/// Where a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    To(BackendId),
    /// Answered with RST.
    Reset,
    /// Neither: dropped, or refused in another way.
    Nowhere,
}

const TO_A: Went = Went::To(A);
const TO_B: Went = Went::To(B);
const TO_C: Went = Went::To(C);

/// One client's flows through one gateway. A connection is its port; its SYN has number 1,000
/// times that.
struct Stage {
    duties: Duties,
}

impl Stage {
    /// Three backends, all up, and one slot with this ladder.
    fn new(ladder: &[u16]) -> Result<Self> {
        Self::with(Gateway::with_clock()?, ladder, |_| ())
    }

    /// The same with a gateway of one's own, and changed before it is filled.
    fn with(
        mut gateway: Gateway,
        ladder: &[u16],
        change: impl FnOnce(&mut Gateway),
    ) -> Result<Self> {
        let table = vec![slot(ladder)];
        fill_one_pool(&mut gateway, OnEmpty::Drop, &BACKENDS, table)?;
        change(&mut gateway);
        gateway.apply()?;
        let duties = Duties::first_start(gateway, POOL, RULES, START)?;
        Ok(Self { duties })
    }

    fn run(&mut self, frame: &Frame) -> Result<Went> {
        Ok(went(&self.duties.gateway.run(frame)?))
    }

    fn syn(&mut self, port: u16) -> Result<Went> {
        self.forged_syn(port, isn(port))
    }

    fn forged_syn(&mut self, port: u16, sequence: u32) -> Result<Went> {
        self.run(&tcp(port, SYN, sequence))
    }

    /// A packet from the middle of the connection that the port's SYN began.
    fn data(&mut self, port: u16) -> Result<Went> {
        self.run(&tcp(port, ACK, isn(port) + 1))
    }

    fn fin(&mut self, port: u16) -> Result<Went> {
        self.run(&tcp(port, ACK | packet::FIN, isn(port) + 1))
    }

    fn datagram(&mut self, port: u16) -> Result<Went> {
        self.run(&packet::udp(client(port).as_str(), DNS_V4).build())
    }

    fn pass(&mut self, seconds: u64) -> Result<()> {
        self.duties.pass(seconds * SECOND)
    }

    /// Lets time pass while the connection sends often enough to be called active, and fails if
    /// one of its packets goes elsewhere.
    #[track_caller]
    fn pass_active(&mut self, seconds: u64, port: u16, expected: Went) -> Result<()> {
        let mut left = seconds;
        while left > 0 {
            let step = left.min(ACTIVE);
            self.pass(step)?;
            assert_eq!(self.data(port)?, expected, "{left} s before the end");
            left -= step;
        }
        Ok(())
    }

    fn swap(&mut self, ladder: &[u16]) -> Result<()> {
        self.duties.swap(&[slot(ladder)])
    }

    fn state(&self, id: BackendId) -> BackendState {
        self.duties.gateway.states.state(id)
    }

    /// How many records there are, in both maps.
    fn records(&self) -> Result<usize> {
        Ok(self.duties.maps.all()?.len())
    }
}

fn client(port: u16) -> String {
    format!("203.0.113.7:{port}")
}

fn isn(port: u16) -> u32 {
    u32::from(port) * 1000
}

fn tcp(port: u16, flags: u8, sequence: u32) -> Frame {
    let packet = packet::tcp(client(port).as_str(), WEB_V4);
    packet.flags(flags).sequence(sequence).build()
}

fn went(outcome: &Outcome) -> Went {
    // Behind Ethernet and IPv4 headers without options.
    const PROTOCOL: usize = 23;
    const TCP_FLAGS: usize = 47;
    if let Some(id) = backend_of(outcome) {
        return Went::To(BackendId(id));
    }
    let is_reset = outcome.verdict == Verdict::Transmit
        && outcome.frame[PROTOCOL] == 6
        && outcome.frame[TCP_FLAGS] & RST != 0;
    if is_reset { Went::Reset } else { Went::Nowhere }
}

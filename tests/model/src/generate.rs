//! Worlds, packets and events out of a seed: the same seed makes the same ones.

mod build;
mod error;
mod packet;
mod schedule;
mod setting;

use fastrand::Rng;

use crate::duties::{Duties, Event, Times};
use crate::flow::Record;
use crate::hash::Key;
use crate::plane::Plane;
use crate::world::World;

pub use self::packet::Traffic;
pub use self::setting::{Limits, Mood};

/// One step of a run.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// A frame comes in by an interface.
    Frame(u32),
    /// Time passes, ns.
    Advance(u64),
    /// The agent gives a sign of life.
    Beat,
    /// A backend's state is this.
    State(u16, u32),
    /// A backend's id is given away, so many times.
    Generation(u16, u32),
    /// A backend's next hop is this.
    Hop(u16, Option<([u8; 6], u16)>),
    /// The ladder of a slot is this.
    Ladder(u16, u32, u64),
    /// The previous owners of a slot are these.
    Previous(u16, u32, u64),
    /// A record lies in `FLOWS_NEW` (true) or `FLOWS`.
    Record(bool, Key, Record),
    /// A record is deleted from `FLOWS_NEW` (true) or `FLOWS`.
    Forget(bool, Key),
    /// Something happens that the agent is there for.
    Agent(Event),
}

/// One run: a world, and what happens in it.
pub struct Run {
    random: Rng,
    mood: Mood,
    traffic: Traffic,
    /// Backends of the world, and pools with their slots.
    backends: u16,
    slots: Vec<u32>,
    ports: u16,
}

impl Run {
    /// The run of a seed, and the world in which it begins.
    #[must_use]
    pub fn new(seed: u64, limits: &Limits) -> (Self, World) {
        let mut random = Rng::with_seed(seed);
        let mood = Mood::any(&mut random);
        let world = setting::world(&mut random, mood, limits);
        let traffic = Traffic::new(&mut random, &world, limits);
        let run = Self {
            mood,
            traffic,
            backends: limits.backends,
            slots: world
                .pools
                .iter()
                .map(|pool| pool.ladders.len() as u32)
                .collect(),
            ports: world.ports.len() as u16,
            random,
        };
        (run, world)
    }

    /// How much happens in it.
    #[must_use]
    pub fn mood(&self) -> Mood {
        self.mood
    }

    /// The next step; a frame goes into `frame`.
    pub fn next(&mut self, world: &World, duties: &Duties, frame: &mut Vec<u8>) -> Action {
        let random = &mut self.random;
        if random.u32(..) < self.mood.packets_among_steps() {
            return Action::Frame(self.traffic.frame(random, frame));
        }
        if self.mood == Mood::Scheduled {
            return match random.u8(0..3) {
                0 => Action::Agent(schedule::event(random, world, duties)),
                _ => Action::Advance(time_between_events(random)),
            };
        }
        match random.u8(0..12) {
            0..4 => Action::Advance(time_that_passes(random)),
            4 => Action::Beat,
            5 => self.record(),
            6 => Action::Forget(self.random.bool(), self.traffic.key(&mut self.random)),
            _ => self.write(),
        }
    }

    fn write(&mut self) -> Action {
        let random = &mut self.random;
        let id = random.u16(0..self.backends);
        let pool = random.usize(0..self.slots.len());
        let slots = self.slots[pool];
        match random.u8(0..12) {
            0..5 => Action::State(id, setting::state(random, self.mood)),
            5 => Action::Generation(id, random.u32(0..3)),
            6 => Action::Hop(id, setting::hop(random, id, self.ports)),
            7..10 if slots > 0 => {
                let ladder = setting::ladder(random, self.mood, 0..self.backends);
                Action::Ladder(pool as u16, random.u32(0..slots), ladder)
            }
            _ if slots > 0 => {
                let entry = setting::previous(random, 0..self.backends);
                Action::Previous(pool as u16, random.u32(0..slots), entry)
            }
            _ => Action::State(id, crate::world::FULL),
        }
    }

    fn record(&mut self) -> Action {
        let random = &mut self.random;
        let key = self.traffic.key(random);
        // What the program itself writes: only FLOWS has superseded records, and only FLOWS_NEW
        // such as a SYN made.
        let is_new = random.bool();
        let is_opened = is_new && random.bool();
        let record = Record {
            backend: random.u16(0..self.backends),
            generation: random.u32(0..2),
            isn: if is_opened {
                self.traffic.any_isn(random)
            } else {
                0
            },
            last: random.u32(..),
            is_superseded: !is_new && random.u8(0..4) == 0,
            is_closing: random.bool(),
            is_opened,
        };
        Action::Record(is_new, key, record)
    }
}

fn time_that_passes(random: &mut Rng) -> u64 {
    match random.u8(0..8) {
        0 => random.u64(0..1 << 21),
        1 => (1 << 27) - (1 << 20) + random.u64(0..1 << 21),
        2 => (1 << 33) - (1 << 20) + random.u64(0..1 << 21),
        3 => 500_000_000 - 1 + random.u64(0..3),
        4 => random.u64(0..1 << 36),
        _ => random.u64(0..1 << 29),
    }
}

/// How long an agent's windows are in a run: some steps, so that they end while others begin.
pub const TIMES: Times = Times {
    window: 20_000_000_000,
    udp_window: 6_000_000_000,
    lost_for: 8_000_000_000,
    idle: 60_000_000_000,
    embryo: 7_000_000_000,
};

fn time_between_events(random: &mut Rng) -> u64 {
    match random.u8(0..32) {
        0 => random.u64(0..TIMES.idle * 2),
        1..4 => random.u64(0..TIMES.window),
        _ => random.u64(0..1 << 30),
    }
}

/// Carries out a step that is neither a frame nor the agent's.
pub fn act(plane: &mut Plane, action: &Action) {
    let world = &mut plane.world;
    match *action {
        Action::Frame(_) | Action::Agent(_) => {}
        Action::Advance(by) => world.now += by,
        Action::Beat => world.heartbeat = world.now,
        Action::State(id, state) => world.backends[usize::from(id)].state = state,
        Action::Generation(id, by) => world.backends[usize::from(id)].generation += by,
        Action::Hop(id, hop) => world.backends[usize::from(id)].hop = hop,
        Action::Ladder(pool, slot, ladder) => {
            world.pools[usize::from(pool)].ladders[slot as usize] = ladder;
        }
        Action::Previous(pool, slot, entry) => {
            world.pools[usize::from(pool)].previous[slot as usize] = entry;
        }
        Action::Record(is_new, key, record) => {
            let room = plane.flows_max;
            if is_new {
                plane.flows_new.insert(key, record);
            } else if plane.flows.len() < room || plane.flows.contains_key(&key) {
                plane.flows.insert(key, record);
            }
        }
        Action::Forget(is_new, key) => {
            let records = if is_new {
                &mut plane.flows_new
            } else {
                &mut plane.flows
            };
            records.remove(&key);
        }
    }
}

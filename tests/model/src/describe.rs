//! What a packet meets, in words: for people who look at a difference.

use std::fmt::Write as _;

use crate::frame::{self, TCP};
use crate::hash::{self, Key};
use crate::owners;
use crate::plane::{self, Plane};
use crate::rules::Rules;
use crate::world::{FRAGMENTS, NOBODY, PREVIOUS_POOL, rung};

impl Plane {
    /// Service, slot, states and records of a frame.
    #[must_use]
    pub fn describe(&self, frame: &[u8]) -> String {
        let mut text = format!("now {} heartbeat {}", self.world.now, self.world.heartbeat);
        let Some(mut packet) = frame::parse(frame) else {
            return text + "; nothing that the gateway looks at";
        };
        let Some(service) = self.service(&packet) else {
            return text + "; for no service";
        };
        if service.detours & FRAGMENTS != 0 {
            packet.ports = [0; 4];
        }
        let pool = &self.world.pools[usize::from(service.pool)];
        let slots = pool.ladders.len() as u32;
        let _ = write!(
            text,
            "\n  {service:?}, {slots} slots, {:?}, resets: {}",
            pool.on_empty, pool.resets
        );
        if slots == 0 {
            return text;
        }
        let home = hash::slot_of(plane::flow_hash(&packet), slots);
        let ladder = pool.ladders[home as usize];
        let _ = write!(
            text,
            "\n  slot {home}: flags {:#x}",
            ladder & crate::world::SLOT_FLAGS
        );
        for id in (0..4).map(|at| rung(ladder, at)).filter(|id| *id != NOBODY) {
            let _ = write!(text, ", {id}: {:#x}", self.world.state(id));
        }
        let is_tcp = packet.protocol == TCP;
        let found = owners::walk(&self.world, Rules::ALL, service.pool, home, is_tcp);
        let _ = write!(
            text,
            "\n  previous {:#x}, {found:?}",
            pool.previous[home as usize]
        );
        if service.detours & PREVIOUS_POOL != 0 {
            let before = &self.world.pools[usize::from(service.previous_pool)];
            let slots = before.ladders.len() as u32;
            let home = hash::slot_of(plane::flow_hash(&packet), slots);
            let found = owners::walk(&self.world, Rules::ALL, service.previous_pool, home, is_tcp);
            let entry = before
                .previous
                .get(home as usize)
                .copied()
                .unwrap_or_default();
            let resets = before.resets;
            let _ = write!(
                text,
                "\n  previous pool: {slots} slots, resets: {resets}, slot {home}, previous {entry:#x}, {found:?}"
            );
        }
        let key = Key::of(&packet);
        for (name, records) in [("FLOWS", &self.flows), ("FLOWS_NEW", &self.flows_new)] {
            if let Some(record) = records.get(&key) {
                let generation = self.world.backends[usize::from(record.backend)].generation;
                let _ = write!(text, "\n  {name}: {record:?}, its backend now {generation}");
            }
        }
        text
    }
}

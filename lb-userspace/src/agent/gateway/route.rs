//! Where a flow goes, and why: the data plane's own choice, made again from the same tables and
//! records, in the words of flows.md.

use std::net::SocketAddr;

use lb_common::address::Address;
use lb_common::backend::{BackendId, BackendState};
use lb_common::flow::{self, FlowEntry, FlowKey, TICK_SHIFT, tick};
use lb_common::ladder::{SLOTS_WALKED_MAX, Slot, slot_index};
use lb_common::packet::{TCP, UDP};
use lb_common::pool::{OnBackendLoss, PoolId};
use lb_common::service::{Service, ServiceKey, detour};

use super::Gateway;
use super::stability::flow_word;
use crate::agent::datapath::monotonic_ns;
use crate::agent::effective::state_word;
use crate::agent::flows::{Table, owners};
use crate::agent::identity::service_key;
use crate::control::{RecordStatus, Route, Rung};

/// Where the packets of a flow go that has no record: the terms of flows.md §2.
struct Terms {
    stable: bool,
    e_new: BackendId,
    e_old: BackendId,
    previous: BackendId,
    lost: bool,
    /// Whether a flow whose backend is gone is answered with RST.
    resets: bool,
    records: bool,
}

/// A record that was found.
struct Found {
    entry: FlowEntry,
    is_new: bool,
    is_live: bool,
}

impl Gateway {
    /// Follows a flow from its addresses to its backend.
    pub(super) fn route(
        &self,
        vip: SocketAddr,
        protocol: &str,
        from: SocketAddr,
    ) -> anyhow::Result<Route> {
        let mut key = flow_key(vip, protocol, from)?;
        let [_, _, high, low] = key.ports;
        let exact = ServiceKey {
            address: key.destination,
            port: [high, low],
            protocol: key.protocol,
            pad: 0,
        };
        let any = ServiceKey {
            port: [0; 2],
            ..exact
        };
        let (service_key, service) = [exact, any]
            .into_iter()
            .find_map(|key| {
                let services = &self.config.services;
                let found = services.iter().find(|it| service_key(it) == key);
                found.map(|it| (key, it))
            })
            .ok_or_else(|| {
                anyhow::anyhow!("no service has {vip}/{protocol}; such packets are passed on")
            })?;
        let starting = || anyhow::anyhow!("the agent is starting; try again in a moment");
        let element = *self
            .contents
            .services
            .get(&service_key)
            .ok_or_else(starting)?;
        if element.detours & detour::FRAGMENTS != 0 {
            key.ports = [0; 4];
        }
        let pool = PoolId(u32::from(element.pool));
        let table = self.flows.table(pool).ok_or_else(starting)?;
        let hash = flow::hash_of_key(&key).slot_bits();
        let home = slot_index(hash, table.slots.len() as u32);
        let terms = self.terms(&key, &element, table, home, hash);
        let found = if terms.stable || element.detours & detour::NEVER != 0 {
            None
        } else {
            self.record(&key)?
        };
        let live = found.as_ref().filter(|it| it.is_live);
        let chosen = live.map_or(terms.e_new, |it| BackendId(it.entry.backend));
        let (slots_passed, rung) = place(&table.slots, home, chosen);
        let named = |id: BackendId| (id != BackendId::NONE).then(|| self.name(id));
        Ok(Route {
            service: service.name.clone(),
            pool: service.pool.clone(),
            slot: home,
            backend: named(chosen),
            rung,
            slots_passed,
            stable: terms.stable,
            e_new: named(terms.e_new),
            e_old: named(terms.e_old),
            previous: named(terms.previous),
            lost: terms.lost,
            why: self.why(&element, &terms, found.as_ref(), table.slots[home as usize]),
            record: found.map(|it| self.record_status(&it)),
            ladder: table.slots[home as usize]
                .rungs()
                .into_iter()
                .filter(|id| *id != BackendId::NONE)
                .map(|id| self.rung(id))
                .collect(),
        })
    }

    fn terms(
        &self,
        key: &FlowKey,
        service: &Service,
        table: &Table,
        home: u32,
        hash: u32,
    ) -> Terms {
        let slot = table.slots[home as usize];
        let state = |id: BackendId| self.states.state(id);
        let walked = owners(&table.slots, home as usize, state);
        let owner = slot.rung(0);
        let is_home_stable = owner != BackendId::NONE && state(owner).is_stable();
        let redirects = detour::ALWAYS | detour::NEVER | detour::PREVIOUS_POOL;
        let (mut e_old, previous, mut lost) = self.owner(key.protocol, table, home, service.pool);
        let is_moving = service.detours & detour::PREVIOUS_POOL != 0;
        if is_moving
            && let Some(before) = self.flows.table(PoolId(u32::from(service.previous_pool)))
        {
            let home = slot_index(hash, before.slots.len() as u32);
            let (owner, _, was_lost) =
                self.owner(key.protocol, before, home, service.previous_pool);
            if owner != BackendId::NONE {
                (e_old, lost) = (owner, was_lost);
            }
        }
        Terms {
            stable: slot.is_settled() && is_home_stable && service.detours & redirects == 0,
            e_new: walked.new,
            e_old,
            previous,
            lost,
            resets: self.resets(key.protocol, service.pool),
            records: is_moving
                || service.detours & detour::ALWAYS != 0
                || walked.new != e_old
                || lost
                || slot.0 & changed_flag(key.protocol) != 0,
        }
    }

    /// Whose an unrecorded flow of this slot is, the previous owner if the slot changed, and whether
    /// its backend may have been lost.
    fn owner(
        &self,
        protocol: u8,
        table: &Table,
        home: u32,
        pool: u16,
    ) -> (BackendId, BackendId, bool) {
        let state = |id: BackendId| self.states.state(id);
        let walked = owners(&table.slots, home as usize, state);
        let (tcp, udp) = table.previous(home as usize);
        let (walked_owner, previous, bit) = if protocol == TCP {
            (walked.tcp, tcp, BackendState::OLD)
        } else {
            (walked.udp, udp, BackendState::OLD_UDP)
        };
        if previous != BackendId::NONE && state(previous).has(bit) {
            return (previous, previous, false);
        }
        let lost = walked.is_lost && self.resets(protocol, pool);
        (walked_owner, BackendId::NONE, lost)
    }

    /// Whether flows whose backend is gone are answered with RST.
    fn resets(&self, protocol: u8, pool: u16) -> bool {
        let pool = self.contents.pools.get(&PoolId(u32::from(pool)));
        let reset = OnBackendLoss::Reset as u8;
        protocol == TCP && pool.is_some_and(|it| it.on_backend_loss == reset)
    }

    /// The record that a packet of the flow's present connection follows.
    fn record(&self, key: &FlowKey) -> anyhow::Result<Option<Found>> {
        let maps = &self.duties.lookup;
        let (kept, new) = (maps.get(key, false)?, maps.get(key, true)?);
        let found = match (kept, new) {
            (Some(kept), _) if !kept.has(FlowEntry::SUPERSEDED) => Some((kept, false)),
            (_, Some(new)) => Some((new, true)),
            (kept, None) => kept.map(|kept| (kept, false)),
        };
        Ok(found.map(|(entry, is_new)| {
            let id = BackendId(entry.backend);
            Found {
                entry,
                is_new,
                is_live: self.states.has(id)
                    && self.states.generation(id) == entry.generation
                    && self.states.state(id).has(BackendState::ALIVE),
            }
        }))
    }

    fn record_status(&self, found: &Found) -> RecordStatus {
        let entry = &found.entry;
        let ticks = tick(monotonic_ns()).wrapping_sub(entry.last) as i32;
        RecordStatus {
            map: if found.is_new { "FLOWS_NEW" } else { "FLOWS" }.into(),
            backend: self.name(BackendId(entry.backend)),
            live: found.is_live,
            superseded: entry.has(FlowEntry::SUPERSEDED),
            closing: entry.has(FlowEntry::CLOSING),
            age_seconds: (ticks.max(0) as u64 * (1 << TICK_SHIFT)) as f64 / 1e9,
        }
    }

    fn why(&self, service: &Service, terms: &Terms, found: Option<&Found>, slot: Slot) -> String {
        let name = |id: BackendId| match id {
            BackendId::NONE => "nobody".to_owned(),
            id => self.name(id),
        };
        if terms.stable {
            return format!("{} owns this slot and is up", name(slot.rung(0)));
        }
        let to_new = self.why_new(terms.e_new, slot);
        if service.detours & detour::NEVER != 0 {
            return format!("tracking = never, so every packet goes where new flows go: {to_new}");
        }
        if let Some(found) = found {
            let owner = self.name(BackendId(found.entry.backend));
            return if found.is_live {
                format!(
                    "the flow is recorded at {owner}; a new one goes to {}",
                    name(terms.e_new)
                )
            } else {
                format!(
                    "the flow is recorded at {owner}, which is gone: {}",
                    loss(terms, &to_new)
                )
            };
        }
        let old = if terms.lost {
            "may be a lost backend's: its packets are answered with RST".to_owned()
        } else if terms.e_old == BackendId::NONE {
            format!("has no owner left: {}", loss(terms, "it goes there too"))
        } else if terms.previous != BackendId::NONE {
            format!(
                "is {}'s, which owned the slot before it changed",
                name(terms.e_old)
            )
        } else {
            format!("is {}'s", name(terms.e_old))
        };
        let recording = if terms.records {
            ""
        } else {
            "; no flow of this slot needs a record"
        };
        if terms.e_new == terms.e_old && !terms.lost {
            return format!("{to_new}{recording}");
        }
        format!("not recorded. A new flow: {to_new}. An older one {old}{recording}")
    }

    /// Why new flows go where they go.
    fn why_new(&self, chosen: BackendId, slot: Slot) -> String {
        let reason = |id: BackendId| {
            let record = self.backends.get(id);
            let reason = record.map_or("", |record| record.effective.reason.as_str());
            let state = state_word(self.states.state(id));
            format!("{} is {state} ({reason})", self.name(id))
        };
        if chosen == BackendId::NONE {
            return format!(
                "no backend of this slot's ladder nor of the {} slots after it takes flows",
                SLOTS_WALKED_MAX - 1
            );
        }
        let rungs = slot.rungs();
        let passed = rungs.iter().take_while(|id| **id != chosen);
        let before: Vec<String> = passed
            .filter(|id| **id != BackendId::NONE)
            .map(|id| reason(*id))
            .collect();
        if !rungs.contains(&chosen) {
            return format!(
                "{} of a slot further on, as every rung before is taken out: {}",
                self.name(chosen),
                before.join("; ")
            );
        }
        match before.len() {
            0 => format!(
                "{} owns this slot and is {}",
                self.name(chosen),
                flow_word(self.states.state(chosen), false)
            ),
            _ => before.join("; "),
        }
    }

    fn rung(&self, id: BackendId) -> Rung {
        Rung {
            backend: self.name(id),
            role: self
                .backends
                .get(id)
                .map_or("unknown".into(), |it| it.config.role.to_string()),
            state: state_word(self.states.state(id)).into(),
        }
    }
}

/// What becomes of a packet whose backend is gone.
fn loss(terms: &Terms, to_new: &str) -> String {
    if terms.e_new.is_none() {
        "no backend takes it: on_empty decides".into()
    } else if terms.resets {
        "its packets are answered with RST".into()
    } else {
        format!("as if it were new, {to_new}")
    }
}

fn changed_flag(protocol: u8) -> u64 {
    if protocol == TCP {
        Slot::CHANGED_TCP
    } else {
        Slot::CHANGED_UDP
    }
}

/// How many slots on and on which rung a backend stands, if the walk from `home` meets it.
fn place(slots: &[Slot], home: u32, id: BackendId) -> (u32, Option<u32>) {
    if id == BackendId::NONE {
        return (0, None);
    }
    for passed in 0..SLOTS_WALKED_MAX {
        let slot = slots[(home + passed) as usize % slots.len()];
        if let Some(rung) = slot.rungs().iter().position(|there| *there == id) {
            return (passed, Some(rung as u32));
        }
    }
    (0, None)
}

/// The flow as it is recorded.
fn flow_key(vip: SocketAddr, protocol: &str, from: SocketAddr) -> anyhow::Result<FlowKey> {
    anyhow::ensure!(
        vip.is_ipv4() == from.is_ipv4(),
        "--vip and --from must both be IPv4 or both IPv6"
    );
    let protocol = match protocol {
        "tcp" => TCP,
        "udp" => UDP,
        other => anyhow::bail!("protocol {other:?}: tcp or udp"),
    };
    let [a, b] = from.port().to_be_bytes();
    let [c, d] = vip.port().to_be_bytes();
    Ok(FlowKey {
        source: Address::from(from.ip()),
        destination: Address::from(vip.ip()),
        ports: [a, b, c, d],
        protocol,
        pad: [0; 3],
    })
}

//! Where a flow goes, and why: the data plane's own choice, made again from the same tables.

use std::net::SocketAddr;

use lb_common::address::Address;
use lb_common::backend::BackendId;
use lb_common::flow;
use lb_common::ladder::{SLOTS_WALKED_MAX, Slot, slot_index};
use lb_common::packet::{Family, Packet, TCP, TcpFlags, Transport, UDP};
use lb_common::pool::PoolId;
use lb_common::service::ServiceKey;

use super::Gateway;
use crate::agent::effective::state_word;
use crate::agent::identity::service_key;
use crate::control::{Route, Rung};

impl Gateway {
    /// Follows a flow from its addresses to its backend.
    pub(super) fn route(
        &self,
        vip: SocketAddr,
        protocol: &str,
        from: SocketAddr,
    ) -> anyhow::Result<Route> {
        let packet = packet(vip, protocol, from)?;
        let exact = ServiceKey {
            address: packet.destination,
            port: packet.destination_port(),
            protocol: packet.protocol,
            pad: 0,
        };
        let any = ServiceKey {
            port: [0; 2],
            ..exact
        };
        let service = [exact, any]
            .into_iter()
            .find_map(|key| {
                self.config
                    .services
                    .iter()
                    .find(|it| service_key(it) == key)
            })
            .ok_or_else(|| {
                anyhow::anyhow!("no service has {vip}/{protocol}; such packets are passed on")
            })?;
        let pool: PoolId = *self
            .assignment
            .pools
            .get(&service.pool)
            .ok_or_else(|| anyhow::anyhow!("the agent is starting; try again in a moment"))?;
        let table = self
            .contents
            .tables
            .get(&pool)
            .ok_or_else(|| anyhow::anyhow!("pool {} has no table yet", service.pool))?;
        let home = slot_index(flow::hash(&packet).slot_bits(), table.len() as u32);
        let (slots_passed, chosen) = self.walk(table, home);
        let slot = table[(home + slots_passed) as usize % table.len()];
        Ok(Route {
            service: service.name.clone(),
            pool: service.pool.clone(),
            slot: home,
            backend: chosen.map(|(_, id)| self.name(id)),
            rung: chosen.map(|(rung, _)| rung as u32),
            slots_passed,
            why: self.why(slot, slots_passed, chosen),
            ladder: table[home as usize]
                .rungs()
                .into_iter()
                .filter(|id| *id != BackendId::NONE)
                .map(|id| self.rung(id))
                .collect(),
        })
    }

    /// The same walk as the program's: the slot's own rungs, then those of the slots that follow.
    fn walk(&self, table: &[Slot], home: u32) -> (u32, Option<(usize, BackendId)>) {
        let state = |id: BackendId| {
            if id == BackendId::NONE {
                Default::default()
            } else {
                self.states.state(id)
            }
        };
        for passed in 0..SLOTS_WALKED_MAX {
            let slot = table[(home + passed) as usize % table.len()];
            if let Some(open) = slot.first_open(state) {
                return (passed, Some(open));
            }
        }
        (0, None)
    }

    fn why(&self, slot: Slot, passed: u32, chosen: Option<(usize, BackendId)>) -> String {
        let reason = |id: BackendId| {
            let record = self.backends.get(id);
            let reason = record.map_or("", |record| record.effective.reason.as_str());
            format!(
                "{} is {} ({reason})",
                self.name(id),
                state_word(self.states.state(id))
            )
        };
        let Some((rung, id)) = chosen else {
            return format!(
                "no backend of this slot's ladder nor of the {} slots after it takes flows",
                SLOTS_WALKED_MAX - 1
            );
        };
        let before: Vec<String> = slot.rungs()[..rung].iter().map(|id| reason(*id)).collect();
        let place = match passed {
            0 => String::new(),
            passed => format!("{passed} slots further on, as every rung before is taken out: "),
        };
        match before.len() {
            0 => format!("{place}{} owns this slot and is up", self.name(id)),
            _ => format!("{place}{}", before.join("; ")),
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

    fn name(&self, id: BackendId) -> String {
        self.backends
            .get(id)
            .map_or_else(|| format!("id {}", id.0), |it| it.config.name.clone())
    }
}

/// A packet of the flow, as far as choosing a backend looks at it.
fn packet(vip: SocketAddr, protocol: &str, from: SocketAddr) -> anyhow::Result<Packet> {
    anyhow::ensure!(
        vip.is_ipv4() == from.is_ipv4(),
        "--vip and --from must both be IPv4 or both IPv6"
    );
    let (protocol, transport) = match protocol {
        "tcp" => (TCP, Transport::Tcp(TcpFlags(0))),
        "udp" => (UDP, Transport::Udp),
        other => anyhow::bail!("protocol {other:?}: tcp or udp"),
    };
    let [a, b] = from.port().to_be_bytes();
    let [c, d] = vip.port().to_be_bytes();
    Ok(Packet {
        family: if vip.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        },
        source: Address::from(from.ip()),
        destination: Address::from(vip.ip()),
        protocol,
        traffic_class: 0,
        transport,
        is_fragment: false,
        ports: [a, b, c, d],
        sequence: 0,
        network_offset: 0,
        transport_offset: 0,
        length: 0,
    })
}

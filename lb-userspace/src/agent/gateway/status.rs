//! Everything that `lb status` and the metrics show.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_common::backend::BackendId;

use super::{Gateway, Record};
use crate::agent::effective::Path;
use crate::agent::identity::service_key;
use crate::agent::stats::Sample;
use crate::config::{Pool, Port, Probe, Service};
use crate::control::{
    AgentStatus, BackendStatus, CheckStatus, InterfaceStatus, PoolStatus, ProbeStatus,
    ServiceStatus, Status,
};
use crate::health::Snapshot;

/// The backends by their pool and name, as the configuration knows them.
type Records<'a> = BTreeMap<(&'a str, &'a str), &'a Record>;

impl Gateway {
    /// The whole state at this moment.
    pub(super) fn status(&self) -> Status {
        let sample = self.stats.latest();
        let records: Records<'_> = self
            .backends
            .iter()
            .filter(|it| !it.is_removed)
            .map(|it| ((it.pool.as_str(), it.config.name.as_str()), it))
            .collect();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            agent: self.agent_status(&sample),
            services: self
                .config
                .services
                .iter()
                .map(|it| self.service(it, &sample))
                .collect(),
            pools: self
                .config
                .pools
                .iter()
                .map(|it| self.pool(it, &records, &sample))
                .collect(),
            removed: self
                .backends
                .iter()
                .filter(|it| it.is_removed)
                .map(|it| self.backend(it, &sample))
                .collect(),
        }
    }

    /// The state of one backend.
    pub(super) fn backend_status(&self, id: BackendId) -> Option<BackendStatus> {
        self.backends
            .get(id)
            .map(|record| self.backend(record, &self.stats.latest()))
    }

    fn agent_status(&self, sample: &Sample) -> AgentStatus {
        let named = |counts: &BTreeMap<&'static str, u64>| {
            counts
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect()
        };
        AgentStatus {
            pid: std::process::id(),
            since: self.since.clone(),
            config: self.config.source.display().to_string(),
            config_since: self.config_since.clone(),
            config_error: self.config_error.clone(),
            interfaces: self
                .config
                .agent
                .interfaces
                .iter()
                .map(|it| self.interface(it))
                .collect(),
            drops: named(&sample.drops),
            replies: named(&sample.replies),
            passes: named(&sample.passes),
            flows: self.flows_status(sample),
            probes: ProbeStatus {
                per_second_max: self.budget.per_second(),
                sent: self.budget.granted(),
                deferred: self.budget.deferred(),
            },
            map_bytes: super::write::memory_bytes(&self.config, self.duties.sizes),
        }
    }

    fn interface(&self, name: &str) -> InterfaceStatus {
        let interface = self.network.interface(name);
        let xdp = interface
            .and_then(|it| it.xdp)
            .map_or("none", |xdp| xdp.mode.as_str());
        InterfaceStatus {
            name: name.to_owned(),
            xdp: xdp.to_owned(),
            mtu: interface.map_or(0, |it| it.mtu),
            up: interface.is_some_and(|it| it.is_up),
        }
    }

    fn service(&self, service: &Service, sample: &Sample) -> ServiceStatus {
        let counters = self.assignment.counters.get(&service_key(service));
        let measured = counters
            .and_then(|it| sample.services.get(it))
            .copied()
            .unwrap_or_default();
        ServiceStatus {
            name: service.name.clone(),
            vip: service.vip,
            port: match service.port {
                Port::Any => None,
                Port::Number(port) => Some(port),
            },
            protocol: service.protocol.to_string(),
            pool: service.pool.clone(),
            vip_state: self.vip_state(service.vip).into(),
            total: measured.total,
            rate: measured.rate,
        }
    }

    fn vip_state(&self, vip: IpAddr) -> &'static str {
        let report = &self.network.vip_report;
        if !self.config.agent.manage_vips {
            "unmanaged"
        } else if report.added.contains(&vip) || report.kept.contains(&vip) {
            "added"
        } else if report.foreign.contains(&vip) {
            "kept"
        } else {
            "missing"
        }
    }

    fn pool(&self, pool: &Pool, records: &Records<'_>, sample: &Sample) -> PoolStatus {
        PoolStatus {
            name: pool.name.clone(),
            forward: pool.forward.to_string(),
            spill: pool.spill.to_string(),
            slots: pool.slots,
            on_empty: pool.on_empty.to_string(),
            check: pool.check.as_ref().map(|check| {
                match check.probe {
                    Probe::Tcp => "tcp",
                    Probe::Http { .. } => "http",
                }
                .into()
            }),
            unstable: self
                .assignment
                .pools
                .get(&pool.name)
                .and_then(|id| self.instability(*id)),
            backends: pool
                .backends
                .iter()
                .filter_map(|backend| records.get(&(pool.name.as_str(), backend.name.as_str())))
                .map(|record| self.backend(record, sample))
                .collect(),
        }
    }

    fn backend(&self, record: &Record, sample: &Sample) -> BackendStatus {
        let measured = sample.backends.get(&record.id).copied().unwrap_or_default();
        let (flows, flows_until) = self.flow_state(record);
        let suspicions = sample.suspicions.get(&record.id).copied();
        let (repeated_syns, resets) = suspicions.unwrap_or_default();
        BackendStatus {
            name: record.config.name.clone(),
            pool: record.pool.clone(),
            id: record.id.0,
            address: record.config.address,
            role: record.config.role.to_string(),
            zone: record.config.zone.clone(),
            weight: record.weight,
            weight_configured: record.config.weight,
            share: record.share,
            admin: record.admin.as_str().into(),
            admin_since: record.admin_since.clone(),
            health: record.health.as_str().into(),
            health_reason: match &record.health {
                crate::agent::effective::Health::Down { reason } => Some(reason.to_string()),
                _ => None,
            },
            health_since: record.health_since.clone(),
            next_hop: self.next_hop_in_words(record),
            state: record.effective.word().into(),
            reason: record.effective.reason.clone(),
            since: record.since.clone(),
            flows: flows.into(),
            flows_until,
            repeated_syns,
            resets,
            checks: record.checks().map(|snapshot| check_status(&snapshot)),
            total: measured.total,
            rate: measured.rate,
        }
    }

    fn next_hop_in_words(&self, record: &Record) -> String {
        match &record.path {
            Path::Unknown => "not resolved yet".into(),
            Path::Adopted => "as the agent before left it".into(),
            Path::None(unresolved) => unresolved.to_string(),
            Path::Known(hop) => {
                let interface = self
                    .network
                    .interfaces
                    .iter()
                    .find(|it| it.index == hop.interface_index)
                    .map_or_else(
                        || format!("interface {}", hop.interface_index),
                        |it| it.name.clone(),
                    );
                format!("{} via {interface}", hop.mac)
            }
        }
    }
}

fn check_status(snapshot: &Snapshot) -> CheckStatus {
    let failed = snapshot
        .failed
        .iter()
        .map(|(kind, count)| (kind.as_str().to_owned(), *count));
    CheckStatus {
        probes: snapshot.probes,
        passed: snapshot.passed,
        failed: failed.collect(),
        triggered: snapshot.triggered,
        deferred: snapshot.deferred,
        last_seconds: snapshot.last_round_trip.as_secs_f64(),
    }
}

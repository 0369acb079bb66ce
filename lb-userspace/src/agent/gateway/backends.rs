//! What the gateway knows of each backend.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use lb_common::backend::{Backend as Element, BackendId, BackendState, Encapsulation, NextHop};
use tokio::sync::mpsc;

use crate::agent::effective::{Admin, Effective, Health, Path, decide};
use crate::agent::events::now;
use crate::agent::intent::BackendIntent;
use crate::config::{Backend, Check, Forward, Pool, Probe};
use crate::health::{
    self, BackendKey, Budget, Checker, HttpProbe, Report, Settings, Statuses, Target,
};

/// All backends of the configuration in force, and those of one that is being prepared.
#[derive(Debug, Default)]
pub(super) struct Backends {
    records: BTreeMap<BackendId, Record>,
    /// Counts the records and checkers ever made: a message that names an old one means nobody.
    tokens: u32,
}

/// One backend.
#[derive(Debug)]
pub(super) struct Record {
    pub id: BackendId,
    pub pool: String,
    pub config: Backend,
    pub admin: Admin,
    pub admin_since: Option<String>,
    pub weight: u32,
    pub health: Health,
    pub health_since: Option<String>,
    pub path: Path,
    pub effective: Effective,
    pub since: String,
    /// Whether it left the configuration and is there for the flows that it has.
    pub is_removed: bool,
    /// Whether its id stands in the data plane, so that its state may be stored there.
    pub is_published: bool,
    /// Share of the pool's slots that it owns.
    pub share: f64,
    /// Whether it must be a neighbour of this host, as `l2` wants it.
    pub is_on_link: bool,
    /// Names this record in messages about next hops.
    pub token: u32,
    check: Option<Check>,
    checker: Option<Checker>,
}

impl Backends {
    pub fn get(&self, id: BackendId) -> Option<&Record> {
        self.records.get(&id)
    }

    pub fn get_mut(&mut self, id: BackendId) -> Option<&mut Record> {
        self.records.get_mut(&id)
    }

    pub fn contains(&self, id: BackendId) -> bool {
        self.records.contains_key(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    pub fn ids(&self) -> Vec<BackendId> {
        self.records.keys().copied().collect()
    }

    pub fn by_key(&self, key: BackendKey) -> Option<BackendId> {
        self.records
            .values()
            .find(|record| {
                record
                    .checker
                    .as_ref()
                    .is_some_and(|it| it.target().id == key)
            })
            .map(|record| record.id)
    }

    pub fn by_token(&self, token: u32) -> Option<BackendId> {
        self.records
            .values()
            .find(|record| record.token == token)
            .map(|record| record.id)
    }

    /// Adds a backend. `left` is what an earlier agent left of it in the data plane.
    pub fn add(
        &mut self,
        id: BackendId,
        pool: &Pool,
        config: &Backend,
        left: Option<&Element>,
        intent: &BackendIntent,
    ) {
        self.tokens += 1;
        let health = if pool.check.is_some() {
            let was_up = left.is_some_and(|left| left.state.has(BackendState::ALIVE));
            Health::Unknown { was_up }
        } else {
            Health::Unchecked
        };
        let path = match left {
            Some(left) if left.next_hop != NextHop::UNRESOLVED => Path::Adopted,
            _ => Path::Unknown,
        };
        let (admin, admin_since) = intent.admin();
        let record = Record {
            id,
            pool: pool.name.clone(),
            is_on_link: pool.forward == Forward::L2,
            admin,
            admin_since: admin_since.map(str::to_owned),
            weight: intent.weight.unwrap_or(config.weight),
            effective: decide(admin, &health, &path),
            health,
            health_since: None,
            path,
            since: now(),
            is_removed: false,
            is_published: left.is_some(),
            share: 0.0,
            token: self.tokens,
            check: None,
            checker: None,
            config: config.clone(),
        };
        self.records.insert(id, record);
    }

    /// Adds a backend that left the configuration while no agent ran: the data plane has it, and
    /// the configuration perhaps its pool.
    pub fn add_removed(
        &mut self,
        id: BackendId,
        pool_name: &str,
        pool: Option<&Pool>,
        config: &Backend,
        left: &Element,
    ) {
        self.tokens += 1;
        let is_checked = pool.is_some_and(|pool| pool.check.is_some());
        let was_up = left.state.has(BackendState::ALIVE);
        let health = match (is_checked, was_up) {
            (true, _) => Health::Unknown { was_up },
            (false, true) => Health::Unchecked,
            // Nobody checks it any more: it stays what it was.
            (false, false) => Health::Unknown { was_up: false },
        };
        let path = if left.next_hop == NextHop::UNRESOLVED {
            Path::Unknown
        } else {
            Path::Adopted
        };
        let record = Record {
            id,
            pool: pool_name.to_owned(),
            is_on_link: left.encapsulation == Encapsulation::Ethernet as u8,
            admin: Admin::None,
            admin_since: None,
            weight: 0,
            effective: decide(Admin::None, &health, &path),
            health,
            health_since: None,
            path,
            since: now(),
            is_removed: true,
            is_published: true,
            share: 0.0,
            token: self.tokens,
            check: None,
            checker: None,
            config: config.clone(),
        };
        self.records.insert(id, record);
    }

    /// Asks for a probe of a backend now, if it is checked.
    pub fn probe_now(&self, id: BackendId) {
        if let Some(checker) = self.records.get(&id).and_then(|it| it.checker.as_ref()) {
            checker.trigger();
        }
    }

    /// Starts the check of a backend, replaces it if it is another one, or stops it.
    pub fn set_check(
        &mut self,
        id: BackendId,
        check: Option<&Check>,
        budget: &Arc<Budget>,
        reporter: &mpsc::Sender<Report>,
    ) {
        let Some(record) = self.records.get_mut(&id) else {
            return;
        };
        if record.check.as_ref() == check {
            return;
        }
        self.tokens += 1;
        let key = BackendKey(u64::from(self.tokens));
        record.check = check.cloned();
        record.checker = check.map(|check| {
            let address = SocketAddr::new(record.config.address, check.port);
            let target = Target { id: key, address };
            Checker::spawn(
                target,
                settings(check),
                Arc::clone(budget),
                reporter.clone(),
            )
        });
        let was_up = record.effective.state.has(BackendState::ALIVE);
        record.health = match check {
            Some(_) => Health::Unknown { was_up },
            None => Health::Unchecked,
        };
    }

    pub fn remove(&mut self, id: BackendId) {
        self.records.remove(&id);
    }
}

impl Record {
    pub fn set_health(&mut self, health: Health) {
        if health != self.health {
            self.health = health;
            self.health_since = Some(now());
        }
    }

    pub fn set_effective(&mut self, effective: Effective) {
        if effective.word() != self.effective.word() {
            self.since = now();
        }
        self.effective = effective;
    }

    pub fn set_intent(&mut self, intent: &BackendIntent) {
        let (admin, since) = intent.admin();
        self.admin = admin;
        self.admin_since = since.map(str::to_owned);
        self.weight = intent.weight.unwrap_or(self.config.weight);
    }

    /// Whether the checks and the network have had their first say.
    pub fn is_known(&self) -> bool {
        self.admin == Admin::Disabled
            || !matches!(self.health, Health::Unknown { .. }) && !matches!(self.path, Path::Unknown)
    }

    pub fn checks(&self) -> Option<health::Snapshot> {
        self.checker.as_ref().map(Checker::counters)
    }
}

fn settings(check: &Check) -> Settings {
    let probe = match &check.probe {
        Probe::Tcp => health::Probe::Tcp,
        Probe::Http { path, host, expect } => health::Probe::Http(HttpProbe {
            path: path.clone(),
            host: host.clone(),
            expect: Statuses::new(expect.ranges().cloned()),
        }),
    };
    Settings {
        probe,
        interval: check.interval,
        timeout: check.timeout,
        rise: check.rise,
        fall: check.fall,
        jitter: check.jitter,
        hold: check.hold,
    }
}

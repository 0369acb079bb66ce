//! The agent's flow duties over a data plane of a test's own, by a clock that the test moves.

use std::sync::Arc;

use anyhow::Result;
use lb_common::backend::{BackendId, BackendState};
use lb_common::ladder::Slot;
use lb_common::pool::PoolId;
use lb_userspace::agent::datapath::FlowMaps;
use lb_userspace::agent::flows::{
    Flows, Judgement, Live, Rules, StateWrite, SweepOutcome, Table, TableChange,
};
use lb_userspace::agent::plan::MapWrite;

use crate::datapath::Gateway;

/// One pool's flows, kept as the agent keeps them. Time stands still between two calls.
pub struct Duties {
    /// The data plane, loaded by [`Gateway::with_clock`].
    pub gateway: Gateway,
    /// What the agent knows.
    pub flows: Flows,
    /// The records.
    pub maps: FlowMaps,
    pool: PoolId,
    rules: Rules,
    now: u64,
    is_alive: bool,
}

impl Duties {
    /// Takes over a data plane whose backends are all up and whose slots are all settled: the first
    /// start of its pool.
    ///
    /// # Errors
    /// The kernel's.
    pub fn first_start(gateway: Gateway, pool: PoolId, rules: Rules, now: u64) -> Result<Self> {
        let mut duties = Self {
            maps: gateway.datapath.flow_maps()?,
            gateway,
            flows: Flows::default(),
            pool,
            rules,
            now,
            is_alive: true,
        };
        duties.set_time(now)?;
        let ladders = Arc::clone(&duties.gateway.desired.tables[&pool]);
        let change = duties.flows.evaluate(pool, rules, &ladders);
        duties.flows.commit(change, now);
        for (id, backend) in duties.gateway.desired.backends.clone() {
            if backend.pool == pool.0 {
                duties.flows.add(id, pool, duties.gateway.states.state(id));
            }
        }
        Ok(duties)
    }

    /// The time, monotonic ns.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    fn set_time(&mut self, now: u64) -> Result<()> {
        self.now = now;
        self.gateway.set_time(now)?;
        if self.is_alive {
            self.gateway.beat(now)?;
        }
        Ok(())
    }

    /// Lets time pass, each window ending in its turn.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pass(&mut self, ns: u64) -> Result<()> {
        let end = self.now + ns;
        while self.is_alive
            && let Some(at) = self.flows.next_deadline().filter(|at| *at <= end)
        {
            self.set_time(at.max(self.now))?;
            let due = self.flows.due(at);
            for write in &due.states {
                self.gateway.states.store(write);
            }
            for writes in &due.slots {
                self.gateway.datapath.write_slots(writes)?;
            }
        }
        self.set_time(end)
    }

    /// A backend fails its checks.
    pub fn fail(&mut self, id: BackendId) {
        let write = self.flows.fail(id, self.now);
        self.store(write);
    }

    /// A backend passes its checks.
    pub fn recover(&mut self, id: BackendId) {
        let write = self.flows.recover(id, self.now);
        self.store(write);
    }

    /// The operator drains a backend.
    pub fn drain(&mut self, id: BackendId) {
        let write = self.flows.drain(id, self.now);
        self.store(write);
    }

    /// The operator takes a drain back.
    pub fn undrain(&mut self, id: BackendId) {
        let write = self.flows.undrain(id, self.now);
        self.store(write);
    }

    /// A backend leaves the configuration; the table without it was swapped in before.
    pub fn remove(&mut self, id: BackendId) {
        let write = self.flows.remove(id, self.now);
        self.store(write);
    }

    /// A backend of [`Gateway::desired`] that the table swapped in last names for the first time.
    pub fn add(&mut self, id: BackendId) {
        self.flows.add(id, self.pool, BackendState::DOWN);
        self.recover(id);
    }

    fn store(&self, write: Option<StateWrite>) {
        if let Some(write) = write {
            self.gateway.states.store(&write);
        }
    }

    /// Swaps other ladders in.
    ///
    /// # Errors
    /// The kernel's.
    pub fn swap(&mut self, ladders: &[Slot]) -> Result<()> {
        let change: TableChange = self.flows.evaluate(self.pool, self.rules, ladders);
        let write = MapWrite::Table {
            pool: self.pool,
            table: change.table.clone(),
        };
        self.gateway.datapath.apply(&write)?;
        self.flows.commit(change, self.now);
        let ladders: Arc<[Slot]> = ladders.into();
        self.gateway.desired.tables.insert(self.pool, ladders);
        Ok(())
    }

    /// Sweeps the records as the agent does every few seconds. Gives what was decided for each
    /// record that went, and what is stable since.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sweep(&mut self) -> Result<(Vec<Judgement>, SweepOutcome)> {
        self.observe();
        let services = Arc::new(self.gateway.desired.services.clone());
        let mut sweep = self.flows.begin_sweep(services);
        let states = &self.gateway.states;
        let live = |id: BackendId| {
            states.has(id).then(|| Live {
                state: states.state(id),
                generation: states.generation(id),
            })
        };
        let mut gone = Vec::new();
        for record in self.maps.all()? {
            let judgement = sweep.judge(&record, self.now, live);
            if judgement == Judgement::Keep {
                continue;
            }
            if self.maps.delete(&record)? {
                gone.push(judgement);
            } else {
                sweep.keep_after_all(&record);
            }
        }
        let outcome = self.flows.end_sweep(sweep);
        for writes in &outcome.slots {
            self.gateway.datapath.write_slots(writes)?;
        }
        for id in &outcome.settled {
            if !self.gateway.states.settle(*id) {
                self.flows.observe(*id, self.gateway.states.state(*id));
            }
        }
        for id in &outcome.free {
            self.flows.forget_backend(*id);
        }
        Ok((gone, outcome))
    }

    fn observe(&mut self) {
        for id in self.flows.backends() {
            let state = self.gateway.states.state(id);
            self.flows.observe(id, state);
        }
    }

    /// The agent dies: its sign of life grows old, no window ends and nothing is swept.
    pub fn kill(&mut self) {
        self.is_alive = false;
    }

    /// Another agent starts, and knows what the maps say.
    ///
    /// # Errors
    /// The kernel's.
    pub fn restart(&mut self) -> Result<()> {
        self.is_alive = true;
        self.set_time(self.now)?;
        let slots = self.gateway.desired.tables[&self.pool].len() as u32;
        let table = self.gateway.datapath.table(self.pool, slots)?;
        let actual = self.gateway.datapath.actual()?;
        let before = std::mem::take(&mut self.flows);
        self.flows.adopt_pool(
            self.pool,
            self.rules,
            table.unwrap_or_else(|| Table::fresh([])),
            self.now,
        );
        for (id, left) in actual.backends {
            if left.encapsulation != 0 && left.pool == self.pool.0 {
                // Checks, intent and file say what they said.
                let wanted = before.wanted(id).unwrap_or_default();
                self.flows.adopt_backend(id, &left, wanted, self.now);
            }
        }
        self.flows.follow_services(&actual.services, self.now);
        Ok(())
    }
}
